"""GraNet: the sparsity that is due, what is pruned, what comes back."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gossamer._errors import InputError, RecipeError
from gossamer.sparsify.training import Sparsifier, registry
from gossamer.sparsify.training.methods.granet import GraNet
from tests.sparsify.training.nets import UNSTRUCTURED, attach, check_resume, linear, masks, net, step


def test_schedules():
    method = GraNet(initial=0.5, begin=0.1, end=0.6)
    assert method.sparsity(0.05, 0.9) == 0.5
    assert method.sparsity(0.35, 0.9) == pytest.approx(0.9 - 0.4 / 8)
    assert method.sparsity(0.6, 0.9) == 0.9
    assert method.fraction(0.0) == 0.5
    assert method.fraction(0.5) == pytest.approx(0.2525)
    assert method.fraction(1.0) == pytest.approx(0.005)
    assert method.fraction(0.25) == pytest.approx(0.005 + 0.495 / 2 * (1 + math.cos(math.pi / 4)))
    assert GraNet().interval(6000) == 100
    assert GraNet().interval(30) == 1
    assert GraNet(every=7).interval(6000) == 7


def test_one_step_prunes_by_one_magnitude_then_drops_and_grows_in_each_layer():
    # Step 1 of 2 with the ramp over by then: half of 8 weights go, the four smallest of both layers, all in the first.
    model = nn.Sequential(linear([0.1, 0.2, 0.3, 0.4]), linear([5.0], [6.0], [7.0], [8.0]))
    run = attach(model, GraNet(every=1, end=0.5, drop=0.5, least_drop=0.5), {**UNSTRUCTURED, "min_fraction": 0.125})
    run.total_steps = 2
    first, second = run.layers
    first.gradient.copy_(torch.tensor([[1.0, 9.0, 2.0, 3.0]]))
    run.optimizer.state[first.weight]["momentum_buffer"] = torch.ones(1, 4)
    run.step()
    # min_fraction leaves the first layer one weight; it drops that one (half of 1, rounded up), and grows the place
    # with the largest gradient, at zero. The second loses 1: it drops 2 of 3 and grows 2 in
    # index order, for want of gradients.
    assert first.mask.tolist() == [[False, True, False, False]]
    assert first.weight.tolist() == [pytest.approx([0.1, 0.0, 0.3, 0.4])]
    assert run.optimizer.state[first.weight]["momentum_buffer"].tolist() == [[1, 0, 1, 1]]
    assert second.mask.flatten().tolist() == [True, True, False, True]
    assert second.weight.flatten().tolist() == [0.0, 6.0, 7.0, 8.0]
    assert run.sparsity == 0.5


@pytest.mark.parametrize("pattern", ["unstructured", "1x4"])
def test_sparsity_follows_the_cubic_and_regrowth_keeps_it(pattern):
    target = {**UNSTRUCTURED, "pattern": pattern, "sparsity": 0.8}
    method = GraNet(every=2, end=0.5)
    run = attach(net(), method, target, steps=40)
    total = sum(layer.size for layer in run.layers)
    tolerance = 0.5 / total if pattern == "unstructured" else 5 / total
    for _ in range(40):
        before = masks(run)
        step(run)
        due = method.sparsity(run.step_number // 2 * 2 / 40, 0.8)
        assert run.sparsity == pytest.approx(due, abs=tolerance + 1e-9)
        if run.step_number % 2:
            assert all(torch.equal(a, b) for a, b in zip(before, masks(run), strict=True))
    assert set(run.finish()) == {"0", "2", "5"}


def test_regrowth_goes_on_after_pruning_but_not_at_the_last_step():
    run = attach(net(), GraNet(every=5, end=0.3, least_drop=0.3), {**UNSTRUCTURED, "sparsity": 0.8}, steps=40)
    moved = []
    for _ in range(40):
        before = masks(run)
        step(run)
        if not all(torch.equal(a, b) for a, b in zip(before, masks(run), strict=True)):
            moved.append(run.step_number)
    assert {15, 20, 25} <= set(moved)
    assert max(moved) <= 35


def test_pruning_alone_never_brings_a_weight_back():
    # Weights that were just grown at zero tie with pruned ones; those stay out.
    run = attach(net(), GraNet(every=1, end=1.0, drop=0.0, least_drop=0.0), {**UNSTRUCTURED, "sparsity": 0.9}, steps=20)
    for _ in range(20):
        before = masks(run)
        if run.step_number == 5:
            for layer in run.layers:
                layer.weight.data[torch.rand(layer.weight.shape) < 0.3] = 0.0
        step(run)
        assert not any(bool((new & ~old).any()) for new, old in zip(masks(run), before, strict=True))
    assert run.sparsity == pytest.approx(0.9, abs=1e-3)


def test_global_and_uniform():
    model = nn.Sequential(linear(*torch.eye(8).mul(0.01).add(0.01).tolist()), linear(*torch.ones(8, 8).tolist()))
    run = attach(model, GraNet(drop=0.0, least_drop=0.0), steps=1)
    run.finish()
    assert list(run.reached.values()) == [pytest.approx(63 / 64), pytest.approx(1 / 64)]  # 0.05% keeps 1 weight
    run = attach(net(), GraNet(distribution="uniform"), steps=1)
    assert list(run.finish().values()) == [pytest.approx(0.5, abs=0.01)] * 3


def test_starts_sparse_with_erk_masks():
    model = nn.Sequential(nn.Linear(64, 128), nn.Linear(128, 32))
    run = attach(model, GraNet(initial=0.5, every=1), {**UNSTRUCTURED, "sparsity": 0.9}, steps=20)
    factor = 0.5 * (8192 + 4096) / (192 + 160)
    assert [int(layer.mask.sum()) for layer in run.layers] == [round(factor * 192), round(factor * 160)]
    run.step()
    assert run.sparsity == pytest.approx(GraNet(initial=0.5).sparsity(0.05, 0.9), abs=1e-3)


def test_finish_completes_a_run_that_was_cut_short():
    run = attach(net(), GraNet(every=1), {**UNSTRUCTURED, "sparsity": 0.75}, steps=50)
    for _ in range(3):
        step(run)
    assert run.sparsity < 0.3
    run.finish()
    kept = sum(int((run.model[i].weight != 0).sum()) for i in (0, 2, 5))
    assert kept == pytest.approx(0.25 * (162 + 60 + 360), abs=12)  # some weights that were just grown are still 0


def test_bad_input():
    with pytest.raises(InputError, match="method 'granet' moves connections and needs the optimizer"):
        Sparsifier(net(), UNSTRUCTURED, GraNet(), total_steps=10)
    with pytest.raises(RecipeError, match=r"starts at a sparsity of 0\.6 and cannot fall to 0\.5"):
        attach(net(), GraNet(initial=0.6))
    with pytest.raises(RecipeError, match="pruning must end after it begins"):
        registry.get_method("granet", {"begin": 0.5, "end": 0.5})
    with pytest.raises(RecipeError, match="least_drop is at most drop"):
        registry.get_method("granet", {"drop": 0.1, "least_drop": 0.2})


@pytest.mark.parametrize("pattern", ["unstructured", "1x4"])
def test_resume(pattern):
    check_resume(GraNet(every=2), {**UNSTRUCTURED, "pattern": pattern, "sparsity": 0.8}, steps=12, at=5)


def test_pruning_what_is_kept_tells_pruned_weights_from_kept_zeros():
    run = attach(linear([0.0, 9.0, 3.0, 4.0]), GraNet())
    mask = run.layers[0].mask
    mask.copy_(torch.tensor([[True, False, True, True]]))
    run.prune(0.5, only_kept=True)  # a quarter is due and pruned already: the kept zero stays
    assert mask.tolist() == [[True, False, True, True]]
    run.prune(1.0, only_kept=True)
    assert mask.tolist() == [[False, False, True, True]]
    run.prune(0.5, only_kept=True)  # less than is pruned: nothing comes back
    assert mask.tolist() == [[False, False, True, True]]
