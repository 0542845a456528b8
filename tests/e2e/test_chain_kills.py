"""SIGKILL of a server, its workers and a device's agent at random moments: nothing is lost, nothing doubled.

The server is a whole ``gossamer serve`` (registry, optimizer and fleet in one process). Meanwhile clients submit jobs
that publish versions, upload blobs, and flash bundles to the device.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import pytest

import gossamer
from gossamer._errors import UnreachableError
from gossamer._proto.v1 import registry_pb2 as pb
from gossamer._proto.v1 import registry_pb2_grpc as rpc
from gossamer.client import Client, Job, Retry
from gossamer.client._calls import call
from gossamer.client._channel import open_channel
from gossamer.device.book import Place
from gossamer.device.remote import Remote
from gossamer_runtime import Session
from gossamer_services.optimizer.folder import JobFolder
from gossamer_services.optimizer.jobs import State
from gossamer_services.optimizer.store import JobStore
from tests.agent.agentkit import Agent
from tests.agent.conftest import _made, bundles, cli, home, work
from tests.finetune.conftest import network
from tests.optimizer.conftest import SPARSE
from tests.services.kit import download

__all__ = ["_made", "bundles", "cli", "home", "work"]

SEEDS = 3
RETRY = Retry(attempts=10_000, first_s=0.05, longest_s=0.5, call_s=10.0)
SETTINGS = {
    "server.drain_delay_s": "0",
    "server.log_level": "ERROR",
    "optimizer.slots": "2",
    "optimizer.attempts": "100",
    "optimizer.interruptions": "10000",
    "registry.grace_s": "15",
    "registry.collect_every_s": "1",
}


class Serve:
    """``gossamer serve`` on one port and one folder, started again after each kill."""

    def __init__(self, data: Path) -> None:
        self.data = data
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "gossamer", "serve", "--data", str(self.data), "--bind", self.address]
        for name, value in SETTINGS.items():
            command += ["--set", f"{name}={value}"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None and self.process.stdout.readline().startswith("serving ")

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def end(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def workers(self) -> list[int]:
        """Process ids of the workers that hold a job folder."""
        folders = [JobFolder(path) for path in (self.data / "jobs").glob("?" * 32)]
        return [pid for folder in folders if (pid := folder.worker()) is not None]


@dataclass
class Load:
    """What clients were told: a job per number, digests of blobs, and bundles in the order of their flashes."""

    jobs: dict[int, set[str]] = field(default_factory=dict)
    blobs: list[str] = field(default_factory=list)
    flashes: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    failures: list[BaseException] = field(default_factory=list)


def torture(server: Serve, agent: Agent, made: list[bytes], folder: Path, *, rounds: int, jobs: int, seed: int) -> Load:
    """Kill something in every round while clients work; then let all end in peace."""
    rng, load, over = random.Random(seed), Load(), threading.Event()
    models = [folder / f"seed-{i}" / "model.onnx" for i in range(SEEDS)]
    for i, path in enumerate(models):
        path.parent.mkdir()
        path.write_bytes(network(i).SerializeToString())

    def submit() -> None:
        with Client(server.address, retry=RETRY) as client:
            for number in range(jobs):
                options = {"publish": ("small", str(number)), "request_id": f"r{number}", "name": "small"}
                for _ in range(2):  # a client that heard no answer asks again
                    job = client.submit(models[number % SEEDS], json.dumps(SPARSE) + "\n", **options)
                    load.jobs.setdefault(number, set()).add(job.name)
                over.wait(0.1)

    def upload() -> None:
        bytes_of = np.random.default_rng(seed)
        with Client(server.address, retry=RETRY) as client:
            while not over.is_set():
                path = folder / "blob"
                path.write_bytes(bytes_of.bytes(int(bytes_of.integers(1, 3 << 20))))
                load.blobs.append(client.upload(path))
                lease(server.address, load.blobs[-1])

    def flash() -> None:
        paths = [folder / f"flash-{i}.goss" for i in range(len(made))]
        for path, data in zip(paths, made, strict=True):
            path.write_bytes(data)
        while not over.is_set():
            path = paths[load.flashes % len(paths)]
            with (
                contextlib.suppress(UnreachableError),  # the agent was killed under it: the next one tries again
                contextlib.closing(Remote(Place("agent", address=agent.address))) as device,
            ):
                device.flash(path)
                running = next(s for s in device.info()["slots"] if s["status"] == "active")
                assert running["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
                load.flashes += 1

    threads = [threading.Thread(target=guarded(load, target)) for target in (submit, upload, flash)]
    for thread in threads:
        thread.start()
    for _ in range(rounds):
        time.sleep(rng.uniform(0.0, 0.5))
        what = rng.choice(["server", "worker", "agent"])
        if what == "server":
            server.kill()
            server.start()
        elif what == "agent":
            agent.kill()
            agent.start()
        else:
            try:
                os.kill(rng.choice(server.workers()), signal.SIGKILL)
            except (IndexError, ProcessLookupError):  # none worked just then
                continue
        load.killed[what] += 1
    threads[0].join()
    while not ((load.flashes and load.blobs) or load.failures):
        time.sleep(0.1)
    over.set()
    for thread in threads:
        thread.join()
    if load.failures:
        raise load.failures[0]
    return load


def guarded(load: Load, work: Callable[[], None]) -> Callable[[], None]:
    """The work of a thread; its failure is the test's."""

    def run() -> None:
        try:
            work()
        except BaseException as e:
            load.failures.append(e)

    return run


