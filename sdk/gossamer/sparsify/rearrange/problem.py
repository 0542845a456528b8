"""The layers that are going to be pruned, as the search sees them: magnitudes, blocks, and who shares channels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gossamer.sparsify.assign import Assigned, Distribution, Target, assign
from gossamer.sparsify.blocks import cut, occupied
from gossamer.sparsify.matrix import Columns
from gossamer.sparsify.patterns import Blocks
from gossamer.sparsify.rearrange.grouping import Channels
from gossamer.sparsify.rearrange.layout import Layout, Order, positions

Floats = npt.NDArray[np.float32]
CALL = 60_000
"""What the calls for one channel cost, in elements that numpy could go through meanwhile."""
MARGIN = 0.8
"""Places whose best block stays below this share of the threshold are left out: thresholds move during the search."""


@dataclass(eq=False)
class Part:
    """A layer to be pruned, in the order of channels that the search has reached.

    Attributes:
        name: node name.
        target: pattern and sparsity.
        rows, inputs: what may be permuted along the outputs and along the input channels, resolved.
        original: magnitudes ``[R, K]`` as they were.
        columns: what the columns of the matrix are.
        matrix: ``original`` permuted.
        threshold: what a block has to hold to be kept, in the present order; None: the layer stays dense.
    """

    name: str
    target: Target
    rows: Layout
    inputs: Layout
    original: Floats
    columns: Columns
    matrix: Floats
    threshold: float | None = None

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of the pattern's block."""
        return self.target.pattern.block

    @property
    def blocked(self) -> tuple[tuple[Layout, int, bool], ...]:
        """``(layout, block length, along the rows)`` of the axes along which channels share blocks."""
        if not isinstance(self.target.pattern, Blocks):
            return ()
        br, bc = self.block
        return tuple(entry for entry in ((self.rows, br, True), (self.inputs, bc, False)) if entry[1] > 1)

    def scores(self) -> tuple[Floats, Columns]:
        """The matrix in its present order, and what its columns are."""
        return self.matrix, self.columns

    def permuted(self, matrix: Floats, orders: dict[int, Order]) -> Floats:
        """Rows and input channels of ``matrix`` in another order."""
        spread = matrix.reshape(matrix.shape[0], self.columns.taps, self.columns.padded)
        inputs = np.arange(self.columns.padded)
        inputs[: self.columns.channels] = positions(self.inputs, orders)
        moved: Floats = np.ascontiguousarray(spread[positions(self.rows, orders)][:, :, inputs])
        return moved.reshape(matrix.shape)

    def along(self, rows: bool) -> Floats:
        """Block sums across the other axis: ``[channels, places]``, channels being rows or padded input channels."""
        br, bc = self.block
        if rows:
            sums: Floats = cut(self.matrix, 1, bc).sum(axis=(2, 3), dtype=np.float32)
            return sums
        summed = cut(self.matrix, br, 1).sum(axis=(2, 3), dtype=np.float32)
        spread = summed.reshape(summed.shape[0], self.columns.taps, self.columns.padded)
        return np.ascontiguousarray(spread.transpose(2, 0, 1)).reshape(self.columns.padded, -1)


@dataclass(frozen=True)
class _Use:
    """Where a variable's channels lie: ``part``'s rows or input channels from ``start`` on, in blocks of ``length``."""

    part: Part
    rows: bool
    start: int
    length: int


