"""Operators on constants, computed while importing: shape arithmetic and half-precision weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from gossamer.importers.tflite.builder import Builder
from gossamer.importers.tflite.reader import MAX_ELEMENTS, Operator

Array = npt.NDArray[Any]


class _CannotFoldError(Exception):
    """The operator stays in the graph for its converter."""


def _stride(op: Operator, x: Array, begin: Array, end: Array, step: Array) -> Array:
    if op.option("ellipsis_mask") or op.option("new_axis_mask"):
        raise _CannotFoldError
    index: list[Any] = []
    for i in range(begin.size):
        if op.option("shrink_axis_mask") >> i & 1:
            index.append(int(begin[i]))
            continue
        first = None if op.option("begin_mask") >> i & 1 else int(begin[i])
        last = None if op.option("end_mask") >> i & 1 else int(end[i])
        index.append(slice(first, last, int(step[i])))
    return np.asarray(x[tuple(index)])


def _slice(_: Operator, x: Array, begin: Array, size: Array) -> Array:
    stops = [None if s == -1 else int(b + s) for b, s in zip(begin, size, strict=True)]
    return np.asarray(x[tuple(slice(int(b), e) for b, e in zip(begin, stops, strict=True))])


def _fill(_: Operator, dims: Array, value: Array) -> Array:
    if dims.size > 8 or (dims < 0).any() or math.prod(int(d) for d in dims) > MAX_ELEMENTS:
        raise ValueError("shape")
    return np.full(dims.astype(np.int64), value.reshape(-1)[0])


def _range(_: Operator, start: Array, limit: Array, delta: Array) -> Array:
    if delta == 0 or abs((limit - start) / delta) > 1 << 20:
        raise ValueError("range")
    return np.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def _divide(_: Operator, a: Array, b: Array) -> Array:
    return np.asarray(a / b if a.dtype.kind == "f" else np.trunc(a / b)).astype(a.dtype)


FOLDS: dict[str, Callable[..., Array]] = {
    "ADD": lambda _, a, b: a + b,
    "SUB": lambda _, a, b: a - b,
    "MUL": lambda _, a, b: a * b,
    "DIV": _divide,
    "FLOOR_DIV": lambda _, a, b: np.floor_divide(a, b),
    "FLOOR_MOD": lambda _, a, b: np.mod(a, b),
    "MAXIMUM": lambda _, a, b: np.maximum(a, b),
    "MINIMUM": lambda _, a, b: np.minimum(a, b),
    "NEG": lambda _, a: -a,
    "SQRT": lambda _, a: np.sqrt(a),
    "RSQRT": lambda _, a: (1 / np.sqrt(a)).astype(a.dtype),
    "CONCATENATION": lambda op, *parts: np.concatenate(parts, axis=op.option("axis")),
    "PACK": lambda op, *parts: np.stack(parts, axis=op.option("axis")),
    "GATHER": lambda op, x, i: np.take(x, i, axis=op.option("axis")),
    "EXPAND_DIMS": lambda _, x, axis: np.expand_dims(x, int(axis.reshape(-1)[0])),
    "TRANSPOSE": lambda _, x, perm: np.transpose(x, [int(p) for p in perm]),
    "REDUCE_PROD": lambda op, x, axes: np.prod(
        x, axis=tuple(int(a) for a in axes.reshape(-1)), keepdims=bool(op.option("keep_dims")), dtype=x.dtype
    ),
    "STRIDED_SLICE": _stride,
    "SLICE": _slice,
    "FILL": _fill,
    "RANGE": _range,
    "ZEROS_LIKE": lambda _, x: np.zeros_like(x),
}
SHAPED = ("RESHAPE", "SQUEEZE")
"""Only the declared output shape matters."""


def fold(b: Builder) -> bool:
    """Compute the current operator if all it needs is constant; says whether it did.

    Quantised values are left to the converters, except DEQUANTIZE of float16 weights.
    """
    op = b.op
    if len(op.outputs) != 1:
        return False
    out = b.output()
    if op.kind == "SHAPE":
        b.folded[out.index] = np.array(b.need(0).shape, np.dtype(out.dtype or "int32"))
        return True
    tensors = [b.tensor(i) for i in op.inputs if i is not None]
    if not tensors or out.quant is not None or any(t.index not in b.folded for t in tensors):
        return False
    arrays = [b.folded[t.index] for t in tensors]
    if op.kind in ("DEQUANTIZE", "CAST") and tensors[0].quant is None and out.dtype:
        b.folded[out.index] = arrays[0].astype(np.dtype(out.dtype)).reshape(out.shape)
        return True
    if any(t.quant is not None for t in tensors):
        return False
    if op.kind in SHAPED and arrays[0].size == math.prod(out.shape):
        b.folded[out.index] = arrays[0].reshape(out.shape)
        return True
    if op.kind not in FOLDS or op.option("fused_activation_function") or op.option("batch_dims"):
        return False
    if op.kind not in ("CONCATENATION", "PACK") and math.prod(a.size for a in arrays) > MAX_ELEMENTS:
        raise b.unsupported("constant operands too large to combine while importing")
    try:
        with np.errstate(all="ignore"):
            result = np.asarray(FOLDS[op.kind](op, *arrays))
    except _CannotFoldError:
        return False
    except (ValueError, IndexError, TypeError, OverflowError, MemoryError) as error:
        raise b.broken(f"constant operands do not fit together: {error}") from error
    if result.size > MAX_ELEMENTS or (result.shape != out.shape and result.size != math.prod(out.shape)):
        raise b.broken(f"a constant of shape {list(result.shape)} declared as {list(out.shape)}")
    if result.dtype.kind == "f" and not np.isfinite(result).all():
        raise b.broken("a constant expression gives NaN or infinity")
    b.folded[out.index] = result.reshape(out.shape)
    return True
