"""What lowering refuses, and borders: dynamic shapes, unknown operators, NaN, input and output types, dead code."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from gossamer._errors import CompileError, ModelError
from gossamer.compile.lower import lower
from gossamer.compile.plan import DType, Layout, OpKind
from tests.compile.support import check_f32, feeds_of, lowered, model, node, onnxruntime, rng, run, session


def dynamic() -> onnx.ModelProto:
    proto = model([node("Relu", ["x"], ["y"])], {"x": (1, 3)}, ["y"])
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    return proto


def test_dynamic_shape_names_the_input() -> None:
    with pytest.raises(CompileError, match=r"without a fixed shape: 'x' \[batch,3\]"):
        lowered(dynamic())


def test_dynamic_shape_can_be_fixed() -> None:
    plan, _ = lowered(dynamic(), shapes={"x": (4, 3)})
    assert plan.outputs[0].shape == (4, 3)
    with pytest.raises(CompileError, match="does not fit input 'x'"):
        lowered(dynamic(), shapes={"x": (4, 5)})
    with pytest.raises(CompileError, match="'z', which is no input"):
        lowered(dynamic(), shapes={"z": (4, 3)})


def test_shape_that_depends_on_data() -> None:
    proto = model([node("NonZero", ["x"], ["y"])], {"x": (4, 3)}, ["y"])
    with pytest.raises(CompileError, match=r"shapes that depend on data .* NonZero 'NonZero_y'"):
        lowered(proto, ["onnxruntime"])


def test_operator_that_nobody_has() -> None:
    proto = model([node("Relu", ["x"], ["a"]), node("Frobnicate", ["a"], ["y"])], {"x": (4,)}, ["y"])
    with pytest.raises(CompileError, match="ONNX does not define: Frobnicate 'Frobnicate_y'"):
        lowered(proto, ["onnxruntime"])


def test_nan_weight() -> None:
    w = np.ones((2, 3), np.float32)
    w[1, 1] = np.nan
    with pytest.raises(ModelError, match="constant 'w' holds NaN"):
        lowered(model([node("MatMul", ["x", "w"], ["y"])], {"x": (4, 2)}, ["y"], {"w": w}))


def test_shapes_that_do_not_fit() -> None:
    graph = helper.make_graph(
        [node("Add", ["x", "z"], ["y"])],
        "bad",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", (3,)), ("z", (4,)))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    with pytest.raises(CompileError, match="Add 'Add_y' does not fit its inputs"):
        lowered(proto)


def test_one_axis_convolution_with_weights_that_are_computed() -> None:
    nodes = [node("Mul", ["w", "s"], ["ws"]), node("Conv", ["x", "ws"], ["y"])]
    weights = {"w": rng(3).standard_normal((2, 3, 3)).astype(np.float32)}
    proto = model(nodes, {"x": (1, 3, 8), "s": (1,)}, ["y"], weights)
    with pytest.raises(CompileError, match="Conv 'Conv_y': "):
        lowered(proto)
    feeds = feeds_of(proto)
    np.testing.assert_allclose(
        run(proto, feeds, ["onnxruntime"])[0], onnxruntime(proto, feeds)[0], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_input_types_without_a_place_in_a_bundle(kind: int) -> None:
    proto = model([node("Relu", ["x"], ["y"])], {"x": (3,)}, ["y"], dtypes={"x": kind})
    with pytest.raises(CompileError, match="input 'x' cannot be an input of a bundle"):
        lowered(proto)


def test_cycle_is_reported() -> None:
    graph = helper.make_graph(
        [node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"])],
        "cycle",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (3,))],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, (3,))],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    with pytest.raises(CompileError, match="wait for values that nothing makes"):
        lowered(proto)


def test_the_model_is_not_changed() -> None:
    nodes = [node("Identity", ["x"], ["a"]), node("BatchNormalization", ["a", "s", "s", "s", "s"], ["y"])]
    proto = model(nodes, {"x": (1, 2, 3, 3)}, ["y"], {"s": np.ones(2, np.float32)})
    made = ir.from_proto(proto)
    before = ir.to_proto(made).SerializeToString(deterministic=True)
    lower(made)
    assert ir.to_proto(made).SerializeToString(deterministic=True) == before


def test_lowering_is_deterministic() -> None:
    from tests.compile.support import bundle

    nodes = [node("Conv", ["x", "w"], ["c"]), node("Relu", ["c"], ["r"]), node("Add", ["r", "c"], ["y"])]
    w = rng(1).standard_normal((4, 3, 3, 3)).astype(np.float32)
    proto = model(nodes, {"x": (1, 3, 6, 6)}, ["y"], {"w": w})
    assert bundle(lowered(proto)[0]) == bundle(lowered(proto)[0])


def test_dead_nodes_leave_no_trace() -> None:
    nodes = [node("Relu", ["x"], ["y"]), node("TopK", ["x", "k"], ["v", "i"])]
    plan = check_f32(model(nodes, {"x": (2, 3)}, ["y"], {"k": np.array([1], np.int64)}))
    assert [o.kind for o in plan.ops] == [OpKind.UNARY]


def test_outputs_that_are_inputs_constants_or_shared() -> None:
    nodes = [
        node("Identity", ["x"], ["same"]),
        node("Relu", ["x"], ["r"]),
        node("Identity", ["r"], ["again"]),
        node("Add", ["c", "c"], ["fixed"]),
    ]
    proto = model(nodes, {"x": (2, 3)}, ["same", "r", "again", "fixed"], {"c": np.arange(3, dtype=np.float32)})
    check_f32(proto)


@pytest.mark.parametrize("unsigned", [True, False])
def test_quantized_inputs_and_outputs_keep_their_type(unsigned: bool) -> None:
    kind, zero = (np.uint8, 131) if unsigned else (np.int8, 3)
    consts = {"s": np.float32(0.02), "z": np.array(zero, kind), "t": np.float32(0.03)}
    consts["w"] = rng(1).standard_normal((4, 3, 1, 1)).astype(np.float32)
    nodes = [
        node("DequantizeLinear", ["x", "s", "z"], ["f"]),
        node("Transpose", ["f"], ["n"], perm=[0, 3, 1, 2]),
        node("Conv", ["n", "w"], ["c"]),
        node("Transpose", ["c"], ["h"], perm=[0, 2, 3, 1]),
        node("QuantizeLinear", ["h", "t", "z"], ["y"]),
    ]
    onnx_type = TensorProto.UINT8 if unsigned else TensorProto.INT8
    proto = model(nodes, {"x": (1, 4, 5, 3)}, ["y"], consts, dtypes={"x": onnx_type})
    feeds = feeds_of(proto)
    made = run(proto, feeds)[0]
    assert made.dtype == kind
    assert np.abs(made.astype(int) - onnxruntime(proto, feeds)[0].astype(int)).max() <= 1
    plan, _ = lowered(proto)
    assert plan.inputs[0].dtype is (DType.U8 if unsigned else DType.S8)
    assert plan.inputs[0].layout is Layout.ROW
    assert (plan.inputs[0].zero_point, plan.outputs[0].zero_point) == (zero, zero)
    assert plan.inputs[0].scale == pytest.approx(0.02)


def test_uint8_picture_cast_to_float() -> None:
    nodes = [node("Cast", ["x"], ["f"], to=TensorProto.FLOAT), node("Div", ["f", "d"], ["y"])]
    proto = model(nodes, {"x": (2, 3)}, ["y"], {"d": np.float32(255)}, dtypes={"x": TensorProto.UINT8})
    feeds = feeds_of(proto)
    assert np.allclose(run(proto, feeds)[0], onnxruntime(proto, feeds)[0], rtol=1e-6)


def test_integer_values_are_moved_by_the_core() -> None:
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0]),
        node("Slice", ["t", "a", "b"], ["s"]),
        node("Concat", ["s", "s"], ["y"], axis=1),
    ]
    consts = {"a": np.array([1], np.int64), "b": np.array([3], np.int64)}
    proto = model(nodes, {"x": (2, 4)}, ["y"], consts, dtypes={"x": TensorProto.INT64})
    feeds = {"x": rng(0).integers(-(2**40), 2**40, (2, 4))}
    made = run(proto, feeds)[0]
    assert made.dtype == np.int64
    assert np.array_equal(made, onnxruntime(proto, feeds)[0])


def test_weight_beyond_int8_keeps_its_exact_value() -> None:
    """uint8 weights with zero point 0 reach 255: int16 in the plan, split by encoding."""
    consts = {
        "s": np.float32(0.02), "z": np.array(0, np.int8), "ws": np.float32(0.01), "wz": np.array(0, np.uint8),
        "w": rng(1).integers(0, 256, (6, 4, 3, 3)).astype(np.uint8), "t": np.float32(0.5),
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        node("DequantizeLinear", ["xq", "s", "z"], ["xf"]),
        node("DequantizeLinear", ["w", "ws", "wz"], ["wf"]),
        node("Conv", ["xf", "wf"], ["c"]),
        node("QuantizeLinear", ["c", "t", "z"], ["y"]),
    ]
    proto = model(nodes, {"x": (1, 4, 6, 6)}, ["y"], consts)
    plan, report = lowered(proto)
    conv = next(o for o in plan.ops if o.kind is OpKind.CONV)
    assert conv.weights is not None
    assert conv.weights.dense.dtype == np.int16
    assert np.array_equal(conv.weights.dense, consts["w"].transpose(0, 2, 3, 1).astype(np.int16))
    assert not report.fallbacks
    feeds = feeds_of(proto)
    assert np.abs(session(plan).run(feeds["x"]).astype(int) - onnxruntime(proto, feeds)[0].astype(int)).max() <= 1


def test_unused_inputs_stay_inputs_and_constants_may_be_listed_as_inputs() -> None:
    w = rng(1).standard_normal((3, 2)).astype(np.float32)
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": (4, 3), "unused": (7,), "w": (3, 2)}, ["y"], {"w": w})
    plan, _ = lowered(proto)
    assert [t.name for t in plan.inputs] == ["x", "unused"]
    x = rng(2).standard_normal((4, 3)).astype(np.float32)
    assert np.allclose(session(plan).run({"x": x, "unused": np.zeros(7, np.float32)})["y"], x @ w, atol=1e-5)


def test_model_functions_are_inlined() -> None:
    proto = model([node("Square", ["x"], ["s"], domain="mine"), node("Relu", ["s"], ["y"])], {"x": (4,)}, [], {})
    proto.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, (4,)))
    opsets = [helper.make_opsetid("", 18)]
    body = [helper.make_node("Mul", ["a", "a"], ["b"])]
    proto.functions.append(helper.make_function("mine", "Square", ["a"], ["b"], body, opsets))
    plan = check_f32(proto)
    assert [o.kind for o in plan.ops] == [OpKind.BINARY]
