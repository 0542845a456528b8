"""ABAB: contenders take turns in rounds, so that a change of the machine meets all of them alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.float64]
Burst = Callable[[int, int], Times]
"""(warm, count) to milliseconds of ``count`` runs after ``warm`` that do not count."""

NOISY = 1.25
"""A round whose median is more than this times the contender's best time was disturbed."""
BURST_MS = 25.0
WARM_MS = 8.0


@dataclass
class Timing:
    """Times of one contender over its rounds, milliseconds.

    Attributes:
        times: of every run that counts.
        repeated: rounds that were disturbed and run again.
        noisy: rounds that stayed disturbed after all repeats, and count all the same.
    """

    times: Times = field(default_factory=lambda: np.empty(0))
    repeated: int = 0
    noisy: int = 0

    @property
    def median(self) -> float:
        return float(np.median(self.times))

    @property
    def least(self) -> float:
        return float(self.times.min())

    @property
    def p90(self) -> float:
        return float(np.percentile(self.times, 90))

    @property
    def runs(self) -> int:
        return int(self.times.size)


def interleave(bursts: Sequence[Burst], *, runs: int = 60, rounds: int = 6, repeats: int = 4) -> list[Timing]:
    """Times every contender in ``rounds`` rounds, all of them in turn in each round, backwards in every other.

    Args:
        bursts: one per contender.
        runs: at least this many runs of each count; short ones run more, up to ``BURST_MS`` in a round.
        rounds: how often the contenders take turns.
        repeats: how often the disturbed rounds of a contender are run again, in all.

    Returns:
        One timing per contender, in their order.
    """
    plans = [_plan(burst, math.ceil(runs / rounds)) for burst in bursts]
    kept: list[list[Times]] = [[] for _ in bursts]
    found = [Timing() for _ in bursts]
    for turn in range(rounds):
        order = range(len(bursts)) if turn % 2 == 0 else reversed(range(len(bursts)))
        for i in order:
            kept[i].append(bursts[i](*plans[i]))
    for _ in range(repeats):
        again = {i: bad for i in range(len(bursts)) if (bad := _disturbed(kept[i]))}
        if not again:
            break
        for i, bad in again.items():
            for one in bad:
                kept[i][one] = bursts[i](*plans[i])
                found[i].repeated += 1
    for timing, parts in zip(found, kept, strict=True):
        timing.noisy = len(_disturbed(parts))
        timing.times = np.concatenate(parts)
    return found


def _plan(burst: Burst, least: int) -> tuple[int, int]:
    """(warm, count) of a burst, from a first try that does not count."""
    ms = float(np.median(burst(2, 3)))
    return max(2, math.ceil(WARM_MS / ms)), max(least, min(400, math.ceil(BURST_MS / ms)))


def _disturbed(parts: Sequence[Times]) -> list[int]:
    """Rounds whose median is more than ``NOISY`` times the best time of all rounds."""
    best = min(float(p.min()) for p in parts)
    return [i for i, p in enumerate(parts) if float(np.median(p)) > NOISY * best]
