"""Each operator alone, over its attributes, f32 and QDQ, against ONNX Runtime."""

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
    onnxruntime,
    params,
    quantized,
    rng,
    session,
    step_of,
)

Shape = tuple[int, ...]


def normal(*shape: int, seed: int = 9) -> np.ndarray:
    return rng(seed).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


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


# --- elementwise

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


# --- pooling and reductions

POOLS = {
    "max": ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "max ceil": ("MaxPool", {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1}),
    "max dilated": ("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 3]}),
    "max same": ("MaxPool", {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "global max": ("GlobalMaxPool", {}),
    "average": ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [1, 0, 1, 2]}),
    "average counts": ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    "average ceil": ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "average ceil counts": (
        "AveragePool",
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1, "count_include_pad": 1},
    ),
    "global average": ("GlobalAveragePool", {}),
}


@pytest.mark.parametrize("name", POOLS)
def test_pool(name: str) -> None:
    op, attrs = POOLS[name]
    proto = model([node(op, ["x"], ["y"], **attrs)], {"x": (2, 6, 10, 12)}, ["y"], opset=19)
    check_f32(proto)
    check_int8(proto)


def test_pool_over_one_axis() -> None:
    for op in ("MaxPool", "AveragePool"):
        proto = model([node(op, ["x"], ["y"], kernel_shape=[3], strides=[2], pads=[1, 1])], {"x": (2, 6, 11)}, ["y"])
        check_f32(proto)
        check_int8(proto)


REDUCTIONS = {"spatial": [2, 3], "last": [-1], "channel": [1], "first and last": [0, 3], "all": None}


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceL1"])
@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("keep", [0, 1])
def test_reduce(op: str, name: str, keep: int) -> None:
    axes = REDUCTIONS[name]
    consts = {} if axes is None else {"axes": ints(*axes)}
    proto = model([node(op, ["x", *consts], ["y"], keepdims=keep)], {"x": (2, 3, 4, 5)}, ["y"], consts)
    check_f32(proto)
    if op in ("ReduceMean", "ReduceSum"):
        check_int8(proto)


def test_mean_over_the_plane_stays_channel_blocked() -> None:
    nodes = [node("Conv", ["x", "w"], ["c"]), node("ReduceMean", ["c"], ["y"], axes=[2, 3], keepdims=0)]
    plan = check_f32(model(nodes, {"x": (2, 3, 6, 6)}, ["y"], {"w": normal(5, 3, 3, 3)}, opset=13))
    assert OpKind.AVGPOOL in [o.kind for o in plan.ops]
    assert OpKind.REDUCE not in [o.kind for o in plan.ops]


# --- movement

PERMS: dict[str, tuple[Shape, list[int]]] = {
    "matrix": ((3, 5), [1, 0]),
    "nhwc to nchw": ((2, 4, 5, 3), [0, 3, 1, 2]),
    "nchw to nhwc": ((2, 3, 4, 5), [0, 2, 3, 1]),
    "heads": ((2, 4, 3, 5), [0, 2, 1, 3]),
    "six": ((2, 1, 3, 2, 2, 3), [5, 0, 3, 1, 4, 2]),
}


@pytest.mark.parametrize("name", PERMS)
def test_transpose(name: str) -> None:
    shape, perm = PERMS[name]
    proto = model([node("Transpose", ["x"], ["y"], perm=perm)], {"x": shape}, ["y"])
    check_f32(proto)
    check_int8(proto)


def test_layout_meets_nhwc_transposes_in_one_operator_each() -> None:
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        node("Conv", ["t", "w"], ["c"]),
        node("Transpose", ["c"], ["y"], perm=[0, 2, 3, 1]),
    ]
    plan = check_f32(model(nodes, {"x": (2, 6, 7, 3)}, ["y"], {"w": normal(5, 3, 3, 3)}))
    assert [o.kind for o in plan.ops] == [OpKind.LAYOUT, OpKind.CONV, OpKind.LAYOUT]
    assert [plan.ops[0].p[0], plan.ops[2].p[0]] == [1, 1]


