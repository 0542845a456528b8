"""The solver: of one choice a layer, the sets of choices that no other set beats in both time and divergence.

Times and divergences of layers are taken to add up, so that the front of a network is the merged front of its layers:
dynamic programming over layers that keeps, per layer, only undominated sums. What adding up gets wrong (layers that
lose together, operators that run fused) is found by measuring whole bundles along the front.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MOST = 4096
"""Points kept after each layer; of more, those nearest to evenly spaced times stay."""


@dataclass(frozen=True)
class Point:
    """One set of choices: the predicted time and divergence, and the chosen option of each layer."""

    us: float
    loss: float
    choice: tuple[int, ...]


def front(options: Sequence[Sequence[tuple[float, float]]]) -> list[Point]:
    """The front, from least divergence to least time; both change strictly from point to point.

    Args:
        options: per layer, (microseconds, divergence) of each option; at least one.

    Returns:
        at least one point; exact as long as no merged front has more than ``MOST`` points.
    """
    us, loss = np.zeros(1), np.zeros(1)
    steps: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]] = []
    for layer in options:
        times, losses = (np.array([o[i] for o in layer], np.float64) for i in (0, 1))
        all_us = (us[:, None] + times[None]).reshape(-1)
        all_loss = (loss[:, None] + losses[None]).reshape(-1)
        kept = _thin(all_us, _undominated(all_us, all_loss))
        steps.append((kept // len(layer), kept % len(layer)))
        us, loss = all_us[kept], all_loss[kept]
    return [Point(float(us[i]), float(loss[i]), _trace(steps, i)) for i in range(len(us))]


def _undominated(us: npt.NDArray[np.float64], loss: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Indices of undominated points, least loss first; of equal points the first."""
    order = np.lexsort((us, loss))
    best = np.minimum.accumulate(us[order])
    return order[np.r_[True, us[order][1:] < best[:-1]]]


def _thin(us: npt.NDArray[np.float64], kept: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    if len(kept) <= MOST:
        return kept
    return kept[spaced(us[kept], MOST)]


def spaced(us: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.intp]:
    """Of falling times, the indices of at most ``count`` that are nearest to evenly spaced ones, both ends included."""
    marks = np.linspace(us[0], us[-1], count)
    at = np.clip(np.searchsorted(-us, -marks), 1, len(us) - 1)
    nearest = np.where(np.abs(us[at - 1] - marks) <= np.abs(us[at] - marks), at - 1, at)
    return np.unique(np.r_[0, nearest, len(us) - 1])


def _trace(steps: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]], at: int) -> tuple[int, ...]:
    chosen = []
    for parents, picks in reversed(steps):
        chosen.append(int(picks[at]))
        at = int(parents[at])
    return tuple(reversed(chosen))
