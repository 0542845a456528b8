"""Pruning one layer alone, run by the native core."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.recipe import load_recipe
from gossamer.search.bench import open_bench
from gossamer.search.decide import Judge, classes_of
from gossamer.search.read import read_examples
from gossamer.search.sensitivity import sensitivities
from tests.search.conftest import RECIPE, scores


@pytest.fixture(scope="module")
def found(case):
    import onnx

    bench, _ = open_bench(case.model, load_recipe(RECIPE), case.calibration)
    examples = read_examples(case.data, bench.inputs, classes_of(bench.output)).subset(60)
    names = [int(e.name.rsplit(" ", 1)[1]) for e in examples.entries]
    original = scores(onnx.load(case.model), case.x[names]).argmax(axis=1)
    seen = []
    wanted = {"wide": [0.3, 0.9], "narrow": [0.5, 0.8, 0.95]}
    judge = Judge(examples.labels, original, "accuracy")
    records = sensitivities(bench, wanted, examples, judge, lambda d, n: seen.append((d, n)))
    return {(r.name, r.sparsity): r for r in records}, seen


def test_every_layer_and_sparsity_that_was_asked_for(found):
    records, seen = found
    assert list(records) == [("wide", 0.3), ("wide", 0.9), ("narrow", 0.5), ("narrow", 0.8), ("narrow", 0.95)]
    assert seen == [(i, 5) for i in range(1, 6)]


def test_zeros_that_are_there_already_cost_nothing(found):
    records, _ = found
    assert records["wide", 0.3].divergence == 0.0  # 37.5% of its blocks are empty


def test_more_zeros_diverge_more(found):
    records, _ = found
    falling = [records["narrow", s].divergence for s in (0.5, 0.8, 0.95)]
    assert 0 < falling[0] < falling[1] < falling[2]
    assert records["narrow", 0.95].drop > records["narrow", 0.5].drop
    assert np.isfinite(falling).all()
