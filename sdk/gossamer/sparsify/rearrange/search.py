"""The search for one set of channels: descend by swaps, reprice, kick, and keep the best grouping met."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from gossamer.sparsify.rearrange.grouping import Channels, Grouping, Groups
from gossamer.sparsify.rearrange.layout import Order

MAX_DESCENTS = 8
MIN_DESCENT_GAIN = 1e-4
KICKS_A_PRICE = 32
"""Kicks between two updates of the thresholds."""
DAMPING = 0.3
"""Share of the way to the new thresholds that an update goes: the best grouping at a fixed threshold overshoots it."""


def improve(channels: Channels, rng: np.random.Generator, kicks: int, deadline: float) -> tuple[Order, bool]:
    """The best order of channels met: the one whose kept blocks hold most.

    Every layer keeps as many blocks as at its threshold now, so thresholds follow from the grouping; they are updated
    as it changes.

    Args:
        rng: the order in which channels are visited, and the kicks.
        kicks: perturbations after the descents; 0: descents alone.
        deadline: when to stop at the latest, as ``time.monotonic`` tells the time.

    Returns:
        For every slot the channel that takes it, and whether the search ended by itself.
    """

    def expired() -> bool:
        return time.monotonic() > deadline

    grouping = Grouping(channels)
    kept = _kept(channels, grouping)
    prices = np.asarray(channels.thresholds)
    best, best_group = _held(channels, grouping, kept)[0], grouping.group.copy()

    def reprice(share: float) -> float:
        nonlocal best, best_group, prices
        held, exact = _held(channels, grouping, kept)
        if held > best:
            best, best_group = held, grouping.group.copy()
        prices = prices + share * (exact - prices)
        grouping.price(prices)
        return held

    last = best
    for _ in range(MAX_DESCENTS):
        grouping.descend(map(int, rng.permutation(len(channels.group))), expired)
        now = reprice(1.0)
        if now <= last * (1.0 + MIN_DESCENT_GAIN):
            break
        last = now
    for start in range(0, kicks, KICKS_A_PRICE):
        for _ in range(min(KICKS_A_PRICE, kicks - start)):
            if expired():
                break
            grouping.kick(rng, expired)
        reprice(DAMPING)
    return _order(best_group), not expired()


def _kept(channels: Channels, grouping: Grouping) -> list[int]:
    """How many blocks every layer keeps at its threshold."""
    parts = zip(_layers(channels, grouping), channels.thresholds, strict=True)
    return [int(np.count_nonzero(total >= np.float32(threshold))) for total, threshold in parts]


def _held(channels: Channels, grouping: Grouping, kept: Sequence[int]) -> tuple[float, np.ndarray]:
    """What the kept blocks hold together, and the weakest of them in every layer."""
    held, weakest = 0.0, np.asarray(channels.thresholds, dtype=np.float64)
    for i, (total, count) in enumerate(zip(_layers(channels, grouping), kept, strict=True)):
        if count:
            flat = np.partition(total.reshape(-1), total.size - count)[total.size - count :]
            held += float(flat.sum(dtype=np.float64))
            weakest[i] = flat[0]
    return held, weakest


def _layers(channels: Channels, grouping: Grouping) -> list[np.ndarray]:
    return np.split(grouping.totals(), np.cumsum(channels.counts)[:-1], axis=1)


def _order(group: Groups) -> Order:
    return np.argsort(group, kind="stable")
