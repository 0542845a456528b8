"""A plan in torch gives the core's own bits: every int8 operator, random networks, every layer of a detector."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gossamer import InputError, UnsupportedError
from gossamer.compile.lower import lower
from gossamer.compile.plan import DType, Layout, Op, OpKind, Plan, Tensor
from gossamer_runtime import Session
from tests.compile.support import feeds_of, lowered, quantized, session
from tests.compile.test_lower_random import network
from tests.native import exact_plans
from tests.native.plans import bundle
from tests.qat.support import person_model

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'gossamer[torch]'")

SAMPLES = 3


def draw(plan: Plan, seed: int) -> list[np.ndarray[Any, Any]]:
    g = np.random.default_rng(seed)
    shapes = [(SAMPLES * t.shape[0], *t.shape[1:]) for t in plan.inputs]
    return [
        g.standard_normal(s).astype(np.float32) if t.dtype is DType.F32 else g.integers(-128, 128, s).astype(np.int8)
        for s, t in zip(shapes, plan.inputs, strict=True)
    ]


def one_by_one(opened: Session, inputs: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """Outputs of the core, samples along the first axis."""
    runs = [opened.run([np.split(x, SAMPLES)[k] for x in inputs]) for k in range(SAMPLES)]
    lists = [r if isinstance(r, list) else [r] for r in runs]
    return [np.concatenate(parts) for parts in zip(*lists, strict=True)]


@pytest.mark.parametrize("dtype", [DType.S8, DType.F32], ids=["int8", "float32"])
@pytest.mark.parametrize("name", exact_plans.PLANS)
def test_every_operator_of_the_core(name: str, dtype: DType) -> None:
    """The plans use all of them (tests/native/test_exact.py holds them to it)."""
    from gossamer.quantize.qat import PlanModule

    plan = exact_plans.PLANS[name](dtype)
    inputs = draw(plan, 5)
    made = PlanModule(plan).raw(*(torch.from_numpy(x) for x in inputs), batch=2)
    with Session(bundle(exact_plans.PLANS[name](dtype)), isa="scalar", verify=False) as opened:
        want = one_by_one(opened, inputs)
    assert len(made) == len(want) > 15
    for k, (a, b) in enumerate(zip(made, want, strict=True)):
        assert tuple(a.shape) == b.shape, k
        if dtype is DType.S8:
            assert a.numpy().dtype == b.dtype and np.array_equal(a.numpy(), b), plan.outputs[k].name
        else:
            assert np.abs(a.numpy() - b).max() <= 2e-4 * max(1.0, np.abs(b).max()), plan.outputs[k].name


@pytest.mark.parametrize("seed", [*range(12), *(pytest.param(s, marks=pytest.mark.slow) for s in range(12, 60))])
def test_random_networks_where_int8_and_float_meet(seed: int) -> None:
    from gossamer.quantize.qat import PlanModule

    proto, inner, weights = network(seed)
    g = np.random.default_rng(1000 + seed)
    feeds = feeds_of(proto, seed)
    outputs = [o.name for o in proto.graph.output]
    chosen = tuple(v for v in inner if v in outputs or g.random() < 0.8)
    per_channel = dict.fromkeys(weights, 0) if seed % 2 else None
    qdq = quantized(proto, feeds, unsigned=seed % 3 == 0, weights=weights, per_channel=per_channel, after=chosen)
    want = session(lowered(qdq)[0]).run(list(feeds.values()))
    made = PlanModule(lowered(qdq)[0]).raw(*(torch.from_numpy(v) for v in feeds.values()))
    for name, a, b in zip(outputs, made, want, strict=True):
        assert np.array_equal(a.numpy(), b), name


def shown(plan: Plan) -> Plan:
    """The plan with every int8 result as an output."""
    outputs = list(plan.outputs)
    for op in list(plan.ops):
        y = op.outputs[0]
        if y.dtype is not DType.S8 or y in outputs:
            continue
        if y.layout is Layout.CB:
            row = Tensor(f"{y.name}.row", y.dtype, y.shape, Layout.ROW, y.scale, y.zero_point)
            plan.ops.append(Op(OpKind.LAYOUT, [y], [row], {0: 0}, name=f"{op.name}.row"))
            y = row
        outputs.append(y)
    return Plan(plan.ops, plan.inputs, outputs)


def test_every_layer_of_a_detector() -> None:
    """Not only the logits: 57 int8 tensors of a residual network, on noise and with a saturated photo."""
    from gossamer.quantize.qat import PlanModule, prepare_qat

    x = np.random.default_rng(2).random((SAMPLES, 3, 96, 96), dtype=np.float32)
    x[0] = np.round(x[0])
    q = prepare_qat(person_model("v2-0.35"), x)
    plan, again = shown(lower(q.to_onnx())), shown(lower(q.to_onnx()))
    made = PlanModule(plan).raw(torch.from_numpy(x))
    want = one_by_one(session(again), [x])
    assert sum(t.dtype is DType.S8 for t in plan.outputs) > 50
    for t, a, b in zip(plan.outputs, made, want, strict=True):
        assert np.array_equal(a.numpy(), b), t.name
    assert np.median([np.unique(b).size for b in want[1:]]) > 100


@pytest.mark.parametrize("name", exact_plans.PLANS)
def test_all_numbers_of_a_plan_move_to_the_device(name: str) -> None:
    """The meta device refuses to mix with the CPU, so a constant left behind shows."""
    from gossamer.quantize.qat import PlanModule

    plan = exact_plans.PLANS[name](DType.S8)
    inputs = [torch.empty(t.shape, dtype=torch.int8, device="meta") for t in plan.inputs]
    made = PlanModule(plan).to("meta").raw(*inputs)
    assert all(y.is_meta and tuple(y.shape) == t.shape for y, t in zip(made, plan.outputs, strict=True))


def test_sums_past_the_exact_integers_of_float32_are_taken_in_double() -> None:
    from gossamer.quantize.qat.exact.products import exact_type

    assert exact_type(torch.full((2, 1032), 127, dtype=torch.int8)) is torch.float32
    assert exact_type(torch.full((2, 1033), 127, dtype=torch.int8)) is torch.float64  # 1033 * 127 * 128 > 2^24


def test_the_fixed_point_of_addition() -> None:
    """NUMERICS.md: the larger ratio is brought into 2^20..2^21, and the shift is at most 30."""
    from gossamer.quantize.qat.exact.elementwise import fixed_point

    assert fixed_point(1.0, 0.5) == (1 << 20, 1 << 19, 20)
    assert fixed_point(0.25, 0.75) == (1 << 19, 3 << 19, 21)
    assert fixed_point(2.0**-12, 2.0**-13) == (1 << 18, 1 << 17, 30)


def test_operators_outside_the_core_and_bad_inputs() -> None:
    from gossamer.quantize.qat import PlanModule

    x, y = (Tensor(n, DType.F32, (1, 4)) for n in "xy")
    extern = Plan([Op(OpKind.EXTERN, [x], [y], name="topk", source="net.py:3")], [x], [y])
    with pytest.raises(UnsupportedError, match=r"run outside the core.*'topk' at net.py:3"):
        PlanModule(extern)
    same = PlanModule(Plan([Op(OpKind.RESHAPE, [x], [y])], [x], [y]))
    with pytest.raises(InputError, match=r"input 'x' has shape \[2, 5\], the model takes \[1, 4\]"):
        same(torch.zeros(2, 5))
    with pytest.raises(InputError, match="0 inputs given, the model has 1"):
        same()