SLICES = {
    "plain": ([1, 2], [3, 9], [2, 3], None),
    "step": ([0], [100], [3], [2]),
    "negative": ([-1], [-100], [2], [-1]),
    "from the end": ([-3, -4], [-1, 100], [1, 3], [1, 2]),
}


@pytest.mark.parametrize("name", SLICES)
def test_slice(name: str) -> None:
    starts, ends, axes, steps = SLICES[name]
    consts = {"s": ints(*starts), "e": ints(*ends), "a": ints(*axes)}
    if steps is not None:
        consts["p"] = ints(*steps)
    proto = model([node("Slice", ["x", *consts], ["y"])], {"x": (2, 6, 5, 9)}, ["y"], consts)
    check_f32(proto)
    check_int8(proto)


def test_split_and_concat() -> None:
    nodes = [
        node("Split", ["x", "sizes"], ["a", "b", "c"], axis=1),
        node("Concat", ["c", "a", "b", "a"], ["y"], axis=1),
    ]
    proto = model(nodes, {"x": (2, 7, 3, 4)}, ["y"], {"sizes": ints(1, 4, 2)})
    check_f32(proto)
    check_int8(proto)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_concat_of_convolutions(axis: int) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("Conv", ["x", "v"], ["b"]),
        node("Concat", ["a", "b"], ["y"], axis=axis),
    ]
    proto = model(nodes, {"x": (1, 3, 6, 6)}, ["y"], {"w": normal(6, 3, 3, 3), "v": normal(6, 3, 3, 3, seed=2)})
    check_f32(proto)
    plan = check_int8(proto, weights=("w", "v"), after=("a", "b", "y"), steps=2)
    assert OpKind.CONCAT in [o.kind for o in plan.ops]


@pytest.mark.parametrize("index", [2, -1, [0, 2, 4], [3, 0, 0, 5]])
def test_gather_with_constant_index(index: int | list[int]) -> None:
    for axis in (0, 1, 2):
        limited = np.asarray(index) % (6 if axis == 1 else 3)
        nodes = [node("Gather", ["x", "i"], ["y"], axis=axis)]
        proto = model(nodes, {"x": (3, 6, 3)}, ["y"], {"i": limited.astype(np.int64)})
        check_f32(proto)
        check_int8(proto)


PADS = {
    "constant": ("constant", [0, 0, 1, 2, 0, 0, 3, 0], 0.0),
    "value": ("constant", [0, 1, 0, 0, 0, 2, 0, 0], 1.5),
    "edge": ("edge", [0, 0, 2, 1, 0, 0, 1, 2], None),
    "reflect": ("reflect", [0, 0, 2, 1, 0, 0, 1, 3], None),
    "negative": ("constant", [0, 0, -1, 2, 0, 0, 1, -2], 0.0),
}


@pytest.mark.parametrize("name", PADS)
def test_pad(name: str) -> None:
    mode, pads, value = PADS[name]
    consts = {"p": ints(*pads), **({} if value is None else {"v": np.float32(value)})}
    proto = model([node("Pad", ["x", *consts], ["y"], mode=mode)], {"x": (2, 3, 5, 6)}, ["y"], consts)
    check_f32(proto)
    check_int8(proto)


def test_pad_merges_into_the_convolution() -> None:
    nodes = [node("Pad", ["x", "p"], ["t"]), node("Conv", ["t", "w"], ["y"], strides=[2, 2])]
    consts = {"p": ints(0, 0, 0, 1, 0, 0, 1, 2), "w": normal(4, 3, 3, 3)}
    proto = model(nodes, {"x": (1, 3, 8, 8)}, ["y"], consts)
    assert OpKind.PAD not in [o.kind for o in check_f32(proto).ops]
    assert OpKind.PAD not in [o.kind for o in check_int8(proto, weights=("w",)).ops]


