"""The agent's latest log records, kept in memory for the Logs call; all of them also go to stderr (the journal)."""

from __future__ import annotations

import collections
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

KEPT = 1000


class Record(NamedTuple):
    """One log record: seconds since 1970, level's name, text."""

    time_s: float
    level: str
    message: str


class Ring(logging.Handler):
    """Keeps the last ``KEPT`` records."""

    def __init__(self) -> None:
        super().__init__()
        self._records: collections.deque[Record] = collections.deque(maxlen=KEPT)
        self._count = 0
        self._news = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging."""
        entry = Record(record.created, record.levelname, self.format(record))
        with self._news:
            self._records.append(entry)
            self._count += 1
            self._news.notify_all()

    def read(self, limit: int, follow: Callable[[], bool]) -> Iterator[Record]:
        """The latest ``limit`` records (0: all that are kept), then new ones while ``follow()`` holds."""
        with self._news:
            found = list(self._records)
            seen = self._count
        yield from found[-limit:] if limit else found
        while follow():
            with self._news:
                if self._count == seen:
                    self._news.wait(1.0)
                fresh = min(self._count - seen, len(self._records))
                found = list(self._records)[-fresh:] if fresh else []
                seen = self._count
            yield from found


def install(level: str) -> Ring:
    """Send the agent's log to stderr and to a new ring."""
    logger = logging.getLogger("gossamer.agent")
    logger.setLevel(level)
    logger.propagate = False
    out = logging.StreamHandler(sys.stderr)
    out.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    ring = Ring()
    for old in list(logger.handlers):
        logger.removeHandler(old)
    logger.addHandler(out)
    logger.addHandler(ring)
    return ring
