"""Plans that use every operator of the core in int8 (and f32), every sparse pattern and many tails, with the results of
all branches as outputs, so that one wrong bit anywhere shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from gossamer.compile.plan import Bin, DType, F, Layout, OpKind, P, PadMode, Plan, Red, Tensor, Weights
from tests.native.plans import Builder

PATTERNS = ("dense", "1x4", "4x4", "4x1", "unstructured", "2:4")
STEPS = {6 + i: 1 for i in range(6)}


class Net(Builder):
    """A builder that collects outputs."""

    def __init__(self, seed: int, dtype: DType) -> None:
        super().__init__(seed)
        self.dtype = dtype
        self.results: list[Tensor] = []
        self.steady = False
        """Float weights are scaled so that values keep their size through many layers; int8 values always do."""

    @property
    def quantised(self) -> bool:
        return self.dtype is DType.S8

    def ratio(self, value: float) -> dict[int, float]:
        """The multiplier of an int8 rule; nothing in f32."""
        return {int(F.RA): value} if self.quantised else {}

    def show(self, x: Tensor) -> Tensor:
        self.results.append(self.to_row(x) if x.layout is Layout.CB else x)
        return x

    def op(self, kind: OpKind, inputs: Iterable[Tensor | None], *rest: Any, **named: Any) -> Tensor:
        """As in the base class, with scales that spread the results of weighted int8 operators over the whole range."""
        y = super().op(kind, inputs, *rest, **named)
        if self.quantised and kind in (OpKind.CONV, OpKind.DWCONV, OpKind.GEMM):
            made = self.ops[-1]
            scale = made.inputs[-1]
            values = made.weights.dense if made.weights else made.inputs[1].data  # type: ignore[union-attr]
            norms = np.sqrt((values.astype(np.float64).reshape(values.shape[0], -1) ** 2).sum(1))
            spread = self.rng.uniform(0.5, 1.2, norms.size)
            scale.data = (spread * 40 / (50 * norms + 100)).astype(np.float32)  # type: ignore[union-attr]
        elif self.steady and kind in (OpKind.CONV, OpKind.DWCONV):
            made = self.ops[-1]
            values = made.weights.dense if made.weights else made.inputs[1].data  # type: ignore[union-attr]
            values /= np.sqrt((values.reshape(values.shape[0], -1) ** 2).sum(1).mean())
        return y

    def window_op(
        self,
        kind: OpKind,
        x: Tensor,
        cout: int,
        inputs: Sequence[Tensor | None],
        *,
        k: tuple[int, int],
        s: tuple[int, int] = (1, 1),
        d: tuple[int, int] = (1, 1),
        pad: tuple[int, int, int, int] = (0, 0, 0, 0),
        groups: int = 1,
        f: dict[int, float] | None = None,
        weights: Weights | None = None,
    ) -> Tensor:
        n, _, h, w = x.shape
        top, left, bottom, right = pad
        oh = (h + top + bottom - d[0] * (k[0] - 1) - 1) // s[0] + 1
        ow = (w + left + right - d[1] * (k[1] - 1) - 1) // s[1] + 1
        p = {P.KH: k[0], P.KW: k[1], P.SH: s[0], P.SW: s[1], P.DH: d[0], P.DW: d[1], P.GROUPS: groups}
        p |= {P.PT: top, P.PL: left, P.PB: bottom, P.PR: right}
        limits, bounds = self.clamp(self.dtype)
        slots = {int(slot): v for slot, v in p.items()}
        return self.op(
            kind, inputs, (n, cout, oh, ow), self.dtype, Layout.CB, slots | limits, bounds | (f or {}), weights
        )

    def depthwise_any(
        self, x: Tensor, k: tuple[int, int], *, multiplier: int = 1, wide: bool = False, **window: tuple[int, ...]
    ) -> Tensor:
        cout = x.shape[1] * multiplier
        if wide and self.quantised:
            values = self.rng.integers(-255, 256, (cout, *k)).astype(np.int16)
        else:
            values = self.weights((cout, *k), self.dtype)
        inputs = [x, self.const(values), *self._bias_scale(cout, self.dtype)]
        return self.window_op(OpKind.DWCONV, x, cout, inputs, k=k, groups=multiplier, **window)  # type: ignore[arg-type]


def convolutions(dtype: DType) -> Plan:
    """Every pattern in 1x1 and 3x3, odd channel counts, tails of 143, 42 and 12 pixels, groups, dilation, depthwise."""
    b = Net(11, dtype)
    x = b.show(b.conv(b.to_cb(b.input((2, 3, 13, 11), dtype)), 20, 3))
    for i, pattern in enumerate(PATTERNS):
        density = 1.0 if pattern == "dense" else 0.5 if pattern == "2:4" else 0.3
        y = b.show(b.conv(x, 24 + i, 1, pattern=pattern, density=density))
        b.show(b.conv(y, 18 + i, 3, 1 + i % 2, pattern=pattern, density=density))
    for density in (0.0, 0.05):  # empty rows and empty matrices
        b.show(b.conv(x, 9, 1, pattern="1x4", density=density))
        b.show(b.conv(x, 9, 1, pattern="4x1", density=density))
    grouped = b.weights((12, 3, 3, 5), dtype)
    y = _grouped(b, x, grouped, 4)
    b.show(y)
    b.show(b.depthwise_any(x, (3, 3), pad=(1, 1, 1, 1)))
    b.show(b.depthwise_any(x, (3, 3), s=(2, 2), pad=(0, 0, 1, 1)))
    b.show(b.depthwise_any(x, (5, 5), s=(2, 2), pad=(2, 2, 2, 2)))
    b.show(b.depthwise_any(x, (3, 3), d=(2, 2), pad=(2, 2, 2, 2)))
    b.show(b.depthwise_any(x, (3, 3), pad=(1, 1, 1, 1), wide=True))
    b.show(b.depthwise_any(x, (2, 3), s=(1, 2), pad=(1, 1, 1, 1), multiplier=3))
    return b.plan(*b.results)


def _grouped(b: Net, x: Tensor, values: np.ndarray, groups: int) -> Tensor:
    """A grouped convolution: dense values go straight to the values input, for encoding is for one group."""
    cout, kh, kw, _ = values.shape
    return b.window_op(
        OpKind.CONV,
        x,
        cout,
        [x, None, None, *b._bias_scale(cout, b.dtype)],
        k=(kh, kw),
        d=(2, 1),
        pad=(2, 1, 2, 1),
        groups=groups,
        weights=Weights(values, "dense"),
    )


def vectors(dtype: DType) -> Plan:
    """GEMM over one row and over several in every pattern, MatMul, Softmax, reductions, data movement."""
    b = Net(12, dtype)
    x = b.input((1, 132), dtype)
    rows = b.input((5, 7, 36), dtype)
    for i, pattern in enumerate(PATTERNS):
        density = 1.0 if pattern == "dense" else 0.5 if pattern == "2:4" else 0.3
        b.show(b.gemm(x, 37 + i, pattern, density))
        b.show(b.gemm(rows, 10 + i, pattern, density))
    m = b.show(b.op(OpKind.MATMUL, [rows, rows], (5, 7, 7), dtype, p={1: 1}, f={int(F.RA): 0.002}))
    table = b.const(np.round(2**20 * np.exp(-0.05 * np.arange(256))).astype(np.uint32)) if b.quantised else None
    b.show(b.op(OpKind.SOFTMAX, [m, table], (5, 7, 7), dtype, p={0: 2}, f=b.ratio(200.0)))
    for axes, shape in ((0b100, (5, 7)), (0b011, (36,))):
        count = rows.elements // int(np.prod(shape))
        b.show(b.op(OpKind.REDUCE, [rows], shape, dtype, p={0: Red.MEAN, 1: axes}, f=b.ratio(2.0 / count)))
        b.show(b.op(OpKind.REDUCE, [rows], shape, dtype, p={0: Red.SUM, 1: axes}, f=b.ratio(0.1)))
        b.show(b.op(OpKind.REDUCE, [rows], shape, dtype, p={0: Red.MAX, 1: axes}))
        b.show(b.op(OpKind.REDUCE, [rows], shape, dtype, p={0: Red.MIN, 1: axes}))
    t = b.show(b.op(OpKind.TRANSPOSE, [rows], (36, 5, 7), dtype, p={0: 2, 1: 0, 2: 1}))
    b.show(b.op(OpKind.RESHAPE, [t], (6, 210), dtype))
    if b.quantised:
        real = b.show(b.op(OpKind.DEQUANTIZE, [rows], rows.shape, DType.F32))
        b.show(b.op(OpKind.QUANTIZE, [real], rows.shape, DType.U8))
        b.show(b.op(OpKind.QUANTIZE, [real], rows.shape, DType.S8))
    return b.plan(*b.results)


def elementwise(dtype: DType) -> Plan:
    """Arithmetic with and without broadcasting, tables, pools, pads, slices, concat, resize, layouts."""
    b = Net(13, dtype)
    source = b.input((1, 18, 9, 7), dtype)
    other = b.input((1, 18, 9, 7), dtype)
    x, z = b.to_cb(source), b.to_cb(other)
    limits, bounds = b.clamp(dtype)
    for kind, ra, rb in ((Bin.ADD, 0.7, 0.45), (Bin.SUB, 0.6, 0.9), (Bin.MUL, 0.011, 0.0)):
        f = bounds | ({int(F.RA): ra, int(F.RB): rb} if b.quantised else {})
        b.show(b.op(OpKind.BINARY, [x, z], x.shape, dtype, Layout.CB, {0: kind} | limits, f))
        column = Tensor(f"column{kind}", dtype, (18, 1, 1), data=b.weights((18, 1, 1), dtype))
        column.scale, column.zero_point = source.scale, source.zero_point
        b.show(b.op(OpKind.BINARY, [source, column], x.shape, dtype, Layout.ROW, {0: kind} | limits, f))
    if b.quantised:
        for count in (1, 18):
            table = b.const(b.rng.integers(-128, 128, 256 * count).astype(np.int8))
            b.show(b.op(OpKind.LUT, [x, table], x.shape, dtype, Layout.CB, {0: count}))
    b.show(b.window_op(OpKind.MAXPOOL, x, 18, [x], k=(3, 3), s=(2, 2), pad=(1, 1, 1, 1)))
    b.show(b.window_op(OpKind.AVGPOOL, x, 18, [x], k=(3, 2), s=(2, 1), pad=(1, 0, 1, 1), f=b.ratio(0.9)))
    whole = b.window_op(OpKind.AVGPOOL, x, 18, [x], k=(9, 7), f=b.ratio(3.0))
    b.show(whole)
    b.show(b.conv(whole, 21, 1, pattern="1x4", density=0.5))  # one pixel: products with a vector
    b.show(b.conv(whole, 21, 1))
    for mode in PadMode:
        fill = {13: -7} if b.quantised else {}
        p = {0: mode, 3: 1, 4: 2, 9: 2, 10: 1} | fill
        b.show(b.op(OpKind.PAD, [x], (1, 18, 12, 10), dtype, Layout.CB, p, {0: 0.5}))
    part = b.op(OpKind.SLICE, [x], (1, 5, 9, 7), dtype, Layout.CB, {1: 3, **STEPS})
    mirror = b.op(OpKind.SLICE, [x], (1, 9, 9, 7), dtype, Layout.CB, {3: 6, **STEPS, 7: 2, 9: -1})
    b.show(b.op(OpKind.CONCAT, [part, x, mirror], (1, 32, 9, 7), dtype, Layout.CB, {0: 1}))
    b.show(b.op(OpKind.LAYOUT, [x], (1, 9, 7, 18), dtype, Layout.ROW, {0: 1}))
    for linear in (0, 1):
        tables = [*_axis(b, 9, 14, dtype), *_axis(b, 7, 5, dtype)]
        f = b.ratio(1.1 / 1024 / 1024) if linear else {}
        b.show(b.op(OpKind.RESIZE, [x, *tables], (1, 18, 14, 5), dtype, Layout.CB, {0: linear}, f))
    return b.plan(*b.results)


def _axis(b: Net, size: int, out: int, dtype: DType) -> list[Tensor]:
    at = np.linspace(0, size - 1, out)
    low = np.minimum(at.astype(np.int32), size - 2)
    index = np.stack([low, low + 1], 1).astype(np.int32).reshape(-1)
    if dtype is DType.F32:
        weight = np.stack([1 - (at - low), at - low], 1).astype(np.float32).reshape(-1)
    else:
        right = np.round((at - low) * 1024).astype(np.int16)
        weight = np.stack([1024 - right, right], 1).astype(np.int16).reshape(-1)
    return [b.const(index), b.const(weight)]


def pairs(dtype: DType) -> Plan:
    """Depthwise operators that only a pointwise one reads, first convolutions of one to three channels, strides of two
    over even widths, and more columns than one slice of a matrix holds."""
    b = Net(14, dtype)
    b.steady = True
    for channels, k in ((1, 5), (2, 3), (3, 7)):
        x = b.conv(b.to_cb(b.input((2, channels, 26, 32), dtype)), 24, k, 2)
        for i, pattern in enumerate(PATTERNS):
            density = 1.0 if pattern == "dense" else 0.5 if pattern == "2:4" else 0.3
            window = ((3, 3), (1, 1)) if i % 2 else ((5, 5), (2, 2))
            y = b.depthwise_any(x, window[0], s=window[1], pad=(window[0][0] // 2,) * 4)
            b.show(b.conv(y, 21 + i, 1, pattern=pattern, density=density))
    wide = b.conv(x, 190, 1)
    for pattern in ("dense", "1x4", "4x4"):
        b.show(b.conv(wide, 66, 3, pattern=pattern, density=0.2 if pattern != "dense" else 1.0))
    b.show(b.conv(b.depthwise_any(wide, (3, 3), pad=(0, 1, 1, 0)), 30, 1))
    return b.plan(*b.results)


PLANS = {"pairs": pairs, "convolutions": convolutions, "vectors": vectors, "elementwise": elementwise}
