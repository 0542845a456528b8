"""Rearranging whole models: same function, more retained, honest reports, nothing touched when anything is wrong."""

from __future__ import annotations

import copy

import numpy as np
import onnx_ir as ir
import pytest

import gossamer
from gossamer import person
from gossamer._errors import InputError, ModelError, RecipeError
from gossamer.recipe import LayerRule, SparsifyStep, load_recipe
from gossamer.sparsify import prune
from gossamer.sparsify.layers import find_layers
from gossamer.sparsify.patterns import get
from gossamer.sparsify.rearrange import RULE, SOURCE, TITLE, permute_like, rearrange
from tests.sparsify.rearrange.graphs import assert_same, graph, inputs, noise, run, scramble

HEAD = '<ir_version: 9, opset_import: ["" : 17]>'
NET = """net (float[1,3,8,8] x) => (float[1,10] y) {
    a = Conv<pads=[1,1,1,1]> (x, w0)  r0 = Relu (a)  b = Conv (r0, w1)  r1 = Relu (b)
    d = Conv<group=32, pads=[1,1,1,1]> (r1, wd)  c = Conv (d, w2)  s = Add (r0, c)  e = Conv<pads=[1,1,1,1]> (s, w3)
    r2 = Relu (e)  p = GlobalAveragePool (r2)  f = Flatten (p)  h = Gemm<transB=1> (f, w4)  y = MatMul (h, w5) }"""
WEIGHTS = {
    "w0": (16, 3, 3, 3), "w1": (32, 16, 1, 1), "wd": (32, 1, 3, 3), "w2": (16, 32, 1, 1), "w3": (24, 16, 3, 3),
    "w4": (40, 24), "w5": (40, 10),
}  # fmt: skip
STEPS = {
    "1x4": SparsifyStep(pattern="1x4", sparsity=0.8),
    "4x1": SparsifyStep(pattern="4x1", sparsity=0.8),
    "4x4": SparsifyStep(pattern="4x4", sparsity=0.8),
    "global": SparsifyStep(pattern="1x4", sparsity=0.8, distribution="global", keep_dense=()),
    "erk": SparsifyStep(pattern="4x1", sparsity=0.7, distribution="erk"),
    "rules": SparsifyStep(
        pattern="1x4",
        sparsity=0.9,
        layers=(LayerRule(op="Gemm", pattern="4x4", sparsity=0.5), LayerRule(match="e.*", pattern="4x1")),
    ),
}


def net(seed: int = 0) -> ir.Model:
    return graph(HEAD + NET, WEIGHTS, seed)


def weights(model: ir.Model) -> dict[str, np.ndarray]:
    return {name: value.const_value.numpy().copy() for name, value in model.graph.initializers.items()}


@pytest.mark.parametrize("name", STEPS)
def test_more_is_retained_at_the_same_function_and_as_prune_counts_it(name):
    step = STEPS[name]
    model, other = net(), net()
    feeds = inputs(model)
    report = rearrange(other, step)
    assert_same(run(model, feeds), run(other, feeds))
    assert report.finished and report.after > report.before + 0.01
    plain, better = prune(model, step), prune(other, step)
    for side, pruned in ((0, plain), (1, better)):
        for gain in report.layers:
            layer = next(x for x in pruned.layers if x.name == gain.name)
            assert layer.pattern == gain.pattern
            assert layer.retained == pytest.approx((gain.before, gain.after)[side], rel=1e-5)
    assert abs(better.zeros - plain.zeros) <= 4  # blocks of the image's three channels hold three weights
    assert sum(x.magnitude * x.after for x in report.layers) / report.magnitude == pytest.approx(report.after)


def test_every_weight_is_still_there_once():
    model = net()
    before = weights(model)
    report = rearrange(model, STEPS["4x4"])
    moved = 0
    for name, array in weights(model).items():
        np.testing.assert_array_equal(np.sort(array, axis=None), np.sort(before[name], axis=None))
        assert array.dtype == before[name].dtype
        moved += not np.array_equal(array, before[name])
        by_axis = report.permutations.get(name, {})
        expected = before[name]
        for axis, order in by_axis.items():
            expected = np.take(expected, order, axis)
        np.testing.assert_array_equal(array, expected)
    assert moved == len(report.permutations) >= 6


def test_the_first_layers_input_and_the_last_layers_output_stay():
    model = net()
    report = rearrange(model, SparsifyStep(pattern="4x4", sparsity=0.8, keep_dense=()))
    assert 1 not in report.permutations["w0"] and 1 not in report.permutations["w5"]
    held = {(h.layer, h.axis): h for h in report.held}
    assert held["a.0", "inputs"].channels == 3
    assert held["a.0", "inputs"].reason == "'x' is an input of the graph"
    assert held["y.12", "outputs"].reason == "'y' is an output of the graph"
    assert "3 inputs of a.0 stay: 'x' is an input of the graph" in report.lines()