def lease(address: str, digest: str) -> None:
    """Keep a blob from garbage collection, which runs all the time here."""

    async def ask() -> None:
        async with open_channel(address, None, False) as channel:
            request = pb.LeaseBlobRequest(sha256=digest, owner="test")
            request.expire_time.FromSeconds(int(time.time()) + 3600)
            stub = rpc.RegistryServiceStub(channel)
            await call(RETRY, address, lambda deadline_s: stub.LeaseBlob(request, timeout=deadline_s))

    asyncio.run(ask())


def check(server: Serve, load: Load, folder: Path) -> None:
    """Every job ended once and made its version; every blob is whole."""
    expected = []
    for i in range(SEEDS):
        made = gossamer.optimize(folder / f"seed-{i}" / "model.onnx", SPARSE, key=False, name="small")
        expected.append(hashlib.sha256(made.data).hexdigest())
    with Client(server.address, retry=RETRY) as client:
        names = {number: only(found) for number, found in load.jobs.items()}
        for number, name in names.items():
            job: Job = client.job(name)
            assert job.wait(timeout_s=600).numbers.bundle_sha256 == expected[number % SEEDS]

    async def read() -> None:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = rpc.RegistryServiceStub(channel)
            listed = await stub.ListVersions(pb.ListVersionsRequest(bundle="small", page_size=1000))
            versions = {v.name: v.sha256 for v in listed.versions}
            assert len(listed.versions) == len(versions) == len(names)
            for number in names:
                assert versions[f"bundles/small/versions/{number}"] == expected[number % SEEDS]
            for digest in [*load.blobs, *expected]:
                assert hashlib.sha256(await download(stub, digest)).hexdigest() == digest

    asyncio.run(read())
    deadline = time.monotonic() + 10
    while list((server.data / "jobs").glob("?" * 32)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not server.workers()
    server.end()
    store = JobStore(f"sqlite:///{server.data / 'jobs.db'}")
    try:
        for name in names.values():
            events = store.events(name.removeprefix("jobs/"))
            assert [event.state for event in events if event.state.final] == [State.SUCCEEDED], events
        assert sum(store.counts().values()) == len(names)
    finally:
        store.close()
    assert not list((server.data / "jobs").glob("?" * 32))


def only(found: set[str]) -> str:
    """The one element."""
    assert len(found) == 1, found
    return next(iter(found))


@pytest.fixture
def server(tmp_path):
    made = Serve(tmp_path / "data")
    yield made
    if made.process.poll() is None:
        made.kill()


@pytest.fixture
def agent(tmp_path, work):  # after ``work``, whose key it trusts
    made = Agent(tmp_path / "slots")
    yield made
    made.stop()


def chain(server: Serve, agent: Agent, bundles: Callable[..., bytes], folder: Path, **options: int) -> Load:
    made = [bundles("1", pad=400_000), bundles("2", pad=400_000)]
    load = torture(server, agent, made, folder, **options)
    check(server, load, folder)
    device = Remote(Place("agent", address=agent.address))
    active = next(s for s in device.info()["slots"] if s["status"] == "active")
    assert active["sha256"] in {hashlib.sha256(data).hexdigest() for data in made}
    with Session(made[0]) as session:
        zeros = [np.zeros(port.shape, port.dtype) for port in session.inputs]
        expected = session.run(zeros)
    _, outputs = device.run([x.tobytes() for x in zeros])
    assert [y.data for y in outputs] == [y.tobytes() for y in (expected if isinstance(expected, list) else [expected])]
    device.close()
    assert load.flashes and load.blobs and len(load.jobs) == options["jobs"]
    return load


@pytest.mark.slow
def test_a_few_kills_along_the_chain(server, agent, bundles, tmp_path):
    chain(server, agent, bundles, tmp_path, rounds=6, jobs=3, seed=1)


@pytest.mark.slow
def test_a_hundred_kills_along_the_chain(server, agent, bundles, tmp_path):
    load = chain(server, agent, bundles, tmp_path, rounds=100, jobs=60, seed=2)
    print(f"{dict(load.killed)}; {len(load.jobs)} jobs, {len(load.blobs)} blobs, {load.flashes} flashes")
    assert all(load.killed[what] >= 10 for what in ("server", "worker", "agent"))
