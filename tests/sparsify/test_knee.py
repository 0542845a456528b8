"""The one-shot sweep and its knee: points by hand, noise, bounds, and a network whose knee is known."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from gossamer._errors import InputError, RecipeError
from gossamer.recipe import SparsifyStep
from gossamer.sparsify.knee import Point, essential, knee, sweep
from gossamer.sparsify.layers import find_layers
from tests.ort import run


def curve(*pairs: tuple[float, float]) -> list[Point]:
    return [Point("1x4" if s else "dense", s, s, a) for s, a in pairs]


def test_knee_by_hand():
    points = curve((0.0, 0.90), (0.2, 0.895), (0.4, 0.885), (0.6, 0.87), (0.8, 0.70), (0.9, 0.5))
    assert knee(points).sparsity == 0.6  # 0.17 over 0.2 is 0.85 per unit; 0.015 over 0.2 is 0.075
    assert knee(points, slope=0.06).sparsity == 0.4
    assert knee(points, slope=0.04).sparsity == 0.2
    assert knee(points, slope=0.02).sparsity == 0.0
    assert knee(points, slope=5.0).sparsity == 0.9
    assert knee(points[::-1]).sparsity == 0.6


def test_a_dip_is_no_knee():
    points = curve((0.0, 0.90), (0.2, 0.80), (0.4, 0.895), (0.6, 0.5))
    assert knee(points) == points[2]


def test_the_knee_is_never_in_a_dip():
    points = curve((0.0, 0.90), (0.5, 0.85), (0.6, 0.89), (0.7, 0.4))
    assert knee(points, slope=0.5).sparsity == 0.6


def test_a_slow_fall_is_bounded_by_max_drop():
    points = curve((0.0, 0.90), (0.25, 0.88), (0.5, 0.86), (0.75, 0.84))
    assert knee(points).sparsity == 0.75
    assert knee(points, max_drop=0.05).sparsity == 0.5
    assert knee(points, max_drop=0.01).sparsity == 0.0


def test_bad_points():
    with pytest.raises(InputError, match="needs points"):
        knee([])
    with pytest.raises(InputError, match="slope must be above 0"):
        knee(curve((0.0, 1.0)), slope=0.0)
    with pytest.raises(InputError, match=r"two points of sparsity 0\.5"):
        knee(curve((0.0, 1.0), (0.5, 1.0), (0.5, 0.9)))


NET = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[8,64] x) => (float[8,64] y) { y = MatMul (x, w) }
"""


def net(weights: np.ndarray) -> ir.Model:
    model = ir.from_onnx_text(NET)
    node = model.graph.node(0)
    node.name = "layer"
    tensor = ir.tensor(weights, name="w")
    value = ir.Value(name="w", type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    node.replace_input_with(1, value)
    model.graph.register_initializer(value)
    return model


def half_noise(seed: int = 0) -> ir.Model:
    """60% of the weights are a hundredth of the others."""
    rng = np.random.default_rng(seed)
    small = rng.permuted(np.tile(np.arange(10) < 6, 410)[: 64 * 64]).reshape(64, 64)
    return net((rng.choice([-1.0, 1.0], (64, 64)) * np.where(small, 0.01, 1.0)).astype(np.float32))


STEP = SparsifyStep(pattern="unstructured", sparsity=0.5, keep_dense=())


def fidelity(reference: ir.Model):
    x = np.random.default_rng(5).standard_normal((8, 64)).astype(np.float32)
    wanted = run(reference, {"x": x})[0]

    def evaluate(model: ir.Model) -> float:
        return 1.0 - float(np.linalg.norm(run(model, {"x": x})[0] - wanted) / np.linalg.norm(wanted))

    return evaluate


def test_sweep_measures_every_sparsity_of_an_unchanged_model():
    model = half_noise()
    before = find_layers(model)[0][0].weight.copy()
    seen: list[tuple[int, int]] = []
    points = sweep(model, STEP, fidelity(model), (0.9, 0.3), progress=lambda done, total: seen.append((done, total)))
    assert [(p.pattern, p.sparsity) for p in points] == [("dense", 0.0), ("unstructured", 0.3), ("unstructured", 0.9)]
    assert points[0].accuracy == 1.0 and points[1].accuracy > 0.98 > points[2].accuracy
    assert points[1].reached == pytest.approx(0.3, abs=1e-3)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert np.array_equal(find_layers(model)[0][0].weight, before)


def test_the_knee_of_a_network_with_60_percent_noise():
    model = half_noise()
    step, points = essential(model, STEP, fidelity(model), (0.2, 0.4, 0.5, 0.6, 0.7, 0.8))
    assert step is not None and step.sparsity == 0.6 and step.pattern == "unstructured" and step.keep_dense == ()
    assert len(points) == 7


def test_nothing_can_go():
    model = net(np.ones((64, 64), np.float32))
    step, points = essential(model, STEP, fidelity(model), (0.3, 0.6))
    assert step is None and points[0].pattern == "dense"


def test_patterns_in_the_grid():
    model = half_noise()
    points = sweep(model, SparsifyStep(pattern="2:4", keep_dense=()), fidelity(model), ("2:4", "4:8", "1:4")[1:])
    assert [(p.pattern, p.sparsity) for p in points] == [("dense", 0.0), ("4:8", 0.5), ("1:4", 0.75)]
    step, _ = essential(model, SparsifyStep(pattern="2:4", keep_dense=()), lambda m: 1.0, ("2:4", "1:4"))
    assert step is not None and step.pattern == "1:4" and step.wanted == 0.75
    step, _ = essential(model, SparsifyStep(pattern="2:4", keep_dense=()), lambda m: 1.0, ("2:4",))
    assert step is not None and step.pattern == "2:4" and step.wanted == 0.5


def test_prepare_makes_what_is_measured():
    model = half_noise()
    points = sweep(model, STEP, lambda zeros: -zeros, (0.5,), prepare=lambda m: find_layers(m)[0][0].zeros)
    assert [p.accuracy for p in points] == [0.0, -2048.0]


def test_bad_sweeps():
    model = half_noise()
    with pytest.raises(InputError, match="grid of a sweep is empty"):
        sweep(model, STEP, lambda m: 1.0, ())
    with pytest.raises(InputError, match=r"evaluate returned nan"):
        sweep(model, STEP, lambda m: float("nan"), (0.5,))
    with pytest.raises(RecipeError, match="at least 0 and below 1"):
        sweep(model, STEP, lambda m: 1.0, (1.5,))
    with pytest.raises(InputError, match="brings its own sparsity"):
        sweep(model, SparsifyStep(pattern="2:4"), lambda m: 1.0, (0.5,))
    with pytest.raises(RecipeError, match="no sparsity pattern"):
        sweep(model, STEP, lambda m: 1.0, ("2:x",))
    with pytest.raises(InputError, match="above 0"):
        sweep(model, STEP, lambda m: 1.0, (0.0,))
