"""ISS-P: which weights shrink, by how much, until when."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gossamer.sparsify.training.methods.iss_p import IterativeSoftShrinkage
from tests.sparsify.training.nets import UNSTRUCTURED, attach, check_resume, linear, net, step


def shrunk(model, target, ratio=0.5, steps=1, total=10):
    """The weights of a model's layers after so many shrinks, without training."""
    run = attach(model, IterativeSoftShrinkage(ratio=ratio), target, steps=total)
    for _ in range(steps):
        run.step()
    assert all(layer.mask.all() for layer in run.layers)
    return [layer.weight.tolist() for layer in run.layers]


def test_the_smallest_share_of_each_layer_shrinks_and_nothing_is_masked():
    model = nn.Sequential(linear([1.0, -8.0, 4.0, -2.0]), linear([10.0], [20.0], [-30.0], [40.0]))
    assert shrunk(model, UNSTRUCTURED) == [[[0.5, -8.0, 4.0, -1.0]], [[5.0], [10.0], [-30.0], [40.0]]]


def test_shrinking_compounds_and_follows_magnitudes():
    model = linear([1.0, 2.0, 3.0, 4.0])
    assert shrunk(model, UNSTRUCTURED, steps=3) == [[[0.125, 0.25, 3.0, 4.0]]]
    run = attach(linear([1.0, 2.0, 3.0, 4.0]), IterativeSoftShrinkage(ratio=0.5))
    run.step()
    with torch.no_grad():  # a small weight grows past another: the other shrinks from then on
        run.layers[0].weight[0, 0] = 3.5
    run.step()
    assert run.layers[0].weight.tolist() == [[3.5, 0.5, 1.5, 4.0]]


def test_blocks_shrink_whole_by_their_sum():
    model = linear([9.0, 0.0, 0.0, 0.0, 2.0, 3.0, 4.0, 1.0])
    assert shrunk(model, {**UNSTRUCTURED, "pattern": "1x4"}) == [[[4.5, 0.0, 0.0, 0.0, 2.0, 3.0, 4.0, 1.0]]]


def test_padding_does_not_count():
    # Three inputs are padded to four columns; half of six weights are three.
    assert shrunk(linear([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]), UNSTRUCTURED) == [[[0.5, 1.0, 1.5], [4.0, 5.0, 6.0]]]


def test_n_of_m_shrinks_the_rest_of_each_group():
    model = linear([1.0, 2.0, 3.0, 4.0, 40.0, 30.0, 20.0, 10.0])
    expected = [[[0.5, 1.0, 3.0, 4.0, 40.0, 30.0, 10.0, 5.0]]]
    assert shrunk(model, {"pattern": "2:4", "keep_dense": []}) == expected


def test_global_shares_one_threshold_and_own_sparsity_stands_apart():
    model = nn.Sequential(linear([1.0, 2.0, 3.0, 9.0]), linear([4.0], [5.0], [6.0], [7.0]), linear([0.1, 0.2, 0.3, 8]))
    target = {**UNSTRUCTURED, "distribution": "global", "layers": [{"match": "2", "sparsity": 0.25}]}
    assert shrunk(model, target) == [
        [[0.5, 1.0, 1.5, 9.0]],
        [[2.0], [5.0], [6.0], [7.0]],
        [pytest.approx([0.05, 0.2, 0.3, 8.0])],
    ]


def test_erk_shares():
    model = nn.Sequential(linear(*torch.arange(1.0, 65).reshape(8, 8).tolist()), linear([1.0, 2.0, 3.0, 4.0]))
    first, second = shrunk(model, {**UNSTRUCTURED, "distribution": "erk"})
    # Densities in proportion to 16/64 and 5/4: the second would pass 1 and stays dense; 34 of 64 shrink in the first.
    assert second == [[1.0, 2.0, 3.0, 4.0]]
    assert int((torch.tensor(first).flatten() < torch.arange(1.0, 65)).sum()) == 34


def test_masked_for_good_at_the_end_of_the_soft_phase():
    run = attach(net(), IterativeSoftShrinkage(ratio=0.9, end=0.4), {**UNSTRUCTURED, "sparsity": 0.75}, steps=20)
    for _ in range(7):
        step(run)
    assert run.sparsity == 0.0
    step(run)
    assert run.sparsity == pytest.approx(0.75, abs=0.01)
    largest = run.layers[2].weight.abs() >= run.layers[2].weight.abs().flatten().kthvalue(271).values
    assert torch.equal(run.layers[2].mask, largest)  # 270 of 360 are masked
    kept = [layer.weight.clone() for layer in run.layers]
    run.step()  # without training, nothing shrinks any more
    assert all(torch.equal(a, layer.weight) for a, layer in zip(kept, run.layers, strict=True))


def test_ratio_is_applied_to_weights_of_every_type():
    model = linear([1.0, -8.0, 4.0, -2.0]).double()
    assert shrunk(model, UNSTRUCTURED) == [[[0.5, -8.0, 4.0, -1.0]]]
    assert model.weight.dtype == torch.float64


def test_finish_masks_what_was_cut_short():
    model = linear([1.0, -8.0, 4.0, -2.0])
    attach(model, IterativeSoftShrinkage()).finish()
    assert model.weight.tolist() == [[0.0, -8.0, 4.0, 0.0]]


@pytest.mark.parametrize(("pattern", "at"), [("unstructured", 3), ("1x4", 9), ("2:4", 5)])
def test_resume(pattern, at):
    target = {"pattern": pattern, "keep_dense": [], **({} if ":" in pattern else {"sparsity": 0.5})}
    check_resume(IterativeSoftShrinkage(end=0.6), target, steps=12, at=at)
