"""Measure the registry: one large upload and download beside a plain TCP copy, the server's memory, and many clients.

All in one run on loopback: the server is a process of its own, the TCP copy is read by another process and written to
the same disk. Rates are MB/s (1e6 bytes), times milliseconds, memory MB.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import multiprocessing
import os
import re
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grpc

from gossamer._proto.v1 import registry_pb2 as pb
from gossamer._proto.v1 import registry_pb2_grpc as rpc
from tools.serving import serving

CHUNK = 2 << 20
OPTIONS = [("grpc.max_receive_message_length", 8 << 20), ("grpc.max_send_message_length", 8 << 20)]


def rss_mb(pid: int, peak: bool = False) -> float:
    """Resident memory of a process, now or at its highest."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def receive_to_file(port: multiprocessing.Queue[int], path: str, size: int) -> None:
    """The plain TCP copy: accept once, write everything to a file, sync it, answer one byte."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port.put(server.getsockname()[1])
        connection, _ = server.accept()
        with connection, open(path, "wb") as out:  # noqa: PTH123
            buffer, left = bytearray(CHUNK), size
            while left:
                n = connection.recv_into(buffer)
                out.write(memoryview(buffer)[:n])
                left -= n
            out.flush()
            os.fsync(out.fileno())
            connection.sendall(b"1")


def tcp_copy(folder: Path, data: bytes) -> float:
    """Rate of a plain copy through a socket into a synced file."""
    ports: multiprocessing.Queue[int] = multiprocessing.Queue()
    process = multiprocessing.Process(target=receive_to_file, args=(ports, str(folder / "copy"), len(data)))
    process.start()
    start = time.perf_counter()
    with socket.create_connection(("127.0.0.1", ports.get())) as connection:
        start = time.perf_counter()
        connection.sendall(data)
        connection.recv(1)
    seconds = time.perf_counter() - start
    process.join()
    (folder / "copy").unlink()
    return len(data) / 1e6 / seconds


def messages(data: bytes, ref: str, digest: str) -> Iterator[pb.WriteBlobRequest]:
    yield pb.WriteBlobRequest(ref=ref, total=len(data), expected_sha256=digest)
    view = memoryview(data)
    for at in range(0, len(data), CHUNK):
        yield pb.WriteBlobRequest(offset=at, data=bytes(view[at : at + CHUNK]))


def transfer(port: int, data: bytes) -> tuple[float, float]:
    """Rates of upload and download through the synchronous client."""
    digest = hashlib.sha256(data).hexdigest()
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
        stub = rpc.RegistryServiceStub(channel)
        stub.FindMissingBlobs(pb.FindMissingBlobsRequest(sha256=[digest]))
        start = time.perf_counter()
        stub.WriteBlob(messages(data, secrets.token_hex(8), digest))
        up = len(data) / 1e6 / (time.perf_counter() - start)
        start, got = time.perf_counter(), hashlib.sha256()
        for message in stub.ReadBlob(pb.ReadBlobRequest(sha256=digest)):
            got.update(message.data)
        down = len(data) / 1e6 / (time.perf_counter() - start)
        if got.hexdigest() != digest:
            raise SystemExit("the download has other bytes")
    return up, down


async def many_clients(port: int, clients: int, calls: int) -> list[float]:
    """Times in ms of ``calls`` FindMissingBlobs calls by each of ``clients`` connections at a time."""
    times: list[float] = []

    async def one(i: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            stub = rpc.RegistryServiceStub(channel)
            asked = pb.FindMissingBlobsRequest(sha256=[hashlib.sha256(str(i).encode()).hexdigest()])
            await stub.FindMissingBlobs(asked)
            for _ in range(calls):
                await asyncio.sleep(0.5)
                start = time.perf_counter()
                await stub.FindMissingBlobs(asked)
                times.append((time.perf_counter() - start) * 1e3)

    await asyncio.gather(*(one(i) for i in range(clients)))
    return sorted(times)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=1000, help="size of the blob in MB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=200)
    options = parser.parse_args()
    base = os.urandom(1_000_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serving(["registry"], folder / "data") as (pid, ports):
            port = ports[0]
            transfer(port, base)
            before = rss_mb(pid)
            for i in range(options.rounds):
                data = i.to_bytes(8, "little") + base[8:] + base * (options.mb - 1)
                plain = tcp_copy(folder, data)
                up, down = transfer(port, data)
                record = {
                    "tcp_MBps": plain,
                    "upload_MBps": up,
                    "upload_percent": 100 * up / plain,
                    "download_MBps": down,
                }
                print(json.dumps({k: round(v, 1) for k, v in record.items()}), flush=True)
            grown = rss_mb(pid, peak=True) - before
            print(json.dumps({"server_rss_MB": round(before, 1), "peak_growth_MB": round(grown, 1)}))
            times = asyncio.run(many_clients(port, options.clients, 5))
            p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
            print(json.dumps({"clients": options.clients, "p50_ms": round(p50, 2), "p99_ms": round(p99, 2)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
