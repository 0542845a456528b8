"""Slow numpy reference of every operator, written from NUMERICS.md and plan_format.h, not from the C.

Arrays are logical (NCHW, row-major); layouts are the core's business. int8 rules give exact bits; f32 rules are
computed in float64, so that only the core rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gossamer.compile.plan import Bin, PadMode, Red, Rounding, Un

F32 = np.float32


def requantize(v: np.ndarray, zp: int, lo: int = -128, hi: int = 127) -> np.ndarray:
    """``RQ``: clamp in float32 first, then round half to even, then add the zero point."""
    v = np.asarray(v, F32)
    with np.errstate(invalid="ignore"):
        t = np.where(v > F32(lo - zp), v, F32(lo - zp))
        t = np.where(t < F32(hi - zp), t, F32(hi - zp))
    return np.rint(t).astype(np.int64) + zp


@dataclass(frozen=True)
class Window:
    """``pads``: top, left, bottom, right."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    def output(self, height: int, width: int) -> tuple[int, int]:
        sizes = (height + self.pads[0] + self.pads[2], width + self.pads[1] + self.pads[3])
        return tuple(
            (size - (k - 1) * d - 1) // s + 1
            for size, k, d, s in zip(sizes, self.kernel, self.dilation, self.stride, strict=True)
        )

    def taps(self, x: np.ndarray, fill: float) -> list[np.ndarray]:
        """Per tap, the padded image's values at every output position: ``[N, C, OH, OW]``."""
        top, left, bottom, right = self.pads
        oh, ow = self.output(*x.shape[2:])
        padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
        found = []
        for ky in range(self.kernel[0]):
            for kx in range(self.kernel[1]):
                y0, x0 = ky * self.dilation[0], kx * self.dilation[1]
                rows = slice(y0, y0 + (oh - 1) * self.stride[0] + 1, self.stride[0])
                cols = slice(x0, x0 + (ow - 1) * self.stride[1] + 1, self.stride[1])
                found.append(padded[:, :, rows, cols])
        return found


def conv_sum(x: np.ndarray, w: np.ndarray, window: Window, groups: int, fill: float) -> np.ndarray:
    """Sums of products, ``w`` as ``[Cout, kh, kw, Cin/groups]``; exact for integers."""
    kind = np.float64 if x.dtype == F32 else np.int64
    n, _, h, width = x.shape
    cout, rows = w.shape[0], w.shape[0] // groups
    y = np.zeros((n, cout, *window.output(h, width)), kind)
    flat = w.reshape(cout, -1, w.shape[3]).astype(kind)
    for i, tap in enumerate(window.taps(x.astype(kind), fill)):
        for g in range(groups):
            part = tap[:, g * w.shape[3] : (g + 1) * w.shape[3]]
            y[:, g * rows : (g + 1) * rows] += np.einsum("nchw,oc->nohw", part, flat[g * rows : (g + 1) * rows, i])
    return y


def depthwise_sum(x: np.ndarray, w: np.ndarray, window: Window, multiplier: int, fill: float) -> np.ndarray:
    """``w`` as ``[C*multiplier, kh, kw]``."""
    kind = np.float64 if x.dtype == F32 else np.int64
    spread = np.repeat(x.astype(kind), multiplier, axis=1)
    flat = w.reshape(w.shape[0], -1).astype(kind)
    return sum(tap * flat[None, :, i, None, None] for i, tap in enumerate(window.taps(spread, fill)))


def rescale(
    acc: np.ndarray, bias: np.ndarray | None, scale: np.ndarray, zp: int, lo: int, hi: int, axis: int
) -> np.ndarray:
    """The epilogue of Conv, DWConv and Gemm: rows along ``axis``."""
    shape = [1] * acc.ndim
    shape[axis] = -1
    if bias is not None:
        acc = acc + bias.astype(np.int64).reshape(shape)
    return requantize(acc.astype(F32) * scale.astype(F32).reshape(shape), zp, lo, hi)


def matmul_s8(a: np.ndarray, b: np.ndarray, za: int, zb: int, ra: float, zp: int) -> np.ndarray:
    acc = (a.astype(np.int64) - za) @ (b.astype(np.int64) - zb)
    return requantize(acc.astype(F32) * F32(ra), zp)


