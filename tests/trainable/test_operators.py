"""Every operator that trains: a model exported for one sample, run on three, against ONNX Runtime one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.compile.support import model, node, normal
from tests.ort import run as onnxruntime

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'gossamer[torch]'")

Case = tuple[list[onnx.NodeProto], dict[str, tuple[int, ...]], dict[str, np.ndarray]]
IMAGE = {"x": (1, 4, 7, 6)}
SIGNAL = {"x": (1, 4, 9)}
ROWS = {"x": (1, 5, 8)}


def one(op: str, shapes: dict[str, tuple[int, ...]], consts: dict[str, np.ndarray] | None = None, **attrs: Any) -> Case:
    return [node(op, [*shapes, *(consts or {})], ["y"], **attrs)], shapes, consts or {}


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def weights(*shape: int) -> np.ndarray:
    return (normal(*shape, seed=3) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


SCALAR = np.float32
CASES: dict[str, Case] = {
    "conv": one("Conv", IMAGE, {"w": weights(6, 4, 3, 3), "b": normal(6)}, pads=[1, 1, 1, 1]),
    "conv without bias": one("Conv", IMAGE, {"w": weights(6, 4, 1, 1)}, strides=[2, 2]),
    "conv, padding behind": one("Conv", IMAGE, {"w": weights(6, 4, 3, 3)}, pads=[0, 0, 1, 1], strides=[2, 2]),
    "conv, unread padding": one("Conv", IMAGE, {"w": weights(6, 4, 2, 2)}, pads=[1, 1, 1, 1], strides=[3, 3]),
    "conv, same upper": one("Conv", IMAGE, {"w": weights(6, 4, 3, 2)}, auto_pad="SAME_UPPER", strides=[2, 2]),
    "conv, same lower": one("Conv", IMAGE, {"w": weights(6, 4, 2, 2)}, auto_pad="SAME_LOWER"),
    "conv, dilated groups": one("Conv", IMAGE, {"w": weights(4, 2, 3, 3)}, group=2, dilations=[2, 2]),
    "depthwise": one("Conv", IMAGE, {"w": weights(8, 1, 3, 3), "b": normal(8)}, group=4, pads=[1, 1, 1, 1]),
    "conv over one axis": one("Conv", SIGNAL, {"w": weights(5, 4, 3), "b": normal(5)}, pads=[2, 0], strides=[2]),
    "transposed conv": one(
        "ConvTranspose", IMAGE, {"w": weights(4, 3, 3, 3), "b": normal(3)}, strides=[2, 2], pads=[1, 1, 1, 1],
        output_padding=[1, 1],
    ),
    "gemm": one("Gemm", {"x": (1, 8)}, {"w": weights(8, 5), "b": normal(5)}),
    "gemm transposed": one("Gemm", {"x": (1, 8)}, {"w": weights(5, 8), "b": normal(1, 5)}, transB=1),
    "gemm, one bias for all": one("Gemm", {"x": (1, 8)}, {"w": weights(5, 8), "b": SCALAR(0.7)}, transB=1, beta=2.0),
    "gemm scaled": one("Gemm", {"x": (1, 8)}, {"w": weights(5, 8), "b": normal(5)}, transB=1, alpha=0.5, beta=2.0),
    "matmul": one("MatMul", ROWS, {"w": weights(8, 3)}),
    "matmul of activations": one("MatMul", {"x": (1, 2, 5, 8), "z": (1, 1, 8, 3)}),
    "batch norm": one(
        "BatchNormalization", IMAGE, {"s": normal(4), "b": normal(4, seed=1), "m": normal(4, seed=2),
                                      "v": np.abs(normal(4, seed=4)) + 0.1}, epsilon=1e-3,
    ),
    "layer norm": one("LayerNormalization", ROWS, {"s": normal(8), "b": normal(8, seed=1)}, axis=-1),
    "instance norm": one("InstanceNormalization", IMAGE, {"s": normal(4), "b": normal(4, seed=1)}),
    "prelu": one("PRelu", IMAGE, {"s": np.abs(normal(4, 1, 1))}),
    "relu": one("Relu", IMAGE),
    "clip": one("Clip", IMAGE, {"lo": SCALAR(-0.5), "hi": SCALAR(0.7)}),
    "leaky relu": one("LeakyRelu", IMAGE, alpha=0.2),
    "elu": one("Elu", IMAGE, alpha=0.7),
    "selu": one("Selu", IMAGE),
    "celu": one("Celu", IMAGE, alpha=0.6),
    "hard sigmoid": one("HardSigmoid", IMAGE, alpha=0.3, beta=0.4),
    "thresholded relu": one("ThresholdedRelu", IMAGE, alpha=0.3),
    **{op: one(op, IMAGE) for op in ("HardSwish", "Sigmoid", "Tanh", "Exp", "Abs", "Neg", "Erf", "Softplus", "Softsign",
                                     "Mish", "Floor", "Ceil", "Round", "Sign", "Sin", "Cos", "Atan", "Reciprocal")},
    "softmax": one("Softmax", IMAGE, axis=1),
    "log softmax": one("LogSoftmax", ROWS),
    "add of lower rank": one("Add", ROWS, {"c": normal(8)}),
    "sub from constant": ([node("Sub", ["c", "x"], ["y"])], IMAGE, {"c": normal(4, 1, 1)}),
    "mul of activations": one("Mul", {"x": (1, 4, 7, 6), "z": (1, 4, 1, 1)}),
    "div": one("Div", IMAGE, {"c": SCALAR(3.0)}),
    "pow": ([node("Abs", ["x"], ["a"]), node("Pow", ["a", "c"], ["y"])], IMAGE, {"c": SCALAR(1.5)}),
    "sum of three": ([node("Sum", ["x", "x", "c"], ["y"])], IMAGE, {"c": normal(1, 4, 1, 1)}),
    "mean of two": ([node("Mean", ["x", "c"], ["y"])], IMAGE, {"c": normal(1, 4, 1, 1)}),
    "max": one("Max", IMAGE, {"c": normal(6)}),
    "min": one("Min", IMAGE, {"c": normal(6)}),
    "max pool": one("MaxPool", IMAGE, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 1, 0]),
    "max pool, ceil": one("MaxPool", IMAGE, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    "max pool over one axis": one("MaxPool", SIGNAL, kernel_shape=[3], strides=[2]),
    "average pool": one("AveragePool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "average pool, padding counts": one(
        "AveragePool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1
    ),
    "average pool, ceil": one("AveragePool", IMAGE, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    "average pool over one axis": one("AveragePool", SIGNAL, kernel_shape=[3], strides=[3]),
    "global average pool": one("GlobalAveragePool", IMAGE),
    "global max pool": one("GlobalMaxPool", IMAGE),
    "reduce mean": one("ReduceMean", IMAGE, {"a": ints(2, 3)}, keepdims=0),
    "reduce sum": one("ReduceSum", ROWS, {"a": ints(-1)}),
    "reduce max": one("ReduceMax", ROWS, {"a": ints(1)}, keepdims=0),
    "reduce min": one("ReduceMin", ROWS, {"a": ints(2)}),
    "reduce l1": one("ReduceL1", ROWS, {"a": ints(2)}),
    "reduce l2": one("ReduceL2", ROWS, {"a": ints(2)}),
    "reduce squares": one("ReduceSumSquare", ROWS, {"a": ints(2)}),
    "reshape for one sample": one("Reshape", IMAGE, {"s": ints(1, -1)}),
    "reshape without batch": one("Reshape", IMAGE, {"s": ints(4, 42)}),
    "flatten": one("Flatten", IMAGE),
    "squeeze": one("Squeeze", {"x": (1, 4, 1, 6)}, {"a": ints(2)}),
    "unsqueeze": one("Unsqueeze", ROWS, {"a": ints(0, 2)}),
    "transpose": one("Transpose", IMAGE, perm=[0, 2, 3, 1]),
    "concat with a constant": ([node("Concat", ["x", "c"], ["y"], axis=1)], IMAGE, {"c": normal(1, 2, 7, 6)}),
    "split": ([node("Split", ["x", "s"], ["a", "b"], axis=1), node("Mul", ["b", "c"], ["d"]),
               node("Concat", ["d", "a"], ["y"], axis=1)], IMAGE, {"s": ints(1, 3), "c": SCALAR(2.0)}),
    "slice": one("Slice", IMAGE, {"s": ints(1, 0), "e": ints(4, 6), "a": ints(1, 3), "t": ints(2, 1)}),
    "slice backwards": one("Slice", IMAGE, {"s": ints(-1), "e": ints(-100), "a": ints(2), "t": ints(-2)}),
    "gather": one("Gather", IMAGE, {"i": np.array([[2, 0], [-1, 1]], np.int64)}, axis=1),
    "gather one": one("Gather", ROWS, {"i": np.array(1, np.int64)}, axis=1),
    "pad": one("Pad", IMAGE, {"p": ints(0, 0, 1, 2, 0, 1, 0, 1), "v": SCALAR(0.5)}),
    "pad reflected": one("Pad", IMAGE, {"p": ints(0, 0, 1, 2, 0, 0, 2, 1)}, mode="reflect"),
    "pad by the edge": one("Pad", IMAGE, {"p": ints(0, 0, 1, 2, 0, 0, 2, 1)}, mode="edge"),
    "tile": one("Tile", ROWS, {"r": ints(1, 2, 3)}),
    "expand": one("Expand", {"x": (1, 4, 1, 6)}, {"s": ints(1, 4, 5, 6)}),
    "space to depth": one("SpaceToDepth", {"x": (1, 4, 6, 4)}, blocksize=2),
    "depth to space": one("DepthToSpace", {"x": (1, 8, 3, 2)}, blocksize=2),
    "depth to space, crd": one("DepthToSpace", {"x": (1, 8, 3, 2)}, blocksize=2, mode="CRD"),
    "resize linear": ([node("Resize", ["x", "", "", "s"], ["y"], mode="linear")], IMAGE, {"s": ints(1, 4, 14, 9)}),
    "resize nearest": (
        [node("Resize", ["x", "", "k"], ["y"], mode="nearest", nearest_mode="floor",
              coordinate_transformation_mode="asymmetric")], IMAGE, {"k": np.array([1, 1, 2, 2], np.float32)},
    ),
    "identity and dropout": ([node("Identity", ["x"], ["a"]), node("Dropout", ["a"], ["y"])], IMAGE, {}),
    "shape arithmetic": (
        [node("Shape", ["x"], ["s"]), node("Gather", ["s", "i"], ["n"], axis=0),
         node("Unsqueeze", ["n", "z"], ["m"]), node("Concat", ["m", "r"], ["t"], axis=0),
         node("Reshape", ["x", "t"], ["y"])],
        IMAGE, {"i": np.array(0, np.int64), "z": ints(0), "r": ints(-1)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_three_samples_as_three_runs(name: str) -> None:
    from gossamer.trainable import TrainableGraph

    nodes, shapes, consts = CASES[name]
    opset = 22 if any(n.op_type in ("Mish", "HardSwish", "Round") for n in nodes) else 18
    proto = model(nodes, shapes, ["y"], consts, opset=opset)
    feeds = {n: normal(3, *s[1:], seed=20 + k) for k, (n, s) in enumerate(shapes.items())}
    want = np.concatenate([onnxruntime(proto, {n: v[i : i + 1] for n, v in feeds.items()})[0] for i in range(3)])
    network = TrainableGraph(ir.from_proto(proto)).eval()
    inputs = [torch.from_numpy(v).requires_grad_() for v in feeds.values()]
    made = network(*inputs)
    assert made.shape == want.shape
    np.testing.assert_allclose(made.detach().numpy(), want, rtol=2e-5, atol=2e-5)
    made.sum().backward()
    assert all(x.grad is not None and bool(torch.isfinite(x.grad).all()) for x in inputs)


def test_every_operator_has_a_case() -> None:
    from gossamer.trainable.graph import OPERATORS

    tried = {n.op_type for nodes, _, _ in CASES.values() for n in nodes}
    # Log, Sqrt and Tan want inputs of their own; Gelu and Swish came with later opsets: see below. Cast is a no-op.
    assert set(OPERATORS) - tried == {"Log", "Sqrt", "Tan", "Gelu", "Swish", "Cast"}


@pytest.mark.parametrize(
    ("op", "attrs", "function"),
    [
        ("Log", {}, lambda x: np.log(np.abs(x) + 0.5)),
        ("Sqrt", {}, lambda x: np.sqrt(np.abs(x) + 0.5)),
        ("Tan", {}, lambda x: np.tan(np.abs(x) + 0.5)),
    ],
)
def test_functions_of_positive_values(op: str, attrs: dict[str, Any], function: Any) -> None:
    from gossamer.trainable import TrainableGraph

    nodes = [node("Abs", ["x"], ["a"]), node("Add", ["a", "c"], ["b"]), node(op, ["b"], ["y"], **attrs)]
    network = TrainableGraph(ir.from_proto(model(nodes, IMAGE, ["y"], {"c": SCALAR(0.5)})))
    x = normal(2, 4, 7, 6)
    np.testing.assert_allclose(network(torch.from_numpy(x)).numpy(), function(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["none", "tanh"])
def test_gelu(form: str) -> None:
    from gossamer.trainable import TrainableGraph

    proto = model([node("Gelu", ["x"], ["y"], approximate=form)], IMAGE, ["y"], opset=20)
    x = normal(1, 4, 7, 6)
    made = TrainableGraph(ir.from_proto(proto))(torch.from_numpy(x))
    np.testing.assert_allclose(made.numpy(), onnxruntime(proto, {"x": x})[0], rtol=1e-5, atol=1e-6)


def test_a_model_exported_for_two_samples_takes_any_even_batch() -> None:
    from gossamer import InputError
    from gossamer.trainable import TrainableGraph

    proto = model([node("Reshape", ["x", "s"], ["y"])], {"x": (2, 3, 4)}, ["y"], {"s": ints(2, 12)})
    network = TrainableGraph(ir.from_proto(proto))
    x = normal(6, 3, 4)
    assert np.array_equal(network(torch.from_numpy(x)).numpy(), x.reshape(6, 12))
    with pytest.raises(InputError, match=r"shape \[3, 3, 4\], the model takes \[batch \(a multiple of 2\), 3, 4\]"):
        network(torch.from_numpy(x[:3]))


def test_an_open_batch_and_two_outputs() -> None:
    from gossamer.trainable import TrainableGraph

    proto = model([node("Relu", ["x"], ["y"]), node("Neg", ["y"], ["z"])], {"x": (1, 5)}, ["y", "z"])
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    x = torch.from_numpy(normal(4, 5))
    y, z = TrainableGraph(ir.from_proto(proto))(x)
    assert torch.equal(y, x.relu()) and torch.equal(z, -x.relu())
