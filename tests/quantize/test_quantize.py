"""Static int8: closeness, exact zeros, kept names, seven bits, and bad calibration data."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from gossamer._errors import CalibrationError, ModelError, RecipeError, UnsupportedError
from gossamer.compile.lower import lower
from gossamer.quantize import quantize, read_calibration
from gossamer.quantize.prepare import fold_batch_norm, name_nodes
from gossamer.recipe import Preprocess, QuantizeStep, SparsifyStep
from gossamer.sparsify import prune
from gossamer.sparsify.layers import find_layers
from tests import ort

NET = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[1,3,16,16] x) => (float[1,10] y) {
  c1 = Conv<pads=[1,1,1,1]> (x, w1)
  b1 = BatchNormalization (c1, g1, h1, m1, v1)
  r1 = Relu (b1)
  d = Conv<pads=[1,1,1,1], group=16> (r1, wd, bd)
  r2 = HardSwish (d)
  c2 = Conv (r2, w2, bias2)
  added = Add (c2, r1)
  p = MaxPool<kernel_shape=[2,2], strides=[2,2]> (added)
  c3 = Conv<pads=[1,1,1,1]> (p, w3)
  b3 = BatchNormalization (c3, g3, h3, m3, v3)
  six = Clip (b3, zero, top)
  gap = GlobalAveragePool (six)
  flat = Flatten (gap)
  norm = LayerNormalization (flat, lg, lb)
  logits = Gemm<transB=1> (norm, wf, bf)
  y = Softmax (logits)
}
"""


def tensors(seed=0):
    rng = np.random.default_rng(seed)

    def n(*shape, scale=0.3):
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    def pos(*shape):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)

    return {
        "w1": n(16, 3, 3, 3), "g1": pos(16), "h1": n(16), "m1": n(16), "v1": pos(16), "wd": n(16, 1, 3, 3),
        "bd": n(16), "w2": n(16, 16, 1, 1), "bias2": n(16), "w3": n(24, 16, 3, 3), "g3": pos(24), "h3": n(24),
        "m3": n(24), "v3": pos(24), "zero": np.float32(0), "top": np.float32(6), "lg": pos(24), "lb": n(24),
        "wf": n(10, 24), "bf": n(10),
    }  # fmt: skip


def net(seed=0):
    model = ir.from_onnx_text(NET)
    data = tensors(seed)
    for node in model.graph:
        node.name = f"node/{node.outputs[0].name}"
        node.metadata_props["gossamer.source"] = f"model.{node.outputs[0].name}"
        for i, value in enumerate(list(node.inputs)):
            if value.name in data:
                tensor = ir.tensor(np.asarray(data[value.name]), name=value.name)
                fresh = ir.Value(name=value.name, type=ir.TensorType(tensor.dtype), shape=tensor.shape,
                                 const_value=tensor)  # fmt: skip
                node.replace_input_with(i, fresh)
                model.graph.register_initializer(fresh)
    model.metadata_props["owner"] = "test"
    return model


def samples(count=8, seed=1):
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal((1, 3, 16, 16)).astype(np.float32)} for _ in range(count)]


def run(model, feeds, outputs=None):
    proto = ir.to_proto(model)
    if outputs is not None:
        import onnx

        del proto.graph.output[:]
        proto.graph.output.extend([onnx.helper.make_empty_tensor_value_info(name) for name in outputs])
    return ort.run(proto, feeds, outputs)


def noise_db(model, made):
    found = []
    for feeds in samples(4, seed=2):
        (want,), (got,) = run(model, feeds), run(made, feeds)
        found.append(10 * np.log10(np.square(want).mean() / np.square(want - got).mean()))
    return min(found)


@pytest.mark.parametrize(
    "step",
    [
        QuantizeStep(),
        QuantizeStep(per_channel=False),
        QuantizeStep(calibrate="entropy"),
        QuantizeStep(calibrate="percentile", percentile=99.99),
        QuantizeStep(activation_bits=7),
    ],
    ids=["minmax", "per tensor", "entropy", "percentile", "7 bits"],
)
def test_int8_stays_close(step):
    model = net()
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    made = quantize(model, step, samples())
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before  # the model is not changed
    assert noise_db(model, made) > (18 if step.activation_bits == 7 else 24)
    assert [v.name for v in made.graph.inputs] == ["x"] and [v.name for v in made.graph.outputs] == ["y"]


