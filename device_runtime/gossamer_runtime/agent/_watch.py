"""Ends a transfer whose other end has gone silent, or is so slow that it keeps others out."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

IDLE_SECONDS = 30.0
"""A transfer in which nothing comes for so long is ended; what came is kept."""
PATIENCE_SECONDS = 60.0
LEAST_BYTES_PER_SECOND = 1024
"""So is one that is slower than this on the whole, after ``PATIENCE_SECONDS``: it would keep others out for ever."""
_log = logging.getLogger("gossamer.agent")


class Watch:
    """A context manager; its thread lives as long as the transfer.

    Args:
        what: the transfer's name for the log.
        cancel: ends it; called from another thread.
    """

    def __init__(self, what: str, cancel: Callable[[], object]) -> None:
        self._what, self._cancel = what, cancel
        self._began = self._heard = time.monotonic()
        self._bytes = 0
        self._done = threading.Event()

    def heard(self, size: int) -> None:
        """A message of so many bytes came."""
        self._heard = time.monotonic()
        self._bytes += size

    def stop(self) -> None:
        """All messages came."""
        self._done.set()

    def __enter__(self) -> Watch:
        threading.Thread(target=self._watch, name="watch", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def _watch(self) -> None:
        while not self._done.wait(min(1.0, IDLE_SECONDS / 2)):
            now = time.monotonic()
            patience = now - self._began - PATIENCE_SECONDS
            if now - self._heard >= IDLE_SECONDS or self._bytes < patience * LEAST_BYTES_PER_SECOND:
                _log.warning("%s: ended, %d bytes came in %.0f s", self._what, self._bytes, now - self._began)
                self._cancel()
                return
