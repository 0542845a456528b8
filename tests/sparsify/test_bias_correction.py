"""Bias correction: mean outputs equal the dense ones, layers without a bias get one, others' weights stay."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from gossamer._errors import CalibrationError, InputError, UnsupportedError
from gossamer.recipe import SparsifyStep
from gossamer.sparsify import prune
from gossamer.sparsify.bias_correction import correct_biases
from gossamer.sparsify.layers import find_layers
from gossamer.sparsify.taps import Taps
from tests.ort import run


def net(seed: int = 0) -> ir.Model:
    """Conv with bias, Relu, Conv without, Relu, pool, MatMul, Relu, Gemm with beta 0.5 and a scalar bias."""
    rng = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        fan = np.prod(shape[1:]) if len(shape) > 1 else 1
        return numpy_helper.from_array((rng.standard_normal(shape) / np.sqrt(fan)).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], "stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], "relu0"),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], "mid"),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("GlobalAveragePool", ["r1"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("MatMul", ["f", "w2"], ["m"], "matmul"),
        helper.make_node("Relu", ["m"], ["r2"], "relu2"),
        helper.make_node("Gemm", ["r2", "w3", "b3"], ["y"], "head", transB=1, beta=0.5),
    ]
    constants = [weight("w0", 16, 3, 3, 3), weight("b0", 16), weight("w1", 24, 16, 1, 1), weight("w2", 24, 32)]
    constants += [weight("w3", 5, 32), numpy_helper.from_array(np.float32(0.25), "b3")]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 10, 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        constants,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return ir.from_proto(onnx.shape_inference.infer_shapes(made))


def samples(count: int = 8, seed: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal((1, 3, 10, 10)) + 0.5).astype(np.float32) for _ in range(count)]


def mean(model: ir.Model, name: str) -> np.ndarray:
    taps = Taps(model, [name])
    found = np.concatenate([taps.run({"x": x})[name] for x in samples()])
    return found.mean(axis=(0, *range(2, found.ndim)), dtype=np.float64)


STEP = SparsifyStep(pattern="unstructured", sparsity=0.6, keep_dense=())


def test_means_return_to_the_dense_ones():
    dense, pruned = net(), net()
    prune(pruned, STEP)
    before = {name: np.linalg.norm(mean(dense, name) - mean(pruned, name)) for name in ("c0", "c1", "y")}
    kept = {layer.name: layer.weight.copy() for layer in find_layers(pruned)[0]}
    report = correct_biases(dense, pruned, samples())
    assert [row.name for row in report.layers] == ["stem", "mid", "head"]
    assert report.skipped == {"matmul": "MatMul has no bias"} and report.samples == 8
    for name in ("c0", "c1", "y"):
        np.testing.assert_allclose(mean(pruned, name), mean(dense, name), atol=1e-5)
        assert before[name] > 0.1
    assert report.layers[0].before == pytest.approx(before["c0"], rel=1e-4)
    assert all(row.after < 1e-4 for row in report.layers)
    assert all(np.array_equal(layer.weight, kept[layer.name]) for layer in find_layers(pruned)[0])
    assert "stem" in report.lines()[0] and report.to_dict()["samples"] == 8


def test_the_correction_is_the_difference_of_the_means():
    dense, pruned = net(), net()
    prune(pruned, STEP)
    wanted = mean(dense, "c0") - mean(pruned, "c0")
    correct_biases(dense, pruned, samples())
    bias = {n.name: n.inputs[2].const_value.numpy() for n in pruned.graph if n.op_type == "Conv"}
    original = next(n for n in dense.graph if n.name == "stem").inputs[2].const_value.numpy()
    np.testing.assert_allclose(bias["stem"] - original, wanted, atol=1e-5)
    assert bias["mid"].shape == (24,)


def test_an_unpruned_model_stays_as_it_is():
    dense, same = net(), net()
    report = correct_biases(dense, same, samples())
    assert all(row.before == 0.0 for row in report.layers)
    x = samples(1, seed=9)[0]
    np.testing.assert_allclose(run(same, {"x": x})[0], run(dense, {"x": x})[0], rtol=1e-6)


def test_gemm_whose_beta_is_zero():
    dense, pruned = net(), net()
    for model in (dense, pruned):
        next(n for n in model.graph if n.name == "head").attributes["beta"] = ir.AttrFloat32("beta", 0.0)
    prune(pruned, STEP)
    correct_biases(dense, pruned, samples())
    np.testing.assert_allclose(mean(pruned, "y"), mean(dense, "y"), atol=1e-5)


def test_a_third_party_model_comes_nearer_to_itself(data_dir):
    """MLPerf Tiny's visual wake words network at 30% single zeros, on photos: its scores' error at least halves."""
    import gossamer

    path, archive = data_dir / "models" / "mlperf-tiny" / "vww_96_float.tflite", data_dir / "person128" / "images.zip"
    for needed in (path, archive):
        if not needed.is_file():
            pytest.skip(f"no {needed}")
    with zipfile.ZipFile(archive) as photos:
        names = [name for name in photos.namelist() if name.endswith(".jpg")][:: len(photos.namelist()) // 40]
        images = [Image.open(io.BytesIO(photos.read(name))).convert("RGB").resize((96, 96)) for name in names[:40]]
    inputs = [np.asarray(image, np.float32)[None] / 255 for image in images]
    dense, pruned = gossamer.load(path), gossamer.load(path)
    prune(pruned, SparsifyStep(pattern="unstructured", sparsity=0.3))

    def error() -> float:
        name = dense.graph.outputs[0].name
        sessions = [Taps(model, [name]) for model in (dense, pruned)]
        feeds = [{dense.graph.inputs[0].name: x} for x in inputs[8:]]
        return float(np.mean([(sessions[0].run(f)[name] - sessions[1].run(f)[name]) ** 2 for f in feeds]))

    before = error()
    report = correct_biases(dense, pruned, inputs[:8])
    assert len(report.layers) == 28 and not report.skipped
    assert error() < 0.5 * before


def test_bad_input():
    dense, pruned = net(), net()
    with pytest.raises(CalibrationError, match="no calibration samples"):
        correct_biases(dense, pruned, [])
    for node in dense.graph:
        node.name = f"other_{node.name}"
    with pytest.raises(InputError, match="no layer 'stem'"):
        correct_biases(dense, pruned, samples())
    quantised = ir.from_onnx_text(
        """<ir_version: 9, opset_import: ["" : 17]>
        q (float[4] x, float s, int8 z) => (int8[4] y) { y = QuantizeLinear (x, s, z) }"""
    )
    with pytest.raises(UnsupportedError, match="float graph"):
        correct_biases(net(), quantised, samples())
