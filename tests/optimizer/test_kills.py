"""SIGKILL of the engine and of its workers at random moments, under load: nothing is lost, nothing ends twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

import gossamer
from gossamer_services.common.copies import file_digest
from gossamer_services.optimizer.folder import JobFolder
from gossamer_services.optimizer.jobs import State
from tests.finetune.conftest import network
from tests.optimizer.conftest import LIMITS, SPARSE, TRAINED, Bench

SCRIPT = Path(__file__).with_name("engine_process.py")
SEEDS = 3


@contextlib.contextmanager
def engine(bench: Bench, slots: int = 2):
    """An engine in a process of its own; killed at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(bench.path), str(slots)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def workers(bench: Bench) -> list[int]:
    """Process ids of the workers that hold a job folder."""
    folders = [JobFolder(path) for path in (bench.path / "jobs").glob("?" * 32)]
    return [pid for folder in folders if (pid := folder.worker()) is not None]


def expected(bench: Bench, seed: int) -> bytes:
    path = bench.path / f"seed-{seed}" / "model.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(network(seed).SerializeToString())
    return gossamer.optimize(path, SPARSE, key=False, name="small").data


def torture(bench: Bench, *, rounds: int, jobs: int, trained: int, seed: int) -> dict[str, int]:
    """Kill something in every round while jobs come in; then let an engine finish, and check every job."""
    rng = random.Random(seed)
    limits = replace(LIMITS, attempts=10_000, run_time_s=3600.0)
    specs = [bench.spec(seed=i % SEEDS, limits=limits) for i in range(jobs)]
    specs += [bench.spec(TRAINED, limits=limits) for _ in range(trained)]
    order = list(enumerate(specs))
    rng.shuffle(order)
    accepted: dict[int, set[str]] = {}
    stop = threading.Event()

    def submit() -> None:
        for number, spec in order:
            for _ in range(2):  # a client that heard no answer asks again
                accepted.setdefault(number, set()).add(bench.store.submit(spec, request_id=f"r{number}")[0].id)
            stop.wait(0.02)

    submitter = threading.Thread(target=submit)
    submitter.start()
    killed = {"engine": 0, "worker": 0}
    done = 0
    while done < rounds:
        with engine(bench) as process:
            while done < rounds:
                time.sleep(rng.uniform(0.0, 0.7))
                done += 1
                found = workers(bench)
                if found and rng.random() < 0.5:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(rng.choice(found), signal.SIGKILL)
                        killed["worker"] += 1
                else:
                    process.send_signal(signal.SIGKILL)
                    killed["engine"] += 1
                    break
    submitter.join()
    with engine(bench):
        for ids in accepted.values():
            assert len(ids) == 1
            bench.wait(next(iter(ids)), limit_s=600)
        deadline = time.monotonic() + 10
        while list((bench.path / "jobs").glob("?" * 32)) and time.monotonic() < deadline:
            time.sleep(0.05)
    check(bench, {number: next(iter(ids)) for number, ids in accepted.items()}, jobs)
    return killed


def check(bench: Bench, ids: dict[int, str], plain: int) -> None:
    bundles = {seed: expected(bench, seed) for seed in range(SEEDS)}
    trained = set()
    for number, job in ids.items():
        found = bench.store.get(job)
        assert found.state is State.SUCCEEDED and bench.ends(job) == [State.SUCCEEDED], bench.store.events(job)
        data = bench.read(found.result.bundle)
        if number < plain:
            assert data == bundles[number % SEEDS]
        else:
            trained.add(found.result.bundle)
    assert len(trained) <= 1  # whatever was killed on the way, the same bits
    assert sum(bench.store.counts().values()) == len(ids)
    assert all(file_digest(path) == path.name for path in (bench.path / "blobs").iterdir() if path.name[0] != ".")
    assert not list((bench.path / "jobs").glob("?" * 32)) and not workers(bench)


def test_kills_lose_and_double_nothing(bench):
    killed = torture(bench, rounds=3, jobs=3, trained=0, seed=1)
    assert sum(killed.values()) >= 2


@pytest.mark.slow
def test_a_hundred_kills_lose_and_double_nothing(bench):
    killed = torture(bench, rounds=100, jobs=40, trained=3, seed=2)
    print(killed)
    assert killed["engine"] >= 20 and killed["worker"] >= 20


def test_a_worker_dies_with_its_engine(bench):
    job, _ = bench.store.submit(bench.spec({**TRAINED, "train": {**TRAINED["train"], "epochs": 2000}}))
    with engine(bench) as process:
        bench.wait(job, until=lambda j: j.state is State.RUNNING)
        while not (found := workers(bench)):
            time.sleep(0.01)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 5
        while workers(bench):
            assert time.monotonic() < deadline, "the worker outlived its engine"
            time.sleep(0.01)
    assert found and bench.store.get(job.id).state is State.RUNNING  # as the store has it until an engine looks


@pytest.mark.slow
def test_fifty_jobs_in_the_queue_all_end_once(bench):
    ids = [bench.store.submit(bench.spec(seed=i % SEEDS), request_id=f"r{i}")[0].id for i in range(50)]
    assert len(set(ids)) == 50
    with bench.engine():
        for job in ids:
            bench.wait(job, limit_s=300)
    for job in ids:
        assert bench.ends(job) == [State.SUCCEEDED] and bench.store.get(job).attempt == 1