def binary_s8(
    kind: int, a: np.ndarray, b: np.ndarray, zps: tuple[int, int, int], ra: float, rb: float, lo: int, hi: int
) -> np.ndarray:
    u, v = a.astype(np.int32) - zps[0], b.astype(np.int32) - zps[1]
    if kind == Bin.MUL:
        return requantize((u * v).astype(F32) * F32(ra), zps[2], lo, hi)
    k = min(30, max(1, 20 - math.floor(math.log2(max(F32(ra), F32(rb))))))
    ma, mb = (int(np.rint(float(F32(r)) * 2.0**k)) for r in (ra, rb))
    acc = u.astype(np.int64) * ma + v.astype(np.int64) * (mb if kind == Bin.ADD else -mb) + (1 << (k - 1))
    return np.clip((acc >> k) + zps[2], lo, hi).astype(np.int8)


BINARY: dict[int, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    Bin.ADD: np.add,
    Bin.SUB: np.subtract,
    Bin.MUL: np.multiply,
    Bin.DIV: np.divide,
    Bin.MAX: np.maximum,
    Bin.MIN: np.minimum,
    Bin.POW: np.power,
}


def _sigmoid(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


_erf = np.vectorize(math.erf, otypes=[np.float64])
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def unary(kind: int, x: np.ndarray, f0: float, f1: float) -> np.ndarray:
    """In float64."""
    x, f0, f1 = x.astype(np.float64), float(F32(f0)), float(F32(f1))
    table: dict[int, Callable[[], np.ndarray]] = {
        Un.CLIP: lambda: np.clip(x, f0, f1),
        Un.HARDSWISH: lambda: x * np.clip(x / 6 + 0.5, 0, 1),
        Un.HARDSIGMOID: lambda: np.clip(f0 * x + f1, 0, 1),
        Un.SIGMOID: lambda: _sigmoid(x),
        Un.TANH: lambda: np.tanh(x),
        Un.LEAKYRELU: lambda: np.where(x < 0, f0 * x, x),
        Un.ELU: lambda: np.where(x < 0, f0 * np.expm1(x), x),
        Un.GELU: lambda: 0.5 * x * _erfc(-x / math.sqrt(2)),
        Un.GELU_TANH: lambda: x * _sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)),
        Un.SILU: lambda: x * _sigmoid(x),
        Un.EXP: lambda: np.exp(x),
        Un.LOG: lambda: np.log(x),
        Un.SQRT: lambda: np.sqrt(x),
        Un.RECIPROCAL: lambda: 1 / x,
        Un.ABS: lambda: np.abs(x),
        Un.NEG: lambda: -x,
        Un.ERF: lambda: _erf(x),
        Un.SOFTPLUS: lambda: np.logaddexp(0, x),
        Un.FLOOR: lambda: np.floor(x),
        Un.CEIL: lambda: np.ceil(x),
    }
    return table[kind]()


def maxpool(x: np.ndarray, window: Window) -> np.ndarray:
    lowest = -np.inf if x.dtype == F32 else -128
    kind = np.float64 if x.dtype == F32 else np.int64
    return np.max(window.taps(x.astype(kind), lowest), axis=0)


