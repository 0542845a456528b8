"""The agent's side of a worker process: starts it, talks to it within time limits, and says how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from gossamer_runtime import _errors
from gossamer_runtime._errors import GossamerError
from gossamer_runtime.agent._reasons import RunError
from gossamer_runtime.agent._trial import Facts

OPEN_SECONDS = 60.0
"""For starting Python on a slow card, checking the signature and packing the weights."""
RUN_SECONDS = 10.0
_MOST_LINE = 1 << 20


class Child:
    """One worker process; a :class:`gossamer_runtime.agent._trial.Trial`. Starts at once, so that it gets ready while
    a bundle still comes in.

    Args:
        trusted_keys: as ``Session``: public key lines or ``.pub`` paths; None is the trust store.
        threads: of the session.
        run_seconds: limit of one ``run``.
    """

    def __init__(
        self, trusted_keys: Sequence[str] | None = None, *, threads: int = 1, run_seconds: float = RUN_SECONDS
    ) -> None:
        self._keys = None if trusted_keys is None else list(trusted_keys)
        self._threads = threads
        self._run_seconds = run_seconds
        environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **os.environ}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gossamer_runtime.agent._worker", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env=environment,
                start_new_session=True,  # Ctrl-C at the agent lets a trial end
            )
        except OSError as e:
            raise RunError(f"the process for bundles cannot be started: {e.strerror}") from e
        self._rest = b""

    def check(self, bundle: str | bytes) -> Facts:
        """Verify and open a bundle by its path; see ``Trial``."""
        message = {"call": "check", "path": bundle, "trusted_keys": self._keys, "threads": self._threads}
        facts, _ = self._ask(message, (), OPEN_SECONDS)
        return Facts(facts["name"], facts["version"], facts["rollback_counter"], tuple(facts["input_bytes"]))

    def run(self, inputs: Sequence[bytes] = ()) -> float:
        """The trial's inference; see ``Trial``. Microseconds."""
        answer, _ = self._ask({"call": "run", "no_nan": True}, inputs, self._run_seconds)
        return float(answer["latency_us"])

    def infer(self, inputs: Sequence[bytes]) -> tuple[float, list[tuple[str, str, list[int], bytes]]]:
        """One inference of what ``check`` opened: microseconds, and name, dtype, shape, bytes of each output."""
        answer, blobs = self._ask({"call": "run", "no_nan": False}, inputs, self._run_seconds)
        ports = zip(answer["outputs"], blobs, strict=True)
        return float(answer["latency_us"]), [(p["name"], p["dtype"], p["shape"], data) for p, data in ports]

    def profile(
        self, runs: int, warmup: int, inputs: Sequence[bytes], trace: bool, seconds: float
    ) -> tuple[str, str, str]:
        """Profile of what ``check`` opened: JSON, text, and Chrome trace (empty without ``trace``)."""
        message = {"call": "profile", "runs": runs, "warmup": warmup, "trace": trace}
        _, blobs = self._ask(message, inputs, seconds)
        text, table, chrome = (blob.decode() for blob in blobs)
        return text, table, chrome

    def manifest(self) -> str:
        """Canonical JSON of the manifest of what ``check`` opened."""
        _, (blob,) = self._ask({"call": "manifest"}, (), OPEN_SECONDS)
        return blob.decode()

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Inside

    def _ask(
        self, message: dict[str, Any], blobs: Sequence[bytes], seconds: float
    ) -> tuple[dict[str, Any], list[bytes]]:
        deadline = time.monotonic() + seconds
        head = json.dumps({**message, "blobs": [len(b) for b in blobs]}).encode() + b"\n"
        try:
            self._send([head, *blobs], deadline)
            answer = json.loads(self._line(deadline))
            data = [self._take(size, deadline) for size in answer.pop("blobs", [])]
        except TimeoutError:
            self._process.kill()
            raise RunError(f"it took longer than {seconds:g} s and was stopped") from None
        except (OSError, EOFError):
            raise RunError(self._how_it_ended()) from None
        if "error" in answer:
            kind = getattr(_errors, answer["error"], GossamerError)
            raise kind(answer["message"], where=answer["where"], hint=answer["hint"])
        return answer, data

    def _send(self, parts: Sequence[bytes], deadline: float) -> None:
        assert self._process.stdin is not None
        fd = self._process.stdin.fileno()
        os.set_blocking(fd, False)
        for part in parts:
            view = memoryview(part)
            while view:
                self._wait(fd, deadline, write=True)
                view = view[os.write(fd, view) :]

    def _line(self, deadline: float) -> bytes:
        while b"\n" not in self._rest:
            if len(self._rest) > _MOST_LINE:
                raise EOFError
            self._rest += self._read(deadline)
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _take(self, size: int, deadline: float) -> bytes:
        parts, have = [self._rest], len(self._rest)
        while have < size:
            parts.append(self._read(deadline))
            have += len(parts[-1])
        data = b"".join(parts)
        self._rest = data[size:]
        return data[:size]

    def _read(self, deadline: float) -> bytes:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        self._wait(fd, deadline, write=False)
        data = os.read(fd, 1 << 16)
        if not data:
            raise EOFError
        return data

    @staticmethod
    def _wait(fd: int, deadline: float, *, write: bool) -> None:
        left = deadline - time.monotonic()
        poll = select.poll()  # not select(): descriptors may pass 1024
        poll.register(fd, select.POLLOUT if write else select.POLLIN)
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError

    def _how_it_ended(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.returncode
        if code is None:
            return "its process stopped answering"
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process ended with {code}"
