"""Patterns that exporters write as several nodes become one operator, and near misses do not."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest

from gossamer.compile.plan import OpKind, Plan, Un
from gossamer.compile.report import LowerReport
from tests.compile.support import check_f32, check_int8, lowered, model, node, rng

SHAPE = (2, 6, 4, 5)


def f32(value: float) -> np.ndarray:
    return np.asarray(value, np.float32)


def built(nodes: list[onnx.NodeProto], consts: dict[str, np.ndarray], opset: int = 13) -> onnx.ModelProto:
    return model(nodes, {"x": SHAPE}, ["y"], consts, opset=opset)


def functions(plan: Plan) -> list[int]:
    return [o.p[0] for o in plan.ops if o.kind is OpKind.UNARY]


CLIP = {"three": f32(3), "zero": f32(0), "six": f32(6), "sixth": f32(1 / 6)}


def test_hardsigmoid_and_hardswish_written_out() -> None:
    relu6 = [node("Add", ["x", "three"], ["a"]), node("Clip", ["a", "zero", "six"], ["c"])]
    assert functions(check_f32(built([*relu6, node("Div", ["c", "six"], ["y"])], CLIP), scale=3)) == [Un.HARDSIGMOID]
    gate = [*relu6, node("Mul", ["c", "sixth"], ["g"]), node("Mul", ["x", "g"], ["y"])]
    assert functions(check_f32(built(gate, CLIP), scale=3)) == [Un.HARDSWISH]
    product = [*relu6, node("Mul", ["x", "c"], ["m"]), node("Div", ["m", "six"], ["y"])]
    assert functions(check_f32(built(product, CLIP), scale=3)) == [Un.HARDSWISH]
    native = [node("HardSigmoid", ["x"], ["g"], alpha=1 / 6), node("Mul", ["g", "x"], ["y"])]
    assert functions(check_f32(built(native, {}), scale=3)) == [Un.HARDSWISH]


def test_gate_with_another_slope_is_not_hardswish() -> None:
    nodes = [node("HardSigmoid", ["x"], ["g"], alpha=0.2), node("Mul", ["x", "g"], ["y"])]
    plan = check_f32(built(nodes, {}))
    assert [o.kind for o in plan.ops] == [OpKind.UNARY, OpKind.BINARY]


def test_silu() -> None:
    plan = check_f32(built([node("Sigmoid", ["x"], ["s"]), node("Mul", ["s", "x"], ["y"])], {}))
    assert functions(plan) == [Un.SILU]


def gelu_erf(order: int) -> list[onnx.NodeProto]:
    head = [node("Div", ["x", "root"], ["d"]), node("Erf", ["d"], ["e"]), node("Add", ["e", "one"], ["p"])]
    tails = [
        [node("Mul", ["x", "p"], ["m"]), node("Mul", ["m", "half"], ["y"])],
        [node("Mul", ["x", "half"], ["m"]), node("Mul", ["m", "p"], ["y"])],
        [node("Mul", ["p", "half"], ["m"]), node("Mul", ["x", "m"], ["y"])],
    ]
    return head + tails[order]


GELU = {"root": f32(math.sqrt(2)), "one": f32(1), "half": f32(0.5)}


@pytest.mark.parametrize("order", [0, 1, 2])
def test_gelu_through_erf(order: int) -> None:
    plan = check_f32(built(gelu_erf(order), GELU))
    assert functions(plan) == [Un.GELU]
    assert len(plan.ops) == 1


def test_gelu_with_another_divisor_is_left_alone() -> None:
    plan = check_f32(built(gelu_erf(0), {**GELU, "root": f32(1.5)}))
    assert functions(plan) == [Un.ERF]


@pytest.mark.parametrize("power", [True, False])
def test_gelu_through_tanh(power: bool) -> None:
    cube = (
        [node("Pow", ["x", "three"], ["c"])]
        if power
        else [node("Mul", ["x", "x"], ["q"]), node("Mul", ["q", "x"], ["c"])]
    )
    nodes = [
        *cube,
        node("Mul", ["c", "small"], ["s"]),
        node("Add", ["x", "s"], ["a"]),
        node("Mul", ["a", "root"], ["r"]),
        node("Tanh", ["r"], ["t"]),
        node("Add", ["t", "one"], ["p"]),
        node("Mul", ["x", "half"], ["h"]),
        node("Mul", ["h", "p"], ["y"]),
    ]
    consts = {**GELU, "three": f32(3), "small": f32(0.044715), "root": f32(math.sqrt(2 / math.pi))}
    plan = check_f32(built(nodes, consts))
    assert functions(plan) == [Un.GELU_TANH]
    assert len(plan.ops) == 1


@pytest.mark.parametrize("square", ["Pow", "Mul"])
@pytest.mark.parametrize("affine", [True, False])
def test_layer_normalization_written_out(square: str, affine: bool) -> None:
    nodes = [
        node("ReduceMean", ["x"], ["m"], axes=[-1]),
        node("Sub", ["x", "m"], ["c"]),
        node("Pow", ["c", "two"], ["q"]) if square == "Pow" else node("Mul", ["c", "c"], ["q"]),
        node("ReduceMean", ["q"], ["v"], axes=[-1]),
        node("Add", ["v", "eps"], ["e"]),
        node("Sqrt", ["e"], ["r"]),
        node("Div", ["c", "r"], ["n" if affine else "y"]),
    ]
    if affine:
        nodes += [node("Mul", ["n", "gamma"], ["g"]), node("Add", ["g", "beta"], ["y"])]
    g = rng(1)
    consts = {
        "two": f32(2), "eps": f32(1e-5),
        "gamma": g.standard_normal(5).astype(np.float32), "beta": g.standard_normal(5).astype(np.float32),
    }  # fmt: skip
    plan = check_f32(built(nodes, consts))
    assert [o.kind for o in plan.ops] == [OpKind.LAYERNORM]


def test_affine_constants_fold_into_linear_and_grouped_conv() -> None:
    g = rng(2)
    consts = {
        "w": g.standard_normal((6, 3, 3, 3)).astype(np.float32), "s": g.standard_normal((6, 1, 1)).astype(np.float32),
        "t": g.standard_normal((1, 6, 1, 1)).astype(np.float32), "d": f32(4),
    }  # fmt: skip
    nodes = [
        node("Conv", ["x", "w"], ["c"], group=2),
        node("Mul", ["c", "s"], ["a"]),
        node("Sub", ["t", "a"], ["b"]),
        node("Div", ["b", "d"], ["e"]),
        node("Relu", ["e"], ["y"]),
    ]
    plan = check_f32(built(nodes, consts))
    assert [o.kind for o in plan.ops if o.kind is not OpKind.LAYOUT] == [OpKind.CONV]
    linear = [node("MatMul", ["x", "v"], ["m"]), node("Mul", ["m", "k"], ["n"]), node("Add", ["n", "k"], ["y"])]
    more = {"v": g.standard_normal((5, 7)).astype(np.float32), "k": g.standard_normal(7).astype(np.float32)}
    assert [o.kind for o in check_f32(built(linear, more)).ops] == [OpKind.GEMM]


def test_a_result_that_others_read_is_not_folded_away() -> None:
    consts = {"w": rng(3).standard_normal((6, 6, 1, 1)).astype(np.float32), "s": f32(2)}
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("Mul", ["c", "s"], ["a"]),
        node("Relu", ["c"], ["b"]),
        node("Add", ["a", "b"], ["y"]),
    ]
    plan = check_f32(built(nodes, consts))
    assert [o.kind for o in plan.ops].count(OpKind.BINARY) == 2


def test_transposes_cancel_across_a_function() -> None:
    nodes = [
        node("Transpose", ["x"], ["a"], perm=[0, 2, 3, 1]),
        node("Tanh", ["a"], ["b"]),
        node("Transpose", ["b"], ["y"], perm=[0, 3, 1, 2]),
    ]
    assert [o.kind for o in check_f32(built(nodes, {})).ops] == [OpKind.UNARY]


def test_equal_nodes_are_computed_once() -> None:
    nodes = [node("Tanh", ["x"], ["a"]), node("Tanh", ["x"], ["b"]), node("Mul", ["a", "b"], ["y"])]
    assert [o.kind for o in check_f32(built(nodes, {})).ops] == [OpKind.UNARY, OpKind.BINARY]


def test_clamp_between_equal_quantisations_fuses() -> None:
    consts = {"w": rng(3).standard_normal((4, 6, 3, 3)).astype(np.float32)}
    nodes = [node("Conv", ["x", "w"], ["c"]), node("Relu", ["c"], ["y"])]
    plan = check_int8(built(nodes, consts), weights=("w",))
    conv = next(o for o in plan.ops if o.kind is OpKind.CONV)
    assert conv.p[20] == conv.outputs[0].zero_point
    assert conv.p[21] == 127


def test_report_lists_what_happened() -> None:
    consts = {"w": rng(3).standard_normal((4, 6, 3, 3)).astype(np.float32)}
    proto = built([node("Conv", ["x", "w"], ["c"]), node("Relu", ["c"], ["y"])], consts)
    _, report = lowered(proto)
    assert report.as_dict() == {
        "fused": [{"kind": "Relu into Conv", "nodes": ["Conv_c", "Relu_y"], "reason": ""}],
        "fallbacks": [],
        "partitions": [],
    }
    assert str(LowerReport()) == "0 fusions"
