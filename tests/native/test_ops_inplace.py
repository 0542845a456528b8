"""Operators that the memory planner lets write over their input give what they give elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.bundle import container
from gossamer.compile.emit import emit
from gossamer.compile.plan import Bin, DType, F, Layout, Op, OpKind, Plan, Tensor, Un
from gossamer_runtime import Session
from tests.native import reference as ref
from tests.native.oneop import CB, FULL, OPEN, ROW, s8
from tests.native.plans import MANIFEST


def run(plan: Plan, arrays: list[np.ndarray], shared: list[Tensor], isa: str | None) -> np.ndarray:
    emitted = emit(plan)
    places = {emitted.memory.offsets[t] for t in shared}
    assert len(places) == 1, "the planner was to put these in one place"
    with Session(container.build(emitted.plan, emitted.weights, MANIFEST), verify=False, isa=isa) as session:
        return session.run(arrays)


@pytest.mark.parametrize("isa", ["scalar", None])
@pytest.mark.parametrize("shape", [(1, 7, 5, 9), (2, 12, 1, 1), (1, 33, 16, 17)])
def test_int8_chain(shape: tuple[int, ...], isa: str | None) -> None:
    """Lut over its input, then Add over its first and Mul over its second operand."""
    rng = np.random.default_rng(91)

    def tensor(name: str, layout: Layout = CB) -> Tensor:
        return Tensor(name, DType.S8, shape, layout, 0.1, 3)

    x, z = tensor("x", ROW), tensor("z", ROW)
    xb, zb, a, b, c, y = tensor("xb"), tensor("zb"), tensor("a"), tensor("b"), tensor("c"), tensor("y", ROW)
    table = s8(rng, (256,))
    clamp = {int(k): v for k, v in FULL.items()}
    scales = {int(F.RA): 0.6, int(F.RB): 0.7}
    ops = [
        Op(OpKind.LAYOUT, [x], [xb], {0: 0}, name="in x"),
        Op(OpKind.LAYOUT, [z], [zb], {0: 0}, name="in z"),
        Op(OpKind.LUT, [xb, Tensor("table", DType.S8, (256,), data=table)], [a], {0: 1}, name="lut"),
        Op(OpKind.BINARY, [a, zb], [b], {0: Bin.ADD} | clamp, scales, name="add"),
        Op(OpKind.BINARY, [zb, b], [c], {0: Bin.MUL} | clamp, {int(F.RA): 0.02}, name="mul"),
        Op(OpKind.LAYOUT, [c], [y], {0: 0}, name="out"),
    ]
    dx, dz = s8(rng, shape), s8(rng, shape)
    got = run(Plan(ops, [x, z], [y]), [dx, dz], [xb, a, b], isa)
    after = ref.binary_s8(Bin.ADD, table[dx.view(np.uint8)], dz, (3, 3, 3), 0.6, 0.7, -128, 127)
    np.testing.assert_array_equal(got, ref.binary_s8(Bin.MUL, dz, after, (3, 3, 3), 0.02, 0, -128, 127))


def test_f32_chain() -> None:
    """Unary, Sub with the same tensor twice, Reshape: all in one place."""
    x = np.random.default_rng(92).standard_normal((3, 50)).astype(np.float32)
    t = [Tensor(f"t{i}", DType.F32, (3, 50)) for i in range(4)]
    y = Tensor("y", DType.F32, (150,))
    clamp = {int(k): v for k, v in OPEN.items()}
    ops = [
        Op(OpKind.UNARY, [t[0]], [t[1]], {0: Un.ABS}, name="abs"),
        Op(OpKind.UNARY, [t[1]], [t[2]], {0: Un.SQRT}, name="sqrt"),
        Op(OpKind.BINARY, [t[2], t[2]], [t[3]], {0: Bin.MUL}, clamp, name="square"),
        Op(OpKind.RESHAPE, [t[3]], [y], name="flat"),
    ]
    got = run(Plan(ops, [t[0]], [y]), [x], [t[1], t[2], t[3], y], None)
    np.testing.assert_allclose(got, np.abs(x).reshape(-1), rtol=3e-7)