def test_a_seed_gives_one_order_and_seconds_end_a_search():
    first, second, third = (rearrange(net(), STEPS["1x4"], seed=s).permutations for s in (0, 0, 1))
    assert first.keys() == second.keys()
    for name, by_axis in first.items():
        for axis, order in by_axis.items():
            np.testing.assert_array_equal(order, second[name][axis])
    assert any(not np.array_equal(order, third.get(n, {}).get(a)) for n, x in first.items() for a, order in x.items())
    model, other = net(), net()
    hurried = rearrange(other, STEPS["1x4"], seconds=1e-9)
    assert not hurried.finished and hurried.after == hurried.before
    assert "ended by the time limit" in hurried.lines()[0]
    assert_same(run(model, inputs(model)), run(other, inputs(model)))


def test_rearranging_finds_what_a_scrambled_network_lost():
    """Weights that fit the blocks exactly, hidden by a permutation: all of it comes back."""
    model = graph(HEAD + NET, WEIGHTS, 3)
    for layer in find_layers(model)[0]:
        matrix, columns = layer.matrix()
        if not layer.depthwise and columns.channels > 3:
            layer.apply(get("1x4").project(matrix, 0.8, columns=columns))
    scramble(model, 1)
    report = rearrange(model, SparsifyStep(pattern="1x4", sparsity=0.8))
    assert report.before < 0.85
    gain = {x.name: x for x in report.layers}
    # Alone on its channels, a layer comes back whole; two that share them pull in two directions.
    assert gain["c.5"].after > 0.999 and gain["h.11"].after > 0.999


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_patterns_that_no_order_suits_leave_the_model_alone(pattern):
    model = net()
    before = weights(model)
    report = rearrange(model, SparsifyStep(pattern=pattern, sparsity=0.5))
    assert report.groups == report.moved == 0 and report.permutations == {} and report.before == report.after
    for name, array in weights(model).items():
        np.testing.assert_array_equal(array, before[name])


def test_a_model_without_layers():
    model = graph(HEAD + "net (float[1,3,4,4] x) => (float[1,3,4,4] y) { y = Relu (x) }", {})
    report = rearrange(model, STEPS["1x4"])
    assert report.layers == () and report.before == report.after == 1.0
    assert report.text().startswith("retained magnitude 100.00% -> 100.00%: 0 channels moved in 0 groups")


def test_shared_weights_and_shared_memory():
    text = """net (float[1,8,4,4] x) => (float[1,8,4,4] y, float[1,16,4,4] z) {
        i = Conv (x, w0)  a = Conv (i, w)  b = Conv (a, w)  y = Conv (b, w1)  j = Conv (i, w2)  k = Relu (j)
        l = Conv (k, w3)  z = Conv (l, w4) }"""
    shapes = {"w0": (16, 8, 1, 1), "w": (16, 16, 1, 1), "w1": (8, 16, 1, 1), "w2": (16, 16, 1, 1),
              "w3": (16, 16, 1, 1), "w4": (16, 16, 1, 1)}  # fmt: skip
    model, other = graph(HEAD + text, shapes), graph(HEAD + text, shapes)
    for each in (model, other):
        values = each.graph.initializers
        values["w3"].const_value = values["w2"].const_value  # one array for two weights with orders of their own
    feeds = inputs(model)
    report = rearrange(other, SparsifyStep(pattern="1x4", sparsity=0.75))
    assert report.moved > 0
    assert_same(run(model, feeds), run(other, feeds))


@pytest.mark.parametrize(
    ("break_it", "error", "text"),
    [
        (lambda m, s: (m, s, {"seconds": 0}), InputError, "a time limit is a positive number of seconds, not 0"),
        (lambda m, s: (m, s, {"seconds": float("nan")}), InputError, "positive number of seconds, not nan"),
        (lambda m, s: (m, s, {"effort": -1}), InputError, "an effort is at least 0, not -1"),
        (lambda m, s: (m, s.model_copy(update={"exclude": ("nowhere",)}), {}), RecipeError, "names no layer"),
        (lambda m, s: (spoilt(m), s, {}), ModelError, "the weights of 'c.5' hold nan at"),
    ],
)
def test_wrong_arguments_leave_the_model_as_it_was(break_it, error, text):
    model, step, settings = break_it(net(), STEPS["1x4"])
    before = weights(model)
    with pytest.raises(error, match=text):
        rearrange(model, step, **settings)
    for name, array in weights(model).items():
        np.testing.assert_array_equal(array, before[name])


