"""Small plans that together use every operator kind of the core, in f32 and int8, dense and sparse.

They are the seeds of the fuzzers and the subjects of the tests that break bundles on purpose; what operators compute is
tested elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from gossamer.bundle import container
from gossamer.compile.emit import emit
from gossamer.compile.encode import encode_weights
from gossamer.compile.plan import (
    Backend,
    Bin,
    DType,
    Extern,
    F,
    Layout,
    Op,
    OpKind,
    P,
    PadMode,
    Plan,
    Red,
    Tensor,
    Un,
    Weights,
)

MANIFEST = b'{"name":"sample"}'


class Builder:
    """Collects operators; every method adds one and returns its output tensor."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.ops: list[Op] = []
        self.inputs: list[Tensor] = []
        self.externs: list[Extern] = []

    def input(self, shape: Sequence[int], dtype: DType = DType.F32) -> Tensor:
        t = self._tensor(f"input{len(self.inputs)}", shape, dtype, Layout.ROW)
        self.inputs.append(t)
        return t

    def const(self, data: np.ndarray) -> Tensor:
        data = np.ascontiguousarray(data)
        return Tensor(f"const{len(self.ops)}_{data.size}", DType.of(data.dtype), data.shape, data=data)

    def weights(self, shape: Sequence[int], dtype: DType, density: float = 1.0, pattern: str = "dense") -> np.ndarray:
        """Random weights of which ``density`` of the pattern's blocks (rows by last axis) are kept."""
        if dtype is DType.F32:
            dense = self.rng.standard_normal(shape).astype(np.float32)
        else:
            dense = self.rng.integers(-127, 128, shape).astype(np.int8)
        rows, columns = {"1x4": (1, 4), "4x1": (4, 1), "4x4": (4, 4)}.get(pattern, (1, 1))
        mask = self.rng.random((-(-shape[0] // rows), *shape[1:-1], -(-shape[-1] // columns))) < density
        mask = mask.repeat(rows, 0).repeat(columns, -1)[: shape[0], ..., : shape[-1]]
        return np.where(mask, dense, 0).astype(dense.dtype)

    def op(
        self,
        kind: OpKind,
        inputs: Iterable[Tensor | None],
        shape: Sequence[int],
        dtype: DType,
        layout: Layout = Layout.ROW,
        p: dict[int, int] | None = None,
        f: dict[int, float] | None = None,
        weights: Weights | None = None,
    ) -> Tensor:
        number = len(self.ops)
        y = self._tensor(f"t{number}", shape, dtype, layout)
        name = f"{kind.name.lower()}_{number}"
        inputs = list(inputs)
        self.ops.append(Op(kind, inputs, [y], dict(p or {}), dict(f or {}), name, f"model.py:{number + 1}", weights))
        return y

    def to_cb(self, x: Tensor) -> Tensor:
        return self.op(OpKind.LAYOUT, [x], x.shape, x.dtype, Layout.CB, {0: 0})

    def to_row(self, x: Tensor) -> Tensor:
        return self.op(OpKind.LAYOUT, [x], x.shape, x.dtype, Layout.ROW, {0: 0})

    def window(self, k: int, s: int = 1, pad: int = 0, groups: int = 1) -> dict[int, int]:
        p = {P.KH: k, P.KW: k, P.SH: s, P.SW: s, P.DH: 1, P.DW: 1, P.GROUPS: groups}
        return {int(slot): v for slot, v in (p | dict.fromkeys((P.PT, P.PL, P.PB, P.PR), pad)).items()}

    def clamp(self, dtype: DType) -> tuple[dict[int, int], dict[int, float]]:
        if dtype is DType.F32:
            return {}, {int(F.LO): -math.inf, int(F.HI): math.inf}
        return {int(P.QLO): -128, int(P.QHI): 127}, {}

    def conv(
        self, x: Tensor, cout: int, k: int, stride: int = 1, pattern: str = "dense", density: float = 1.0
    ) -> Tensor:
        n, c, h, w = x.shape
        pad = k // 2
        out = [(d + 2 * pad - k) // stride + 1 for d in (h, w)]
        p, f = self.clamp(x.dtype)
        weights = Weights(self.weights((cout, k, k, c), x.dtype, density, pattern), pattern)
        return self.op(
            OpKind.CONV,
            [x, None, None, *self._bias_scale(cout, x.dtype)],
            (n, cout, *out),
            x.dtype,
            Layout.CB,
            self.window(k, stride, pad) | p,
            f,
            weights,
        )

    def gemm(self, x: Tensor, n: int, pattern: str = "dense", density: float = 1.0) -> Tensor:
        p, f = self.clamp(x.dtype)
        weights = Weights(self.weights((n, x.shape[-1]), x.dtype, density, pattern), pattern)
        inputs = [x, None, None, *self._bias_scale(n, x.dtype)]
        return self.op(OpKind.GEMM, inputs, (*x.shape[:-1], n), x.dtype, p=p, f=f, weights=weights)

    def depthwise(self, x: Tensor, k: int, stride: int = 1) -> Tensor:
        n, c, h, w = x.shape
        out = [(d + k // 2 * 2 - k) // stride + 1 for d in (h, w)]
        p, f = self.clamp(x.dtype)
        values = self.const(self.weights((c, k, k), x.dtype))
        inputs = [x, values, *self._bias_scale(c, x.dtype)]
        return self.op(OpKind.DWCONV, inputs, (n, c, *out), x.dtype, Layout.CB, self.window(k, stride, k // 2) | p, f)

    def plan(self, *outputs: Tensor) -> Plan:
        return Plan(self.ops, self.inputs, list(outputs), self.externs)

    def _bias_scale(self, rows: int, dtype: DType) -> list[Tensor | None]:
        if dtype is DType.F32:
            return [self.const(self.rng.standard_normal(rows).astype(np.float32)), None]
        bias = self.rng.integers(-1000, 1000, rows).astype(np.int32)
        return [self.const(bias), self.const(self.rng.uniform(1e-4, 1e-3, rows).astype(np.float32))]

    @staticmethod
    def _tensor(name: str, shape: Sequence[int], dtype: DType, layout: Layout) -> Tensor:
        quantised = dtype in (DType.S8, DType.U8)
        return Tensor(name, dtype, tuple(shape), layout, 0.05 if quantised else 0.0, 3 if quantised else 0)


def _network(dtype: DType) -> Plan:
    b = Builder(1)
    x = b.to_cb(b.input((1, 3, 10, 9), dtype))
    x = b.conv(x, 8, 3, 2)
    x = b.depthwise(x, 3)
    x = b.conv(x, 12, 1, pattern="1x4", density=0.4)
    p, f = b.clamp(dtype)
    same = {int(F.RA): 1.0, int(F.RB): 1.0} if dtype is DType.S8 else {}
    x = b.op(OpKind.BINARY, [x, x], x.shape, dtype, Layout.CB, {0: Bin.ADD} | p, same | f)
    x = b.op(OpKind.MAXPOOL, [x], (1, 12, 4, 4), dtype, Layout.CB, b.window(2) | p, f)
    x = b.conv(x, 8, 3, pattern="4x4", density=0.5)
    x = b.conv(x, 8, 1, pattern="4x1", density=0.5)
    x = b.conv(x, 8, 1, pattern="unstructured", density=0.3)
    average = {int(F.RA): 1.0} if dtype is DType.S8 else {}
    x = b.op(OpKind.AVGPOOL, [x], (1, 8, 1, 1), dtype, Layout.CB, b.window(4) | p, average | f)
    x = b.to_row(x)
    x = b.op(OpKind.RESHAPE, [x], (1, 8), dtype)
    x = b.gemm(x, 10, "2:4", 0.5)
    x = b.gemm(x, 6)
    inputs: list[Tensor | None] = [x]
    if dtype is DType.S8:
        inputs.append(b.const(np.round(2**20 * np.exp(-0.05 * np.arange(256))).astype(np.uint32)))
    else:
        inputs.append(None)
    y = b.op(OpKind.SOFTMAX, inputs, (1, 6), dtype, p={0: 1}, f={int(F.RA): 20.0} if dtype is DType.S8 else {})
    return b.plan(y)


def _resize_inputs(b: Builder, size: int, out: int, dtype: DType) -> list[Tensor | None]:
    position = np.linspace(0, size - 1, out)
    low = np.minimum(position.astype(np.int32), size - 2)
    index = np.stack([low, low + 1], 1).astype(np.int32).reshape(-1)
    fraction = position - low
    if dtype is DType.F32:
        weight = np.stack([1 - fraction, fraction], 1).astype(np.float32).reshape(-1)
    else:
        right = np.round(fraction * 1024).astype(np.int16)
        weight = np.stack([1024 - right, right], 1).astype(np.int16).reshape(-1)
    return [b.const(index), b.const(weight)]


def _shapes(dtype: DType) -> Plan:
    """Data movement: pad, slice, concat, transpose, resize, reduce, layouts."""
    b = Builder(2)
    source = b.input((1, 6, 5, 7), dtype)
    x = b.to_cb(source)
    fill = {13: 3} if dtype is DType.S8 else {}
    x = b.op(
        OpKind.PAD, [x], (1, 6, 8, 8), dtype, Layout.CB, {0: PadMode.CONSTANT, 3: 1, 4: 1, 9: 2, 10: 0} | fill, {0: 0.0}
    )
    half = b.op(OpKind.SLICE, [x], (1, 6, 4, 8), dtype, Layout.CB, {2: 1, **{6 + i: 1 for i in range(6)}, 8: 2})
    other = b.op(OpKind.SLICE, [x], (1, 6, 4, 8), dtype, Layout.CB, {3: 7, **{6 + i: 1 for i in range(6)}, 9: -1})
    x = b.op(OpKind.CONCAT, [half, other], (1, 12, 4, 8), dtype, Layout.CB, {0: 1})
    tables = _resize_inputs(b, 4, 6, dtype) + _resize_inputs(b, 8, 5, dtype)
    f = {int(F.RA): 1 / 1024 / 1024} if dtype is DType.S8 else {}
    x = b.op(OpKind.RESIZE, [x, *tables], (1, 12, 6, 5), dtype, Layout.CB, {0: 1}, f)
    x = b.op(OpKind.LAYOUT, [x], (1, 6, 5, 12), dtype, Layout.ROW, {0: 1})
    x = b.op(OpKind.TRANSPOSE, [x], (1, 5, 12, 6), dtype, p={0: 0, 1: 2, 2: 3, 3: 1})
    f = {int(F.RA): 1 / 12} if dtype is DType.S8 else {}
    mean = b.op(OpKind.REDUCE, [x], (1, 5, 6), dtype, p={0: Red.MEAN, 1: 1 << 2}, f=f)
    top = b.op(OpKind.REDUCE, [x], (1, 5, 1, 6), dtype, p={0: Red.MAX, 1: 1 << 2})
    return b.plan(mean, top)


def _floats() -> Plan:
    """Operators of f32 alone, and every unary."""
    b = Builder(3)
    x = b.input((2, 4, 8))
    y = b.op(OpKind.LAYERNORM, [x, b.const(np.ones(8, np.float32)), None], (2, 4, 8), DType.F32, p={0: 2}, f={0: 1e-5})
    y = b.op(OpKind.MATMUL, [y, x], (2, 4, 4), DType.F32, p={1: 1}, f={int(F.RA): 0.5})
    for kind in Un:
        f = {0: 0.1, 1: 0.5} if kind is not Un.CLIP else {0: 0.0, 1: 6.0}
        y = b.op(OpKind.UNARY, [y], (2, 4, 4), DType.F32, p={0: kind}, f=f)
    for kind in Bin:
        _, f = b.clamp(DType.F32)
        y = b.op(OpKind.BINARY, [y, b.const(np.full((4, 1), 1.5, np.float32))], (2, 4, 4), DType.F32, p={0: kind}, f=f)
    y = b.op(OpKind.PRELU, [y, b.const(np.linspace(0, 1, 4, dtype=np.float32))], (2, 4, 4), DType.F32)
    y = b.op(OpKind.SOFTMAX, [y, None], (2, 4, 4), DType.F32, p={0: 1, 1: 1})
    q = b.op(OpKind.QUANTIZE, [y], (2, 4, 4), DType.U8)
    table = b.rng.integers(-128, 128, 256).astype(np.int8)
    q = b.op(OpKind.LUT, [q, b.const(table)], (2, 4, 4), DType.S8, p={0: 1})
    q = b.op(OpKind.MATMUL, [q, q], (2, 4, 4), DType.S8, f={int(F.RA): 0.01})
    z = b.op(OpKind.DEQUANTIZE, [q], (2, 4, 4), DType.F32)
    return b.plan(z)


def _rare(dtype: DType) -> Plan:
    """Forms that ordinary networks seldom use: grouped and NHWC convolution, sparse vectors, per-channel tables."""
    b = Builder(5)
    source = b.input((1, 5, 6, 8), dtype)
    x = b.op(OpKind.LAYOUT, [source], (1, 8, 5, 6), dtype, Layout.CB, {0: 1})
    p, f = b.clamp(dtype)
    weights = Weights(b.weights((8, 3, 3, 4), dtype))
    inputs = [x, None, None, *b._bias_scale(8, dtype)]
    window = b.window(3, 2, 2, groups=2) | {int(P.DH): 2, int(P.DW): 2}
    x = b.op(OpKind.CONV, inputs, (1, 8, 3, 3), dtype, Layout.CB, window | p, f, weights)
    factor = {int(F.RA): 0.05} if dtype is DType.S8 else {}
    other = b.const(b.weights((1, 8, 1, 1), dtype))
    if dtype is DType.S8:
        other.scale = 0.05
        x = b.op(
            OpKind.LUT,
            [x, b.const(b.rng.integers(-128, 128, 8 * 256).astype(np.int8))],
            x.shape,
            dtype,
            Layout.CB,
            {0: 8},
        )
    x = b.op(OpKind.BINARY, [x, other], x.shape, dtype, Layout.CB, {0: Bin.MUL} | p, factor | f)
    x = b.op(OpKind.BINARY, [x, x], x.shape, dtype, Layout.CB, {0: Bin.MUL} | p, factor | f)
    tables = _resize_inputs(b, 3, 6, dtype) + _resize_inputs(b, 3, 7, dtype)
    scale = {int(F.RA): 1 / 1024 / 1024} if dtype is DType.S8 else {}
    x = b.op(OpKind.RESIZE, [x, *tables], (1, 8, 6, 7), dtype, Layout.CB, {0: 0}, scale)
    average = {int(F.RA): 1.0} if dtype is DType.S8 else {}
    x = b.depthwise(b.depthwise(x, 5), 3, 2)
    x = b.op(OpKind.AVGPOOL, [x], (1, 8, 3, 4), dtype, Layout.CB, b.window(3, 1, 1, groups=1) | p, average | f)
    x = b.op(OpKind.LAYOUT, [x], (1, 3, 4, 8), dtype, Layout.ROW, {0: 1})
    x = b.op(OpKind.RESHAPE, [x], (1, 96), dtype)
    for pattern in ("4x4", "4x1", "unstructured", "1x4"):
        x = b.gemm(x, 20, pattern, 0.3)
    return b.plan(x)


def _extern() -> Plan:
    b = Builder(4)
    x = b.input((1, 4))
    b.externs.append(Extern(Backend.ONNXRUNTIME, b"not a model: loading does not look inside"))
    y = b.op(OpKind.EXTERN, [x], (1, 4), DType.F32, p={0: 0, 1: Backend.ONNXRUNTIME})
    p, f = b.clamp(DType.F32)
    y = b.op(OpKind.BINARY, [y, x], (1, 4), DType.F32, p={0: Bin.ADD} | p, f=f)
    return b.plan(y)


PLANS: dict[str, Callable[[], Plan]] = {
    "network_f32": lambda: _network(DType.F32),
    "network_s8": lambda: _network(DType.S8),
    "shapes_f32": lambda: _shapes(DType.F32),
    "shapes_s8": lambda: _shapes(DType.S8),
    "rare_f32": lambda: _rare(DType.F32),
    "rare_s8": lambda: _rare(DType.S8),
    "floats": _floats,
    "extern": _extern,
}


def bundle(plan: Plan) -> bytes:
    """The unsigned bundle of a plan."""
    encode_weights(plan)
    emitted = emit(plan)
    return container.build(emitted.plan, emitted.weights, MANIFEST, [(e.backend, e.payload) for e in plan.externs])


def sample(name: str) -> bytes:
    """The bundle of the plan called ``name`` in ``PLANS``."""
    return bundle(PLANS[name]())
