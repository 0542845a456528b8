"""Channels in groups, and swaps between groups: every swap's gain computed exactly for all partners at once.

A group is worth ``sum over places of max(0, sum of its channels' magnitudes - threshold)``: what its blocks hold above
the price of a kept block. A group without one channel is worth ``rest + max(-rest, x)`` at every place once a channel
of magnitude x joins it, ``rest`` being the others' sum less the threshold: one maximum over ``[channels, places]``
values all partners of a swap.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Groups = npt.NDArray[np.intp]
ROUNDING = 2e-6
"""A swap has to gain this share of the sums that its gain is the difference of."""


@dataclass(frozen=True)
class Channels:
    """Channels to be put into groups.

    Attributes:
        magnitude: ``[channels, places]``, at least 0, row-major.
        beside: what shares a group with them and does not move, ``[groups, places]``.
        group: the group that each slot belongs to, ascending, ``[channels]``.
        thresholds: price of a kept block, one per layer.
        counts: places of each layer; they lie behind each other.
    """

    magnitude: Floats
    beside: Floats
    group: Groups
    thresholds: tuple[float, ...]
    counts: tuple[int, ...]


class Grouping:
    """A way to group channels that can be changed.

    Attributes:
        group: the group of every channel.
        worth: of every group.
    """

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self.group = channels.group.copy()
        self._members = [np.flatnonzero(self.group == g) for g in range(len(channels.beside))]
        self.worth = np.zeros(len(self._members))
        self._ones = np.ones(channels.magnitude.shape[1], dtype=np.float32)
        self._scratch = np.empty_like(channels.magnitude)
        self.price(channels.thresholds)

    def price(self, thresholds: Iterable[float]) -> None:
        """Values everything at other thresholds, one per layer."""
        channels = self._channels
        self._price = channels.beside - np.repeat(np.asarray(tuple(thresholds), np.float32), channels.counts)
        total = self.totals() + (self._price - channels.beside)
        rest = total[self.group] - channels.magnitude
        self._base = rest @ self._ones
        self._floor = -rest
        self.worth = (np.maximum(total, 0) @ self._ones).astype(np.float64)
        self._now = self.worth[self.group].astype(np.float32)

    def totals(self) -> Floats:
        """What the blocks of every group hold, ``[groups, places]``."""
        order = np.argsort(self.group, kind="stable")
        starts = np.flatnonzero(np.diff(self._channels.group, prepend=-1))
        summed: Floats = np.add.reduceat(self._channels.magnitude[order], starts, axis=0)
        return summed + self._channels.beside

    def swap(self, one: int, other: int) -> None:
        """Puts either of two channels of different groups in the place of the other."""
        g, h = int(self.group[one]), int(self.group[other])
        self.group[one], self.group[other] = h, g
        for place, old, new in ((g, one, other), (h, other, one)):
            members = self._members[place]
            members[members == old] = new
            self._refresh(place)

    def descend(self, queue: Iterable[int], expired: Callable[[], bool]) -> set[int]:
        """Makes the best swap of every channel in turn, until none of those whose group has changed gains.

        Args:
            queue: channels to begin with.
            expired: asked before every channel; True ends it.

        Returns:
            The groups that changed.
        """
        m = self._channels.magnitude
        waiting = deque(queue)
        listed = set(waiting)
        changed: set[int] = set()
        while waiting and not expired():
            c = waiting.popleft()
            listed.discard(c)
            theirs = self._base + np.maximum(self._floor, m[c], out=self._scratch) @ self._ones
            ours = self._base[c] + np.maximum(m, self._floor[c], out=self._scratch) @ self._ones
            gain = theirs + ours - self._now - self._now[c]
            gain[self._members[self.group[c]]] = 0
            d = int(gain.argmax())
            sums = abs(self._base[c]) + abs(self._base[d]) + self._now[c] + self._now[d]
            if gain[d] <= ROUNDING * sums or not self._gained(c, d):
                continue
            for place in (int(self.group[c]), int(self.group[d])):
                changed.add(place)
                for member in map(int, self._members[place]):
                    if member not in listed:
                        listed.add(member)
                        waiting.append(member)
        return changed

    def kick(self, rng: np.random.Generator, expired: Callable[[], bool]) -> None:
        """Rotates one channel each of three groups, repairs by swaps, and takes it all back if it is worth less."""
        before, saved = self.worth.sum(), self.group.copy()
        places = rng.choice(len(self._members), min(3, len(self._members)), replace=False)
        chosen = [int(rng.choice(self._members[place])) for place in places]
        for one, other in itertools.pairwise(chosen):
            self.swap(one, other)
        changed = set(map(int, places))
        changed |= self.descend([int(c) for place in places for c in self._members[place]], expired)
        if self.worth.sum() < before:
            self.group = saved
            for place in changed:
                self._members[place] = np.flatnonzero(saved == place)
                self._refresh(place)

    def _gained(self, one: int, other: int) -> bool:
        """Swaps two channels if that is worth more: without this, rounding could swap them back and forth for ever."""
        g, h = self.group[one], self.group[other]
        before = self.worth[g] + self.worth[h]
        self.swap(one, other)
        if self.worth[g] + self.worth[h] > before:
            return True
        self.swap(one, other)
        return False

    def _refresh(self, place: int) -> None:
        members = self._members[place]
        mine = self._channels.magnitude[members]
        total = self._price[place] + mine.sum(axis=0)
        rest = total - mine
        self._floor[members] = -rest
        self._base[members] = rest @ self._ones
        self.worth[place] = np.maximum(total, 0) @ self._ones
        self._now[members] = self.worth[place]
