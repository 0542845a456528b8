"""The folder of one job: what the engine puts in, what the worker leaves, each file whole or not there.

::

    task.json      the specification and the names of the inputs
    inputs/        model, calibration and training data, named by role
    lock           locked by the worker that runs; holds its process id
    work/          of the attempts: unpacked data and checkpoints, which later attempts go on from
    log            what workers wrote to stderr
    error.json     why the attempt that it names failed
    bundle.goss, report.json, then result.json: with the last one the job's work is done, and never done again
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gossamer import _atomic
from gossamer._errors import OutputError
from gossamer_services.common.copies import file_digest, sync_folder
from gossamer_services.optimizer.blobs import Blobs
from gossamer_services.optimizer.jobs import JobError, JobSpec


class JobFolder:
    """Paths of a job, and what is read and written there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.inputs, self.work = path / "inputs", path / "work"
        self.log, self.bundle, self.report = path / "log", path / "bundle.goss", path / "report.json"

    def prepare(self, spec: JobSpec, blobs: Blobs) -> None:
        """Write the task and fetch its inputs; what an earlier attempt fetched is kept.

        Raises:
            ServiceError: NOT_FOUND: a blob is gone. DATA_LOSS: its bytes are not those of its digest.
        """
        self.inputs.mkdir(parents=True, exist_ok=True)
        self.work.mkdir(exist_ok=True)
        for role, blob in spec.blobs().items():
            target = self.input(spec, role)
            if not target.exists():
                blobs.fetch(blob.digest, target)
        sync_folder(self.inputs)
        _atomic.write_text(self.path / "task.json", spec.to_json())

    def input(self, spec: JobSpec, role: str) -> Path:
        """File of an input."""
        return self.inputs / f"{role}{spec.blobs()[role].kind}"

    def task(self) -> JobSpec:
        """The specification that :meth:`prepare` wrote."""
        return JobSpec.from_json((self.path / "task.json").read_text())

    def lock(self, wait_s: float) -> int | None:
        """Lock the folder for this process until it ends; None when another holds the lock for all of ``wait_s``.

        The kernel frees the lock with the process, however that ends.
        """
        handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        until = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    os.close(handle)
                    return None
                time.sleep(0.02)
                continue
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            return handle

    def worker(self) -> int | None:
        """Process id of the worker that holds the lock; None when nobody does."""
        try:
            with (self.path / "lock").open() as f:
                try:
                    fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    text = f.read()
                    return int(text) if text else None
        except FileNotFoundError:
            pass
        return None

    def finish(self, numbers: Mapping[str, Any]) -> bool:
        """Declare bundle and report done; False when an earlier attempt did so."""
        done = {**numbers, "bundle": file_digest(self.bundle), "report": file_digest(self.report)}
        try:
            _atomic.write(self.path / "result.json", json.dumps(done).encode(), overwrite=False)
        except OutputError:
            if (self.path / "result.json").exists():
                return False
            raise
        return True

    def result(self) -> dict[str, Any] | None:
        """What :meth:`finish` declared; None when the work is not done, or its files are not as declared."""
        try:
            found: dict[str, Any] = json.loads((self.path / "result.json").read_bytes())
            whole = file_digest(self.bundle) == found["bundle"] and file_digest(self.report) == found["report"]
        except FileNotFoundError:
            return None
        if not whole:
            (self.path / "result.json").unlink()
            return None
        return found

    def write_error(self, attempt: int, error: JobError) -> None:
        """Say why an attempt failed."""
        _atomic.write_text(self.path / "error.json", json.dumps({"attempt": attempt, "error": asdict(error)}))

    def error(self, attempt: int) -> JobError | None:
        """Why this attempt failed; None when it did not say."""
        try:
            found = json.loads((self.path / "error.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return JobError.from_plain(found["error"]) if found["attempt"] == attempt else None

    def log_tail(self, characters: int = 4000) -> str:
        """The end of what the workers wrote to stderr."""
        try:
            with self.log.open("rb") as f:
                f.seek(max(0, f.seek(0, os.SEEK_END) - characters))
                return f.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def remove(self) -> None:
        """Remove all of it."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.path)
