"""The core's f32 operators against ONNX Runtime, so that our own reference is checked by something we did not write.

int8: the exact sums of ConvInteger, and quantisation itself.
"""

from __future__ import annotations

import math

import numpy as np
import onnxruntime as ort
import pytest

from gossamer.compile.plan import Bin, F, OpKind, PadMode, Red, Un, Weights
from tests.native import reference as ref
from tests.native.oneop import CB, OPEN, ROW, Case, In, Out, const, f32, s8, window_params
from tests.native.reference import Window
from tests.native.test_ops_conv import DEPTHWISE, GROUPED, SHAPES
from tests.native.test_ops_shape import AXES, MATMULS, PADS, POOLS, SOFTMAXES


def run_onnx(
    op: str, arrays: list[np.ndarray], attributes: dict[str, object] | None = None, opset: int = 20
) -> np.ndarray:
    """One node; every array is a graph input."""
    from onnx import TensorProto, helper, numpy_helper

    names = [f"x{i}" for i in range(len(arrays))]
    node = helper.make_node(op, names, ["y"], **(attributes or {}))
    values = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in zip(names, arrays, strict=True)
    ]
    inputs, fixed = values, []
    if op in ("Pad", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "Resize"):
        inputs, fixed = values[:1], [numpy_helper.from_array(a, n) for n, a in zip(names[1:], arrays[1:], strict=True)]
    dtype = arrays[0].dtype if op != "QuantizeLinear" else arrays[2].dtype
    y = helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(dtype), None)
    if op == "DequantizeLinear":
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = helper.make_model(
        helper.make_graph([node], "one", inputs, [y], fixed), opset_imports=[helper.make_opsetid("", opset)]
    )
    model.ir_version = 9
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {v.name: a for v, a in zip(inputs, arrays, strict=False)})[0]


def conv_attributes(window: Window, groups: int) -> dict[str, object]:
    return {
        "kernel_shape": window.kernel,
        "strides": window.stride,
        "dilations": window.dilation,
        "pads": window.pads,
        "group": groups,
    }


