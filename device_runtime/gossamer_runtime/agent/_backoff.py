"""How long to wait after a failure: twice as long each time, up to a limit, and never quite as long as the others."""

from __future__ import annotations

import random


class Backoff:
    """Waits in seconds.

    Args:
        first: the longest first wait.
        most: the longest of all.
    """

    def __init__(self, first: float, most: float) -> None:
        self._first, self._most = first, most
        self._failures = 0

    def failed(self) -> float:
        """Seconds to wait after another failure: half of the longest to all of it, so that many devices spread."""
        longest = min(self._first * 2.0 ** min(self._failures, 60), self._most)
        self._failures += 1
        return spread(longest)

    def reset(self) -> None:
        """It went well."""
        self._failures = 0


def spread(longest: float) -> float:
    """Half of ``longest`` to all of it."""
    return longest * random.uniform(0.5, 1.0)
