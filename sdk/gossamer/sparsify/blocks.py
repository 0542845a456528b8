"""Sparse blocks to bytes: the value and index streams of ``plan_format.h`` ("Sparse weights")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gossamer.sparsify import arrays
from gossamer.sparsify.arrays import Array

DELTA8 = 1
BITMAP = 2
INT8_LIMIT = 127
MAX_ROW_BLOCKS = 0xFFFF
"""A block row stores its count in 16 bits."""


@dataclass(frozen=True)
class Encoded:
    """Blocks as the bundle stores them.

    Attributes:
        values: ``[blocks, br, bc]``, int8 or float32.
        index: the index stream, uint8.
        blocks: stored blocks.
        encoding: ``DELTA8`` (1) or ``BITMAP`` (2).
        block: ``(br, bc)``.
    """

    values: npt.NDArray[Any]
    index: npt.NDArray[np.uint8]
    blocks: int
    encoding: int
    block: tuple[int, int]

    @property
    def nbytes(self) -> int:
        return int(self.values.nbytes + self.index.nbytes)


def cut(matrix: Array, br: int, bc: int) -> Array:
    """``[R, K]`` as blocks ``[block rows, block columns, br, bc]``; missing rows and columns are zero."""
    rows, cols = matrix.shape
    matrix = arrays.pad_end(matrix, (-rows % br, -cols % bc))
    return arrays.permute(matrix.reshape(matrix.shape[0] // br, br, matrix.shape[1] // bc, bc), (0, 2, 1, 3))


def occupied(matrix: npt.NDArray[Any], br: int, bc: int) -> npt.NDArray[np.bool_]:
    """Which blocks hold a nonzero, ``[block rows, block columns]``."""
    filled: npt.NDArray[np.bool_] = (cut(matrix, br, bc) != 0).any(axis=(2, 3))
    return filled


def encode_blocks(matrix: npt.NDArray[Any], br: int, bc: int) -> Encoded:
    """Stores the nonzero blocks of ``matrix``, with the smaller of the two index encodings (DELTA8 when equal).

    Integers beyond +-127 are split over blocks of equal column whose sum they are, which only DELTA8 can say. A matrix
    of zeros stores one block of zeros, because a stored tensor is never empty.

    Args:
        matrix: ``[R, K]``, float32, int8 or int16; K is a multiple of 4.

    Raises:
        ValueError: a block row holds more than 65535 blocks.
    """
    if matrix.dtype == np.float32:
        layers = [matrix]
    else:
        layers, rest = [], matrix.astype(np.int16)
        while True:
            part = np.clip(rest, -INT8_LIMIT, INT8_LIMIT)
            layers.append(part.astype(np.int8))
            rest = rest - part
            if not rest.any():
                break
    first = occupied(layers[0], br, bc)
    if not first.any():
        first[0, 0] = True
    masks = [first] + [occupied(part, br, bc) for part in layers[1:]]
    values = np.concatenate([cut(part, br, bc)[mask] for part, mask in zip(layers, masks, strict=True)])
    counts = sum(mask.sum(axis=1, dtype=np.int64) for mask in masks)
    if np.max(counts) > MAX_ROW_BLOCKS:
        raise ValueError(f"a block row of {int(np.max(counts))} blocks of {br}x{bc}; at most {MAX_ROW_BLOCKS} fit")
    places = [np.nonzero(mask) for mask in masks]
    row = np.concatenate([p[0] for p in places])
    col = np.concatenate([p[1] for p in places])
    if len(masks) > 1:
        order = np.lexsort((col, row))  # stable: the parts of one block stay in their order
        row, col, values = row[order], col[order], values[order]
    head = np.asarray(counts, dtype="<u2").view(np.uint8)
    stream, encoding = _delta8(row, col), DELTA8
    if len(masks) == 1:
        bits = np.packbits(first, axis=1, bitorder="little").reshape(-1)
        if bits.nbytes < stream.nbytes:
            stream, encoding = bits, BITMAP
    index = np.concatenate([head, stream])
    return Encoded(np.ascontiguousarray(values), index, int(values.shape[0]), encoding, (br, bc))


def _delta8(row: npt.NDArray[np.intp], col: npt.NDArray[np.intp]) -> npt.NDArray[np.uint8]:
    delta = np.diff(col, prepend=0)
    starts = np.diff(row, prepend=-1) != 0
    delta[starts] = col[starts]
    jumps = delta // 255
    ends = np.cumsum(jumps + 1) - 1
    stream = np.full(int(ends[-1]) + 1, 255, dtype=np.uint8)
    stream[ends] = (delta - jumps * 255).astype(np.uint8)
    return stream
