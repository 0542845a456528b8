"""A job's progress on stderr: one line that is drawn again on a terminal, a line for each stage elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from gossamer.client._results import JobStatus

_WIDTH = 24


@contextlib.contextmanager
def shown(progress: bool | Callable[[JobStatus], None]) -> Iterator[Callable[[JobStatus], None]]:
    """What to call with every change: the caller's function, a bar (True), or nothing (False)."""
    if callable(progress):
        yield progress
        return
    if not progress:
        yield lambda _status: None
        return
    stream, terminal = sys.stderr, sys.stderr.isatty()
    told = ""

    def tell(status: JobStatus) -> None:
        nonlocal told
        what = status.stage if status.state == "RUNNING" and status.stage else status.state.lower()
        again = f" (attempt {status.attempt})" if status.attempt > 1 else ""
        if terminal:
            full = int(status.percent / 100 * _WIDTH)
            bar = f"[{'#' * full}{'.' * (_WIDTH - full)}] {status.percent:3.0f}% {what}{again}"
            stream.write(f"\r{bar[:78]:<78}")
        elif what + again != told:
            told = what + again
            stream.write(f"{status.percent:3.0f}% {told}\n")
        stream.flush()

    try:
        yield tell
    finally:
        if terminal:
            stream.write("\r" + " " * 78 + "\r")
            stream.flush()
