"""Activation thresholds on ONNX graphs: the quantile rule, what is inserted, what the core runs, measured zeros."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from gossamer._errors import CalibrationError, InputError, RecipeError, UnsupportedError
from gossamer.sparsify.activation import (
    Threshold,
    activation_sparsity,
    calibrate_thresholds,
    insert_thresholds,
    sparsify_activations,
)
from gossamer.sparsify.layers import find_layers
from gossamer.sparsify.taps import Taps
from tests.ort import run


def net(seed: int = 0) -> ir.Model:
    """Conv, Relu, Conv (linear), a residual of the first, Conv, depthwise, pool, Gemm."""
    rng = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(
            (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32), name
        )

    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], "stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], "relu"),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], "mid"),
        helper.make_node("Conv", ["c1", "w2"], ["c2"], "signed"),
        helper.make_node("Add", ["c2", "r0"], ["s"], "sum"),
        helper.make_node("Conv", ["s", "w3"], ["d"], "dw", group=16, pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["d"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w4"], ["y"], "head", transB=1),
    ]
    constants = [weight("w0", 16, 3, 3, 3), weight("w1", 16, 16, 1, 1), weight("w2", 16, 16, 1, 1)]
    constants += [weight("w3", 16, 1, 3, 3), weight("w4", 5, 16)]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        constants,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return ir.from_proto(onnx.shape_inference.infer_shapes(made))


def samples(count: int = 5, seed: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((1, 3, 12, 12)).astype(np.float32) for _ in range(count)]


def values(model: ir.Model, name: str) -> np.ndarray:
    taps = Taps(model, [name])
    return np.concatenate([taps.run({"x": x})[name] for x in samples()])


def test_the_threshold_is_the_quantile_of_magnitudes():
    found = {t.value: t for t in calibrate_thresholds(net(), samples(), 0.7)}
    assert set(found) == {"r0", "c1", "f"}  # not the graph's input, not the depthwise layer's
    assert found["r0"].layers == ("mid",) and found["c1"].layers == ("signed",) and found["f"].layers == ("head",)
    for name, threshold in found.items():
        magnitudes = np.sort(np.abs(values(net(), name)).reshape(-1))
        below = magnitudes <= threshold.threshold
        assert below.mean() >= 0.7
        assert (magnitudes < threshold.threshold).mean() < 0.7
        assert threshold.threshold in magnitudes


def test_only_small_inputs_of_the_layer_become_zero():
    model = net()
    thresholds = calibrate_thresholds(model, samples(), {"mid": 0.8, "signed": 0.5})
    before = {name: values(model, name) for name in ("r0", "c1")}
    assert insert_thresholds(model, thresholds) == 2
    layers = {layer.name: layer for layer in find_layers(model)[0]}
    cutoffs = {t.value: t.threshold for t in thresholds}
    mid = values(model, layers["mid"].node.inputs[0].name)
    np.testing.assert_array_equal(mid, np.where(np.abs(before["r0"]) >= cutoffs["r0"], before["r0"], 0))
    assert (mid == 0).mean() == pytest.approx(0.8, abs=0.002)
    # The residual still adds the activation as it was.
    assert next(n for n in model.graph if n.op_type == "Add").inputs[1].name == "r0"
    signed = values(model, layers["signed"].node.inputs[0].name)
    c1 = values(model, "c1")
    np.testing.assert_array_equal(signed, np.where(np.abs(c1) >= cutoffs["c1"], c1, 0))
    assert (signed < 0).any()


def test_a_value_at_the_threshold_stays_and_the_next_below_goes():
    text = """
    <ir_version: 9, opset_import: ["" : 17]>
    n (float[1,16] x) => (float[1,16] y) { a = Neg (x) y = MatMul (a, w) }
    """
    for seed in range(3):
        model = ir.from_onnx_text(text)
        for node in model.graph:
            node.name = node.outputs[0].name
        matmul = model.graph.node(1)
        tensor = ir.tensor(np.eye(16, dtype=np.float32), name="w")
        w = ir.Value(name="w", type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
        matmul.replace_input_with(1, w)
        model.graph.register_initializer(w)
        t = np.float32(np.random.default_rng(seed).random() * 10.0 ** (seed - 1))
        insert_thresholds(model, [Threshold("a", ("y",), float(t))])
        x = np.zeros((1, 16), np.float32)
        x[0, :6] = [t, -t, np.nextafter(t, np.float32(0)), -np.nextafter(t, np.float32(0)), 3e38, 1e-38]
        wanted = np.where(np.abs(x) >= t, -x, 0)
        np.testing.assert_array_equal(run(model, {"x": x})[0], wanted)


def test_measured_sparsity_per_layer():
    model = net()
    report = sparsify_activations(model, samples(), 0.6)
    assert [row.name for row in report.layers] == ["mid", "signed", "head"]
    for row in report.layers:
        assert 0 <= row.before < row.after
    rows = {row.name: row for row in report.layers}
    assert rows["mid"].before == pytest.approx((values(net(), "r0") == 0).mean())
    assert rows["mid"].after == pytest.approx(0.6, abs=0.002)  # nothing before it changed
    assert rows["signed"].after == pytest.approx(0.6, abs=0.15)  # its own input did
    assert activation_sparsity(model, samples(), ["signed"])["signed"] == rows["signed"].after
    assert report.to_dict()["layers"][0]["threshold"] == rows["mid"].threshold
    assert "mid" in report.lines()[0]


def test_what_relu_zeroes_already_needs_no_threshold():
    model = net()
    thresholds = calibrate_thresholds(model, samples(), {"mid": 0.2})
    assert thresholds[0].threshold == 0.0
    assert insert_thresholds(model, thresholds) == 0 and len(list(model.graph)) == 9


def test_larger_pools_are_subsampled_evenly(monkeypatch):
    import gossamer.sparsify.activation as module

    whole = {t.value: t.threshold for t in calibrate_thresholds(net(), samples(), 0.7)}
    monkeypatch.setattr(module, "MAX_VALUES", 5000)
    part = {t.value: t.threshold for t in calibrate_thresholds(net(), samples(), 0.7)}
    assert part["c1"] == pytest.approx(whole["c1"], rel=0.1) and part["c1"] != whole["c1"]


def test_int8_form_is_one_operator_where_values_are_not_negative():
    model = net()
    thresholds = calibrate_thresholds(model, samples(), {"mid": 0.8, "signed": 0.5})
    plain = net()
    insert_thresholds(plain, thresholds)
    insert_thresholds(model, thresholds, form="int8")
    ops = [node.op_type for node in model.graph]
    assert ops.count("ThresholdedRelu") == 1 and ops.count("Floor") == 1
    for x in samples():
        np.testing.assert_array_equal(run(model, {"x": x})[0], run(plain, {"x": x})[0])


@pytest.fixture
def keys(tmp_path, monkeypatch):
    monkeypatch.setenv("GOSSAMER_HOME", str(tmp_path / "home"))


def test_the_core_runs_the_float_form(keys, tmp_path):
    import gossamer
    from gossamer_runtime import Session

    model = net()
    sparsify_activations(model, samples(), 0.6)
    gossamer.optimize(model, {"version": 1, "target": {"measure": False}}, None, tmp_path / "a.goss")
    with Session(tmp_path / "a.goss") as session:
        for x in samples(3, seed=7):
            np.testing.assert_allclose(session.run(x), run(model, {"x": x})[0], rtol=1e-4, atol=1e-5)


def test_the_core_runs_the_int8_form(keys, tmp_path):
    import gossamer
    from gossamer_runtime import Session

    model = net()
    sparsify_activations(model, samples(), {"mid": 0.8}, form="int8")
    assert any(node.op_type == "ThresholdedRelu" for node in model.graph)
    recipe = {"version": 1, "quantize": {"calibrate": "minmax"}, "target": {"measure": False}}
    gossamer.optimize(model, recipe, samples(), tmp_path / "a.goss")
    with Session(tmp_path / "a.goss") as session:
        for x in samples():
            wanted = run(model, {"x": x})[0]
            assert np.abs(session.run(x) - wanted).max() < 0.05 * np.abs(wanted).max()


def test_a_third_party_model(data_dir):
    """MLPerf Tiny's visual wake words network: half of what every pointwise layer reads is zero afterwards."""
    import gossamer

    path = data_dir / "models" / "mlperf-tiny" / "vww_96_float.tflite"
    if not path.is_file():
        pytest.skip(f"no {path}")
    model = gossamer.load(path)
    rng = np.random.default_rng(0)
    photos = [rng.random((1, 12, 12, 3), np.float32).repeat(8, 1).repeat(8, 2) for _ in range(4)]
    report = sparsify_activations(model, photos, 0.5)
    assert len(report.layers) == 14
    first = report.layers[0]
    assert first.after == pytest.approx(max(0.5, first.before), abs=0.01)
    assert all(layer.after >= layer.before - 0.05 for layer in report.layers)
    assert np.mean([layer.after for layer in report.layers]) > 0.5


