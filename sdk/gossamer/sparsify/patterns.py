"""What may be nonzero: one class per sparsity pattern, each able to project, measure and encode.

A pattern works on the matrix of :mod:`gossamer.sparsify.matrix`: ``[R, K]``, rows are outputs, columns are inputs in
plan order with channels padded to 4. Sources: 1x4 and 4x1 blocks (arXiv 1911.09723, 2105.14713); n:m keeps the largest
n of every m by magnitude, as in SR-STE (arXiv 2102.04010).
"""

from __future__ import annotations

import difflib
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gossamer.sparsify import arrays
from gossamer.sparsify.arrays import Array
from gossamer.sparsify.blocks import Encoded, cut, encode_blocks, occupied
from gossamer.sparsify.distribute import drop_smallest
from gossamer.sparsify.matrix import Columns, columns_for
from gossamer.sparsify.scores import magnitude

NAMES = ("unstructured", "1x4", "4x1", "4x4", "n:m")
"""Pattern names of a recipe; n:m is written with numbers, such as ``2:4``."""

LABELS = {"dense": 0, "unstructured": 1, "1x4": 2, "4x1": 3, "4x4": 4, "n:m": 5}
"""``GS_PATTERN_*`` of plan_format.h."""

_NM = re.compile(r"([0-9]+):([0-9]+)")
MAX_M = 64


@dataclass(frozen=True)
class Measure:
    """How a matrix stands to a pattern.

    Attributes:
        weights: real weights (padding excluded).
        zeros: of these, zeros.
        sparsity: ``zeros / weights``.
        stored: weights that the pattern's blocks hold, zeros and padding inside blocks included.
        retained: share of a reference's absolute sum that is left, in [0, 1]; 1 without a reference.
        fits: the zeros are the pattern's own: at least one block is absent and absent blocks hold half of the zeros or
            more (n:m: every group holds at most n nonzeros).
    """

    weights: int
    zeros: int
    sparsity: float
    stored: int
    retained: float
    fits: bool


class Pattern(ABC):
    """A rule for where nonzeros may stand, with the block shape ``(br, bc)`` that the bundle stores it in."""

    name: str
    block: tuple[int, int]
    label: int
    n: int = 0
    m: int = 0

    @abstractmethod
    def project(
        self,
        matrix: Array,
        sparsity: float | None = None,
        *,
        threshold: float | None = None,
        columns: Columns | None = None,
        scores: Array | None = None,
    ) -> Array:
        """The mask of weights to keep, ``[R, K]``; padding columns are never kept.

        Args:
            matrix: ``[R, K]`` weights; numpy or torch, as is the mask.
            sparsity: share of real weights to zero, in [0, 1); reached as nearly as whole blocks allow.
            threshold: instead, units whose score (mean over the block) is at least this are kept.
            columns: what the columns are; one tap of K channels where absent.
            scores: ``[R, K]`` importance at least 0; the magnitude of ``matrix`` where absent.

        Raises:
            ValueError: neither or both of sparsity and threshold, or sparsity outside [0, 1).
        """

    def measure(
        self,
        matrix: npt.NDArray[Any],
        *,
        columns: Columns | None = None,
        reference: npt.NDArray[Any] | None = None,
    ) -> Measure:
        """Counts zeros and stored weights of ``matrix``; see :class:`Measure`.

        Args:
            reference: the weights before pruning, ``[R, K]``, for ``retained``.
        """
        cols = columns_for(matrix, columns)
        weights = matrix.shape[0] * cols.taps * cols.channels
        zeros = weights - int(np.count_nonzero(matrix))
        blocks, absent_zeros = self._absent(matrix, cols)
        retained = 1.0
        if reference is not None:
            whole = float(np.abs(reference.astype(np.float64)).sum())
            retained = float(np.abs(reference.astype(np.float64))[matrix != 0].sum()) / whole if whole else 1.0
        return Measure(
            weights=weights,
            zeros=zeros,
            sparsity=zeros / weights if weights else 0.0,
            stored=blocks * self.block[0] * self.block[1],
            retained=retained,
            fits=self._fits(matrix, cols, zeros, absent_zeros),
        )

    def encode(self, matrix: npt.NDArray[Any]) -> Encoded:
        """The stored blocks of ``matrix`` (``[R, K]``, K a multiple of 4) as the bundle holds them."""
        return encode_blocks(matrix, *self.block)

    def _absent(self, matrix: npt.NDArray[Any], columns: Columns) -> tuple[int, int]:
        """Stored blocks, and real weights inside absent blocks."""
        filled = occupied(matrix, *self.block)
        counts = unit_counts(matrix.shape[0], columns, self.block)
        return int(filled.sum()), int(counts[~filled].sum())

    def _fits(self, matrix: npt.NDArray[Any], columns: Columns, zeros: int, absent_zeros: int) -> bool:
        return absent_zeros > 0 and 2 * absent_zeros >= zeros


