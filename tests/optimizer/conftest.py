"""Jobs over a small network, a store and a blob folder for each test."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.recipe import canonical, load_recipe
from gossamer_services.optimizer.blobs import FolderBlobs
from gossamer_services.optimizer.engine import Engine, Settings
from gossamer_services.optimizer.jobs import Blob, Job, JobSpec, Kind, Limits, State
from gossamer_services.optimizer.store import JobStore, Retry
from tests.finetune.conftest import network, task

SPARSE = {"version": 1, "sparsify": {"pattern": "1x4", "sparsity": 0.75}, "target": {"measure": False}}
TRAINED = {**SPARSE, "train": {"epochs": 12, "batch": 8, "learning_rate": 0.01}}
LIMITS = Limits(memory_bytes=2 << 30, run_time_s=120.0)


@dataclass
class Bench:
    """A store, blobs, and where engines put their job folders."""

    path: Path
    store: JobStore
    blobs: FolderBlobs

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path / 'jobs.db'}"

    def put(self, data: bytes) -> str:
        file = self.path / "upload"
        file.write_bytes(data)
        return self.blobs.put(file)

    def spec(self, recipe: dict[str, Any] = SPARSE, *, seed: int = 0, **changes: Any) -> JobSpec:
        """A job over the small network; one that trains gets its examples."""
        model = Blob(self.put(network(seed).SerializeToString()), Kind.ONNX)
        made = JobSpec(model, canonical(load_recipe(recipe)), name="small", limits=LIMITS)
        if recipe.get("train"):
            x, y = task(192, 1)
            made = replace(made, training=Blob(self.put(npz(x=x, y=y)), Kind.NPZ))
        return replace(made, **changes)

    def engine(self, **options: Any) -> Engine:
        options.setdefault("settings", Settings(slots=2, lease_s=10.0, poll_s=0.05))
        return Engine(self.store, self.blobs, self.path / "jobs", **options)

    def wait(
        self, job: Job | str, *, until: Callable[[Job], bool] = lambda j: j.state.final, limit_s: float = 60
    ) -> Job:
        """The job when it has come so far."""
        key, end = job if isinstance(job, str) else job.id, time.monotonic() + limit_s
        while True:
            now = self.store.get(key)
            if until(now):
                return now
            assert time.monotonic() < end, f"{now.state} at {now.stage} {now.percent}%, {self.store.events(key)}"
            assert not now.state.final, f"{now.state}: {now.error}"
            time.sleep(0.02)

    def ends(self, job: Job | str) -> list[State]:
        """The final states that a job went through: one, or something is wrong."""
        key = job if isinstance(job, str) else job.id
        return [event.state for event in self.store.events(key) if event.state.final]

    def read(self, digest: str) -> bytes:
        with self.blobs.open(digest) as f:
            return f.read()


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def report(bench: Bench, job: Job) -> dict[str, Any]:
    assert job.result is not None
    found: dict[str, Any] = json.loads(bench.read(job.result.report))
    return found


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    store = JobStore(f"sqlite:///{tmp_path / 'jobs.db'}", retry=Retry(interruptions=500, delay_s=0.05))
    yield Bench(tmp_path, store, FolderBlobs(tmp_path / "blobs"))  # type: ignore[misc]
    store.close()
