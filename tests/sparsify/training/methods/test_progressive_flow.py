"""Progressive gradient flow's rule: the leak's schedule, the ladder's rungs, dense gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from gossamer import RecipeError
from gossamer.sparsify.patterns import detect
from gossamer.sparsify.training import Sparsifier, get_method
from gossamer.sparsify.training.methods.progressive_flow import ProgressiveFlow, ladder
from tests.sparsify.training.nets import check_resume, linear

ROW = [4.0, -3.0, 2.0, 1.0]


def _target(pattern: str) -> dict[str, Any]:
    return {"pattern": pattern, "keep_dense": []}


def test_linear_fades_to_0_at_the_end_of_the_window() -> None:
    rule = ProgressiveFlow(decay="linear", begin=0.2, end=0.6)
    assert [rule.leak(p) for p in (0.0, 0.19, 0.2, 0.6, 1.0)] == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert rule.leak(0.3) == pytest.approx(0.75)
    assert rule.leak(0.5) == pytest.approx(0.25)
    assert ProgressiveFlow(decay="linear", rate=2.0, end=1.0).leak(0.25) == 0.5
    assert ProgressiveFlow(decay="linear", rate=2.0, end=1.0).leak(0.75) == 0.0  # not below 0


def test_exponential_is_exp_of_minus_a_t_and_0_after_the_window() -> None:
    rule = ProgressiveFlow(decay="exponential", end=0.5)
    assert rule.leak(0.0) == 1.0
    assert rule.leak(0.05) == pytest.approx(math.exp(-1.0))
    assert rule.leak(0.25) == pytest.approx(math.exp(-5.0))
    assert rule.leak(0.5) == 0.0
    assert ProgressiveFlow(decay="exponential", rate=3.0, end=0.5).leak(0.25) == pytest.approx(math.exp(-1.5))


@pytest.mark.parametrize(
    ("n", "m", "rungs"),
    [
        (1, 16, (15, 8, 4, 2, 1)),
        (2, 8, (7, 4, 2)),
        (2, 4, (3, 2)),
        (1, 4, (3, 2, 1)),
        (1, 2, (1,)),
        (3, 16, (15, 8, 4, 3)),
        (15, 16, (15,)),
        (2, 3, (2,)),
    ],
)
def test_rungs_halve_down_to_the_target(n: int, m: int, rungs: tuple[int, ...]) -> None:
    assert ladder(n, m) == rungs


def test_rungs_take_equal_slots_of_the_window() -> None:
    rule = ProgressiveFlow(decay="ladder", begin=0.25, end=0.75)
    # 5 rungs over half of the run: a tenth each.
    at = (0.0, 0.25, 0.34, 0.35, 0.44, 0.45, 0.54, 0.55, 0.64, 0.65, 1.0)
    assert [rule.kept(p, 1, 16) for p in at] == [15, 15, 15, 8, 8, 4, 4, 2, 2, 1, 1]


def test_the_forward_pass_sees_faded_weights_and_the_gradient_is_dense() -> None:
    model = nn.Sequential(linear(ROW))
    run = Sparsifier(model, _target("2:4"), ProgressiveFlow(decay="linear", end=1.0), total_steps=4)
    x = torch.tensor([[1.0, 2.0, 3.0, 5.0]])
    assert model[0].weight.tolist() == [ROW]  # beta is 1 at first
    run.step()
    assert float(run.layers[0].masked.leak) == 0.75
    assert model[0].weight.tolist() == [[4.0, -3.0, 1.5, 0.75]]
    out = model(x).sum()
    assert out.item() == 4.0 - 6.0 + 4.5 + 3.75
    out.backward()
    assert run.layers[0].weight.grad is not None
    assert run.layers[0].weight.grad.tolist() == x.tolist()  # not scaled by the mask or beta
    for _ in range(3):
        run.step()
    assert model[0].weight.tolist() == [[4.0, -3.0, 0.0, 0.0]]


def test_masks_follow_the_stored_weights() -> None:
    model = nn.Sequential(linear(ROW))
    run = Sparsifier(model, _target("1:4"), ProgressiveFlow(decay="linear", end=1.0), total_steps=4)
    with torch.no_grad():
        run.layers[0].weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 9.0]]))
    run.step()
    assert run.layers[0].mask.tolist() == [[False, False, False, True]]


def test_the_ladder_closes_rung_by_rung() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 8))
    run = Sparsifier(model, _target("1:16"), ProgressiveFlow(decay="ladder", end=1.0), total_steps=10)
    kept = [int(run.layers[0].mask.sum())]
    for _ in range(10):
        run.step()
        kept.append(int(run.layers[0].mask.sum()))
        assert torch.equal(model[0].weight == 0, ~run.layers[0].mask)  # binary: nothing leaks
    groups = 8 * 2
    assert kept == [groups * n for n in (15, 15, 8, 8, 4, 4, 2, 2, 1, 1, 1)]
    assert run.finish() == {"0": 1.0 - 1.0 / 16.0}


@pytest.mark.parametrize("decay", ["linear", "exponential", "ladder"])
def test_finish_in_the_middle_leaves_plain_zeros_of_the_pattern(decay: str) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(16, 8))
    run = Sparsifier(model, _target("2:8"), get_method("progressive-flow", {"decay": decay}), total_steps=10)
    run.step()
    stored = run.layers[0].weight.detach().clone()
    run.finish()
    weight = model[0].weight.detach()
    assert detect(weight.numpy()) == "2:8"
    assert torch.equal(weight[weight != 0], stored[weight != 0])


def test_blocks_fade_too() -> None:
    model = nn.Sequential(linear([1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0]))
    target = {"pattern": "1x4", "sparsity": 0.5, "keep_dense": []}
    run = Sparsifier(model, target, ProgressiveFlow(decay="linear", end=1.0), total_steps=2)
    run.step()
    assert model[0].weight.tolist() == [[0.5, 0.5, 0.5, 0.5, 2.0, 2.0, 2.0, 2.0]]


def test_a_ladder_to_blocks_is_an_error() -> None:
    target = {"pattern": "1x4", "sparsity": 0.5, "keep_dense": []}
    with pytest.raises(RecipeError, match="a ladder ends in an n:m pattern, not in 1x4"):
        Sparsifier(nn.Sequential(nn.Linear(8, 8)), target, ProgressiveFlow(decay="ladder"), total_steps=2)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"begin": 0.8, "end": 0.5}, "the window must end after it begins"),
        ({"decay": "ladder", "rate": 2.0}, "a ladder has equal slots and no rate"),
        ({"rate": 0.0}, "greater than 0"),
        ({"decay": "cosine"}, "'linear', 'exponential' or 'ladder'"),
    ],
)
def test_settings_that_cannot_be(options: dict[str, Any], text: str) -> None:
    with pytest.raises(RecipeError, match=text):
        get_method("progressive-flow", options)


@pytest.mark.parametrize("decay", ["exponential", "ladder"])
def test_a_resumed_run_ends_like_an_uninterrupted_one(decay: str) -> None:
    check_resume(get_method("progressive-flow", {"decay": decay, "end": 0.9}), _target("1:4"), steps=8, at=3)
