"""Costs of layers by given times, and which targets are refused."""

from __future__ import annotations

import pytest

from gossamer._errors import CompileError, RecipeError
from gossamer.compile import cost
from gossamer.compile.cost_table import CostTable
from gossamer.recipe import Target, load_recipe
from gossamer.search.bench import open_bench
from gossamer.search.latency import check_target, layer_costs
from tests.search.conftest import RECIPE


@pytest.fixture
def clock(monkeypatch):
    """Replaces measuring: microseconds by layer, and by the share of its blocks that are left."""
    asked = []

    def use(times):
        def fake(op, patterns, *, threads=1, isa=None):
            asked.append(op.name)
            left = float((op.weights.dense.reshape(-1, 4) != 0).any(axis=1).mean())
            return {p: times[op.name](1.0 if p == "dense" else left) for p in patterns}

        monkeypatch.setattr(cost, "measure", fake)
        return asked

    return use


def bench_of(case):
    return open_bench(case.model, load_recipe(RECIPE), case.calibration)[0]


def test_sparsities_that_are_faster_and_why_the_others_are_not(case, clock):
    asked = clock({
        "wide": lambda left: 50.0 + 50.0 * left if left < 1 else 78.0,  # sparse wins below 0.56 of the blocks
        "narrow": lambda left: 40.0 if left == 1 else 50.0,
    })  # fmt: skip
    table = CostTable(None)
    wide, narrow = layer_costs(bench_of(case), (0.3, 0.5, 0.9), table=table)
    # A layer with 37% of zeros as it came: these times say that it runs dense so
    assert (wide.name, wide.dense_us, wide.reason) == ("wide", 78.0, "")
    assert sorted(wide.sparse_us) == [0.5, 0.9]
    assert wide.sparse_us[0.5] == pytest.approx(75.0, abs=0.5) and wide.sparse_us[0.9] == pytest.approx(55.0, abs=0.5)
    assert (narrow.dense_us, narrow.sparse_us) == (40.0, {})
    assert narrow.reason == "no sparsity tried is faster: dense kept: 90% zeros in 1x4 cost 50 us, dense 40 us"
    before = len(asked)
    assert layer_costs(bench_of(case), (0.3, 0.5, 0.9), table=table) == [wide, narrow]
    assert len(asked) == before  # all from the table


def test_a_layer_that_runs_sparse_as_it_came_has_to_become_faster_than_that(case, clock):
    clock({"wide": lambda left: 100.0 * left, "narrow": lambda left: 100.0 * left})
    wide, narrow = layer_costs(bench_of(case), (0.3, 0.9), table=CostTable(None))
    assert wide.dense_us == pytest.approx(62.0, abs=1.0)  # 37.5% of the blocks were empty
    assert sorted(wide.sparse_us) == [0.9] and sorted(narrow.sparse_us) == [0.3, 0.9]


def test_progress_counts_every_layer_and_sparsity(case, clock):
    clock({"wide": lambda left: left, "narrow": lambda left: left})
    seen = []
    layer_costs(bench_of(case), (0.5, 0.9), table=CostTable(None), progress=lambda d, n: seen.append((d, n)))
    assert seen == [(i + 1, 8) for i in range(8)]  # four layers with weights, two sparsities


def test_targets_that_cannot_be_measured_here():
    check_target(Target())
    with pytest.raises(RecipeError, match="turns measuring off") as caught:
        check_target(Target(measure=False))
    assert caught.value.field == "target.measure"
    with pytest.raises(CompileError, match="cannot measure for wasm32"):
        check_target(Target(arch="wasm32"))
