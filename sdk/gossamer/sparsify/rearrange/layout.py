"""What may be permuted along an axis: segments of channel variables, and the unification that ties axes together.

An axis of a tensor is a row of segments. A segment stands for ``size`` channels of one variable, each of which takes
``inner`` neighbouring positions (a flattened ``[C, H, W]`` is a segment of C channels with ``inner = H * W``). A fixed
segment never moves and says why. Two axes that an operator ties together are unified: variables are bound to each
other, split where a concatenation cuts them, or fixed where their cuts do not meet. What is left free may be permuted
in any way without changing the function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

_FIXED = -1
MAX_SEGMENTS = 4096
"""Copies of an axis behind each other that are followed at most."""

Order = npt.NDArray[np.intp]
"""A permutation: position ``i`` takes what position ``order[i]`` held."""


@dataclass(frozen=True)
class Segment:
    """``size`` channels of ``variable`` in neighbouring runs of ``inner`` positions; negative variable: fixed."""

    variable: int
    size: int
    inner: int = 1
    reason: str = field(default="", compare=False)

    @property
    def width(self) -> int:
        """Positions that it covers."""
        return self.size * self.inner

    @property
    def fixed(self) -> bool:
        """Whether it never moves."""
        return self.variable == _FIXED


Layout = tuple[Segment, ...]


def fixed(width: int, reason: str) -> Layout:
    """Positions that stay where they are; none for a width of 0."""
    return (Segment(_FIXED, width, 1, reason),) if width else ()


def width(layout: Layout) -> int:
    """Positions of the whole axis."""
    return sum(segment.width for segment in layout)


def is_fixed(layout: Layout) -> bool:
    """Whether nothing along the axis can move."""
    return all(segment.fixed for segment in layout)


def scaled(layout: Layout, inner: int) -> Layout:
    """The axis with ``inner`` positions in the place of each."""
    return tuple(
        Segment(_FIXED, s.width * inner, 1, s.reason) if s.fixed else Segment(s.variable, s.size, s.inner * inner)
        for s in layout
    )


class Variables:
    """The channel variables of a graph and what is known of them."""

    def __init__(self) -> None:
        self._bound: dict[int, Layout] = {}
        self._made = 0

    def fresh(self, size: int) -> Layout:
        """An axis of ``size`` positions of which nothing is known; a single position is fixed, having nowhere to go."""
        if size <= 1:
            return fixed(size, "a single channel")
        self._made += 1
        return (Segment(self._made, size),)

    def resolve(self, layout: Layout) -> Layout:
        """``layout`` in terms of variables that are bound to nothing else."""
        found: list[Segment] = []
        waiting = list(reversed(layout))
        while waiting:
            segment = waiting.pop()
            if segment.variable in self._bound:
                waiting += reversed(self._expanded(segment))
            else:
                found.append(segment)
        if len(layout) == 1 and layout[0].variable in self._bound and layout[0].inner == 1:
            self._bound[layout[0].variable] = tuple(found)  # a shorter way the next time
        return tuple(found)

    def _expanded(self, segment: Segment) -> Layout:
        return scaled(self._bound[segment.variable], segment.inner)

    def pin(self, layout: Layout, reason: str) -> None:
        """Fixes everything along an axis."""
        for segment in self.resolve(layout):
            if not segment.fixed:
                self._bound[segment.variable] = fixed(segment.size, reason)

    def unify(self, one: Layout, other: Layout, reason: str) -> None:
        """Ties two axes: whatever permutes one permutes the other.

        Args:
            reason: what is said of channels that have to be fixed because the two are cut differently.

        Raises:
            ValueError: they differ in width.
        """
        if width(one) != width(other):
            raise ValueError(f"axes of {width(one)} and {width(other)} positions cannot be tied")
        left, right = list(reversed(one)), list(reversed(other))
        while left:
            a, b = left.pop(), right.pop()
            for stack, segment, partner, beside in ((left, a, right, b), (right, b, left, a)):
                if segment.variable in self._bound:
                    stack += reversed(self._expanded(segment))
                    partner.append(beside)
                    break
            else:
                if a.fixed and b.fixed:
                    common = min(a.width, b.width)
                    left += fixed(a.width - common, a.reason)
                    right += fixed(b.width - common, b.reason)
                elif a != b:
                    self._settle(a, b, reason)
                    left.append(a)
                    right.append(b)

    def _settle(self, a: Segment, b: Segment, reason: str) -> None:
        """One step towards making two segments that start at the same position equal."""
        if b.fixed or (not a.fixed and a.width > b.width):
            a, b = b, a
        if a.fixed:
            if a.width < b.width and a.width % b.inner == 0:
                self._split(b, a.width // b.inner)
            else:
                self._bound[b.variable] = fixed(b.size, a.reason or reason)
        elif a.width < b.width:
            if a.variable != b.variable and a.width % b.inner == 0:
                self._split(b, a.width // b.inner)
            else:
                self._fix(a, b, reason)
        elif a.inner % b.inner == 0 and (a.inner != b.inner or a.variable < b.variable):  # the older one stays
            self._bound[b.variable] = (Segment(a.variable, a.size, a.inner // b.inner),)
        elif b.inner % a.inner == 0:
            self._bound[a.variable] = (Segment(b.variable, b.size, b.inner // a.inner),)
        else:
            self._fix(a, b, reason)

    def _split(self, segment: Segment, at: int) -> None:
        self._bound[segment.variable] = self.fresh(at) + self.fresh(segment.size - at)

    def _fix(self, a: Segment, b: Segment, reason: str) -> None:
        for segment in {a.variable: a, b.variable: b}.values():
            self._bound[segment.variable] = fixed(segment.size, reason)


def positions(layout: Layout, orders: Mapping[int, Order]) -> Order:
    """The permutation of a resolved axis that permutes its variables as ``orders`` says (by variable; absent: stay)."""
    found: list[npt.NDArray[Any]] = []
    start = 0
    for segment in layout:
        order = None if segment.fixed else orders.get(segment.variable)
        if order is None:
            found.append(np.arange(start, start + segment.width))
        else:
            found.append(start + (order[:, None] * segment.inner + np.arange(segment.inner)).reshape(-1))
        start += segment.width
    return np.concatenate(found).astype(np.intp) if found else np.zeros(0, np.intp)


def repeated(layout: Layout, times: int) -> Layout:
    """The axis ``times`` times behind itself, every copy permuted alike."""
    return layout * times


def joined(parts: Sequence[Layout]) -> Layout:
    """Axes behind each other."""
    return tuple(segment for part in parts for segment in part)