class Problem:
    """All layers to be pruned and the order of every channel variable.

    Args:
        parts: the layers.
        sparsity, distribution, min_fraction: as for ``assign``.
    """

    def __init__(self, parts: Sequence[Part], sparsity: float, distribution: Distribution, min_fraction: float) -> None:
        self.parts = tuple(parts)
        self._shares = (sparsity, distribution, min_fraction)
        self.orders: dict[int, Order] = {}
        self._uses: dict[int, list[_Use]] = {}
        for part, variable, use in self._found():
            self._uses.setdefault(variable, []).append(use)
            size = next(s.size for s in (*part.rows, *part.inputs) if s.variable == variable)
            self.orders[variable] = np.arange(size)
        self._touching = {
            v: [p for p in self.parts if any(s.variable == v for s in (*p.rows, *p.inputs))] for v in self._uses
        }

    def _found(self) -> Iterator[tuple[Part, int, _Use]]:
        for part in self.parts:
            for layout, length, rows in part.blocked:
                start = 0
                for segment in layout:
                    if not segment.fixed and segment.inner == 1 and segment.size > 1:
                        yield part, segment.variable, _Use(part, rows, start, length)
                    start += segment.width

    def retained(self) -> tuple[list[float], list[Assigned]]:
        """What every layer keeps of its summed magnitude in the present order, and its mask."""
        targets = [replace(part.target, matrix=part.scores) for part in self.parts]
        made = assign(targets, *self._shares)
        kept = []
        for part, one in zip(self.parts, made, strict=True):
            kept.append(float((part.matrix if one.mask is None else part.matrix[one.mask]).sum(dtype=np.float64)))
        return kept, made

    def price(self, made: Sequence[Assigned]) -> None:
        """Sets every layer's threshold: the weakest block that its mask keeps."""
        for part, one in zip(self.parts, made, strict=True):
            part.threshold = None
            if one.mask is None or not isinstance(part.target.pattern, Blocks):
                continue
            sums = cut(part.matrix, *part.block).sum(axis=(2, 3), dtype=np.float32)
            kept = sums[occupied(one.mask, *part.block)]
            part.threshold = float(kept.min()) if kept.size else None

    def channels(self, variable: int) -> Channels | None:
        """What the search needs to reorder one variable; None where nothing depends on its order."""
        uses = [use for use in self._uses[variable] if use.part.threshold is not None]
        size = len(self.orders[variable])
        by_cut: dict[tuple[int, int], list[_Use]] = {}
        for use in uses:
            by_cut.setdefault((use.length, use.start % use.length), []).append(use)
        if not by_cut:
            return None
        # Layers that cut the channels elsewhere into blocks cannot share the groups: the larger part decides.
        length, phase = max(by_cut, key=lambda key: sum(use.part.matrix.size for use in by_cut[key]))
        group = (phase + np.arange(size)) // length
        sums: dict[tuple[Part, bool], Floats] = {}
        for use in by_cut[length, phase]:
            if (use.part, use.rows) not in sums:
                sums[use.part, use.rows] = use.part.along(use.rows)
        found = [
            (use.part.threshold, *_places(use, sums[use.part, use.rows], group, phase)) for use in by_cut[length, phase]
        ]
        counts = tuple(magnitude.shape[1] for _, magnitude, _ in found)
        if not any(counts) or group[0] == group[-1]:
            return None
        return Channels(
            np.ascontiguousarray(np.concatenate([magnitude for _, magnitude, _ in found], axis=1)),
            np.ascontiguousarray(np.concatenate([beside for _, _, beside in found], axis=1)),
            group,
            tuple(float(threshold or 0.0) for threshold, _, _ in found),
            counts,
        )

    def reorder(self, variable: int, order: Order) -> None:
        """Puts channel ``order[i]`` of the present order at place ``i``."""
        self.orders[variable] = self.orders[variable][order]
        for part in self._touching[variable]:
            part.matrix = part.permuted(part.matrix, {variable: order})

    def restore(self, orders: dict[int, Order]) -> None:
        """Goes back to an earlier order."""
        self.orders = dict(orders)
        for part in self.parts:
            part.matrix = part.permuted(part.original, self.orders)

    def work(self, variable: int) -> float:
        """A measure of how long its search takes: every channel is held against all others at every place."""
        places = 0
        for use in self._uses[variable]:
            rows, (br, bc) = use.part.matrix.shape[0], use.part.block
            places += use.part.columns.count // bc if use.rows else use.part.columns.taps * -(-rows // br)
        channels = len(self.orders[variable])
        return float(channels * (channels * places + CALL))

    @property
    def variables(self) -> list[int]:
        """Those whose order matters to some layer."""
        return list(self._uses)


def _places(use: _Use, whole: Floats, group: npt.NDArray[np.intp], phase: int) -> tuple[Floats, Floats]:
    """Magnitudes ``[channels, places]`` of a use, and what else lies in its blocks ``[groups, places]``.

    Places where no block could come near the threshold whatever the order are left out.
    """
    assert use.part.threshold is not None
    magnitude = whole[use.start : use.start + len(group)]
    around = np.zeros(((int(group[-1]) + 1) * use.length, whole.shape[1]), dtype=np.float32)
    inside = whole[use.start - phase : use.start - phase + len(around)]
    around[: len(inside)] = inside
    around[phase : phase + len(group)] = 0
    beside = around.reshape(-1, use.length, whole.shape[1]).sum(axis=1)
    most = max(0, len(magnitude) - use.length)
    highest = np.partition(magnitude, most, axis=0)[most:].sum(axis=0) + beside.max(axis=0)
    live = highest > MARGIN * use.part.threshold
    return magnitude[:, live], beside[:, live]
