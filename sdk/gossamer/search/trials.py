"""Walking the front: bundles are built and measured until the goal's boundary is found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from gossamer.search.front import Point
from gossamer.search.result import Goal, Trial

BEYOND = 2
"""Points tried beyond the first that misses the goal: measured accuracy does not fall evenly."""


class Walk:
    """Bisection over the points of a front for the last that meets a goal.

    Args:
        points: from least divergence to least time.
        goal: with a drop, the last point that keeps within it is the fastest; with a latency, the first point that
            reaches it has the least drop.
        measure: builds and measures a point; called once a point.
        most: trials at most.
    """

    def __init__(self, points: Sequence[Point], goal: Goal, measure: Callable[[Point, str], Trial], most: int) -> None:
        self.goal, self.most = goal, most
        self._measure = measure
        self._order = list(points) if goal.max_drop is not None else list(points)[::-1]
        self.found: dict[int, Trial] = {}

    @property
    def expected(self) -> int:
        """About how many trials it takes."""
        return min(self.most, len(self._order), 2 + max(0, len(self._order) - 2).bit_length() + BEYOND)

    def run(self) -> None:
        """Fills ``found`` by position; the first position is the one that meets the goal if any does."""
        last = len(self._order) - 1
        if not self._try(0) or self._try(last):
            return
        low, high = 0, last
        while high - low > 1:
            middle = (low + high) // 2
            if self._try(middle):
                low = middle
            else:
                high = middle
        for at in range(high + 1, min(high + 1 + BEYOND, last)):
            self._try(at)

    def retime(self, times: Callable[[Sequence[Trial]], Sequence[float]]) -> None:
        """Measures the latencies of all trials anew, taking turns, and judges them by these."""
        keys = list(self.found)
        for key, us in zip(keys, times([self.found[k] for k in keys]), strict=True):
            trial = self.found[key]
            self.found[key] = replace(trial, latency_us=us, meets=self.goal.meets(trial.drop, us))

    def best(self) -> Trial | None:
        """Of the trials that meet the goal the fastest, or the one that loses least."""
        good = [t for t in self.found.values() if t.meets]
        if not good:
            return None
        if self.goal.max_drop is not None:
            return min(good, key=lambda t: (t.latency_us, t.drop))
        return min(good, key=lambda t: (t.drop, t.latency_us))

    def nearest(self) -> Trial:
        """Of all trials the one that comes nearest to the goal."""
        if self.goal.max_drop is not None:
            return min(self.found.values(), key=lambda t: (t.drop, t.latency_us))
        return min(self.found.values(), key=lambda t: (t.latency_us, t.drop))

    def _try(self, at: int) -> bool:
        if at not in self.found:
            if len(self.found) >= self.most:
                return False
            trial = self._measure(self._order[at], str(len(self.found) + 1))
            self.found[at] = replace(trial, meets=self.goal.meets(trial.drop, trial.latency_us))
        return self.found[at].meets
