"""A transfer's bar on stderr: share, bytes, rate, time left. One line at the end where there is no terminal."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from gossamer.cli import _interrupt

_WIDTH = 20
_EVERY_S = 0.05


class TransferBar:
    """Call it with the bytes that are there and the bytes of the whole; ``close()`` ends the line.

    The rate counts what came since the bar began, so that a resumed transfer's time left is right.
    """

    def __init__(self, what: str, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._what = what
        self._quiet = quiet
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._began = time.monotonic()
        self._first: int | None = None
        self._drawn = 0.0
        self._last = (0, 0)

    def __call__(self, done: int, total: int) -> None:
        _interrupt.check()
        now = time.monotonic()
        if self._first is None:
            self._first, self._began = done, now
        self._last = (done, total)
        if self._quiet or not self._terminal or (done < total and now - self._drawn < _EVERY_S):
            return
        self._drawn = now
        self._stream.write(f"\r{self.line(now):<78}")
        self._stream.flush()

    def line(self, now: float) -> str:
        """The bar as text at a time of ``time.monotonic``."""
        done, total = self._last
        share = done / max(total, 1)
        full = int(share * _WIDTH)
        rate = (done - (self._first or 0)) / max(now - self._began, 1e-3)
        left = clock((total - done) / rate) if rate > 0 else "?"
        bar = f"[{'#' * full}{'.' * (_WIDTH - full)}] {100 * share:3.0f}% {self._what}"
        return f"{bar} {done / 1e6:.1f}/{total / 1e6:.1f} MB  {rate / 1e6:.2f} MB/s  {left} left"

    def close(self) -> None:
        """End the line; without a terminal, say what was sent."""
        if self._quiet or self._first is None:
            return
        if self._terminal:
            self._stream.write("\r" + " " * 78 + "\r")
        else:
            self._stream.write(f"{self._what}: {self._last[0]} bytes in {time.monotonic() - self._began:.1f} s\n")
        self._stream.flush()

    def __enter__(self) -> TransferBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def clock(seconds: float) -> str:
    """Minutes and seconds, or hours: ``0:07``, ``1:02:03``."""
    whole = round(min(seconds, 359_999))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
