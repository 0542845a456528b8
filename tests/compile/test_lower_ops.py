"""Convolution, matrix products and normalisation, each alone, f32 and QDQ, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from gossamer.compile.plan import OpKind
from tests.compile.support import (
    check_f32,
    check_int8,
    feeds_of,
    lowered,
    model,
    node,
    normal,
    onnxruntime,
    params,
    quantized,
    rng,
    session,
    step_of,
)

Shape = tuple[int, ...]


# --- convolution

CONVS = {
    "1x1": ((2, 8, 5, 7), (6, 8, 1, 1), {}),
    "3x3 pad": ((1, 5, 9, 11), (7, 5, 3, 3), {"pads": [1, 1, 1, 1]}),
    "stride": ((1, 3, 17, 15), (8, 3, 3, 3), {"strides": [2, 2], "pads": [0, 1, 1, 0]}),
    "dilation": ((1, 4, 12, 12), (4, 4, 3, 3), {"dilations": [2, 3], "pads": [2, 3, 2, 3]}),
    "groups": ((1, 8, 6, 6), (12, 2, 3, 3), {"group": 4}),
    "depthwise": ((2, 6, 9, 9), (6, 1, 3, 3), {"group": 6, "pads": [1, 1, 1, 1]}),
    "multiplier": ((1, 5, 8, 8), (10, 1, 5, 5), {"group": 5, "strides": [2, 1]}),
    "same upper": ((1, 4, 10, 11), (4, 4, 4, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same lower": ((1, 4, 10, 11), (4, 4, 4, 3), {"auto_pad": "SAME_LOWER", "strides": [3, 2]}),
    "valid": ((1, 4, 10, 11), (4, 4, 4, 3), {"auto_pad": "VALID", "strides": [3, 2]}),
    "one axis": ((2, 4, 20), (6, 4, 5), {"strides": [2], "pads": [2, 1]}),
    "one axis depthwise": ((1, 4, 20), (4, 1, 3), {"group": 4, "dilations": [2]}),
    "whole plane": ((1, 4, 5, 5), (9, 4, 5, 5), {}),
    "large kernel": ((1, 3, 14, 14), (4, 3, 7, 7), {"strides": [2, 2], "pads": [3, 3, 3, 3]}),
}


def conv_model(name: str, *, bias: bool = True, relu: bool = False) -> onnx.ModelProto:
    x, w, attrs = CONVS[name]
    inputs = ["x", "w", "b"] if bias else ["x", "w"]
    nodes = [node("Conv", inputs, ["c" if relu else "y"], **attrs)]
    if relu:
        nodes.append(node("Relu", ["c"], ["y"]))
    consts = {"w": normal(*w), **({"b": normal(w[0], seed=3)} if bias else {})}
    return model(nodes, {"x": x}, ["y"], consts)


@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("bias", [True, False])
def test_conv_f32(name: str, bias: bool) -> None:
    plan = check_f32(conv_model(name, bias=bias))
    kind = OpKind.DWCONV if CONVS[name][2].get("group", 1) == CONVS[name][0][1] else OpKind.CONV
    assert [op.kind for op in plan.ops].count(kind) == 1


@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("per_channel", [True, False])
def test_conv_int8(name: str, per_channel: bool) -> None:
    proto = conv_model(name, relu=True)
    plan = check_int8(proto, weights=("w",), per_channel={"w": 0} if per_channel else None)
    kinds = [op.kind for op in plan.ops]
    assert kinds[0] is OpKind.QUANTIZE
    assert kinds[-1] is OpKind.DEQUANTIZE
    assert OpKind.UNARY not in kinds


def test_conv_int8_takes_an_int32_bias_exactly() -> None:
    proto = conv_model("3x3 pad", bias=False)
    w = CONVS["3x3 pad"][1]
    feeds = feeds_of(proto)
    qdq = quantized(proto, feeds, weights=("w",), per_channel={"w": 0})
    sw = next(numpy_helper.to_array(i) for i in qdq.graph.initializer if i.name == "w_s")
    sx, _ = params(feeds["x"], False)
    bias = rng(1).integers(-4000, 4000, w[0]).astype(np.int32)
    qdq.graph.initializer.append(numpy_helper.from_array(bias, "b_i"))
    qdq.graph.initializer.append(numpy_helper.from_array((sw * sx).astype(np.float32), "b_s"))
    qdq.graph.node.insert(0, node("DequantizeLinear", ["b_i", "b_s"], ["b"], axis=0))
    conv = next(n for n in qdq.graph.node if n.op_type == "Conv")
    conv.input.append("b")
    plan, report = lowered(qdq)
    assert not report.fallbacks
    op = next(o for o in plan.ops if o.kind is OpKind.CONV)
    assert op.weights is not None
    zx = op.inputs[0].zero_point
    sums = op.weights.dense.reshape(w[0], -1).astype(np.int64).sum(axis=1)
    assert np.array_equal(op.inputs[3].data, bias - zx * sums)
    off = np.abs(session(plan).run(feeds["x"]) - onnxruntime(qdq, feeds)[0]) / step_of(qdq, "y")
    assert off.max() <= 1.001


# --- matrix products

GEMMS = {
    "plain": ({}, (5, 7), (7, 6), (6,)),
    "transB": ({"transB": 1}, (5, 7), (6, 7), (6,)),
    "transA": ({"transA": 1}, (7, 5), (7, 6), (6,)),
    "alpha beta": ({"alpha": 0.5, "beta": 2.0, "transB": 1}, (1, 9), (4, 9), (1, 4)),
    "full c": ({}, (3, 4), (4, 5), (3, 5)),
    "scalar c": ({}, (3, 4), (4, 5), ()),
    "no c": ({}, (3, 33), (33, 17), None),
}


@pytest.mark.parametrize("name", GEMMS)
def test_gemm_f32(name: str) -> None:
    attrs, a, b, c = GEMMS[name]
    inputs = ["x", "w"] if c is None else ["x", "w", "c"]
    consts = {"w": normal(*b), **({} if c is None else {"c": np.asarray(normal(*c, seed=4))})}
    check_f32(model([node("Gemm", inputs, ["y"], **attrs)], {"x": a}, ["y"], consts))


@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("per_channel", [True, False])
def test_gemm_int8(trans: int, per_channel: bool) -> None:
    w = normal(10, 21) if trans else normal(21, 10)
    proto = model(
        [node("Gemm", ["x", "w", "b"], ["y"], transB=trans)], {"x": (3, 21)}, ["y"], {"w": w, "b": normal(10)}
    )
    axis = {"w": 0 if trans else 1} if per_channel else None
    plan = check_int8(proto, weights=("w",), per_channel=axis)
    assert [o.kind for o in plan.ops] == [OpKind.QUANTIZE, OpKind.GEMM, OpKind.DEQUANTIZE]


MATMULS: dict[str, tuple[Shape, Shape]] = {
    "two axes": ((4, 6), (6, 5)),
    "batch": ((2, 3, 4, 6), (2, 3, 6, 5)),
    "broadcast": ((2, 3, 4, 6), (3, 6, 5)),
    "left broadcast": ((4, 6), (2, 6, 5)),
}


@pytest.mark.parametrize("name", MATMULS)
def test_matmul(name: str) -> None:
    a, b = MATMULS[name]
    proto = model([node("MatMul", ["x", "z"], ["y"])], {"x": a, "z": b}, ["y"])
    check_f32(proto)
    plan = check_int8(proto)
    assert OpKind.MATMUL in [o.kind for o in plan.ops]


def test_matmul_reads_a_transposed_operand_in_place() -> None:
    nodes = [node("Transpose", ["z"], ["t"], perm=[0, 2, 1]), node("MatMul", ["x", "t"], ["y"])]
    proto = model(nodes, {"x": (2, 4, 6), "z": (2, 5, 6)}, ["y"])
    for plan in (check_f32(proto), check_int8(proto)):
        op = next(o for o in plan.ops if o.kind is OpKind.MATMUL)
        assert (op.p[0], op.p[1]) == (0, 1)
        assert OpKind.TRANSPOSE not in [o.kind for o in plan.ops]


def test_matmul_with_constant_weights_and_add_is_one_gemm() -> None:
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Add", ["b", "m"], ["y"])]
    plan = check_f32(model(nodes, {"x": (2, 5, 8)}, ["y"], {"w": normal(8, 3), "b": normal(3)}))
    assert [o.kind for o in plan.ops] == [OpKind.GEMM]


def test_matmul_with_constant_left_side_and_batched_weights() -> None:
    check_f32(model([node("MatMul", ["w", "x"], ["y"])], {"x": (2, 5, 8)}, ["y"], {"w": normal(4, 5)}))
    check_f32(model([node("MatMul", ["x", "w"], ["y"])], {"x": (3, 5, 8)}, ["y"], {"w": normal(3, 8, 4)}))


# --- normalisation and softmax


@pytest.mark.parametrize("axis", [-1, 1, 0])
def test_softmax(axis: int) -> None:
    proto = model([node("Softmax", ["x"], ["y"], axis=axis)], {"x": (3, 6, 5)}, ["y"])
    check_f32(proto, scale=2.0)
    check_int8(proto, scale=2.0)
    check_f32(model([node("LogSoftmax", ["x"], ["y"], axis=axis)], {"x": (3, 6, 5)}, ["y"]), scale=2.0)


@pytest.mark.parametrize("axis", [-1, 1])
def test_layer_normalization(axis: int) -> None:
    tail = (4, 6)[axis % 3 - 1 :] if axis == 1 else (6,)
    consts = {"g": normal(*tail), "b": normal(*tail, seed=2)}
    proto = model([node("LayerNormalization", ["x", "g", "b"], ["y"], axis=axis)], {"x": (2, 4, 6)}, ["y"], consts)
    assert [o.kind for o in check_f32(proto).ops] == [OpKind.LAYERNORM]
    check_int8(proto, fallback=True)


def test_batch_normalization_alone_and_after_conv() -> None:
    consts = {"g": np.abs(normal(5)), "b": normal(5, seed=2), "m": normal(5, seed=3), "v": np.abs(normal(5, seed=4))}
    bn = [node("BatchNormalization", ["c", *consts], ["y"])]
    check_f32(model(bn, {"c": (2, 5, 3, 4)}, ["y"], consts))
    check_f32(model(bn, {"c": (2, 5)}, ["y"], consts))
    proto = model(
        [node("Conv", ["x", "w"], ["c"]), *bn], {"x": (1, 3, 6, 6)}, ["y"], {**consts, "w": normal(5, 3, 3, 3)}
    )
    plan = check_f32(proto)
    assert [o.kind for o in plan.ops if o.kind is not OpKind.LAYOUT] == [OpKind.CONV]


def test_instance_and_group_normalization() -> None:
    consts = {"g": normal(6), "b": normal(6, seed=2)}
    check_f32(model([node("InstanceNormalization", ["x", "g", "b"], ["y"])], {"x": (2, 6, 4, 5)}, ["y"], consts))
    gn = node("GroupNormalization", ["x", "g", "b"], ["y"], num_groups=3)
    check_f32(model([gn], {"x": (2, 6, 4, 5)}, ["y"], consts, opset=21))
