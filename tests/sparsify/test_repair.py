"""Mask repair without training: the rules by hand, errors that do not rise, sparsity and pattern kept exactly."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from gossamer._errors import CalibrationError, InputError
from gossamer.recipe import SparsifyStep
from gossamer.sparsify import dsnot, prune, swaps
from gossamer.sparsify.layers import find_layers
from gossamer.sparsify.matrix import Columns, from_onnx
from gossamer.sparsify.moments import Collector, Moments
from gossamer.sparsify.patterns import get
from gossamer.sparsify.repair import real_weights
from gossamer.sparsify.swap_units import SwapUnits
from gossamer.sparsify.taps import Taps

NET = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[1,3,9,9] x) => (float[1,10] y) {
  stem = Conv<pads=[1,1,1,1]> (x, w_stem)
  a = Relu (stem)
  c3 = Conv<pads=[0,1,2,1], strides=[2,1], dilations=[1,2]> (a, w_c3)
  b = Relu (c3)
  group = Conv<group=2, auto_pad="SAME_UPPER", strides=[2,2]> (b, w_group)
  c = Relu (group)
  pool = GlobalAveragePool (c)
  flat = Flatten (pool)
  hidden = MatMul (flat, w_mm)
  d = Relu (hidden)
  y = Gemm<transB=1> (d, w_last)
}
"""
SHAPES = {
    "w_stem": (12, 3, 3, 3),
    "w_c3": (16, 12, 3, 3),
    "w_group": (24, 8, 3, 3),
    "w_mm": (24, 40),
    "w_last": (10, 40),
}
EVERYTHING = {"keep_dense": (), "include": ("group",)}
PATTERNS = [("unstructured", 0.6), ("1x4", 0.5), ("4x1", 0.5), ("4x4", 0.5), ("2:4", None), ("3:8", None)]


def net(seed: int = 0) -> ir.Model:
    model = ir.from_onnx_text(NET)
    rng = np.random.default_rng(seed)
    for node in model.graph:
        node.name = node.outputs[0].name
        for i, value in enumerate(node.inputs):
            if value is not None and value.name in SHAPES:
                shape = SHAPES[value.name]
                data = (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
                tensor = ir.tensor(data, name=value.name)
                fresh = ir.Value(name=value.name, type=ir.TensorType(tensor.dtype), shape=tensor.shape,
                                 const_value=tensor)  # fmt: skip
                node.replace_input_with(i, fresh)
                model.graph.register_initializer(fresh)
    return model


def samples(count: int = 6, seed: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal((1, 3, 9, 9)) + 0.3).astype(np.float32) for _ in range(count)]


def step(pattern: str, sparsity: float | None) -> SparsifyStep:
    return SparsifyStep(pattern=pattern, sparsity=sparsity, **EVERYTHING)


def weights(model: ir.Model) -> dict[str, np.ndarray]:
    return {layer.name: layer.weight.copy() for layer in find_layers(model)[0]}


def moments(mean: list[float], variance: list[float], second: np.ndarray | None = None) -> Moments:
    return Moments(np.array([mean]), np.array([variance]), second, 1)


def run_rule(weight, mask, found: Moments, pattern: str = "unstructured", **options):
    w, m = np.array(weight, dtype=float), np.array(mask, dtype=bool)
    units = SwapUnits(w, m, get(pattern), Columns(1, w.shape[1]))
    swaps_made = dsnot.swap_units(w, units, found, **{"max_cycles": 50, "tolerance": 0.01, "power": 1.0, **options})
    return units.mask(), swaps_made


