"""SIGKILL of services, workers and devices' agents at random moments, under load: nothing is lost, nothing doubled.

Meanwhile clients submit jobs that publish versions, upload blobs, flash bundles to a device, and have another one pull.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("grpc", reason="grpcio is missing: pip install -e ./services")
pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install -e ./services")

import gossamer
from gossamer._errors import UnreachableError
from gossamer._proto.v1 import registry_pb2 as pb
from gossamer._proto.v1 import registry_pb2_grpc as rpc
from gossamer.client._calls import call
from gossamer.client._channel import open_channel
from gossamer.device.book import Place
from gossamer.device.remote import Remote
from gossamer_runtime import Session
from gossamer_runtime.agent._main import main as agent_main
from gossamer_services.optimizer.jobs import State
from gossamer_services.optimizer.store import JobStore
from tests.agent.agentkit import Agent
from tests.agent.conftest import _made, bundles, cli, home, work
from tests.e2e.chains import RETRY, Chain, apart, together
from tests.finetune.conftest import network
from tests.optimizer.conftest import SPARSE

__all__ = ["_made", "bundles", "cli", "home", "work"]

SEEDS = 3


@dataclass
class Load:
    """What clients were told: names of jobs by number, digests of blobs; what devices took; what was killed."""

    jobs: dict[int, set[str]] = field(default_factory=dict)
    blobs: list[str] = field(default_factory=list)
    flashes: int = 0
    pulls: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    failures: list[BaseException] = field(default_factory=list)


class Torture:
    """The clients, one thread each, and the killer.

    Args:
        chain: runs.
        flashed: an agent that is flashed; ``puller``: one in pull mode, known to the fleet as ``device``.
        made: paths of bundles for the devices, in turns; they are published as versions of "device" for the puller.
    """

    def __init__(
        self, chain: Chain, flashed: Agent, puller: Agent, device: str, made: list[Path], folder: Path
    ) -> None:
        self.chain, self.flashed, self.puller, self.device = chain, flashed, puller, device
        self.made, self.folder = made, folder
        self.models = [folder / f"seed-{i}" / "model.onnx" for i in range(SEEDS)]
        for i, path in enumerate(self.models):
            path.parent.mkdir()
            path.write_bytes(network(i).SerializeToString())
        self.load, self._over = Load(), threading.Event()

    def run(self, *, rounds: int, jobs: int, seed: int) -> Load:
        """Kill something in every round while clients work; then let all end in peace."""
        rng, load = random.Random(seed), self.load
        agents = {"flashed agent": self.flashed, "pulling agent": self.puller}
        work = [lambda: self._submit(jobs), lambda: self._upload(seed), self._flash, self._pull]
        threads = [threading.Thread(target=self._guarded, args=(one,)) for one in work]
        for thread in threads:
            thread.start()
        for _ in range(rounds):
            time.sleep(rng.uniform(0.0, 0.5))
            what = rng.choice(["worker", *agents, *self.chain.processes])
            if what == "worker":
                try:
                    os.kill(rng.choice(self.chain.workers()), signal.SIGKILL)
                except (IndexError, ProcessLookupError):  # none worked just then
                    continue
            else:
                process = agents.get(what) or self.chain.processes[what]
                process.kill()
                process.start()
            load.killed[what] += 1
        threads[0].join()
        while not ((load.flashes and load.blobs and load.pulls) or load.failures):
            time.sleep(0.1)
        self._over.set()
        for thread in threads:
            thread.join()
        if load.failures:
            raise load.failures[0]
        return load

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as e:
            self.load.failures.append(e)

    def _submit(self, jobs: int) -> None:
        with self.chain.client() as client:
            for number in range(jobs):
                options = {"publish": ("small", str(number)), "request_id": f"r{number}", "name": "small"}
                for _ in range(2):  # a client that heard no answer asks again
                    job = client.submit(self.models[number % SEEDS], json.dumps(SPARSE) + "\n", **options)
                    self.load.jobs.setdefault(number, set()).add(job.name)
                self._over.wait(0.1)

    def _upload(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        with self.chain.client() as client:
            while not self._over.is_set():
                path = self.folder / "blob"
                path.write_bytes(rng.bytes(int(rng.integers(1, 3 << 20))))
                digest = client.upload(path)
                self._lease(digest)
                self.load.blobs.append(digest)

    def _lease(self, digest: str) -> None:
        """Keep a blob from garbage collection, which runs all the time here."""

        async def ask() -> None:
            async with open_channel(self.chain.registry, None, False) as channel:
                request = pb.LeaseBlobRequest(sha256=digest, owner="test")
                request.expire_time.FromSeconds(int(time.time()) + 3600)
                lease, metadata = rpc.RegistryServiceStub(channel).LeaseBlob, self.chain.metadata
                await call(RETRY, self.chain.registry, lambda s: lease(request, timeout=s, metadata=metadata))

        asyncio.run(ask())

    def _flash(self) -> None:
        while not self._over.is_set():
            path = self.made[self.load.flashes % len(self.made)]
            with (
                contextlib.suppress(UnreachableError),  # the agent was killed under it: the next one tries again
                contextlib.closing(Remote(Place("agent", address=self.flashed.address))) as device,
            ):
                device.flash(path)
                running = next(s for s in device.info()["slots"] if s["status"] == "active")
                assert running["sha256"] == digest_of(path)
                self.load.flashes += 1

    def _pull(self) -> None:
        with self.chain.fleet_client() as client:
            while not self._over.is_set():
                number = self.load.pulls % len(self.made)
                client.fleet.update(self.device, desired_version=f"bundles/device/versions/{number}")
                deadline = time.monotonic() + 120
                while client.fleet.device(self.device).status.bundle_sha256 != digest_of(self.made[number]):
                    assert time.monotonic() < deadline, client.fleet.device(self.device)
                    time.sleep(0.1)
                self.load.pulls += 1


def check(chain: Chain, load: Load, models: list[Path]) -> None:
    """Every job ended once and made its version; every blob is whole."""
    made = [gossamer.optimize(path, SPARSE, key=False, name="small").data for path in models]
    expected = [hashlib.sha256(data).hexdigest() for data in made]
    with chain.client() as client:
        names = {number: only(found) for number, found in load.jobs.items()}
        for number, name in names.items():
            result = client.job(name).wait(timeout_s=600)
            assert result.numbers.bundle_sha256 == expected[number % SEEDS]
        listed = client.versions("small", limit=1000)
        versions = {version.name: version.sha256 for version in listed}
        assert len(listed) == len(versions) == len(names)
        for number in names:
            assert versions[f"bundles/small/versions/{number}"] == expected[number % SEEDS]
        for digest in [*load.blobs, *expected]:
            assert hashlib.sha256(client.read(digest)).hexdigest() == digest
    deadline = time.monotonic() + 10
    while list((chain.jobs / "jobs").glob("?" * 32)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not chain.workers() and not list((chain.jobs / "jobs").glob("?" * 32))
    store = JobStore(f"sqlite:///{chain.jobs / 'jobs.db'}")
    try:
        for name in names.values():
            events = store.events(name.removeprefix("jobs/"))
            assert [event.state for event in events if event.state.final] == [State.SUCCEEDED], events
        assert sum(store.counts().values()) == len(names)
    finally:
        store.close()


def check_device(agent: Agent, made: list[Path]) -> None:
    """It runs one of the bundles, whole and right."""
    with contextlib.closing(Remote(Place("agent", address=agent.address))) as device:
        active = next(s for s in device.info()["slots"] if s["status"] == "active")
        path = {digest_of(path): path for path in made}[active["sha256"]]
        with Session(path) as session:
            zeros = [np.zeros(port.shape, port.dtype) for port in session.inputs]
            expected = session.run(zeros)
        _, outputs = device.run([x.tobytes() for x in zeros])
    expected = expected if isinstance(expected, list) else [expected]
    assert [y.data for y in outputs] == [y.tobytes() for y in expected]


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def only(found: set[str]) -> str:
    """The one element."""
    assert len(found) == 1, found
    return next(iter(found))


@pytest.fixture(params=[together, apart])
def chain(request, tmp_path):
    made: Chain = request.param(tmp_path)
    made.start()
    yield made
    for process in made.processes.values():
        process.kill()


@pytest.fixture
def torture(chain, tmp_path, bundles):
    made = [tmp_path / f"device-{i}.goss" for i in range(2)]
    with chain.client() as client, chain.fleet_client() as fleet:
        for i, path in enumerate(made):
            path.write_bytes(bundles(str(i), pad=400_000))
            client.publish(path, "device", str(i))
        (tmp_path / "enrolment").write_text(fleet.fleet.enrollment_token().token + "\n")
        root = tmp_path / "pulling"
        enroll = ["enroll", "--root", str(root), "--fleet", chain.fleet, "--token-file", str(tmp_path / "enrolment")]
        assert agent_main(enroll) == 0
        device = only({found.name for found in fleet.fleet.devices()})
    flashed, puller = Agent(tmp_path / "flashed"), Agent(root, "--fleet")
    yield Torture(chain, flashed, puller, device, made, tmp_path)
    for agent in (flashed, puller):
        agent.stop()


def survive(torture: Torture, **options: int) -> Load:
    load = torture.run(**options)
    check(torture.chain, load, torture.models)
    check_device(torture.flashed, torture.made)
    check_device(torture.puller, torture.made)
    assert len(load.jobs) == options["jobs"]
    return load


@pytest.mark.slow
def test_a_few_kills_along_the_chain(torture):
    survive(torture, rounds=6, jobs=3, seed=1)


@pytest.mark.slow
def test_a_hundred_kills_along_the_chain(torture):
    load = survive(torture, rounds=100, jobs=40, seed=2)
    print(f"{dict(load.killed)}; {len(load.jobs)} jobs, {len(load.blobs)} blobs, {load.flashes} flashes, "
          f"{load.pulls} pulls")  # fmt: skip
    assert all(
        load.killed[what] >= 5 for what in ("worker", "flashed agent", "pulling agent", *torture.chain.processes)
    )