@pytest.mark.parametrize("name", [*SHAPES, *GROUPED])
def test_conv(name: str) -> None:
    n, cin, h, w, cout, groups, window = {**SHAPES, **GROUPED}[name]
    rng = np.random.default_rng(71)
    x, weights, bias = f32(rng, (n, cin, h, w)), f32(rng, (cout, *window.kernel, cin // groups)), f32(rng, (cout,))
    case = Case(
        OpKind.CONV,
        [In(x, CB), None, None, const(bias), None],
        Out((n, cout, *window.output(h, w)), np.float32, CB),
        window_params(window, groups),
        OPEN,
        Weights(weights),
    )
    expected = run_onnx(
        "Conv", [x, np.ascontiguousarray(weights.transpose(0, 3, 1, 2)), bias], conv_attributes(window, groups)
    )
    bound = ref.conv_sum(np.abs(x), np.abs(weights), window, groups, 0) + np.abs(bias)[None, :, None, None]
    assert (np.abs(case.run() - expected) <= 1e-5 * bound).all()


@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise(name: str) -> None:
    n, c, h, w, multiplier, window = DEPTHWISE[name]
    rng = np.random.default_rng(72)
    x, weights = f32(rng, (n, c, h, w)), f32(rng, (c * multiplier, *window.kernel))
    case = Case(
        OpKind.DWCONV,
        [In(x, CB), const(weights), None, None],
        Out((n, c * multiplier, *window.output(h, w)), np.float32, CB),
        window_params(window, multiplier),
        OPEN,
    )
    expected = run_onnx("Conv", [x, weights[:, None]], conv_attributes(window, c))
    np.testing.assert_allclose(case.run(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["pointwise", "same_3x3", "first_layer", "asymmetric"])
def test_conv_s8_accumulators(name: str) -> None:
    """ConvInteger gives the exact sums that our epilogue starts from: a scale of 2^-k shows them."""
    n, cin, h, w, cout, groups, window = SHAPES[name]
    rng = np.random.default_rng(73)
    x, weights, zx = s8(rng, (n, cin, h, w)), rng.integers(-3, 4, (cout, *window.kernel, cin)).astype(np.int8), -11
    oihw = np.ascontiguousarray(weights.transpose(0, 3, 1, 2))
    unsigned = (x.astype(np.int16) + 128).astype(np.uint8)
    from onnx import TensorProto, helper

    node = helper.make_node("ConvInteger", ["x", "w", "z"], ["y"], **conv_attributes(window, groups))
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info("x", TensorProto.UINT8, x.shape),
            helper.make_tensor_value_info("w", TensorProto.INT8, oihw.shape),
            helper.make_tensor_value_info("z", TensorProto.UINT8, ()),
        ],
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 9
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    acc = session.run(None, {"x": unsigned, "w": oihw, "z": np.array(zx + 128, np.uint8)})[0]
    bias = (-zx * weights.reshape(cout, -1).sum(axis=1, dtype=np.int64)).astype(np.int32)
    scale = np.full(cout, 2.0**-6, np.float32)
    p = window_params(window) | {20: -128, 21: 127}
    case = Case(
        OpKind.CONV,
        [In(x, CB, 0.1, zx), None, None, const(bias), const(scale)],
        Out(acc.shape, np.int8, CB, 0.1, 0),
        p,
        weights=Weights(weights),
    )
    np.testing.assert_array_equal(case.run(), np.clip(np.rint(acc / 64), -128, 127))


@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize("name", POOLS)
def test_pools(name: str, counted: int) -> None:
    n, c, h, w, window = POOLS[name]
    x = f32(np.random.default_rng(74), (n, c, h, w))
    out = Out((n, c, *window.output(h, w)), np.float32, CB)
    attributes = {k: v for k, v in conv_attributes(window, 1).items() if k != "group"}
    y = Case(OpKind.AVGPOOL, [In(x, CB)], out, window_params(window, counted)).run()
    np.testing.assert_allclose(
        y, run_onnx("AveragePool", [x], attributes | {"count_include_pad": counted}), rtol=1e-5, atol=1e-6
    )
    y = Case(OpKind.MAXPOOL, [In(x, CB)], out, window_params(window)).run()
    np.testing.assert_array_equal(y, run_onnx("MaxPool", [x], attributes))


UNARIES = {
    Un.HARDSWISH: ("HardSwish", {}, 0, 0),
    Un.HARDSIGMOID: ("HardSigmoid", {"alpha": 0.2, "beta": 0.5}, 0.2, 0.5),
    Un.SIGMOID: ("Sigmoid", {}, 0, 0),
    Un.TANH: ("Tanh", {}, 0, 0),
    Un.LEAKYRELU: ("LeakyRelu", {"alpha": 0.1}, 0.1, 0),
    Un.ELU: ("Elu", {"alpha": 1.5}, 1.5, 0),
    Un.GELU: ("Gelu", {}, 0, 0),
    Un.GELU_TANH: ("Gelu", {"approximate": "tanh"}, 0, 0),
    Un.EXP: ("Exp", {}, 0, 0),
    Un.LOG: ("Log", {}, 0, 0),
    Un.SQRT: ("Sqrt", {}, 0, 0),
    Un.RECIPROCAL: ("Reciprocal", {}, 0, 0),
    Un.ABS: ("Abs", {}, 0, 0),
    Un.NEG: ("Neg", {}, 0, 0),
    Un.ERF: ("Erf", {}, 0, 0),
    Un.SOFTPLUS: ("Softplus", {}, 0, 0),
    Un.FLOOR: ("Floor", {}, 0, 0),
    Un.CEIL: ("Ceil", {}, 0, 0),
    Un.CLIP: ("Relu", {}, 0, math.inf),
}


@pytest.mark.parametrize("kind", UNARIES)
def test_unary(kind: Un) -> None:
    op, attributes, f0, f1 = UNARIES[kind]
    x = f32(np.random.default_rng(75), (3, 50)) * 4
    x = np.abs(x) + np.float32(0.01) if kind in (Un.LOG, Un.SQRT) else x
    y = Case(OpKind.UNARY, [In(x)], Out(x.shape, np.float32), {0: kind}, {0: f0, 1: f1}).run()
    np.testing.assert_allclose(y, run_onnx(op, [x], attributes), rtol=2e-5, atol=3e-6)


@pytest.mark.parametrize("kind", list(Bin))
def test_binary(kind: Bin) -> None:
    rng = np.random.default_rng(76)
    a, b = f32(rng, (2, 6, 4, 5)), f32(rng, (6, 1, 5))
    a = np.abs(a) if kind is Bin.POW else a
    op = {Bin.MAX: "Max", Bin.MIN: "Min"}.get(kind, kind.name.capitalize())
    y = Case(OpKind.BINARY, [In(a, CB), In(b)], Out(a.shape, np.float32, CB), {0: kind}, OPEN).run()
    np.testing.assert_allclose(y, run_onnx(op, [a, b]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("shape", "axes"), [a for a in AXES if a[1]])
@pytest.mark.parametrize("kind", list(Red))
def test_reduce(kind: Red, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    x = f32(np.random.default_rng(77), shape)
    expected = run_onnx(f"Reduce{kind.name.capitalize()}", [x, np.array(axes)], {"keepdims": 0})
    y = Case(OpKind.REDUCE, [In(x)], Out(expected.shape, np.float32), {0: kind, 1: sum(1 << a for a in axes)}).run()
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", list(PadMode))
@pytest.mark.parametrize("row", PADS[:1] + PADS[4:])
def test_pad(row: tuple, mode: PadMode) -> None:
    shape, before, after, layout = row
    if mode is PadMode.REFLECT:
        before, after = (tuple(min(b, d - 1) for b, d in zip(side, shape, strict=True)) for side in (before, after))
    x = f32(np.random.default_rng(78), shape)
    expected = run_onnx("Pad", [x, np.array([*before, *after]), np.array(2.5, np.float32)], {"mode": mode.name.lower()})
    p = {0: mode} | {1 + i: b for i, b in enumerate(before)} | {7 + i: a for i, a in enumerate(after)}
    y = Case(OpKind.PAD, [In(x, layout)], Out(expected.shape, np.float32, layout), p, {0: 2.5}).run()
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(("shape", "axis"), SOFTMAXES)
def test_softmax(shape: tuple[int, ...], axis: int) -> None:
    x = f32(np.random.default_rng(79), shape) * 5
    for log, op in ((0, "Softmax"), (1, "LogSoftmax")):
        y = Case(OpKind.SOFTMAX, [In(x), None], Out(shape, np.float32), {0: axis, 1: log}).run()
        np.testing.assert_allclose(y, run_onnx(op, [x], {"axis": axis}), rtol=1e-5, atol=1e-5 * log + 1e-9)


@pytest.mark.parametrize(("sa", "sb"), MATMULS)
def test_matmul(sa: tuple[int, ...], sb: tuple[int, ...]) -> None:
    rng = np.random.default_rng(80)
    a, b = f32(rng, sa), f32(rng, sb)
    expected = run_onnx("MatMul", [a, b])
    y = Case(OpKind.MATMUL, [In(a), In(b)], Out(expected.shape, np.float32), {}, {F.RA: 1.0}).run()
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * sa[-1])


def test_layernorm_and_prelu() -> None:
    rng = np.random.default_rng(81)
    x, gamma, beta = f32(rng, (2, 5, 24)), f32(rng, (24,)), f32(rng, (24,))
    y = Case(OpKind.LAYERNORM, [In(x), const(gamma), const(beta)], Out(x.shape, np.float32), {0: 2}, {0: 1e-5}).run()
    np.testing.assert_allclose(
        y, run_onnx("LayerNormalization", [x, gamma, beta], {"axis": 2, "epsilon": 1e-5}), rtol=1e-5, atol=2e-6
    )
    x, slope = f32(rng, (2, 5, 4, 3)), f32(rng, (5,))
    y = Case(OpKind.PRELU, [In(x, CB), const(slope)], Out(x.shape, np.float32, CB)).run()
    np.testing.assert_array_equal(y, run_onnx("PRelu", [x, slope.reshape(5, 1, 1)]))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_quantize_and_dequantize(dtype: type) -> None:
    scale, zp = np.array(0.03, np.float32), np.array(17, dtype)
    x = f32(np.random.default_rng(82), (4000,)) * 3
    x[:400] = (np.arange(400) - 200 + 0.5) * scale  # halves
    q = Case(OpKind.QUANTIZE, [In(x)], Out(x.shape, dtype, ROW, 0.03, 17)).run()
    np.testing.assert_array_equal(q, run_onnx("QuantizeLinear", [x, scale, zp]))
    y = Case(OpKind.DEQUANTIZE, [In(q, scale=0.03, zp=17)], Out(x.shape, np.float32)).run()
    np.testing.assert_array_equal(y, run_onnx("DequantizeLinear", [q, scale, zp]))


@pytest.mark.parametrize(
    ("mode", "coordinates"), [("linear", "half_pixel"), ("linear", "align_corners"), ("nearest", "asymmetric")]
)
def test_resize(mode: str, coordinates: str) -> None:
    """Tables as a compiler makes them, from the definition in the ONNX operator page."""
    x, size = f32(np.random.default_rng(83), (1, 3, 5, 4)), (9, 7)
    tables: list[In | None] = []
    for n, m in zip(x.shape[2:], size, strict=True):
        i = np.arange(m)
        at = {"half_pixel": (i + 0.5) * n / m - 0.5, "align_corners": i * (n - 1) / (m - 1), "asymmetric": i * n / m}[
            coordinates
        ]
        low = np.floor(at)
        pair = np.clip(np.stack([low, low + 1], 1), 0, n - 1).astype(np.int32)
        weight = np.stack([1 - (at - low), at - low], 1).astype(np.float32)
        tables += [const(pair.reshape(-1)), const(weight.reshape(-1))]
    y = Case(OpKind.RESIZE, [In(x, CB), *tables], Out((1, 3, *size), np.float32, CB), {0: int(mode == "linear")}).run()
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates} | (
        {"nearest_mode": "floor"} if mode == "nearest" else {}
    )
    from onnx import TensorProto, helper, numpy_helper

    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array([1, 3, *size]), "sizes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 9
    expected = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[
        0
    ]
    np.testing.assert_allclose(y, expected, rtol=0, atol=2e-6)