def unit_counts(rows: int, columns: Columns, block: tuple[int, int]) -> npt.NDArray[np.int32]:
    """Real weights in every block, ``[block rows, block columns]``."""
    br, bc = block
    real = np.zeros((-(-rows // br)) * br, dtype=np.int32)
    real[:rows] = 1
    per_row = real.reshape(-1, br).sum(axis=1, dtype=np.int32)
    per_col = columns.valid.reshape(-1, bc).sum(axis=1, dtype=np.int32)
    return np.outer(per_row, per_col).astype(np.int32)


class Blocks(Pattern):
    """Whole blocks of ``br`` outputs by ``bc`` inputs are kept or dropped; 1x1 is unstructured.

    A block's score is its summed importance over ``br * bc``, so that scores of different patterns compare and, inside
    one layer, what is kept is the largest possible sum for that many stored blocks.
    """

    def __init__(self, name: str, br: int, bc: int) -> None:
        self.name = name
        self.block = (br, bc)
        self.label = LABELS[name]

    def units(self, scores: Array, columns: Columns) -> tuple[Array, npt.NDArray[np.int32]]:
        """Score (float32, numpy or torch as ``scores``) and real weights of every block, both ``[block rows, block
        columns]``."""
        br, bc = self.block
        total = scores if self.block == (1, 1) else arrays.sum_axes(cut(scores, br, bc), (2, 3)) / (br * bc)
        count = unit_counts(scores.shape[0], columns, self.block)
        total = arrays.as_float32(total)
        empty = count == 0
        if empty.any():  # a block of nothing but padding costs nothing and goes first
            total = total + 0
            total[arrays.like(empty, total)] = -1.0
        return total, count

    def expand(self, keep: Array, rows: int, columns: Columns) -> Array:
        """A mask of blocks as a mask of weights, ``[rows, K]``, padding columns False."""
        br, bc = self.block
        mask = arrays.repeat(arrays.repeat(keep, br, 0)[:rows], bc, 1)
        return mask & arrays.like(columns.valid, mask)

    def project(
        self,
        matrix: Array,
        sparsity: float | None = None,
        *,
        threshold: float | None = None,
        columns: Columns | None = None,
        scores: Array | None = None,
    ) -> Array:
        cols = columns_for(matrix, columns)
        score, count = self.units(magnitude(matrix) if scores is None else scores, cols)
        if threshold is not None and sparsity is None:
            return self.expand(score >= threshold, matrix.shape[0], cols)
        wanted = _checked(sparsity, threshold)
        keep = drop_smallest(score, count, wanted * int(count.sum(dtype=np.int64)))
        return self.expand(keep, matrix.shape[0], cols)


class NM(Pattern):
    """At most ``n`` nonzeros in every ``m`` consecutive input channels of one tap and output.

    The last group of a tap may be shorter; it still keeps at most n. Stored as single weights.
    """

    def __init__(self, n: int, m: int) -> None:
        if not 1 <= n < m <= MAX_M:
            raise ValueError(f"{n}:{m} is no pattern: n:m keeps n of m with 1 <= n < m <= {MAX_M}")
        self.n, self.m = n, m
        self.name = f"{n}:{m}"
        self.block = (1, 1)
        self.label = LABELS["n:m"]

    @property
    def sparsity(self) -> float:
        """The share of zeros that the pattern makes, ``1 - n/m``."""
        return 1.0 - self.n / self.m

    def _groups(self, values: Array, columns: Columns) -> Array:
        rows = values.shape[0]
        spread = values.reshape(rows, columns.taps, columns.padded)[:, :, : columns.channels]
        spread = arrays.pad_end(spread, (0, 0, -columns.channels % self.m))
        return spread.reshape(rows, columns.taps, -1, self.m)

    def project(
        self,
        matrix: Array,
        sparsity: float | None = None,
        *,
        threshold: float | None = None,
        columns: Columns | None = None,
        scores: Array | None = None,
    ) -> Array:
        """As in :class:`Pattern`, but n:m fixes its own sparsity: both arguments may be absent.

        Raises:
            ValueError: a threshold, or a sparsity that is not ``1 - n/m``.
        """
        if threshold is not None:
            raise ValueError(f"{self.name} keeps {self.n} of every {self.m}; it has no threshold")
        if sparsity is not None and abs(sparsity - self.sparsity) > 1e-6:
            raise ValueError(f"{self.name} makes a sparsity of {self.sparsity:g}, not {sparsity:g}")
        cols = columns_for(matrix, columns)
        groups = self._groups(magnitude(matrix) if scores is None else scores, cols)
        keep = arrays.largest(groups, self.n)
        keep = keep.reshape(matrix.shape[0], cols.taps, -1)[:, :, : cols.channels]
        return arrays.pad_end(keep, (0, 0, cols.padded - cols.channels)).reshape(matrix.shape)

    def _fits(self, matrix: npt.NDArray[Any], columns: Columns, zeros: int, absent_zeros: int) -> bool:
        return zeros > 0 and int((self._groups(matrix, columns) != 0).sum(axis=-1).max()) <= self.n


def _checked(sparsity: float | None, threshold: float | None) -> float:
    if sparsity is None or threshold is not None:
        raise ValueError("give either a sparsity or a threshold")
    if not 0.0 <= sparsity < 1.0:
        raise ValueError(f"a sparsity is at least 0 and below 1, not {sparsity}")
    return sparsity


BLOCK_PATTERNS: dict[str, Blocks] = {
    "unstructured": Blocks("unstructured", 1, 1),
    "1x4": Blocks("1x4", 1, 4),
    "4x1": Blocks("4x1", 4, 1),
    "4x4": Blocks("4x4", 4, 4),
}


def get(name: str) -> Pattern:
    """The pattern called ``name``: ``unstructured``, ``1x4``, ``4x1``, ``4x4`` or ``n:m`` such as ``2:4``.

    Raises:
        ValueError: no such pattern; the message names the nearest.
    """
    if name in BLOCK_PATTERNS:
        return BLOCK_PATTERNS[name]
    found = _NM.fullmatch(name)
    if found:
        return NM(int(found[1]), int(found[2]))
    near = difflib.get_close_matches(name, [*BLOCK_PATTERNS, "2:4"], n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise ValueError(f"'{name}' is no sparsity pattern ({', '.join(BLOCK_PATTERNS)}, or n:m such as 2:4){hint}")


MIN_SPARSITY = 0.2
"""Fewer zeros than this are taken for chance: the matrix counts as dense."""
_DETECTED_NM = ((1, 8), (2, 8), (1, 4), (2, 4), (4, 8), (1, 2))


def detect(matrix: npt.NDArray[Any], *, columns: Columns | None = None) -> str:
    """The pattern that the zeros of ``matrix`` were most likely made for, or ``dense``.

    The coarsest block pattern whose absent blocks hold nine tenths of the zeros; else an n:m that every group keeps;
    else ``unstructured`` when at least 20% are zero. Works on weights that another tool pruned.
    """
    cols = columns_for(matrix, columns)
    weights = matrix.shape[0] * cols.taps * cols.channels
    zeros = weights - int(np.count_nonzero(matrix))
    if weights == 0 or zeros < MIN_SPARSITY * weights:
        return "dense"
    for name in ("4x4", "1x4", "4x1"):
        _, absent = BLOCK_PATTERNS[name]._absent(matrix, cols)
        if absent >= 0.9 * zeros:
            return name
    for n, m in _DETECTED_NM:
        candidate = NM(n, m)
        # Far more zeros than the pattern makes would fit it by chance.
        likely = cols.channels >= m and zeros <= (candidate.sparsity + 0.1) * weights
        if likely and candidate.measure(matrix, columns=cols).fits:
            return candidate.name
    return "unstructured"
