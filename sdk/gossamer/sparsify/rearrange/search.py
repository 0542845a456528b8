"""Which channels share a block: local search by swaps, every swap's gain computed exactly for all partners at once.

A block of channels is worth ``sum over d of max(0, sum of its channels' magnitudes at d - threshold)``: what it keeps
above the price of a kept block. A block without one channel is worth ``rest + max(-rest, x)`` at every place once a
channel of magnitude x joins it, ``rest`` being the others' sum less the threshold: one maximum over ``[channels,
places]`` values all partners of a swap.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
MAX_SWEEPS = 30
MIN_GAIN = 1e-5
"""A swap has to gain this share of what its group is worth: less is rounding."""


@dataclass(frozen=True)
class Channels:
    """Channels to be put into groups.

    Attributes:
        magnitude: ``[channels, places]``, at least 0.
        beside: what shares a group with them and does not move, ``[groups, places]``.
        group: the group that each slot belongs to, ascending, ``[channels]``.
        threshold: price of a kept block at every place, ``[places]``.
    """

    magnitude: Floats
    beside: Floats
    group: npt.NDArray[np.intp]
    threshold: Floats


def improve(
    channels: Channels, rng: np.random.Generator, deadline: float, clock: Callable[[], float] = time.monotonic
) -> tuple[npt.NDArray[np.intp], bool]:
    """The order of channels that is worth most among those that swaps reach from the present one.

    Args:
        rng: the order in which channels are visited.
        deadline: when to stop at the latest, as ``clock`` tells the time.

    Returns:
        For every slot the channel that takes it, and whether the search ended by itself.
    """
    m, n = channels.magnitude, len(channels.group)
    group = channels.group.copy()
    price = channels.beside - channels.threshold
    total = price.copy()
    np.add.at(total, group, m)
    rest = total[group] - m
    base = rest.sum(axis=1)
    floor = -rest
    scratch = np.empty_like(m)
    ones = np.ones(m.shape[1], dtype=np.float32)
    now = base + np.maximum(floor, m) @ ones

    def refresh(g: int) -> None:
        members = np.flatnonzero(group == g)
        left = price[g] + m[members].sum(axis=0) - m[members]
        floor[members] = -left
        base[members] = left.sum(axis=1)
        now[members] = base[members] + np.maximum(floor[members], m[members]).sum(axis=1)

    for _ in range(MAX_SWEEPS):
        moved = 0
        for c in rng.permutation(n):
            if clock() > deadline:
                return np.argsort(group, kind="stable"), False
            theirs = base + np.maximum(floor, m[c], out=scratch) @ ones
            ours = base[c] + np.maximum(m, floor[c], out=scratch) @ ones
            gain = theirs + ours - now - now[c]
            gain[group == group[c]] = 0
            d = int(gain.argmax())
            if gain[d] > MIN_GAIN * (abs(now[c]) + abs(now[d])):
                group[c], group[d] = group[d], group[c]
                refresh(int(group[c]))
                refresh(int(group[d]))
                moved += 1
        if not moved:
            return np.argsort(group, kind="stable"), True
    return np.argsort(group, kind="stable"), True


def worthless(channels: Channels, size: int) -> npt.NDArray[Any]:
    """Places at which no group of ``size`` channels can pass the threshold, ``[places]``: they need no search."""
    m = channels.magnitude
    most = max(0, len(m) - size)
    top = np.partition(m, most, axis=0)[most:].sum(axis=0)
    return np.asarray(top + channels.beside.max(axis=0) <= channels.threshold)
