"""Elementwise operators, each alone, f32 and QDQ, against ONNX Runtime; what fuses into one table."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.compile.plan import OpKind
from tests.compile.support import (
    check_f32,
    check_int8,
    model,
    node,
    normal,
)

Shape = tuple[int, ...]


BROADCASTS: dict[str, tuple[Shape, Shape]] = {
    "same": ((2, 6, 4, 5), (2, 6, 4, 5)),
    "channel gate": ((2, 6, 4, 5), (2, 6, 1, 1)),
    "row": ((3, 7), (7,)),
    "scalar": ((3, 7), (1,)),
    "both": ((4, 1, 5), (3, 1)),
}


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min"])
@pytest.mark.parametrize("name", BROADCASTS)
def test_binary_f32(op: str, name: str) -> None:
    a, b = BROADCASTS[name]
    check_f32(model([node(op, ["x", "z"], ["y"])], {"x": a, "z": b}, ["y"]))
    if op in ("Sub", "Div"):
        check_f32(model([node(op, ["z", "x"], ["y"])], {"x": a, "z": b}, ["y"]))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
@pytest.mark.parametrize("name", BROADCASTS)
def test_binary_int8(op: str, name: str) -> None:
    a, b = BROADCASTS[name]
    plan = check_int8(model([node(op, ["x", "z"], ["y"])], {"x": a, "z": b}, ["y"]))
    assert OpKind.BINARY in [o.kind for o in plan.ops]


@pytest.mark.parametrize("op", ["Div", "Max", "Min"])
def test_binary_without_int8_rule_falls_back(op: str) -> None:
    proto = model([node(op, ["x", "z"], ["y"])], {"x": (2, 9), "z": (2, 9)}, ["y"])
    check_int8(proto, fallback=True, steps=1)


def test_pow_and_nary() -> None:
    nodes = [node("Abs", ["x"], ["a"]), node("Pow", ["a", "p"], ["y"])]
    check_f32(model(nodes, {"x": (3, 7)}, ["y"], {"p": np.float32(1.5)}))
    for op in ("Sum", "Mean", "Max", "Min"):
        proto = model([node(op, ["x", "z", "w"], ["y"])], {"x": (3, 1), "z": (4,), "w": (3, 4)}, ["y"])
        check_f32(proto)


def test_constant_operand_of_every_rank() -> None:
    for shape in [(), (1,), (5,), (4, 1), (6, 4, 5), (1, 6, 1, 1)]:
        proto = model([node("Mul", ["x", "c"], ["y"])], {"x": (2, 6, 4, 5)}, ["y"], {"c": np.asarray(normal(*shape))})
        check_f32(proto)


def test_clamp_fuses_into_binary() -> None:
    nodes = [node("Add", ["x", "z"], ["a"]), node("Clip", ["a", "lo", "hi"], ["y"])]
    consts = {"lo": np.float32(-0.5), "hi": np.float32(0.75)}
    proto = model(nodes, {"x": (1, 3, 4, 4), "z": (1, 3, 4, 4)}, ["y"], consts)
    assert [o.kind for o in check_f32(proto).ops] == [OpKind.BINARY]
    assert OpKind.UNARY not in [o.kind for o in check_int8(proto).ops]


UNARIES = {
    "Relu": {}, "HardSwish": {}, "HardSigmoid": {"alpha": 0.3, "beta": 0.4}, "Sigmoid": {}, "Tanh": {},
    "LeakyRelu": {"alpha": 0.2}, "Elu": {"alpha": 1.3}, "Gelu": {}, "Exp": {}, "Reciprocal": {}, "Abs": {}, "Neg": {},
    "Erf": {}, "Softplus": {}, "Floor": {}, "Ceil": {},
}  # fmt: skip


@pytest.mark.parametrize("op", UNARIES)
@pytest.mark.parametrize("shape", [(2, 5, 3, 4), (7, 9)])
def test_unary(op: str, shape: Shape) -> None:
    proto = model([node(op, ["x"], ["y"], **UNARIES[op])], {"x": shape}, ["y"], opset=20)
    assert [o.kind for o in check_f32(proto, scale=2.0).ops] == [OpKind.UNARY]
    if op != "Reciprocal":
        plan = check_int8(proto, scale=2.0)
        assert OpKind.LUT in [o.kind for o in plan.ops]


@pytest.mark.parametrize("op", ["Sqrt", "Log"])
def test_unary_of_positive_values(op: str) -> None:
    nodes = [node("Exp", ["x"], ["e"]), node(op, ["e"], ["y"])]
    check_f32(model(nodes, {"x": (3, 7)}, ["y"]))


@pytest.mark.parametrize("op", ["Mish", "Softsign", "Selu", "Celu"])
def test_functions_made_of_several(op: str) -> None:
    proto = model([node(op, ["x"], ["y"])], {"x": (3, 50)}, ["y"], opset=18)
    check_f32(proto, scale=2.0)
    assert [o.kind for o in check_int8(proto, scale=2.0).ops][1:-1] == [OpKind.LUT]


@pytest.mark.parametrize("op", ["Round", "Sign", "Sin"])
def test_functions_that_only_tables_compute(op: str) -> None:
    check_int8(model([node(op, ["x"], ["y"])], {"x": (3, 50)}, ["y"], opset=18), scale=2.0)


def test_gelu_tanh() -> None:
    check_f32(model([node("Gelu", ["x"], ["y"], approximate="tanh")], {"x": (3, 9)}, ["y"], opset=20))


@pytest.mark.parametrize("slope", [(1,), (6, 1, 1), (1, 6, 1, 1)])
def test_prelu(slope: Shape) -> None:
    proto = model([node("PRelu", ["x", "s"], ["y"])], {"x": (2, 6, 4, 5)}, ["y"], {"s": np.abs(normal(*slope))})
    assert [o.kind for o in check_f32(proto).ops] == [OpKind.PRELU]
    assert OpKind.LUT in [o.kind for o in check_int8(proto).ops]


def test_chain_of_functions_is_one_table() -> None:
    nodes = [
        node("Mul", ["x", "a"], ["m"]),
        node("Add", ["m", "b"], ["n"]),
        node("Tanh", ["n"], ["y"]),
    ]
    consts = {"a": np.abs(normal(5, 1, 1)) + 0.5, "b": normal(5, 1, 1, seed=2)}
    plan = check_int8(model(nodes, {"x": (2, 5, 3, 4)}, ["y"], consts))
    assert [o.kind for o in plan.ops] == [OpKind.QUANTIZE, OpKind.LUT, OpKind.DEQUANTIZE]
    assert plan.ops[1].p[0] == 5


@pytest.mark.parametrize("first", [True, False])
def test_gate_of_the_same_value_is_one_table(first: bool) -> None:
    nodes = [node("Sigmoid", ["x"], ["s"]), node("Mul", ["x", "s"] if first else ["s", "x"], ["y"])]
    plan = check_int8(model(nodes, {"x": (2, 5, 3, 4)}, ["y"]), after=("s", "y"), scale=3.0)
    assert [o.kind for o in plan.ops] == [OpKind.QUANTIZE, OpKind.LUT, OpKind.DEQUANTIZE]
