"""Weights as the matrix that patterns and sparse kernels see: rows are outputs, columns are inputs in plan order.

Column ``(ky*kw + kx)*Cp + c`` holds input channel ``c`` of tap ``(ky, kx)``; ``Cp`` is the channel count rounded up to
4 and the added columns are zero (``plan_format.h``, "Sparse weights"). Blocks of four inputs therefore never straddle
two taps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gossamer.sparsify import arrays
from gossamer.sparsify.arrays import Array

LANES = 4
"""Input channels are padded to a multiple of this many columns."""


@dataclass(frozen=True)
class Columns:
    """What the columns of a weight matrix stand for: ``taps`` kernel positions of ``channels`` inputs each."""

    taps: int
    channels: int

    @property
    def padded(self) -> int:
        """Columns per tap, ``channels`` rounded up to 4."""
        return -(-self.channels // LANES) * LANES

    @property
    def count(self) -> int:
        return self.taps * self.padded

    @property
    def valid(self) -> npt.NDArray[np.bool_]:
        """Which columns hold real weights, shape ``[count]``."""
        return np.tile(np.arange(self.padded) < self.channels, self.taps)


def columns_for(matrix: Array, columns: Columns | None) -> Columns:
    """``columns`` checked against ``matrix``; one tap of all columns where it is ``None``.

    Raises:
        ValueError: the matrix is not two-dimensional or does not have that many columns.
    """
    if matrix.ndim != 2:
        raise ValueError(f"a weight matrix has 2 dimensions, this one has {matrix.ndim}")
    found = columns or Columns(1, matrix.shape[1])
    if columns is not None and matrix.shape[1] != columns.count:
        raise ValueError(f"{columns} makes {columns.count} columns, the matrix has {matrix.shape[1]}")
    return found


def from_plan(weight: Array) -> tuple[Array, Columns]:
    """The padded matrix of a weight in plan order, CONV ``[Cout, kh, kw, Cin]`` or GEMM ``[N, K]``."""
    taps = int(np.prod(weight.shape[1:-1], dtype=np.int64)) if weight.ndim > 2 else 1
    columns = Columns(taps, weight.shape[-1])
    rows = weight.shape[0]
    spread = weight.reshape(rows, taps, columns.channels)
    spread = arrays.pad_end(spread, (0, 0, columns.padded - columns.channels))
    return arrays.contiguous(spread).reshape(rows, columns.count), columns


def to_plan(matrix: Array, shape: tuple[int, ...]) -> Array:
    """Undoes :func:`from_plan`: drops the padding and gives ``shape`` back."""
    channels = shape[-1]
    padded = -(-channels // LANES) * LANES
    return arrays.contiguous(matrix.reshape(shape[0], -1, padded)[:, :, :channels]).reshape(shape)


def from_onnx(weight: Array, *, transposed: bool = False) -> tuple[Array, Columns]:
    """The padded matrix of an ONNX or torch weight: Conv ``[Cout, Cin, kh, kw]``, or a 2-D one with outputs first.

    Args:
        transposed: a 2-D weight is ``[K, N]`` (MatMul, Gemm without ``transB``).
    """
    if weight.ndim == 2:
        return from_plan(weight.T if transposed else weight)
    return from_plan(arrays.move_axis(weight, 1, -1))


def to_onnx(matrix: Array, shape: tuple[int, ...], *, transposed: bool = False) -> Array:
    """Undoes :func:`from_onnx` for a weight of ``shape``."""
    if len(shape) == 2:
        flat = to_plan(matrix, (shape[1], shape[0]) if transposed else shape)
        return arrays.contiguous(flat.T) if transposed else flat
    moved = to_plan(matrix, (shape[0], *shape[2:], shape[1]))
    return arrays.contiguous(arrays.move_axis(moved, -1, 1))
