"""RigL: which weights leave and enter, how many, when, and with what."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gossamer._errors import InputError, RecipeError
from gossamer.sparsify.training import Sparsifier
from gossamer.sparsify.training.methods.rigl import RigL
from tests.sparsify.training.nets import UNSTRUCTURED, attach, check_resume, linear, masks, net, step


def test_fraction_is_half_a_cosine_to_the_end_of_moves():
    method = RigL(alpha=0.3, end=0.75)
    assert method.fraction(0.0) == 0.3
    assert method.fraction(0.375) == pytest.approx(0.15)
    assert method.fraction(0.25) == pytest.approx(0.15 * (1 + math.cos(math.pi / 3)))
    assert method.fraction(0.75) == pytest.approx(0.0, abs=1e-12)


def one_move(weight, mask, gradient, fraction, target=UNSTRUCTURED):
    """One move of a linear layer without decay; returns its run."""
    run = attach(linear(*weight), RigL(alpha=0.999, every=1), target, steps=10**9)
    layer = run.layers[0]
    layer.mask.copy_(torch.tensor(mask, dtype=torch.bool))
    run.memory["kept"] = [int(layer.mask.sum())]
    layer.gradient.copy_(torch.tensor(gradient))
    run.optimizer.state[layer.weight]["momentum_buffer"] = torch.ones_like(layer.weight)
    run.method = RigL(alpha=fraction, every=1)
    run.step()
    return run


def test_smallest_weights_leave_and_largest_gradients_enter():
    run = one_move(
        [[4.0, -0.1, 3.0, 0.2], [9.0, 9.0, -9.0, 9.0]],
        [[1, 1, 1, 1], [0, 0, 0, 0]],
        [[0.0, 0.0, 0.0, 0.0], [0.5, -7.0, 6.0, 0.1]],
        0.5,
    )
    layer = run.layers[0]
    assert layer.mask.tolist() == [[True, False, True, False], [False, True, True, False]]
    # New ones start at zero, whatever was stored there; the others keep theirs, as do moments.
    assert layer.weight.tolist() == [[4.0, pytest.approx(-0.1), 3.0, pytest.approx(0.2)], [9.0, 0.0, 0.0, 9.0]]
    assert run.optimizer.state[layer.weight]["momentum_buffer"].tolist() == [[1, 1, 1, 1], [1, 0, 0, 1]]


def test_a_dropped_weight_with_the_largest_gradient_returns_as_it_was():
    run = one_move([[4.0, 0.5, 3.0, 9.0]], [[1, 1, 1, 0]], [[0.0, 5.0, 0.0, 1.0]], 0.34)
    assert run.layers[0].mask.tolist() == [[True, True, True, False]]
    assert run.layers[0].weight.tolist() == [[4.0, 0.5, 3.0, 9.0]]
    assert run.optimizer.state[run.layers[0].weight]["momentum_buffer"].tolist() == [[1, 1, 1, 1]]


def test_number_dropped_is_rounded_down():
    weight, mask = [[1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0]], [[1, 1, 1, 1, 0, 0, 0, 0]]
    gradient = [[0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0]]
    assert one_move(weight, mask, gradient, 0.49).layers[0].mask.tolist() == [[False, *[True] * 3, *[False] * 3, True]]
    assert one_move(weight, mask, gradient, 0.24).layers[0].mask.tolist() == [[*[True] * 4, *[False] * 4]]


def test_blocks_are_judged_by_their_sum():
    # Four blocks of 1x4: the one with the largest single weight has the smallest sum and leaves.
    weight = [[3.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0], [1.0] * 8]
    gradient = [[0.0] * 8, [9.0, 0.0, 0.0, 0.0, 3.0, -3.0, 3.0, -3.0]]
    run = one_move(weight, [[1] * 8, [0] * 8], gradient, 0.5, {**UNSTRUCTURED, "pattern": "1x4"})
    assert run.layers[0].mask.tolist() == [[False] * 4 + [True] * 4, [False] * 4 + [True] * 4]
    assert run.layers[0].weight[1].tolist() == [1.0] * 4 + [0.0] * 4


def test_gradients_that_are_not_finite_do_not_attract():
    run = one_move([[1.0, 2.0, 0.0, 0.0, 0.0]], [[1, 1, 0, 0, 0]], [[0.0, 0.0, math.nan, math.inf, 1e-9]], 0.5)
    assert run.layers[0].mask.tolist() == [[False, True, False, False, True]]


@pytest.mark.parametrize("pattern", ["unstructured", "1x4", "4x1", "4x4"])
def test_every_layer_keeps_its_number_of_weights(pattern):
    model = nn.Sequential(nn.Conv2d(3, 10, 3), nn.ReLU(), nn.Conv2d(10, 14, 1), nn.ReLU(), nn.Flatten())
    model.append(nn.Linear(126, 7))
    run = attach(model, RigL(every=1), {**UNSTRUCTURED, "pattern": pattern}, steps=12)
    start, kept = masks(run), run.memory["kept"]
    moved = [0, 0, 0]
    for _ in range(12):
        step(run)
        for i, layer in enumerate(run.layers):
            # Blocks at the edge hold fewer weights: to half a block, and no drift.
            assert abs(int(layer.mask.sum()) - kept[i]) <= max(layer.unit_counts.flat) / 2 * (pattern != "unstructured")
            moved[i] = max(moved[i], int((layer.mask & ~start[i]).sum()))
    assert all(m > 0 for m in moved)
    assert run.sparsity == pytest.approx(0.5, abs=0.02)


def test_moves_happen_every_so_many_steps_and_stop():
    run = attach(net(), RigL(every=2, alpha=0.9, end=0.6), steps=20)
    moved_at = []
    for _ in range(20):
        before = masks(run)
        step(run)
        if not all(torch.equal(a, b) for a, b in zip(before, masks(run), strict=True)):
            moved_at.append(run.step_number)
    assert moved_at
    assert set(moved_at) <= {2, 4, 6, 8, 10}
    assert {2, 4, 6} <= set(moved_at)


def test_gradient_is_dense_where_the_optimiser_sees_a_masked_one():
    run = attach(linear([1.0, 2.0, 3.0, 4.0]), RigL(every=100))
    layer = run.layers[0]
    layer.mask.copy_(torch.tensor([[True, False, True, False]]))
    run.model(torch.tensor([[1.0, 10.0, 100.0, 1000.0]])).sum().backward()
    assert layer.gradient.tolist() == [[1.0, 10.0, 100.0, 1000.0]]
    assert layer.weight.grad.tolist() == [[1.0, 0.0, 100.0, 0.0]]


def test_adam_moments_of_new_weights_start_at_zero():
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    run = Sparsifier(model, UNSTRUCTURED, RigL(every=3, alpha=0.5), total_steps=30, optimizer=optimizer)
    for _ in range(2):
        step(run)
    before = masks(run)
    step(run)
    grown = [layer.mask & ~old for layer, old in zip(run.layers, before, strict=True)]
    assert sum(int(g.sum()) for g in grown) > 0
    for layer, new in zip(run.layers, grown, strict=True):
        for key in ("exp_avg", "exp_avg_sq"):
            moments = optimizer.state[layer.weight][key]
            assert (moments[new] == 0).all()
            assert (moments[layer.mask & ~new] != 0).any()
        assert (layer.weight[new] == 0).all()


def test_bad_input():
    with pytest.raises(InputError, match="method 'rigl' moves connections and needs the optimizer"):
        Sparsifier(net(), UNSTRUCTURED, RigL(), total_steps=10)
    with pytest.raises(RecipeError, match=r"method 'rigl' cannot make pattern 2:4"):
        attach(net(), RigL(), {"pattern": "2:4", "keep_dense": []})


@pytest.mark.parametrize("pattern", ["unstructured", "1x4"])
def test_resume(pattern):
    check_resume(RigL(every=2, alpha=0.5), {**UNSTRUCTURED, "pattern": pattern}, steps=12, at=5)
