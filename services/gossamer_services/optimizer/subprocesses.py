"""The executor of one machine: a subprocess for each attempt, limited, and killed with all its children."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import IO, BinaryIO

from gossamer_services.optimizer.executor import Alive, Attempt, Ended, Outcome, Verdict
from gossamer_services.optimizer.worker import EXIT_DONE, EXIT_ERROR, EXIT_LOCKED

BEAT_S = 0.5
"""How often the engine hears of an attempt whose progress does not change."""
SOONEST_S = 0.1
"""Progress is passed on no more often than this."""
TICK_S = 0.1
LINE_BYTES = 1 << 16
KEPT = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "GOSSAMER_CACHE")
"""Environment that workers get: nothing that may hold a secret of the service's."""


class SubprocessExecutor:
    """Runs ``gossamer_services.optimizer.worker`` once for each attempt."""

    def run(self, attempt: Attempt, alive: Alive) -> Outcome:
        """See :meth:`gossamer_services.optimizer.executor.Executor.run`."""
        began = time.monotonic()
        # The thread that starts a worker stays with it: the kernel ends a worker with the thread that started it.
        with attempt.folder.log.open("ab") as log, started(attempt, log) as process:
            assert process.stdout is not None
            os.set_blocking(process.stdout.fileno(), False)
            stage, percent, told, last = "", 0.0, ("", -1.0), 0.0
            buffer = b""
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                while True:
                    selector.select(TICK_S)
                    chunk = _read(process.stdout)
                    buffer = (buffer + (chunk or b""))[-LINE_BYTES:]
                    *lines, buffer = buffer.split(b"\n")
                    for line in lines:
                        stage, percent = parse(line, stage, percent)
                    if chunk == b"":  # closed: it ended, or is about to
                        break
                    now = time.monotonic()
                    if now - began > attempt.time_s:
                        return Outcome(Ended.TIMEOUT)
                    if now - last > (SOONEST_S if (stage, percent) != told else BEAT_S):
                        told, last = (stage, percent), now
                        verdict = alive(stage, percent)
                        if verdict is not Verdict.GO_ON:
                            return Outcome(Ended.STOPPED, verdict=verdict)
            process.wait()
            return outcome(attempt, process.returncode)

    def close(self) -> None:
        """Nothing is held."""


@contextlib.contextmanager
def started(attempt: Attempt, log: BinaryIO) -> Iterator[subprocess.Popen[bytes]]:
    """The worker's process; when the block ends, however it does, the process and its children are dead."""
    command = [sys.executable, "-P", "-m", "gossamer_services.optimizer.worker", str(attempt.folder.path.resolve())]
    process = subprocess.Popen(
        [*command, str(attempt.number), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        cwd=attempt.folder.path,
        env=environment(attempt),
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def environment(attempt: Attempt) -> dict[str, str]:
    """What the worker sees: paths, its own home and temporary folder, and how many threads it may use."""
    own = kept_environment()
    threads = str(attempt.spec.limits.cpus)
    for library in ("OMP", "OPENBLAS", "MKL"):
        own[f"{library}_NUM_THREADS"] = threads
    work = str(attempt.folder.work.resolve())
    return own | {"HOME": work, "TMPDIR": work, "PYTHONUNBUFFERED": "1", "MALLOC_ARENA_MAX": "2"}


def kept_environment() -> dict[str, str]:
    """What of this process's environment children may see."""
    return {name: os.environ[name] for name in KEPT if name in os.environ}


def outcome(attempt: Attempt, code: int) -> Outcome:
    """How the attempt ended, from what it left and its exit code."""
    if code == EXIT_DONE and attempt.folder.result() is not None:
        return Outcome(Ended.DONE)
    if code == EXIT_ERROR:
        error = attempt.folder.error(attempt.number)
        if error is not None:
            return Outcome(Ended.ERROR, error=error)
    if code == EXIT_LOCKED:
        return Outcome(Ended.DIED, how="found another worker in the job's folder")
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = str(-code)
        return Outcome(Ended.DIED, how=f"was killed by {name}")
    return Outcome(Ended.DIED, how=f"ended with exit code {code} and no result")


def parse(line: bytes, stage: str, percent: float) -> tuple[str, float]:
    """Stage and percent of a line of progress; as they were when the line is none."""
    try:
        found = json.loads(line)
        return str(found["stage"])[:32], min(max(float(found["percent"]), 0.0), 100.0)
    except (ValueError, TypeError, KeyError):
        return stage, percent


def _read(pipe: IO[bytes]) -> bytes | None:
    """What is there; None: nothing now; empty: the end."""
    try:
        return os.read(pipe.fileno(), LINE_BYTES)
    except BlockingIOError:
        return None
