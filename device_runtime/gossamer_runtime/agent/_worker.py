"""The process in which bundles are opened and run: ``python -m gossamer_runtime.agent._worker``, spoken to by pipes.

A bundle that crashes, hangs or eats memory takes this process along and not the agent; and the agent itself loads
neither numpy nor a model. Messages both ways: one line of JSON whose ``blobs`` lists byte counts, then those bytes.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from gossamer_runtime import GossamerError, InputError, Port, Session

_PR_SET_PDEATHSIG = 1


def receive(stream: BinaryIO) -> tuple[dict[str, Any], list[bytes]] | None:
    """The next message; ``None`` at the end of the stream."""
    line = stream.readline()
    if not line:
        return None
    message = json.loads(line)
    return message, [stream.read(size) for size in message.pop("blobs", [])]


def send(stream: BinaryIO, message: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
    """Write one message."""
    stream.write(json.dumps({**message, "blobs": [len(b) for b in blobs]}).encode() + b"\n")
    for blob in blobs:
        stream.write(blob)
    stream.flush()


class Worker:
    """Holds the session that ``check`` opened."""

    def __init__(self) -> None:
        self._session: Session | None = None

    def check(self, path: str, trusted_keys: list[str] | None, threads: int) -> tuple[dict[str, Any], list[bytes]]:
        """Verify and open a bundle."""
        self._session = Session(path, threads=threads, trusted_keys=trusted_keys)
        m = self._session.manifest
        counter = m.get("rollback_counter", 0)
        if not isinstance(counter, int) or isinstance(counter, bool) or counter < 0:
            raise InputError(f"the manifest's rollback_counter is {counter!r}", where=path)
        return {
            "name": str(m.get("name", "")),
            "version": str(m.get("version", "")),
            "rollback_counter": counter,
            "input_bytes": [_size(port) for port in self._session.inputs],
        }, []

    def manifest(self) -> tuple[dict[str, Any], list[bytes]]:
        """The manifest as the bundle has it."""
        text = json.dumps(self._open().manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return {}, [text.encode()]

    def run(self, inputs: list[bytes], no_nan: bool) -> tuple[dict[str, Any], list[bytes]]:
        """One inference."""
        session = self._open()
        arrays = self._arrays(inputs)
        started = time.perf_counter()
        outputs = session.run(arrays)
        us = (time.perf_counter() - started) * 1e6
        found = outputs if isinstance(outputs, list) else [outputs]
        for port, y in zip(session.outputs, found, strict=True):
            if no_nan and y.dtype.kind == "f" and np.isnan(y).any():
                raise InputError(f"output {port.name!r} has NaN")
        ports = [
            {"name": port.name, "dtype": str(y.dtype), "shape": list(y.shape)}
            for port, y in zip(session.outputs, found, strict=True)
        ]
        return {"latency_us": us, "outputs": ports}, [y.tobytes() for y in found]

    def profile(self, inputs: list[bytes], runs: int, warmup: int, trace: bool) -> tuple[dict[str, Any], list[bytes]]:
        """Time every operator."""
        session = self._open()
        profile = session.profile(runs, warmup, self._arrays(inputs) if inputs else None)
        text = f"{profile.table()}\n\n{profile.summary()}"
        chrome = profile.chrome_trace() if trace else ""
        return {}, [json.dumps(profile.to_json()).encode(), text.encode(), chrome.encode()]

    def _open(self) -> Session:
        if self._session is None:
            raise GossamerError("no bundle is open")
        return self._session

    def _arrays(self, inputs: list[bytes]) -> list[Any]:
        ports = self._open().inputs
        if not inputs:
            return [np.zeros(port.shape, port.dtype) for port in ports]
        if len(inputs) != len(ports):
            raise InputError(f"{len(inputs)} inputs given, the bundle has {len(ports)}")
        arrays = []
        for port, data in zip(ports, inputs, strict=True):
            need = _size(port)
            if len(data) != need:
                raise InputError(
                    f"input {port.name!r} has {len(data)} bytes, {port.dtype}{list(port.shape)} needs {need}"
                )
            arrays.append(np.frombuffer(data, port.dtype).reshape(port.shape))
        return arrays


def _size(port: Port) -> int:
    """Bytes of an input."""
    return math.prod(port.shape) * port.dtype.itemsize


def answer(worker: Worker, message: dict[str, Any], blobs: list[bytes]) -> tuple[dict[str, Any], list[bytes]]:
    """What one message asks for; errors of ours as plain data."""
    call = message.pop("call")
    try:
        if call in ("run", "profile"):
            message["inputs"] = blobs
        result, data = getattr(worker, call)(**message)
    except GossamerError as e:
        return {"error": type(e).__name__, "message": e.message, "where": e.where, "hint": e.hint}, []
    except MemoryError:
        return {"error": "OutOfMemoryError", "message": "out of memory", "where": None, "hint": None}, []
    return result, data


def _die_with_agent() -> None:
    """A run that hangs must not outlive an agent that was killed: Linux ends this process with its parent."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if len(sys.argv) > 1 and os.getppid() != int(sys.argv[1]):  # it died before that
        sys.exit(1)


def main() -> None:
    """Serve the pipes until the agent closes them."""
    # What a backend prints must not come between the messages.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with contextlib.suppress(OSError, ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open("/proc/self/oom_score_adj", "w") as f:  # short of memory, this process goes and not the agent
            f.write("1000")
    _die_with_agent()
    worker = Worker()
    while (got := receive(sys.stdin.buffer)) is not None:
        send(out, *answer(worker, *got))


if __name__ == "__main__":
    main()
