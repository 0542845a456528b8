"""Answers that are good for some seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

V = TypeVar("V")

LIMIT = 20_000
"""Answers kept at most; one more, and all are forgotten."""


class Recent(Generic[V]):
    """A cache by text; thread-safe. Errors are not kept.

    Args:
        seconds: how long an answer is good.
        clock: seconds that never go backwards.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._lock = threading.Lock()
        self._found: dict[str, tuple[float, V]] = {}

    def get(self, key: str, ask: Callable[[], V]) -> V:
        """The answer that is kept, or else that of ``ask``."""
        with self._lock:
            kept = self._found.get(key)
        if kept is not None and self._clock() < kept[0]:
            return kept[1]
        answer = ask()
        with self._lock:
            if len(self._found) >= LIMIT:
                self._found.clear()
            self._found[key] = self._clock() + self._seconds, answer
        return answer
