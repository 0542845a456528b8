"""Measure the optimizer: 50 jobs through the queue of a `gossamer serve`, while 200 clients ask for jobs all the time.

The server is a process of its own on loopback, its workers are processes too, and all share this machine. Times are
milliseconds, from a client's call to its answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import grpc

from gossamer._proto.v1 import optimizer_pb2 as pb
from gossamer._proto.v1 import optimizer_pb2_grpc as rpc
from gossamer.client import AsyncClient
from gossamer.person import model_path
from tools.serving import serving

RECIPE = "version: 1\nsparsify: {pattern: 1x4, sparsity: 0.75}\ntarget: {measure: false}\n"


async def ask(address: str, job: str, after_s: float, times: list[float], done: asyncio.Event) -> None:
    """Twice a second over a connection of its own, which is there before the first call that counts."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub = rpc.OptimizerServiceStub(channel)
        await channel.channel_ready()
        await asyncio.sleep(after_s)
        while not done.is_set():
            start = time.perf_counter()
            await stub.GetJob(pb.GetJobRequest(name=job), timeout=30)
            times.append((time.perf_counter() - start) * 1e3)
            await asyncio.sleep(0.5)


async def measure(address: str, count: int, clients: int) -> dict[str, object]:
    """Queue the jobs, ask for them, and wait for all."""
    times: list[float] = []
    done = asyncio.Event()
    async with AsyncClient(address) as client:
        start = time.perf_counter()
        jobs = [await client.submit(model_path(), RECIPE, name=f"m{i}", request_id=f"r{i}") for i in range(count)]
        queued_s = time.perf_counter() - start
        asking = [
            asyncio.create_task(ask(address, jobs[i % count].name, 1.0 + 0.5 * i / clients, times, done))
            for i in range(clients)
        ]
        results = await asyncio.gather(*(job.wait() for job in jobs))
        seconds = time.perf_counter() - start
        done.set()
        await asyncio.gather(*asking)
        attempts = [(await job.status()).attempt for job in jobs]
    ordered = sorted(times)
    return {
        "jobs": count,
        "succeeded": len(results),
        "attempts": sum(attempts),
        "submitting_s": round(queued_s, 2),
        "all_done_s": round(seconds, 2),
        "clients": clients,
        "calls": len(ordered),
        "get_job_p50_ms": round(ordered[len(ordered) // 2], 2),
        "get_job_p99_ms": round(ordered[int(len(ordered) * 0.99)], 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=50)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--slots", type=int, default=1, help="jobs that run at a time")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        serving(["registry", "optimizer"], Path(name) / "data", [f"optimizer.slots={options.slots}"]) as (_, ports),
    ):
        print(json.dumps(asyncio.run(measure(f"127.0.0.1:{ports[0]}", options.jobs, options.clients))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