def test_reshape_family() -> None:
    nodes = [
        node("Flatten", ["x"], ["f"], axis=2),
        node("Unsqueeze", ["f", "axes"], ["u"]),
        node("Reshape", ["u", "shape"], ["r"]),
        node("Squeeze", ["r", "axes"], ["y"]),
    ]
    consts = {"axes": ints(0), "shape": ints(1, 0, -1, 2)}
    plan = check_f32(model(nodes, {"x": (2, 3, 4, 5)}, ["y"], consts))
    assert [o.kind for o in plan.ops] == [OpKind.RESHAPE]


def test_shape_arithmetic_folds() -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Concat", ["n", "rest"], ["t"], axis=0),
        node("Reshape", ["x", "t"], ["y"]),
    ]
    consts = {"zero": ints(0), "rest": ints(-1)}
    plan = check_f32(model(nodes, {"x": (2, 3, 4)}, ["y"], consts))
    assert [o.kind for o in plan.ops] == [OpKind.RESHAPE]


def test_tile_and_expand() -> None:
    check_f32(model([node("Tile", ["x", "r"], ["y"])], {"x": (2, 3)}, ["y"], {"r": ints(2, 3)}))
    check_f32(model([node("Expand", ["x", "s"], ["y"])], {"x": (3, 1)}, ["y"], {"s": ints(2, 3, 4)}))
    nodes = [node("Expand", ["x", "s"], ["e"]), node("Add", ["e", "z"], ["y"])]
    plan = check_f32(model(nodes, {"x": (3, 1), "z": (2, 3, 4)}, ["y"], {"s": ints(2, 3, 4)}))
    assert [o.kind for o in plan.ops] == [OpKind.BINARY]


def test_space_and_depth() -> None:
    for mode in ("DCR", "CRD"):
        check_f32(model([node("DepthToSpace", ["x"], ["y"], blocksize=2, mode=mode)], {"x": (1, 12, 3, 2)}, ["y"]))
    check_f32(model([node("SpaceToDepth", ["x"], ["y"], blocksize=2)], {"x": (1, 3, 4, 6)}, ["y"]))


RESIZES = {
    "nearest up": ("nearest", (1, 1, 2, 3), {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
    "nearest half": ("nearest", (1, 1, 1.5, 2.5), {}),
    "nearest ceil": ("nearest", (1, 1, 0.6, 0.5), {"nearest_mode": "ceil"}),
    "nearest prefer ceil": ("nearest", (1, 1, 2, 0.5), {"nearest_mode": "round_prefer_ceil"}),
    "linear half": ("linear", (1, 1, 2, 2), {}),
    "linear corners": ("linear", (1, 1, 2, 3), {"coordinate_transformation_mode": "align_corners"}),
    "linear asymmetric": ("linear", (1, 1, 0.5, 1.7), {"coordinate_transformation_mode": "asymmetric"}),
    "linear pytorch": ("linear", (1, 1, 3, 1.3), {"coordinate_transformation_mode": "pytorch_half_pixel"}),
}


@pytest.mark.parametrize("name", RESIZES)
def test_resize(name: str) -> None:
    mode, scales, attrs = RESIZES[name]
    proto = model(
        [node("Resize", ["x", "", "s"], ["y"], mode=mode, **attrs)],
        {"x": (1, 5, 6, 7)}, ["y"], {"s": np.asarray(scales, np.float32)},
    )  # fmt: skip
    check_f32(proto)
    check_int8(proto)


def test_resize_by_sizes() -> None:
    proto = model(
        [node("Resize", ["x", "", "", "s"], ["y"], mode="linear")], {"x": (1, 5, 6, 7)}, ["y"], {"s": ints(1, 5, 9, 4)}
    )
    check_f32(proto)


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