def test_zeros_of_pruned_weights_stay_exactly_zero():
    model = net()
    report = prune(model, SparsifyStep(sparsity=0.75, include=("*",)))
    made = quantize(model, QuantizeStep(), samples())
    wanted = {layer.name: layer.zeros for layer in report.layers}
    found = {layer.name: layer for layer in find_layers(made)[0]}
    assert set(found) == set(wanted)
    for layer in find_layers(model)[0]:
        made_layer = found[layer.name]
        assert made_layer.weight.dtype == np.int8 and not made_layer.zero_point.any()
        assert (made_layer.weight[layer.weight == 0] == 0).all()
        assert made_layer.weight.min() >= -127


def test_weights_have_a_scale_per_output_channel():
    made = quantize(net(), QuantizeStep(), samples())
    scales = {layer.name: layer.scale.size for layer in find_layers(made)[0]}
    assert scales == {"node/c1": 16, "node/d": 16, "node/c2": 16, "node/c3": 24, "node/logits": 10}
    made = quantize(net(), QuantizeStep(per_channel=False), samples())
    assert {layer.scale.size for layer in find_layers(made)[0]} == {1}


def test_names_sources_and_metadata_survive():
    model = net()
    prune(model, SparsifyStep(sparsity=0.5))
    made = quantize(model, QuantizeStep(), samples())
    assert made.metadata_props == {"owner": "test"}
    kept = {n.name: n.metadata_props.get("gossamer.source") for n in made.graph if n.name.startswith("node/")}
    for name in ("c1", "d", "c2", "added", "c3", "gap", "norm", "logits", "y"):
        assert kept[f"node/{name}"] == f"model.{name}" if f"node/{name}" in kept else name
    assert {"node/c1", "node/norm", "node/y"} <= set(kept)
    patterns = {n.name: n.metadata_props.get("gossamer.pattern") for n in made.graph if n.op_type == "Conv"}
    assert patterns == {"node/c1": None, "node/d": None, "node/c2": "1x4", "node/c3": "1x4"}
    behind = [n for n in made.graph if n.op_type == "QuantizeLinear" and n.inputs[0].producer() is not None]
    assert behind and all("gossamer.source" in n.metadata_props for n in behind)


def test_layer_norm_stays_float_and_batch_norm_is_gone():
    made = quantize(net(), QuantizeStep(), samples())
    kinds = [n.op_type for n in made.graph]
    assert "BatchNormalization" not in kinds
    (norm,) = [n for n in made.graph if n.op_type == "LayerNormalization"]
    assert norm.inputs[1].producer() is None and norm.inputs[1].const_value.dtype == ir.DataType.FLOAT


def test_folding_batch_norm_changes_no_result():
    model = net()
    feeds = samples(1)[0]
    (want,) = run(model, feeds)
    name_nodes(model)
    assert fold_batch_norm(model) == 2
    (got,) = run(model, feeds)
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)
    assert "c1" not in {v.name for n in model.graph for v in n.outputs}


def gemms(bias, attributes, batch=1):
    """x [batch, 8] -> Gemm (5) -> Relu -> Gemm (4), the first with this bias."""
    shape = ",".join(map(str, np.shape(bias)))
    rng = np.random.default_rng(4)
    first = rng.standard_normal((5, 8) if "transB" in attributes else (8, 5)).astype(np.float32)
    text = f"""<ir_version: 9, opset_import: ["" : 17]>
    net (float[{batch},8] x) => (float[{batch},4] y)
    <float[{first.shape[0]},{first.shape[1]}] w, float[{shape}] b, float[4,5] v> {{
      [first] g = Gemm{attributes} (x, w, b)
      r = Relu (g)
      [second] y = Gemm<transB=1> (r, v)
    }}"""
    model = ir.from_onnx_text(text.replace("float[]", "float"))
    arrays = {"w": first, "b": np.asarray(bias, np.float32), "v": rng.standard_normal((4, 5)).astype(np.float32)}
    for name, array in arrays.items():
        value = model.graph.initializers.get(name) or next(
            v for n in model.graph for v in n.inputs if v is not None and v.name == name
        )
        value.const_value = ir.tensor(array, name=name)
        if name not in model.graph.initializers:
            model.graph.register_initializer(value)
    return model, rng.standard_normal((40, batch, 8)).astype(np.float32)


