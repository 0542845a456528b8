"""Progress on stderr: one bar on a terminal, one line per stage elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TextIO

from gossamer.cli import _interrupt

_WIDTH = 24
_EVERY_S = 0.05


class Bar:
    """Call it as a progress callback: ``bar(stage, done, total)``; ``close()`` ends the line.

    Args:
        stages: names in their order; stages that never come are skipped over.
        quiet: show nothing.
    """

    def __init__(self, stages: Sequence[str], *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._stages = list(stages)
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._terminal = self._stream.isatty()
        self._drawn = 0.0
        self._stage: str | None = None
        self._began = 0.0
        self._open = False

    def __call__(self, stage: str, done: int, total: int) -> None:
        _interrupt.check()
        if self._quiet:
            return
        now = time.monotonic()
        if not self._terminal:
            if stage != self._stage:
                self.close()
                self._stage, self._began = stage, now
            return
        if 0 < done < total and now - self._drawn < _EVERY_S:
            return
        self._drawn = now
        index = self._stages.index(stage) if stage in self._stages else 0
        share = (index + min(done / max(total, 1), 1.0)) / max(len(self._stages), 1)
        full = int(share * _WIDTH)
        count = f" {done}/{total}" if total > 1 else ""
        line = f"[{'#' * full}{'.' * (_WIDTH - full)}] {100 * share:3.0f}% {stage}{count}"
        self._stream.write(f"\r{line[:78]:<78}")
        self._stream.flush()
        self._open = True

    def close(self) -> None:
        """Clear the bar; without a terminal, say how long the last stage took."""
        if self._stage is not None:
            self._stream.write(f"{self._stage}: {time.monotonic() - self._began:.1f} s\n")
            self._stream.flush()
            self._stage = None
        if self._open:
            self._stream.write("\r" + " " * 78 + "\r")
            self._stream.flush()
            self._open = False

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
