"""What mask repair exchanges: blocks of a layer's matrix, and which may take the place of which.

A swap grows one pruned unit and prunes one kept unit of the same block row, so that the pattern and the number of zeros
stay as they are. With a block pattern a unit is a block, and both blocks hold equally many nonzero weights of the dense
model (a ragged last block, or zeros that were there before, would change the count). With n:m a unit is one weight and
both stand in the same group of m.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gossamer.sparsify.blocks import cut
from gossamer.sparsify.matrix import Columns
from gossamer.sparsify.patterns import NM, Pattern

Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]


class SwapUnits:
    """The units of one layer.

    Args:
        weight: ``[R, K]`` dense weights.
        mask: ``[R, K]``, True where a weight is kept.
        pattern: whose units.
        columns: what the columns are.

    Attributes:
        kept: bool ``[block rows, block columns]``; change it through :meth:`swap`.
        movable: units that hold a nonzero weight.
        slots: units of a block row with equal numbers may be exchanged.
    """

    def __init__(self, weight: npt.NDArray[Any], mask: Mask, pattern: Pattern, columns: Columns):
        self.pattern, self.columns, self._rows = pattern, columns, weight.shape[0]
        self.block = pattern.block
        self.kept: Mask = np.asarray(self.cut(mask & (weight != 0)).any(axis=(2, 3)))
        nonzeros = self.cut(weight != 0).sum(axis=(2, 3))
        self.movable: Mask = nonzeros > 0
        if isinstance(pattern, NM):
            channel, tap = np.arange(columns.count) % columns.padded, np.arange(columns.count) // columns.padded
            per_tap = -(-columns.padded // pattern.m)
            self.slots = np.broadcast_to(tap * per_tap + channel // pattern.m, self.kept.shape)
        else:
            self.slots = nonzeros
        self._width = int(self.slots.max()) + 1

    def cut(self, matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """``[R, K]`` as units ``[block rows, block columns, br, bc]``."""
        return np.asarray(cut(matrix, *self.block))

    def partnered(self, candidates: Mask) -> Mask:
        """Which units have a candidate in their block row that they may be exchanged with."""
        rows, cols = np.nonzero(candidates)
        there = np.zeros((candidates.shape[0], self._width), dtype=bool)
        there[rows, self.slots[rows, cols]] = True
        return np.asarray(np.take_along_axis(there, self.slots, axis=1))

    def partners(self, candidates: Mask, chosen: Places, rows: Places | None = None) -> Mask:
        """Of the candidates, those that may be exchanged with unit ``chosen[i]`` of block row ``rows[i]`` (all rows
        where absent); bool ``[rows, block columns]``."""
        slots = self.slots if rows is None else self.slots[rows]
        found = candidates if rows is None else candidates[rows]
        return np.asarray(found & (slots == np.take_along_axis(slots, chosen[:, None], axis=1)))

    def swap(self, rows: Places, grown: Places, pruned: Places) -> None:
        """In each of these block rows keep unit ``grown`` and drop unit ``pruned``."""
        self.kept[rows, grown] = True
        self.kept[rows, pruned] = False

    def mask(self) -> Mask:
        """``[R, K]``, True where a weight is kept now; padding columns are False."""
        br, bc = self.block
        wide = np.repeat(np.repeat(self.kept, br, axis=0)[: self._rows], bc, axis=1)
        return np.asarray(wide & self.columns.valid)
