"""Candidates on the bench: the masks and layers are those of the bundles that ``optimize`` makes."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import gossamer
from gossamer._errors import RecipeError
from gossamer.recipe import canonical, load_recipe
from gossamer.search.bench import open_bench
from gossamer_runtime import Session
from tests.search.conftest import RECIPE


def zeros(plan):
    return {op.name: float((op.weights.dense == 0).mean()) for op in plan.ops if op.weights is not None}


@pytest.fixture(scope="module")
def bench(case):
    return open_bench(case.model, load_recipe(RECIPE), case.calibration)[0]


def test_layers_and_those_that_stay_dense(bench):
    assert [(layer.name, layer.pattern, layer.weights) for layer in bench.layers] == [
        ("wide", "1x4", 64 * 256),
        ("narrow", "1x4", 64 * 256),
    ]
    assert bench.dense == {"stem": "first convolution: dense by default", "head": "last classifier: dense by default"}
    assert bench.output.name == "scores" and list(bench.inputs[0].shape) == [1, 3, 16, 16]


def test_a_plan_prunes_what_is_chosen_and_leaves_the_model_as_it_was(bench):
    before = zeros(bench.plan({}))
    pruned = zeros(bench.plan({"narrow": 0.9}))
    assert pruned["narrow"] == pytest.approx(0.9, abs=0.01) and pruned["wide"] == before["wide"]
    assert zeros(bench.plan({})) == before
    assert not any("gossamer.pattern" in node.metadata_props for node in bench.graph.graph)


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_masks_are_those_of_the_finished_bundle(case, bench, share):
    chosen = {"wide": share, "narrow": 0.9}
    made = gossamer.optimize(case.model, bench.recipe_for(chosen), case.calibration, key=False)
    reached = {row.name: row.sparsity_percent for row in made.layers}
    for name, zero in zeros(bench.plan(chosen)).items():
        assert reached[name] == pytest.approx(100 * zero, abs=0.3), name  # small weights may round to 0 on another grid


def test_a_candidate_runs_as_the_bundle_with_the_same_calibration_does(case, bench):
    """Nothing pruned: the candidate and the bundle are the same network, bit for bit."""
    made = gossamer.optimize(case.model, {**RECIPE, "sparsify": None}, case.calibration, key=False)
    with Session(bench.candidate({}), verify=False) as ours, Session(made.data, verify=False) as theirs:
        for row in case.x[:8]:
            np.testing.assert_array_equal(ours.run(row[None]), theirs.run(row[None]))


def test_the_recipe_for_a_choice_says_it_all(bench):
    recipe = bench.recipe_for({"narrow": 0.9})
    again = load_recipe(json.loads(canonical(recipe)))
    assert again == recipe
    rules = {rule.match: rule for rule in again.sparsify.layers}
    assert rules["wide"].dense and not rules["narrow"].dense
    assert (rules["narrow"].sparsity, rules["narrow"].pattern) == (0.9, "1x4")


def test_n_of_m_has_one_sparsity_of_its_own(case):
    recipe = load_recipe({**RECIPE, "sparsify": {"pattern": "2:4", "layers": [{"match": "wide", "pattern": "1:4"}]}})
    bench, _ = open_bench(case.model, recipe, case.calibration)
    assert [bench.grid(layer, (0.3, 0.9)) for layer in bench.layers] == [[0.75], [0.5]]
    found = zeros(bench.plan({"wide": 0.75, "narrow": 0.5}))
    assert found["narrow"] == pytest.approx(0.5, abs=0.01) and found["wide"] >= 0.75
    rules = {r.match: r for r in load_recipe(json.loads(canonical(bench.recipe_for({"narrow": 0.5})))).sparsify.layers}
    assert rules["narrow"].pattern == "2:4" and rules["narrow"].sparsity is None


def test_a_recipe_that_prunes_nothing(case):
    recipe = load_recipe({**RECIPE, "sparsify": {"sparsity": 0.5, "exclude": ["wide", "narrow"]}})
    with pytest.raises(RecipeError, match="prunes no layer") as caught:
        open_bench(case.model, recipe, case.calibration)
    assert "wide: excluded by the recipe" in caught.value.where


def shuffled(path):
    """The classifier with the channels between ``wide`` and ``narrow`` in another order: its blocks are torn apart."""
    model = onnx.load(path)
    order = np.random.default_rng(0).permutation(256)
    for tensor in model.graph.initializer:
        if tensor.name in ("w1", "b1", "w2"):
            values = numpy_helper.to_array(tensor)
            moved = values[:, order] if tensor.name == "w2" else values[order]
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(moved), tensor.name))
    return model


def test_a_rearranged_model_is_searched_in_an_order_that_suits_the_pattern(case):
    recipe = load_recipe({**RECIPE, "sparsify": {**RECIPE["sparsify"], "rearrange": True}})
    bench, _ = open_bench(shuffled(case.model), recipe, case.calibration)
    plain, _ = open_bench(shuffled(case.model), load_recipe(RECIPE), case.calibration)

    def retained(found):
        whole, kept = (
            next(op.weights.dense for op in found.plan(chosen).ops if op.name == "narrow")
            for chosen in ({}, {"narrow": 0.75})
        )
        return np.abs(kept.astype(int)).sum() / np.abs(whole.astype(int)).sum()

    assert retained(bench) > retained(plain) + 0.02
    assert zeros(bench.plan({"narrow": 0.75}))["narrow"] == pytest.approx(0.75, abs=0.03)
    with Session(bench.candidate({}), verify=False) as ours, Session(plain.candidate({}), verify=False) as theirs:
        for row in case.x[:4]:  # the same function, bit for bit: integers add up in any order
            np.testing.assert_array_equal(ours.run(row[None]), theirs.run(row[None]))
    assert bench.recipe_for({"narrow": 0.75}).sparsify.rearrange
