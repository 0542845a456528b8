"""The parent's end of ``tools.bench.worker``: starts an engine pinned to its cores, asks, and says how it died."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from tools.bench.models import ROOT

TIMEOUT_S = 300


class MissingEngineError(Exception):
    """The engine's package is not installed; the message is the module's name."""


class EngineFailedError(Exception):
    """The engine refused the model, crashed or hung; the message ends with what it printed last."""


class Worker:
    """A running engine. Use as a context manager.

    Attributes:
        cold_ms: import, load and first inference, milliseconds beyond the start of Python and numpy.
        first_run_ms: the first inference alone.
        busy_threads: the most threads that worked in any burst so far.
    """

    def __init__(
        self,
        engine: str,
        model: Path,
        x: Path,
        threads: int = 1,
        precision: str = "f32",
        *,
        cores: Sequence[int] | None = None,
        key: str = "",
        python: str = sys.executable,
    ) -> None:
        self.busy_threads = 0
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - close() closes it
        command = [python, "-m", "tools.bench.worker", engine, str(model), str(x), str(threads), precision]
        with _pinned(cores):
            self.process = subprocess.Popen(
                command + [key] * bool(key),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                cwd=ROOT,
                # numpy's BLAS starts a thread that spins for a tenth of a second, beside every engine's first runs.
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            )
        try:
            start = self._reply()
            if "missing" in start:
                raise MissingEngineError(start["missing"])
        except BaseException:
            self.close()
            raise
        self.cold_ms: float = start["cold_ms"]
        self.first_run_ms: float = start["first_run_ms"]

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def burst(self, warm: int, count: int) -> npt.NDArray[np.float64]:
        """Milliseconds of ``count`` runs after ``warm`` others."""
        reply = self._ask({"burst": [warm, count]})
        self.busy_threads = max(self.busy_threads, reply["busy_threads"])
        return np.array(reply["ns"], np.float64) / 1e6

    def output(self) -> npt.NDArray[np.float32]:
        """The output for the worker's input, flat float32."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "y.npy"
            self._ask({"output": str(path)})
            return np.load(path).reshape(-1)

    def peak_rss_mb(self) -> float:
        """Highest resident memory of the process so far, MB (10^6 bytes), Python and numpy included."""
        return float(self._ask({})["rss_kib"]) * 1024 / 1e6

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it died, and its last words are told elsewhere
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise EngineFailedError(self._last_words()) from None
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], TIMEOUT_S)
        if not ready:
            self.process.kill()
            raise EngineFailedError(f"no answer in {TIMEOUT_S} s")
        line = self.process.stdout.readline()
        if not line:
            raise EngineFailedError(self._last_words())
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _last_words(self) -> str:
        code = self.process.wait(10)
        self.errors.seek(0)
        text = self.errors.read().decode(errors="replace")
        lines = [line for line in text.splitlines() if line and not line[0].isspace()]  # not the frames, nor the hints
        return f"ended with {code}: {lines[-1] if lines else 'without a word'}"


@contextlib.contextmanager
def _pinned(cores: Sequence[int] | None) -> Iterator[None]:
    """Children started within inherit these cores, before they load anything."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cores(threads: int) -> list[int]:
    """The last ``threads`` cores of those that this process may use; :class:`ValueError` when there are fewer."""
    allowed = sorted(os.sched_getaffinity(0))
    if threads > len(allowed):
        raise ValueError(f"{threads} threads want {threads} cores, and this process may use {len(allowed)}")
    return allowed[-threads:]