def test_dsnot_swap_by_hand():
    # e = 1*2 + 3*0.5 = 3.5 > 0. Growing: w E[x] / Var = 2/1 (column 0) against 1.5/0.1 (column 1): column 1.
    # Pruning needs w E[x] < 0: columns 3 (|w| ||x|| = 0.5 sqrt(1 + 1)) and 4 (0.4 sqrt(4 + 1)): column 3.
    mask, made = run_rule(
        [[1.0, 3.0, 5.0, -0.5, -0.4, 0.1, 0.1, 0.1]],
        [[0, 0, 1, 1, 1, 1, 1, 1]],
        moments([2.0, 0.5, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0], [1.0, 0.1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        max_cycles=1,
    )
    assert made == 1
    assert mask[0].tolist() == [False, True, True, False, True, True, True, True]


def test_without_the_variance_the_mean_alone_grows():
    mask, _ = run_rule(
        [[1.0, 3.0, 5.0, -0.5, -0.4, 0.1, 0.1, 0.1]],
        [[0, 0, 1, 1, 1, 1, 1, 1]],
        moments([2.0, 0.5, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0], [1.0, 0.1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        max_cycles=1,
        power=0.0,
    )
    assert mask[0].tolist() == [True, False, True, False, True, True, True, True]


def test_a_negative_error_grows_negative_contributions():
    mask, made = run_rule([[-2.0, 1.0, 0.5, 4.0]], [[0, 1, 1, 1]], moments([1.0] * 4, [0.1] * 4))
    assert made == 1  # e = -2: grow column 0, prune the smallest positive contribution, column 2
    assert mask[0].tolist() == [True, True, False, True]


def test_no_swap_against_the_sign():
    mask, made = run_rule([[2.0, 1.0, 0.5, 4.0]], [[0, 1, 1, 1]], moments([1.0] * 4, [0.1] * 4))
    assert made == 0 and mask[0].tolist() == [False, True, True, True]  # nothing kept has a negative contribution


def test_a_swap_that_raises_the_squared_error_is_refused():
    weight, mask = [[1.0, 0.1, -6.0, 1.0]], [[0, 0, 1, 1]]
    # e = 1.1; growing column 0 and pruning column 2 gives 0.1 - 6: |e| rises, refused; column 1 likewise.
    kept, made = run_rule(weight, mask, moments([1.0] * 4, [1.0] * 4))
    assert made == 0 and kept[0].tolist() == [False, False, True, True]
    # |e| falls from 1.1 to 0.15, but column 2 varies far more than column 0.
    noisy = moments([1.0, 1.0, 0.01, 1.0], [1.0, 1.0, 1.0, 1.0])
    assert run_rule(weight, mask, noisy)[1] == 0
    quiet = moments([1.0, 1.0, 0.01, 1.0], [1.0, 1.0, 1e-6, 1.0])
    assert run_rule(weight, mask, quiet, max_cycles=1)[1] == 1


def test_the_tolerance_ends_a_row():
    arguments = (
        [[1.0, 1.0, 1.0, -0.1, -0.1, -0.1, 0.0, 0.0]],
        [[0, 0, 0, 1, 1, 1, 1, 1]],
        moments([1.0] * 8, [0.1] * 8),
    )
    assert run_rule(*arguments, tolerance=1.0)[1] == 0
    assert run_rule(*arguments, tolerance=0.7)[1] == 1  # e: 3.0, then 3 - 1 - 0.1 = 1.9 <= 2.1
    assert run_rule(*arguments, tolerance=0.5)[1] == 2


def test_nm_swaps_stay_in_their_group():
    weight = [[1.0, -0.2, 2.0, -0.3, 5.0, 5.0, 0.1, -0.1]]
    # e = 1 + 0.1 - 0.1... the largest to grow is in group 0, where only column 3 (or 1) has the other sign.
    mask, made = run_rule(weight, [[0, 0, 1, 1, 1, 1, 0, 0]], moments([1.0] * 8, [0.1] * 8), "2:4", max_cycles=1)
    assert made == 1
    assert mask[0].tolist() == [True, False, True, False, True, True, False, False]


def test_exact_swap_by_hand():
    weight = np.array([[1.0, 1.0, 0.9, 0.2]])
    second = np.array([[[1.0, 0.0, 0.0, 0.0], [0.0, 4.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]])
    units = SwapUnits(weight, np.array([[True, False, True, False]]), get("unstructured"), Columns(1, 4))
    # J = 4 + 0.04: growing column 1 lowers it by 4, pruning column 2 then raises it by 0.81 (column 0: 1).
    assert swaps.swap_units(weight, units, moments([0.0] * 4, [0.0] * 4, second), max_cycles=9, candidates=4) == 1
    assert units.mask()[0].tolist() == [True, True, False, False]


def test_exact_swaps_know_correlation():
    # Columns 0 and 1 are equal inputs with opposite weights: pruning both costs nothing, one of them much.
    weight = np.array([[1.0, -1.0, 0.9, 0.9]])
    second = np.array([[[1.0, 1.0, 0, 0], [1.0, 1.0, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1.0]]])
    found = moments([0.0] * 4, [0.0] * 4, second)
    units = SwapUnits(weight, np.array([[True, False, False, True]]), get("unstructured"), Columns(1, 4))
    assert swaps.swap_units(weight, units, found, max_cycles=9, candidates=2) == 1
    assert units.mask()[0].tolist() == [False, False, True, True]
    # With one candidate only column 1, which lowers most by itself, is paired.
    units = SwapUnits(weight, np.array([[True, False, False, True]]), get("unstructured"), Columns(1, 4))
    assert swaps.swap_units(weight, units, found, max_cycles=9, candidates=1) == 1
    assert units.mask()[0].tolist() == [True, True, False, False]


@pytest.mark.parametrize(("pattern", "sparsity"), PATTERNS)
@pytest.mark.parametrize("repair", [dsnot.repair, swaps.repair])
def test_errors_fall_and_the_pattern_stays(pattern, sparsity, repair):
    dense, pruned = net(), net()
    before = {layer.name: layer for layer in prune(pruned, step(pattern, sparsity)).layers}
    masked = weights(pruned)
    report = repair(dense, pruned, samples())
    names = ["stem", "c3", "group", "hidden", "y"]
    assert [layer.name for layer in report.layers] == names[pattern == "3:8" :]  # 3 channels hold no group of 8
    assert not report.skipped
    assert report.samples == 6
    for layer in report.layers:
        assert layer.square_after <= layer.square_before
        if repair is dsnot.repair:
            assert layer.mean_after <= layer.mean_before
    assert sum(layer.swaps for layer in report.layers) > 20
    assert sum(x.square_after for x in report.layers) < 0.95 * sum(x.square_before for x in report.layers)
    original = weights(dense)
    for layer in find_layers(pruned)[0]:
        now = layer.weight
        assert layer.zeros == before[layer.name].zeros
        assert np.array_equal(now[now != 0], original[layer.name][now != 0])
        matrix, columns = from_onnx(now, transposed=layer.transposed)
        assert get(pattern).measure(matrix, columns=columns).fits or layer.zeros == 0
        held, _ = from_onnx(masked[layer.name], transposed=layer.transposed)
        height = get(pattern).block[0]  # whole block rows keep their counts
        counts = [np.add.reduceat((m != 0).sum(1), np.arange(0, len(m), height)) for m in (matrix, held)]
        assert np.array_equal(*counts)
    assert any((weights(pruned)[n] != masked[n]).any() for n in masked)


def outputs_of(model: ir.Model, name: str, inputs: list[np.ndarray]) -> np.ndarray:
    taps = Taps(model, [name])
    found = np.stack([taps.run({"x": x})[name][0] for x in inputs])
    return np.moveaxis(found, 1, -1).reshape(-1, found.shape[1])


@pytest.mark.parametrize("name", ["stem", "c3", "group", "hidden"])
def test_reported_errors_are_the_measured_ones(name):
    """Against ONNX Runtime: one layer alone is pruned, so its inputs stay, and its output differs by (W - W') x."""
    dense, pruned = net(), net()
    only = SparsifyStep(pattern="unstructured", sparsity=0.5, keep_dense=(), include=("group",),
                        exclude=tuple(n for n in ("stem", "c3", "group", "hidden", "y") if n != name))  # fmt: skip
    prune(pruned, only)
    difference = outputs_of(dense, name, samples()) - outputs_of(pruned, name, samples())
    (layer,) = swaps.repair(dense, pruned, samples()).layers
    assert layer.exact
    assert layer.mean_before == pytest.approx(np.linalg.norm(difference.mean(0)), rel=1e-4)
    assert layer.square_before == pytest.approx((difference**2).sum(1).mean(), rel=1e-4)
    after = outputs_of(dense, name, samples()) - outputs_of(pruned, name, samples())
    assert layer.square_after == pytest.approx((after**2).sum(1).mean(), rel=1e-4)
    assert layer.square_after < layer.square_before


def test_independent_inputs_estimate():
    rng = np.random.default_rng(0)
    mean, variance = rng.standard_normal((1, 8)), rng.random((1, 8))
    delta = rng.standard_normal((3, 8))
    found = Moments(mean, variance, None, 1).squared(delta)
    draws = mean + np.sqrt(variance) * rng.standard_normal((200_000, 8))
    np.testing.assert_allclose(found, ((draws @ delta.T) ** 2).mean(0), rtol=0.03)


def test_quantised_weights_keep_their_zero_point():
    text = """
    <ir_version: 9, opset_import: ["" : 17]>
    q (float[4,16] x) => (float[4,8] y) {
      wd = DequantizeLinear<axis=0> (w, s, z)
      y = Gemm<transB=1> (x, wd)
    }
    """
    rng = np.random.default_rng(0)
    data = {
        "w": rng.integers(0, 256, (8, 16)).astype(np.uint8),
        "s": np.linspace(0.01, 0.1, 8).astype(np.float32),
        "z": np.full(8, 128, np.uint8),
    }

    def build() -> ir.Model:
        model = ir.from_onnx_text(text)
        for node in model.graph:
            node.name = node.outputs[0].name
            for i, value in enumerate(list(node.inputs)):
                if value.name in data:
                    tensor = ir.tensor(data[value.name], name=value.name)
                    fresh = ir.Value(name=value.name, type=ir.TensorType(tensor.dtype), shape=tensor.shape,
                                     const_value=tensor)  # fmt: skip
                    node.replace_input_with(i, fresh)
                    model.graph.register_initializer(fresh)
        return model

    dense, pruned = build(), build()
    prune(pruned, SparsifyStep(pattern="unstructured", sparsity=0.5, keep_dense=()))
    real, _ = real_weights(find_layers(dense)[0][0])
    np.testing.assert_allclose(real, (data["w"].astype(float) - 128) * data["s"].astype(float)[:, None])
    zeros = find_layers(pruned)[0][0].zeros
    report = dsnot.repair(dense, pruned, [{"x": rng.random((4, 16), np.float32) + 0.2} for _ in range(8)])
    (after,) = find_layers(pruned)[0]
    assert report.layers[0].swaps > 0 and after.zeros == zeros and after.weight.dtype == np.uint8
    kept = after.weight != 128
    assert np.array_equal(after.weight[kept], data["w"][kept])


def test_moments_of_a_strided_padded_convolution():
    model = net()
    layer = next(layer for layer in find_layers(model)[0] if layer.name == "c3")
    collector = Collector(layer, second=True)
    inputs = samples(3)
    taps = Taps(model, ["a"])
    for x in inputs:
        collector.add(taps.run({"x": x})["a"])
    found = collector.finish()
    a = np.concatenate([taps.run({"x": x})["a"] for x in inputs])
    padded = np.pad(a, ((0, 0), (0, 0), (0, 2), (1, 1)))
    values = padded[:, 5, 1 : 1 + 2 * 4 + 1 : 2, 4 : 4 + 7]  # tap (1, 2), dilations (1, 2), strides (2, 1)
    column = (1 * 3 + 2) * 12 + 5
    assert found.count == values.size
    assert found.mean[0, column] == pytest.approx(values.mean(dtype=np.float64))
    assert found.variance[0, column] == pytest.approx(values.var(dtype=np.float64))
    other = padded[:, 7, 0 : 2 * 4 + 1 : 2, 0:7]  # tap (0, 0)
    assert found.second[0, column, 7] == pytest.approx((values.astype(float) * other).mean())


@pytest.mark.parametrize("repair", [dsnot.repair, swaps.repair])
def test_a_third_party_model(data_dir, repair):
    """MLPerf Tiny's visual wake words network: 30% single zeros; errors of all layers fall, none rises."""
    import gossamer

    path = data_dir / "models" / "mlperf-tiny" / "vww_96_float.tflite"
    if not path.is_file():
        pytest.skip(f"no {path}")
    dense, pruned = gossamer.load(path), gossamer.load(path)
    prune(pruned, SparsifyStep(pattern="unstructured", sparsity=0.3))
    zeros = {layer.name: layer.zeros for layer in find_layers(pruned)[0]}
    rng = np.random.default_rng(0)
    photos = [rng.random((1, 12, 12, 3), np.float32).repeat(8, 1).repeat(8, 2) for _ in range(8)]
    report = repair(dense, pruned, photos)
    assert len(report.layers) == 13
    for layer in report.layers:
        assert layer.square_after <= layer.square_before
        if repair is dsnot.repair:
            assert layer.mean_after <= layer.mean_before
    assert sum(x.square_after for x in report.layers) < 0.8 * sum(x.square_before for x in report.layers)
    assert {layer.name: layer.zeros for layer in find_layers(pruned)[0]} == zeros


def test_bad_input():
    dense, pruned = net(), net()
    prune(pruned, step("unstructured", 0.5))
    with pytest.raises(CalibrationError, match="no calibration samples"):
        dsnot.repair(dense, pruned, [])
    with pytest.raises(InputError, match="not those of the dense model with zeros"):
        dsnot.repair(net(seed=3), pruned, samples())
    other = net()
    for node in other.graph:
        node.name = f"other_{node.name}"
    with pytest.raises(InputError, match="no layer 'stem'"):
        swaps.repair(other, pruned, samples())
    with pytest.raises(InputError, match="max_cycles must be at least 1"):
        dsnot.repair(dense, pruned, samples(), max_cycles=0)
    with pytest.raises(InputError, match="candidates must be at least 1"):
        swaps.repair(dense, pruned, samples(), candidates=0)
    with pytest.raises(InputError, match="tolerance must be within 0 and 1"):
        dsnot.repair(dense, pruned, samples(), tolerance=2.0)


def test_a_dense_model_is_left_alone():
    report = dsnot.repair(net(), net(), samples())
    assert report.layers == () and report.to_dict()["layers"] == []
