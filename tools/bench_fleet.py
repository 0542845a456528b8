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
from gossamer_services.fleet.authority import private_pem
from tools.bench_registry import rss_mb
from tools.serving import serving

SPEEDUP = 10
INTERVAL_S = 60 / SPEEDUP


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def enrol(stub: Any, count: int) -> list[tuple[str, bytes, bytes]]:
    """Names, keys and certificates of new devices."""
    devices = []
    for i in range(count):
        token = (await stub.CreateEnrollmentToken(pb.CreateEnrollmentTokenRequest())).token
        key = ec.generate_private_key(ec.SECP256R1())
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        text = csr.public_bytes(serialization.Encoding.PEM).decode()
        request = pb.EnrollDeviceRequest(token=token, certificate_request_pem=text, request_id=str(i))
        answer = await stub.EnrollDevice(request)
        devices.append((answer.device.name, private_pem(key), answer.certificate_pem.encode()))
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
    pid: int, ports: tuple[int, int], authority: bytes, counts: list[int], seconds: float
) -> list[dict[str, Any]]:
    """A row for every number of devices, printed as it comes; the ports are people's and devices'."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ports[0]}") as channel:
        devices = await enrol(rpc.FleetServiceStub(channel), max(counts) // SPEEDUP)
    rows = []
    for count in counts:
        times: list[float] = []
        settle = 2 * INTERVAL_S  # connections are made, and what was never heard before is written
        until = time.monotonic() + settle + seconds
        tasks = [asyncio.create_task(beat(ports[1], authority, d, until, times)) for d in devices[: count // SPEEDUP]]
        await asyncio.sleep(settle)
        times.clear()
        start, used = time.monotonic(), cpu_s(pid)
        await asyncio.sleep(seconds - 0.5)
        percent = 100 * (cpu_s(pid) - used) / (time.monotonic() - start)
        ordered = sorted(times)
        row = {
            "devices_at_60_s": count,
            "heartbeats_per_s": round(len(ordered) / (seconds - 0.5), 1),
            "core_percent": round(percent, 1),
            "p50_ms": round(ordered[len(ordered) // 2], 2),
            "p99_ms": round(ordered[int(len(ordered) * 0.99)], 2),
            "server_rss_MB": round(rss_mb(pid), 1),
        }
        print(json.dumps(row), flush=True)
        rows.append(row)
        await asyncio.gather(*tasks)
    return rows


def draw(rows: list[dict[str, Any]], path: Path) -> str:
    """Core share against devices, with the straight line through them, as PNG; the line in words."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from tools.bench.native import host
    from tools.bench.scaling import fit

    devices, shares = ([float(row[key]) for row in rows] for key in ("devices_at_60_s", "core_percent"))
    line = fit(devices, shares)
    words = f"{line.constant:.1f}% + {1000 * line.slope:.2f}% per 1,000 devices"
    figure, panel = plt.subplots(figsize=(5.6, 4.6), layout="constrained")
    ends = [0.0, max(devices)]
    panel.plot(ends, [line.constant + line.slope * x for x in ends], color="tab:blue", linewidth=1, label=words)
    panel.plot(devices, shares, "o", color="tab:blue", label="measured")
    panel.axhline(50, color="grey", linestyle="--", linewidth=1, label="half of one core")
    panel.set(xlabel="devices, a heartbeat every 60 s each", ylabel="CPU of the server, % of one core")
    panel.set_xlim(left=0)
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
    figure.suptitle(f"Heartbeats of a fleet, {host()}", fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return f"{words}; largest residual {max(line.residuals, key=abs):+.1%}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, nargs="+", default=[2500, 5000, 7500, 10000])
    parser.add_argument("--rounds", type=int, default=1, help="Measure every number of devices so often, in turns.")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write the rows here.")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="Write the plot here, PNG; takes two numbers of devices."
    )
    options = parser.parse_args()
    if options.plot and len(set(options.devices)) < 2:
        parser.error("a line takes two different numbers of devices")
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "data"
        settings = ["server.device_bind=127.0.0.1:0", "server.max_concurrent_calls=5000"]
        with serving(["registry", "fleet"], data, settings) as (pid, ports):
            authority = (data / "fleet" / "authority.crt").read_bytes()
            counts = options.devices * options.rounds
            rows = asyncio.run(measure(pid, (ports[0], ports[1]), authority, counts, options.seconds))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    if options.plot:
        print(draw(rows, options.plot))
    return 0


if __name__ == "__main__":
    sys.exit(main())
