"""SR-STE's rule: the mask follows the stored weights, gradients are dense, pruned weights decay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gossamer import InputError
from gossamer.sparsify.patterns import detect
from gossamer.sparsify.training import Sparsifier, get_method
from tests.sparsify.training.nets import check_resume

TARGET = {"pattern": "2:4", "keep_dense": []}


def _linear(weight: list[list[float]]) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(len(weight[0]), len(weight), bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor(weight))
    return model


def test_one_step_of_the_rule_by_hand() -> None:
    model = _linear([[4.0, -3.0, 2.0, 1.0]])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    run = Sparsifier(model, TARGET, get_method("sr-ste", {"decay": 0.25}), total_steps=4, optimizer=optimizer)
    (layer,) = run.layers
    assert layer.mask.tolist() == [[True, True, False, False]]
    x = torch.tensor([[1.0, 2.0, -8.0, 4.0]])
    out = model(x)
    assert out.item() == 4.0 - 6.0  # the pruned weights take no part in the forward pass
    (out.sum() + run.penalty()).backward()
    # g = x at every place; pruned places get 0.25 W on top: 2 and 1 times 0.25.
    assert layer.weight.grad is not None
    assert layer.weight.grad.tolist() == [[1.0, 2.0, -8.0 + 0.5, 4.0 + 0.25]]
    optimizer.step()
    assert layer.weight.tolist() == [[3.5, -4.0, 2.0 + 3.75, 1.0 - 2.125]]
    run.step()
    assert layer.mask.tolist() == [[False, True, True, False]]  # of 3.5, 4, 5.75, 1.125
    assert model[0].weight.tolist() == [[0.0, -4.0, 5.75, 0.0]]


def test_the_penalty_is_half_the_decay_times_the_pruned_squares() -> None:
    model = _linear([[4.0, -3.0, 2.0, 1.0], [0.5, 0.25, -8.0, 1.0]])
    run = Sparsifier(model, TARGET, "sr-ste", total_steps=4)
    penalty = run.penalty()
    assert isinstance(penalty, torch.Tensor)
    assert float(penalty.detach()) == pytest.approx(1e-4 * (2.0**2 + 1.0**2 + 0.5**2 + 0.25**2))


def test_scaling_the_loss_scales_the_decay_with_it() -> None:
    model = _linear([[4.0, -3.0, 2.0, 1.0]])
    run = Sparsifier(model, TARGET, get_method("sr-ste", {"decay": 0.25}), total_steps=4)
    ((model(torch.zeros(1, 4)).sum() + run.penalty()) * 1024.0).backward()
    assert run.layers[0].weight.grad is not None
    assert (run.layers[0].weight.grad / 1024.0).tolist() == [[0.0, 0.0, 0.5, 0.25]]


def test_without_decay_it_is_the_plain_straight_through_estimator() -> None:
    model = _linear([[4.0, -3.0, 2.0, 1.0]])
    run = Sparsifier(model, TARGET, get_method("sr-ste", {"decay": 0.0}), total_steps=4)
    assert run.penalty() == 0.0
    model(torch.tensor([[1.0, 2.0, 3.0, 4.0]])).sum().backward()
    assert run.layers[0].weight.grad is not None
    assert run.layers[0].weight.grad.tolist() == [[1.0, 2.0, 3.0, 4.0]]


@pytest.mark.parametrize("pattern", ["1:4", "2:4", "2:8", "4:16"])
def test_masks_are_the_projection_of_the_stored_weights_after_every_step(pattern: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4, 5))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    run = Sparsifier(model, {"pattern": pattern, "keep_dense": []}, "sr-ste", total_steps=5, optimizer=optimizer)
    changed = 0
    for _ in range(5):
        before = [layer.mask.clone() for layer in run.layers]
        loss = model(torch.randn(3, 6, 4, 4)).square().sum() + run.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.step()
        for layer, old in zip(run.layers, before, strict=True):
            expected = layer.pattern.project(layer.matrix(), columns=layer.columns)
            assert torch.equal(layer.matrix(layer.mask), expected)
            changed += int((layer.mask != old).sum())
    assert changed > 0
    n, m = map(int, pattern.split(":"))
    # Groups of m lie along the inputs of one tap; the last group of 6 channels is short and still keeps at most n.
    per_tap = run.layers[0].mask.sum(dim=1)
    assert per_tap.unique().tolist() == [6 // m * n + min(n, 6 % m)]


def test_masks_are_left_alone_between_refreshes() -> None:
    model = _linear([[4.0, -3.0, 2.0, 1.0]])
    run = Sparsifier(model, TARGET, get_method("sr-ste", {"every": 2}), total_steps=4)
    run.penalty()
    with torch.no_grad():
        run.layers[0].weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    run.step()
    assert run.layers[0].mask.tolist() == [[True, True, False, False]]
    run.step()
    assert run.layers[0].mask.tolist() == [[False, False, True, True]]


def test_blocks_keep_as_many_as_the_sparsity_asks_for() -> None:
    model = _linear([[1.0, 1.0, 1.0, 1.0, 9.0, 0.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0, 0.1, 0.1, 0.1, 0.1]])
    target = {"pattern": "1x4", "sparsity": 0.5, "keep_dense": []}
    run = Sparsifier(model, target, get_method("sr-ste", {"decay": 1.0}), total_steps=2)
    (layer,) = run.layers
    assert layer.kept_units().tolist() == [[False, True], [True, False]]  # sums 4, 9, 8, 0.4
    (model(torch.ones(1, 8)).sum() + run.penalty()).backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad[0].tolist() == [2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0]


def test_finish_leaves_the_pattern_as_plain_zeros() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(16, 8))
    run = Sparsifier(model, TARGET, get_method("sr-ste", {"every": 7}), total_steps=3)
    run.penalty()
    stored = run.layers[0].weight.detach().clone()
    assert run.finish() == {"0": 0.5}
    weight = model[0].weight.detach()
    assert isinstance(model[0].weight, nn.Parameter)
    assert detect(weight.numpy()) == "2:4"
    assert torch.equal(weight[weight != 0], stored[weight != 0])


def test_a_run_that_never_asks_for_the_penalty_is_an_error() -> None:
    run = Sparsifier(_linear([[4.0, -3.0, 2.0, 1.0]]), TARGET, "sr-ste", total_steps=4)
    with pytest.raises(InputError, match="method 'sr-ste' adds a penalty to the loss, but nobody asked for it") as e:
        run.step()
    assert "sparsifier.penalty()" in str(e.value.hint)


def test_a_resumed_run_ends_like_an_uninterrupted_one() -> None:
    check_resume(get_method("sr-ste", {"decay": 0.1, "every": 3}), {"pattern": "2:4", "keep_dense": []}, steps=8, at=4)
