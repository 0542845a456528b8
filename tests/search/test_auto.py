"""The whole search on a small classifier: what it promises is measured again here, by other means."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

import gossamer
from gossamer._errors import CalibrationError, InputError, MismatchError, OutputError, RecipeError
from gossamer.bundle.verify import verify
from gossamer.search.auto import STAGES, optimize_auto
from gossamer.search.result import ConstraintError, Goal
from gossamer_runtime import Session
from tests.search.conftest import RECIPE, scores

SHARES = (0.5, 0.75, 0.9)


def search(case, **options):
    settings = {"eval_data": case.data, "sparsities": SHARES, "subset": 80, "metric": "accuracy", **options}
    settings.setdefault("key", False)
    return optimize_auto(case.model, RECIPE, case.calibration, **settings)


def decided(bundle, x):
    with Session(bundle, verify=False) as session:
        return np.array([int(session.run(row[None]).argmax()) for row in x])


def lost(case, bundle):
    """Accuracy of the model minus that of the bundle."""
    original = scores(onnx.load(case.model), case.x).argmax(axis=1)
    return float((original == case.y).mean() - (decided(bundle, case.x) == case.y).mean())


@pytest.fixture(scope="module")
def result(case, tmp_path_factory):
    seen = []
    output = tmp_path_factory.mktemp("auto") / "auto.goss"
    found = search(case, max_accuracy_drop=0.1, output=output, progress=lambda *s: seen.append(s))
    return found, output, seen


def test_the_bundle_keeps_within_the_drop_and_is_faster_than_dense(case, result):
    found, output, _ = result
    assert output.read_bytes() == found.bundle.data
    again = lost(case, output)
    assert again == pytest.approx(found.chosen.drop, abs=1e-9) and again <= 0.1
    assert found.chosen.latency_us < found.dense.latency_us
    assert found.chosen.zeros_percent > found.dense.zeros_percent
    assert found.baseline == pytest.approx(226 / 240) and found.samples == 240


def test_of_those_that_keep_within_it_is_the_fastest_and_others_were_tried(result):
    found, _, _ = result
    met = [t for t in found.trials if t.meets and t.name != "dense"]
    assert found.chosen.latency_us == min(t.latency_us for t in met)
    assert [t.chosen for t in found.trials].count(True) == 1
    assert found.trials[0].name == "dense" and found.trials[0].sparsities == {}
    for trial in found.trials:
        assert trial.meets == (trial.drop <= 0.1)
        assert trial.drop == pytest.approx(found.baseline - trial.accuracy)


def test_the_layers_have_the_sparsities_that_the_search_chose(result):
    found, _, _ = result
    rows = {row.name: row for row in found.bundle.layers}
    for name, share in found.chosen.sparsities.items():
        # small weights round to 0 in int8 besides; test_bench compares masks exactly
        assert 100 * share - 1 <= rows[name].sparsity_percent <= 100 * share + 8
    for name in {"wide", "narrow"} - set(found.chosen.sparsities):
        assert "left as it came" in rows[name].reason or "no sparsity tried is faster" in rows[name].reason
    assert "first convolution" in rows["stem"].reason


def test_the_manifest_says_what_was_measured_and_how_to_make_it_again(case, result):
    found, _, _ = result
    (metric,) = found.bundle.manifest["metrics"]
    assert metric["name"] == "accuracy_percent" and metric["dataset"] == "examples.npz, 240 examples"
    assert metric["value"] == pytest.approx(100 * found.chosen.accuracy, abs=1e-3)
    assert metric["baseline"] == pytest.approx(100 * found.baseline, abs=1e-3)
    again = gossamer.optimize(case.model, json.loads(found.bundle.manifest["recipe_json"]), case.calibration, key=False)
    with Session(again.data, verify=False) as ours, Session(found.bundle.data, verify=False) as theirs:
        np.testing.assert_array_equal(ours.run(case.x[:1]), theirs.run(case.x[:1]))


def test_progress_goes_through_the_stages_in_order(result):
    _, _, seen = result
    assert list(dict.fromkeys(stage for stage, _, _ in seen)) == list(STAGES)
    assert all(0 <= done <= total for _, done, total in seen)
    assert max(done for stage, done, _ in seen if stage == "trials") >= 2


def test_table_summary_and_json_agree(result):
    found, _, _ = result
    marked = [line for line in found.table().splitlines() if line.startswith(">")]
    assert len(marked) == 1 and f"{found.chosen.latency_us:.1f}" in marked[0] and marked[0].endswith("met")
    assert "accuracy drop of at most 0.1" in found.summary() and "240 examples" in found.summary()
    value = json.loads(json.dumps(found.to_json()))
    assert [t["chosen"] for t in value["trials"]] == [t.chosen for t in found.trials]
    assert value["goal"] == {"max_accuracy_drop": 0.1, "latency_us": None}
    layers = {layer["name"]: layer for layer in value["layers"]}
    assert {n: layer["sparsity"] for n, layer in layers.items() if layer["sparsity"]} == found.chosen.sparsities
    asked = {(s["name"], s["sparsity"]) for s in value["sensitivities"]}
    assert asked == {(n, float(s)) for n, layer in layers.items() for s in layer["sparse_us"]}


def test_a_latency_gets_the_bundle_that_loses_least(case, result):
    found, _, _ = result
    dense, fastest = found.dense.latency_us, min(t.latency_us for t in found.trials)
    wanted = (dense + 2 * fastest) / 3
    made = search(case, latency_ms=wanted / 1e3)
    assert made.chosen.latency_us <= wanted
    assert made.chosen.drop == min(t.drop for t in made.trials if t.meets)
    assert lost(case, made.bundle.data) == pytest.approx(made.chosen.drop, abs=1e-9)


def test_a_goal_that_is_met_without_pruning_says_so(case):
    made = search(case, latency_ms=1000.0)
    assert made.chosen.sparsities == {} and made.chosen.drop == min(t.drop for t in made.trials if t.meets)
    reasons = [layer["reason"] for layer in made.to_json()["layers"] if layer["sparse_us"]]
    assert reasons and set(reasons) == {"left as it came: the goal is met without pruning more"}
    strict = replace(made, goal=Goal(max_drop=0.0))
    assert strict.why_dense("wide").startswith("left as it came: nothing tried that prunes more is faster")


def test_a_goal_that_nothing_meets_says_the_best_and_writes_nothing(case, tmp_path):
    output = tmp_path / "o.goss"
    with pytest.raises(
        ConstraintError, match=r"none of \d+ bundles tried has a latency of at most 0.0001 ms"
    ) as caught:
        search(case, latency_ms=1e-4, output=output)
    error = caught.value
    assert isinstance(error, MismatchError) and error.exit_code == 14
    assert not output.exists() and error.result.chosen is None and error.result.bundle is None
    assert error.result.why_dense("wide") == ""
    best = min(t.latency_us for t in error.result.trials)
    assert f"{best:.1f} us" in error.where and "allow" in error.hint


def test_too_few_examples_for_the_choice_are_said_with_the_interval(case):
    few = search(case, eval_data=(case.x[:40], case.y[:40]), max_accuracy_drop=0.05)
    end = few.chosen.drop + few.chosen.interval
    (note,) = [n for n in few.notes if "tell the drop" in n]
    assert note == (
        f"40 examples tell the drop to +-{few.chosen.interval:.4f}: it may be {end:.4f}, more than asked; "
        "judge it on more than these, which also chose it"
    )
    assert f"note      {note}" in few.summary() and note in few.to_json()["notes"]
    assert note not in few.bundle.summary()  # said once
    (row,) = [line.split() for line in few.table().splitlines() if line.startswith(">")]
    assert f"{few.chosen.interval:.4f}" in row and "+-95%" in few.table()
    (chosen,) = [t for t in few.to_json()["trials"] if t["chosen"]]
    assert chosen["interval"] == few.chosen.interval
    wide = search(case, max_accuracy_drop=0.5)
    assert wide.chosen.drop + wide.chosen.interval > 0.5 or not any("tell the drop" in n for n in wide.notes)


def test_without_labels_the_agreement_is_measured_and_called_so(case):
    made = search(case, eval_data=case.x[:80], max_accuracy_drop=0.1)
    assert made.metric == "agreement with the original" and made.baseline == 1.0
    assert any("no labels" in note for note in made.notes)
    original = scores(onnx.load(case.model), case.x[:80]).argmax(axis=1)
    assert made.chosen.accuracy == pytest.approx((decided(made.bundle.data, case.x[:80]) == original).mean())
    assert made.bundle.manifest["metrics"][0]["name"] == "agreement_percent"


def test_the_bundle_is_signed(case, home):
    made = search(case, max_accuracy_drop=0.5, key=None)
    assert verify(made.bundle.data) is not None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, InputError, "give either a largest drop"),
        ({"max_accuracy_drop": 0.1, "latency_ms": 1.0}, InputError, "give either a largest drop"),
        ({"max_accuracy_drop": 1.0}, InputError, "at least 0 and below 1"),
        ({"latency_ms": 0.0}, InputError, "above 0 ms"),
        ({"max_accuracy_drop": 0.1, "sparsities": (0.5, 1.0)}, InputError, "lie between 0 and 1"),
        ({"max_accuracy_drop": 0.1, "metric": "recall"}, InputError, "no metric 'recall'"),
        ({"max_accuracy_drop": 0.1, "subset": 0}, InputError, "at least 1 example"),
        ({"max_accuracy_drop": 0.1, "eval_data": "absent"}, InputError, "no such file"),
    ],
)
def test_arguments_that_make_no_sense(case, options, error, message):
    with pytest.raises(error, match=message):
        search(case, **options)


def test_the_bundle_does_not_replace_its_model(case):
    with pytest.raises(OutputError, match="would replace its model"):
        search(case, max_accuracy_drop=0.1, output=case.model)


def test_recipes_that_cannot_be_searched(case):
    with pytest.raises(RecipeError, match="needs a recipe with a sparsify step"):
        optimize_auto(case.model, "dense-int8", case.calibration, eval_data=case.data, max_accuracy_drop=0.1, key=False)
    with pytest.raises(CalibrationError, match="needs calibration samples"):
        optimize_auto(case.model, RECIPE, None, eval_data=case.data, max_accuracy_drop=0.1, key=False)