ROW = [1.5, -2.0, 0.5, 3.0, -1.0]


@pytest.mark.parametrize("attributes", ["<transB=1>", "", "<transB=1, beta=0.25>", "<transB=1, alpha=0.5, beta=3.0>"])
@pytest.mark.parametrize("bias", [0.75, [0.75], [[0.75]], [ROW], ROW])
def test_every_bias_that_onnx_broadcasts_and_both_factors_of_gemm(bias, attributes):
    model, x = gemms(bias, attributes)
    made = quantize(model, QuantizeStep(), list(x))
    first = next(n for n in made.graph if n.name == "first")
    assert first.inputs[2].producer().op_type == "DequantizeLinear"  # int8, not left in float
    before, after = (np.concatenate([ort.run(m, {"x": row})[0] for row in x]) for m in (model, made))
    assert np.abs(after - before).max() < 0.04 * np.abs(before).max()
    lower(made)
    assert next(n for n in model.graph if n.name == "first").inputs[2].name == "b"  # the given model is as it was


@pytest.mark.parametrize("bias", [[[1.0], [2.0], [3.0]], np.arange(15.0).reshape(3, 5)])
def test_a_gemm_whose_bias_differs_by_row_stays_float(bias):
    model, x = gemms(bias, "<transB=1>", batch=3)
    made = quantize(model, QuantizeStep(), list(x))
    assert next(n for n in made.graph if n.name == "first").inputs[2].const_value is not None
    before, after = (np.concatenate([ort.run(m, {"x": row})[0] for row in x]) for m in (model, made))
    assert np.abs(after - before).max() < 0.04 * np.abs(before).max()


def test_seven_bits_hold_for_any_input():
    made = quantize(net(), QuantizeStep(activation_bits=7), samples())
    quantised = [n for n in made.graph if n.op_type == "QuantizeLinear"]
    assert len(quantised) >= 10
    names = [n.outputs[0].name for n in quantised]
    for feeds in samples(3, seed=5):
        feeds = {"x": feeds["x"] * 50}  # far outside the calibrated range
        for name, values in zip(names, run(made, feeds, names), strict=True):
            assert values.dtype == np.int8 and values.min() >= 0, name
    top = run(made, {"x": samples(1)[0]["x"] * 50}, names)
    assert max(int(v.max()) for v in top) == 127
    for node in quantised:
        assert 0 <= int(node.inputs[2].const_value.numpy()) <= 127


def test_seven_bits_cover_the_range_of_eight():
    eight, seven = (quantize(net(), QuantizeStep(activation_bits=b), samples()) for b in (8, 7))

    def ranges(model, low):
        found = {}
        for n in model.graph:
            if n.op_type == "QuantizeLinear":
                s, z = float(n.inputs[1].const_value.numpy()), int(n.inputs[2].const_value.numpy())
                found[n.outputs[0].name] = ((low - z) * s, (127 - z) * s, s)
        return found

    wide, narrow = ranges(eight, -128), ranges(seven, 0)
    assert set(wide) == set(narrow)
    for name, (a, b, _) in wide.items():
        c, d, step = narrow[name]
        assert abs(a - c) <= step / 2 * 1.01 and abs(b - d) <= step / 2 * 1.01, name
        assert step == pytest.approx(wide[name][2] * 255 / 127)


def test_biases_follow_the_input_scale_in_seven_bits():
    made = quantize(net(), QuantizeStep(activation_bits=7), samples())
    checked = 0
    for node in made.graph:
        if node.op_type in ("Conv", "Gemm") and len(node.inputs) > 2:
            x, w, b = (v.producer() for v in node.inputs[:3])
            sx, sw = x.inputs[1].const_value.numpy(), w.inputs[1].const_value.numpy()
            np.testing.assert_allclose(b.inputs[1].const_value.numpy(), sx * sw, rtol=1e-5)
            checked += 1
    assert checked == 5


def test_excluded_nodes_stay_float():
    made = quantize(net(), QuantizeStep(exclude=("node/c3", "*/logits")), samples())
    for node in made.graph:
        if node.name in ("node/c3", "node/logits"):
            assert node.inputs[1].const_value is not None
            assert node.inputs[1].const_value.dtype == ir.DataType.FLOAT
        if node.name == "node/c2":
            assert node.inputs[1].const_value is None
    with pytest.raises(RecipeError, match="node/c3"):
        quantize(net(), QuantizeStep(exclude=("node/c33",)), samples())