def test_bad_input():
    model = net()
    with pytest.raises(InputError, match="at least 0 and below 1, not 1"):
        calibrate_thresholds(model, samples(), 1.0)
    with pytest.raises(CalibrationError, match="no calibration samples"):
        calibrate_thresholds(model, [], 0.5)
    with pytest.raises(RecipeError, match="include names no layer of this model: 'middle'"):
        calibrate_thresholds(model, samples(), 0.5, include=("middle",))
    with pytest.raises(RecipeError, match="sparsity names no layer of this model: 'middle'"):
        calibrate_thresholds(model, samples(), {"middle": 0.5})
    with pytest.raises(InputError, match="no layer 'mid' of this graph reads 'elsewhere'"):
        insert_thresholds(model, [Threshold("elsewhere", ("mid",), 0.5)])
    thresholds = calibrate_thresholds(model, samples(), 0.7)
    insert_thresholds(model, thresholds)
    with pytest.raises(InputError, match="go in once"):
        insert_thresholds(model, thresholds)


def test_two_layers_that_read_one_activation_share_a_threshold():
    model = net()
    signed = next(n for n in model.graph if n.name == "signed")
    signed.replace_input_with(0, next(n for n in model.graph if n.name == "mid").inputs[0])
    (shared, _) = calibrate_thresholds(model, samples(), 0.7)
    assert shared.layers == ("mid", "signed")
    assert insert_thresholds(model, [shared]) == 1
    with pytest.raises(InputError, match="read the same activation, wanted at"):
        calibrate_thresholds(net_shared(), samples(), {"mid": 0.5, "signed": 0.6})


def net_shared() -> ir.Model:
    model = net()
    signed = next(n for n in model.graph if n.name == "signed")
    signed.replace_input_with(0, next(n for n in model.graph if n.name == "mid").inputs[0])
    return model


def test_quantised_models_are_refused():
    from gossamer.quantize import quantize
    from gossamer.recipe import QuantizeStep

    made = quantize(net(), QuantizeStep(), samples())
    with pytest.raises(UnsupportedError, match="float graph"):
        calibrate_thresholds(made, samples(), 0.5)
