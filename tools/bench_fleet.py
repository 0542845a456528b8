"""Measure what heartbeats cost the fleet: CPU of the server for rising numbers of devices, and whether it is linear.

Every simulated device is enrolled, and has a connection of its own with its own certificate. To stay below the limits
of one machine, a tenth of the devices send ten times as often: 1,000 connections with a heartbeat every 6 s make the
calls of 10,000 devices with one every 60 s. One heartbeat in ten says something new. CPU is a share of one core.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer._proto.v1 import fleet_pb2_grpc as rpc
from tools.bench_registry import rss_mb
from tools.serving import serving

SPEEDUP = 10
INTERVAL_S = 60 / SPEEDUP


def server_certificate(folder: Path) -> tuple[bytes, Path, Path]:
    """An authority's certificate, and files of a certificate for 127.0.0.1 that it signed."""
    import datetime
    import ipaddress

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - day).not_valid_after(now + day)
    signed = builder.add_extension(addresses, critical=False).sign(key, hashes.SHA256())
    certificate, private = folder / "server.crt", folder / "server.key"
    pem = signed.public_bytes(serialization.Encoding.PEM)
    certificate.write_bytes(pem)
    private.write_bytes(_pem(key))
    return pem, certificate, private


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def enrol(stub: Any, metadata: Any, count: int) -> list[tuple[str, bytes, bytes]]:
    """Names, keys and certificates of new devices."""
    devices = []
    for i in range(count):
        token = (await stub.CreateEnrollmentToken(pb.CreateEnrollmentTokenRequest(), metadata=metadata)).token
        key = ec.generate_private_key(ec.SECP256R1())
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        text = csr.public_bytes(serialization.Encoding.PEM).decode()
        request = pb.EnrollDeviceRequest(token=token, certificate_request_pem=text, request_id=str(i))
        answer = await stub.EnrollDevice(request)
        devices.append((answer.device.name, _pem(key), answer.certificate_pem.encode()))
    return devices


async def beat(port: int, roots: bytes, device: tuple[str, bytes, bytes], until: float, times: list[float]) -> None:
    """One device: connect, then a heartbeat every interval, at a random phase."""
    name, key, certificate = device
    credentials = grpc.ssl_channel_credentials(roots, key, certificate)
    rng = random.Random(name)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
        stub = rpc.FleetServiceStub(channel)
        status = pb.DeviceStatus(state=pb.DEVICE_STATE_RUNNING, bundle_sha256="a" * 64)
        await asyncio.sleep(rng.uniform(0, INTERVAL_S))
        while time.monotonic() < until:
            start = time.perf_counter()
            status.uptime_seconds += 60
            if rng.random() < 0.1:
                status.progress_percent = rng.uniform(0, 100)
            await stub.Heartbeat(pb.HeartbeatRequest(name=name, status=status))
            times.append((time.perf_counter() - start) * 1e3)
            await asyncio.sleep(INTERVAL_S)


async def measure(
    pid: int, ports: tuple[int, int], roots: tuple[bytes, bytes], token: str, counts: list[int], seconds: float
) -> None:
    """Print a record for every number of devices; ports of people and of devices, and the authorities of both."""
    metadata = (("authorization", f"Bearer {token}"),)
    async with grpc.aio.secure_channel(f"127.0.0.1:{ports[0]}", grpc.ssl_channel_credentials(roots[0])) as channel:
        devices = await enrol(rpc.FleetServiceStub(channel), metadata, max(counts) // SPEEDUP)
    for count in counts:
        times: list[float] = []
        settle = 2 * INTERVAL_S  # connections are made, and what was never heard before is written
        until = time.monotonic() + settle + seconds
        tasks = [asyncio.create_task(beat(ports[1], roots[1], d, until, times)) for d in devices[: count // SPEEDUP]]
        await asyncio.sleep(settle)
        times.clear()
        start, used = time.monotonic(), cpu_s(pid)
        await asyncio.sleep(seconds - 0.5)
        percent = 100 * (cpu_s(pid) - used) / (time.monotonic() - start)
        ordered = sorted(times)
        record = {
            "devices_at_60_s": count,
            "heartbeats_per_s": round(len(ordered) / (seconds - 0.5), 1),
            "core_percent": round(percent, 1),
            "p50_ms": round(ordered[len(ordered) // 2], 2),
            "p99_ms": round(ordered[int(len(ordered) * 0.99)], 2),
            "server_rss_MB": round(rss_mb(pid), 1),
        }
        print(json.dumps(record), flush=True)
        await asyncio.gather(*tasks)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, nargs="+", default=[2500, 5000, 10000])
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        roots, certificate, key = server_certificate(folder)
        gossamer = [sys.executable, "-m", "gossamer"]
        made = subprocess.run(
            [*gossamer, "tokens", "create", "bench", "--scope", "admin", "--data", f"{folder}/data"],
            capture_output=True,
            text=True,
            check=True,
        )
        settings = [f'server.tls_certificate="{certificate}"', f'server.tls_key="{key}"', "server.tokens=required"]
        settings += ["server.device_bind=127.0.0.1:0", "server.max_concurrent_calls=5000"]
        with serving(["registry", "fleet"], folder / "data", settings) as (pid, ports):
            both = roots, (folder / "data" / "fleet" / "authority.crt").read_bytes()
            token = made.stdout.strip()
            asyncio.run(measure(pid, (ports[0], ports[1]), both, token, options.devices, options.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