def avgpool_sum(x: np.ndarray, window: Window, count_padding: bool, zp: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sums of ``x - zp`` over taps inside the image, and what each is divided by."""
    kind = np.float64 if x.dtype == F32 else np.int64
    total = sum(window.taps(x.astype(kind) - zp, 0))
    inside = sum(window.taps(np.ones(x.shape, np.int64), int(count_padding)))
    return total, inside


def avgpool_s8(x: np.ndarray, window: Window, count_padding: bool, zx: int, zy: int, ra: float) -> np.ndarray:
    acc, count = avgpool_sum(x, window, count_padding, zx)
    return requantize(acc.astype(F32) * (F32(ra) / count.astype(F32)), zy)


def avgpool_integer(x: np.ndarray, window: Window, count_padding: bool, zp: int, rounding: int) -> np.ndarray:
    """TFLite's integer average: half away from zero of the stored int8, or of the uint8 that was shifted to it."""
    acc, count = avgpool_sum(x, window, count_padding, zp)
    acc = acc + zp * count  # taps in padding that counts read as the zero point
    if rounding == Rounding.HALF_UP:
        return ((acc + 128 * count + count // 2) // count - 128).astype(np.int8)
    return (np.sign(acc) * ((np.abs(acc) + count // 2) // count)).astype(np.int8)


def reduce(kind: int, x: np.ndarray, axes: tuple[int, ...], keep: bool) -> np.ndarray:
    calls = {Red.MEAN: np.mean, Red.SUM: np.sum, Red.MAX: np.max, Red.MIN: np.min}
    wide = x.astype(np.float64 if x.dtype == F32 else np.int64)
    return calls[Red(kind)](wide, axis=axes, keepdims=keep)


def reduce_s8(kind: int, x: np.ndarray, axes: tuple[int, ...], keep: bool, zx: int, zy: int, ra: float) -> np.ndarray:
    if kind in (Red.MAX, Red.MIN):
        return reduce(kind, x, axes, keep)
    acc = np.sum(x.astype(np.int64) - zx, axis=axes, keepdims=keep)
    return requantize(acc.astype(F32) * F32(ra), zy)


def pad(x: np.ndarray, mode: int, before: Sequence[int], after: Sequence[int], value: float) -> np.ndarray:
    width = list(zip(before, after, strict=True))
    if mode == PadMode.CONSTANT:
        return np.pad(x, width, constant_values=value)
    return np.pad(x, width, mode="edge" if mode == PadMode.EDGE else "reflect")


def slices(x: np.ndarray, start: Sequence[int], step: Sequence[int], size: Sequence[int]) -> np.ndarray:
    index = [s + t * np.arange(n) for s, t, n in zip(start, step, size, strict=True)]
    return x[np.ix_(*index)]


def softmax(x: np.ndarray, axis: int, log: bool) -> np.ndarray:
    x = x.astype(np.float64)
    shifted = x - x.max(axis=axis, keepdims=True)
    total = np.exp(shifted).sum(axis=axis, keepdims=True)
    return shifted - np.log(total) if log else np.exp(shifted) / total


def softmax_table(scale: float) -> np.ndarray:
    return np.round(2**20 * np.exp(-np.arange(256) * float(F32(scale)))).astype(np.uint32)


def softmax_s8(x: np.ndarray, axis: int, table: np.ndarray, ra: float, zp: int) -> np.ndarray:
    wide = x.astype(np.int64)
    e = table[wide.max(axis=axis, keepdims=True) - wide]
    total = e.sum(axis=axis, keepdims=True, dtype=np.uint64)
    return requantize(e.astype(F32) * (F32(ra) / total.astype(F32)), zp)


def resize_nearest(x: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    return x[:, :, rows[:, 0]][:, :, :, cols[:, 0]]


def resize_linear(
    x: np.ndarray, rows: np.ndarray, row_w: np.ndarray, cols: np.ndarray, col_w: np.ndarray, zx: int = 0
) -> np.ndarray:
    """Weighted sums of ``x - zx``; float64 for f32, exact integers for int8."""
    kind = np.float64 if x.dtype == F32 else np.int64
    v = x.astype(kind) - zx
    acc = np.zeros((*x.shape[:2], len(rows), len(cols)), kind)
    for i in range(2):
        for j in range(2):
            weight = row_w[:, i, None].astype(kind) * col_w[None, :, j].astype(kind)
            acc += v[:, :, rows[:, i]][:, :, :, cols[:, j]] * weight
    return acc


def layernorm(
    x: np.ndarray, axis: int, gamma: np.ndarray | None, beta: np.ndarray | None, epsilon: float
) -> np.ndarray:
    v, axes = x.astype(np.float64), tuple(range(axis, x.ndim))
    v = v - v.mean(axis=axes, keepdims=True)
    v = v / np.sqrt((v * v).mean(axis=axes, keepdims=True) + float(F32(epsilon)))
    v = v if gamma is None else v * gamma
    return v if beta is None else v + beta


def quantize(x: np.ndarray, scale: float, zp: int, lo: int, hi: int) -> np.ndarray:
    with np.errstate(over="ignore"):
        return requantize(x.astype(F32) / F32(scale), zp, lo, hi)


def dequantize(q: np.ndarray, scale: float, zp: int) -> np.ndarray:
    return (q.astype(np.int64) - zp).astype(F32) * F32(scale)