def spoilt(model: ir.Model) -> ir.Model:
    value = model.graph.initializers["w2"]
    array = value.const_value.numpy().copy()
    array[3, 5] = np.nan
    value.const_value = ir.tensor(array, name="w2")
    return model


def test_a_checkpoint_follows():
    import torch

    model, other = net(), net()
    checkpoint = {name: torch.from_numpy(array) for name, array in weights(model).items()} | {"step": torch.tensor(7)}
    report = rearrange(other, STEPS["4x1"])
    moved = permute_like(report, checkpoint)
    for name, array in weights(other).items():
        np.testing.assert_array_equal(moved[name].numpy(), array)
    assert moved["step"] == 7
    arrays = permute_like(report, weights(model))
    np.testing.assert_array_equal(arrays["w2"], weights(other)["w2"])
    with pytest.raises(ModelError, match=r"'w2' has the shape \[3, 3\]; axis . has \d+ channels in the graph"):
        permute_like(report, {"w2": torch.zeros(3, 3)})


def test_prune_rearranges_when_the_recipe_says_so():
    plain = prune(net(), SparsifyStep(pattern="1x4", sparsity=0.8))
    report = prune(net(), SparsifyStep(pattern="1x4", sparsity=0.8, rearrange=True))
    assert plain.rearranged is None and all(x.plain is None for x in plain.layers)
    assert report.rearranged is not None
    for layer, before in zip(report.layers, plain.layers, strict=True):
        assert (layer.plain is not None) == (layer.pattern == "1x4")
        if layer.plain is not None:
            assert layer.plain == pytest.approx(before.retained, rel=1e-6)
            assert f"retained {layer.plain:.2%} -> {layer.retained:.2%}" in "\n".join(report.lines())
    assert report.lines()[0] == report.rearranged.lines()[0]
    assert report.to_dict()["rearranged"]["after"] == report.rearranged.after
    assert plain.to_dict()["rearranged"] is None


def test_the_ready_recipe_and_the_description():
    step = load_recipe("1x4-90-rearranged-int8").sparsify
    assert step is not None and step.rearrange and step.pattern == "1x4" and step.sparsity == 0.9
    assert load_recipe("1x4-75-int8").sparsify.rearrange is False
    assert "2105.14713" in SOURCE and "2310.19509" in SOURCE and TITLE and len(RULE) > 100


def test_optimize_says_what_it_gained():
    recipe = {
        "version": 1,
        "sparsify": {"pattern": "1x4", "sparsity": 0.8, "rearrange": True},
        "target": {"measure": False},
    }
    result = gossamer.optimize(net(), recipe, key=False)
    (note,) = [n for n in result.notes if n.startswith("channels rearranged")]
    assert "retained magnitude" in note


def test_the_shipped_model_keeps_its_function_and_more_of_its_weights():
    model, other = gossamer.load(person.model_path()), gossamer.load(person.model_path())
    report = rearrange(other, SparsifyStep(pattern="1x4", sparsity=0.9), effort=0)
    assert report.after > report.before + 0.015
    feeds = {"image": np.random.default_rng(0).random((1, 3, 96, 96), dtype=np.float32)}
    assert_same(run(model, feeds), run(other, feeds))


def test_the_shipped_model_survives_any_permutation():
    model, other = gossamer.load(person.model_path()), gossamer.load(person.model_path())
    found, _ = scramble(other)
    assert len(found) == 261  # all but the classifier's bias, zero and six
    feeds = {"image": np.random.default_rng(1).random((1, 3, 96, 96), dtype=np.float32)}
    assert_same(run(model, feeds), run(other, feeds))


def test_values_that_came_without_shapes_are_followed():
    text = "net (float[1,3,4,4] x) => (float[1,5,4,4] y) { a = Conv (x, w1) b = Conv (a, w2) y = Conv (b, w3) }"
    shapes = {"w1": (8, 3, 1, 1), "w2": (12, 8, 1, 1), "w3": (5, 12, 1, 1)}
    model = graph(HEAD + text, shapes)
    bare = copy.deepcopy(ir.to_proto(model))
    del bare.graph.value_info[:]
    other = ir.from_proto(bare)
    assert all(v.shape is None for n in list(other.graph)[:-1] for v in n.outputs)
    feeds = inputs(model)
    assert rearrange(other, SparsifyStep(pattern="1x4", sparsity=0.5)).moved > 0
    assert_same(run(model, feeds), run(other, feeds))
    assert noise((2,), np.random.default_rng(0)).dtype == np.float32
