"""Plans of one operator, run through the Python runtime: what the operator tests share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gossamer.compile.plan import DType, F, Layout, Op, OpKind, P, Plan, Tensor, Weights
from gossamer_runtime import Session
from gossamer_runtime._session import OpInfo, op_infos
from tests.native.plans import bundle
from tests.native.reference import Window

ROW, CB = Layout.ROW, Layout.CB
FULL = {P.QLO: -128, P.QHI: 127}
OPEN = {F.LO: -math.inf, F.HI: math.inf}


@dataclass(frozen=True)
class In:
    """An operand: an activation, or a constant of the plan."""

    data: np.ndarray
    layout: Layout = ROW
    scale: float = 0.0
    zp: int = 0
    const: bool = False


@dataclass(frozen=True)
class Out:
    shape: Sequence[int]
    dtype: type
    layout: Layout = ROW
    scale: float = 0.0
    zp: int = 0


@dataclass(frozen=True)
class Case:
    """An operator with its operands."""

    kind: OpKind
    inputs: Sequence[In | None]
    out: Out
    p: Mapping[int, int] = field(default_factory=dict)
    f: Mapping[int, float] = field(default_factory=dict)
    weights: Weights | None = None

    def plan(self) -> Plan:
        ops: list[Op] = []
        graph: list[Tensor] = []
        operands: list[Tensor | None] = []
        for i, given in enumerate(self.inputs):
            if given is None:
                operands.append(None)
                continue
            kind = DType.of(given.data.dtype)
            if given.const:
                data = np.ascontiguousarray(given.data).reshape(given.data.shape)
                operands.append(Tensor(f"const{i}", kind, data.shape, ROW, given.scale, given.zp, data))
                continue
            x = Tensor(f"x{i}", kind, given.data.shape, ROW, given.scale, given.zp)
            graph.append(x)
            if given.layout is CB:
                blocked = Tensor(f"x{i}.cb", kind, given.data.shape, CB, given.scale, given.zp)
                ops.append(Op(OpKind.LAYOUT, [x], [blocked], {0: 0}, name=f"layout{i}"))
                x = blocked
            operands.append(x)
        o = self.out
        y = Tensor("y", DType.of(o.dtype), tuple(o.shape), o.layout, o.scale, o.zp)
        p, f = {int(k): int(v) for k, v in self.p.items()}, {int(k): float(v) for k, v in self.f.items()}
        weights = self.weights and Weights(self.weights.dense, self.weights.pattern)
        ops.append(Op(self.kind, operands, [y], p, f, "subject", "test.py:1", weights))
        if o.layout is CB:
            row = Tensor("y.row", y.dtype, y.shape, ROW, o.scale, o.zp)
            ops.append(Op(OpKind.LAYOUT, [y], [row], {0: 0}, name="layout.y"))
            y = row
        return Plan(ops, graph, [y])

    def bundle(self) -> bytes:
        return bundle(self.plan())

    def run(self, isa: str | None = None, threads: int = 1) -> np.ndarray:
        return self.run_info(isa, threads)[0]

    def run_info(self, isa: str | None = None, threads: int = 1) -> tuple[np.ndarray, OpInfo]:
        """The output of one run, and what the session says about the operator. Runs twice: buffers are used again."""
        with Session(self.bundle(), verify=False, isa=isa, threads=threads) as session:
            arrays = [i.data for i in self.inputs if i is not None and not i.const]
            first = session.run(arrays)
            second = session.run(arrays)
            info = next(i for i in op_infos(session) if i.name == "subject")
        np.testing.assert_array_equal(first, second)
        return first, info


def window_params(w: Window, groups: int = 1) -> dict[int, int]:
    (kh, kw), (sh, sw), (dh, dw) = w.kernel, w.stride, w.dilation
    pt, pl, pb, pr = w.pads
    keys = (P.KH, P.KW, P.SH, P.SW, P.DH, P.DW, P.PT, P.PL, P.PB, P.PR, P.GROUPS)
    return dict(zip(keys, (kh, kw, sh, sw, dh, dw, pt, pl, pb, pr, groups), strict=True))


def const(data: np.ndarray) -> In:
    return In(data, const=True)


def s8(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    return rng.integers(-128, 128, tuple(shape)).astype(np.int8)


def f32(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    return rng.standard_normal(tuple(shape)).astype(np.float32)
