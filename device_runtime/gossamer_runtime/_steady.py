"""Warm-up and steady state told apart: from which run on the latency is level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WINDOW = 5
"""Runs whose median must lie at the level, the run that counts as the first steady one included."""
BAND = 0.10
"""How far, as a share of the level, that median may lie from it."""
FEWEST = 10
"""With fewer runs there is no telling."""


@dataclass(frozen=True)
class WarmUp:
    """All runs of a profile in their order, warm-up included, and where they become steady.

    ``runs`` counts them, ``first_run_us`` is the first one's time. ``runs_until_steady`` is how many passed before the
    first steady one, ``None`` when they never were; ``reason`` then says why. ``steady_*`` are of the runs from
    that one on.
    """

    runs: int
    first_run_us: float
    runs_until_steady: int | None
    reason: str
    steady_runs: int
    steady_min_us: float | None
    steady_median_us: float | None
    steady_p90_us: float | None

    def line(self) -> str:
        """One line of text."""
        head = f"Warm-up (microseconds): first run={self.first_run_us:.1f}, "
        if self.runs_until_steady is None:
            return f"{head}not told apart: {self.reason}"
        return (
            f"{head}steady after {self.runs_until_steady} of {self.runs} runs; steady state: count={self.steady_runs} "
            f"min={self.steady_min_us:.1f} median={self.steady_median_us:.1f} p90={self.steady_p90_us:.1f}"
        )


def warm_up(times_us: Sequence[float] | npt.NDArray[np.float64]) -> WarmUp:
    """Tell the warm-up from the steady state.

    The level is the median of the later half. Steady is from the first run on that takes no more than ``1 + BAND``
    of it and whose window of ``WINDOW`` runs has its median within ``BAND`` of it: medians, for on a shared machine
    single runs are slow at any time. When the last two quarters differ by more than ``BAND``, the clock or the
    load still drifts, and nothing is called steady.

    Args:
        times_us: every run since the first, in microseconds; at least one.
    """
    times = np.asarray(times_us, np.float64)
    n, first = len(times), float(times[0])
    if n < FEWEST:
        return WarmUp(n, first, None, f"{n} runs are too few, {FEWEST} are needed", 0, None, None, None)
    level = float(np.median(times[n // 2 :]))
    third, last = float(np.median(times[n // 2 : 3 * n // 4])), float(np.median(times[3 * n // 4 :]))
    if abs(last - third) > BAND * level:
        return WarmUp(
            n, first, None, f"still drifting, from a median of {third:.1f} us to {last:.1f} us in the later half",
            0, None, None, None,
        )  # fmt: skip
    for i in range(n - WINDOW + 1):
        if times[i] <= (1 + BAND) * level and abs(float(np.median(times[i : i + WINDOW])) - level) <= BAND * level:
            rest = times[i:]
            return WarmUp(
                n, first, i, "", len(rest),
                float(rest.min()), float(np.median(rest)), float(np.percentile(rest, 90)),
            )  # fmt: skip
    return WarmUp(n, first, None, f"no {WINDOW} runs in a row at the level", 0, None, None, None)