def test_decomposed_gelu_stays_whole():
    rng = np.random.default_rng(0)
    numbers = ", ".join(f"{v:.4f}" for v in rng.standard_normal(64))
    text = f"""
    <ir_version: 9, opset_import: ["" : 17]>
    g (float[1,8] x) => (float[1,8] y)
    <float[8,8] w = {{{numbers}}}, float root = {{1.4142135}}, float one = {{1.0}}, float half = {{0.5}}> {{
      h = MatMul (x, w)
      s = Div (h, root)
      e = Erf (s)
      a = Add (e, one)
      m = Mul (h, a)
      k = Mul (m, half)
      y = MatMul (k, w)
    }}
    """
    model = ir.from_onnx_text(text)
    made = quantize(model, QuantizeStep(), [rng.standard_normal((1, 8)).astype(np.float32) for _ in range(4)])
    (add,) = [n for n in made.graph if n.op_type == "Add"]
    first, second = [n for n in made.graph if n.op_type == "Mul"]
    assert add.inputs[0].producer().op_type == "Erf" and add.inputs[1].const_value is not None
    assert first.inputs[1].producer() is add
    assert second.inputs[0].producer() is first
    assert all(n.inputs[1].producer().op_type == "DequantizeLinear" for n in made.graph if n.op_type == "MatMul")


def test_quantising_twice_returns_the_model():
    made = quantize(net(), QuantizeStep(), samples())
    assert quantize(made, QuantizeStep(), []) is made


def test_the_same_samples_give_the_same_bytes():
    one, two = (ir.to_proto(quantize(net(), QuantizeStep(), samples())) for _ in range(2))
    assert one.SerializeToString(deterministic=True) == two.SerializeToString(deterministic=True)


def test_progress_and_limit():
    seen = []
    quantize(net(), QuantizeStep(samples=3), samples(9), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_an_interrupt_passes_through():
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(net(), QuantizeStep(), samples(), progress=stop)


@pytest.mark.parametrize(
    ("calibration", "says"),
    [
        ([], "no calibration samples"),
        ([{"z": np.zeros((1, 3, 16, 16), np.float32)}], "given, the model has"),
        ([np.zeros((1, 3, 8, 8), np.float32)], r"shape \[1, 3, 8, 8\], the input takes \[1, 3, 16, 16\]"),
        ([np.zeros((1, 3, 16, 16), np.uint8)], "uint8, the input takes float32"),
        ([np.full((1, 3, 16, 16), np.nan, np.float32)], "NaN"),
        ("photos", "iterable of samples"),
        (7, "iterable of samples"),
    ],
)
def test_bad_calibration_data(calibration, says):
    with pytest.raises(CalibrationError, match=says):
        quantize(net(), QuantizeStep(), calibration)


def test_foreign_operators_are_named():
    model = net()
    node = model.graph[-1]
    node.domain = "gossamer.tflite"
    with pytest.raises(UnsupportedError, match=r"gossamer\.tflite\.Softmax 'node/y' at model\.y"):
        quantize(model, QuantizeStep(), samples())


def test_nan_in_batch_norm_is_named():
    model = net()
    model.graph.initializers["v1"].const_value = ir.tensor(np.full(16, -1, np.float32), name="v1")
    with pytest.raises(ModelError, match="node/b1"), np.errstate(invalid="ignore"):
        quantize(model, QuantizeStep(), samples())


def test_reading_pictures(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    found = read_calibration(tmp_path, net(), samples=2, preprocess=Preprocess(mean=(127.5,), std=(127.5,)))
    assert len(found) == 2 and found[0]["x"].shape == (1, 3, 16, 16) and found[0]["x"].dtype == np.float32
    assert -1 <= found[0]["x"].min() < 0 < found[0]["x"].max() <= 1
    made = quantize(net(), QuantizeStep(), found)
    assert noise_db(net(), made) > 10
    (tmp_path / "9.jpg").write_text("not a picture")
    with pytest.raises(CalibrationError, match=r"9\.jpg"):
        read_calibration(tmp_path, net())
    with pytest.raises(CalibrationError, match="no such"):
        read_calibration(tmp_path / "absent", net())
