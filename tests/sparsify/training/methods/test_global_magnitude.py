"""Global magnitude: one threshold, the minimum of every layer, the ramp."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gossamer.sparsify.training.methods.global_magnitude import GlobalMagnitude
from tests.sparsify.training.nets import UNSTRUCTURED, attach, check_resume, linear, net, step


def test_one_threshold_decides_in_all_layers_although_the_target_says_uniform():
    model = nn.Sequential(linear([1.0, -2.0, 3.0, -9.0]), linear([4.0], [-5.0], [6.0], [-7.0]))
    run = attach(model, GlobalMagnitude(), {**UNSTRUCTURED, "distribution": "uniform"})
    run.finish()
    # The four smallest of eight: 1, 2, 3 and 4.
    assert model[0].weight.tolist() == [[0.0, 0.0, 0.0, -9.0]]
    assert model[1].weight.tolist() == [[0.0], [-5.0], [6.0], [-7.0]]


def test_blocks_compare_by_their_mean_between_patterns():
    model = nn.Sequential(linear([2.0] * 4, [5.0] * 4), linear([1.0, 6.0], [3.0, 3.0], [1.0, 6.0], [3.0, 3.0]))
    target = {**UNSTRUCTURED, "pattern": "1x4", "layers": [{"match": "1", "pattern": "4x1"}]}
    run = attach(model, GlobalMagnitude(), target)
    run.finish()
    # 1x4 blocks of mean 2 and 5, 4x1 blocks of mean 2 (8 / 4) and 4.5: the two of mean 2 leave.
    assert [layer.tolist() for layer in (model[0].weight, model[1].weight)] == [
        [[0.0] * 4, [5.0] * 4],
        [[0.0, 6.0], [0.0, 3.0], [0.0, 6.0], [0.0, 3.0]],
    ]


def test_every_layer_keeps_the_minimum_and_the_others_give_more():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(100, 100, bias=False), nn.Linear(100, 10, bias=False))
    with torch.no_grad():
        model[0].weight.mul_(1000)
    run = attach(model, GlobalMagnitude(), {**UNSTRUCTURED, "sparsity": 0.5})
    run.finish()
    # 0.05% of 11,000 is 5.5: the small layer keeps its best 6, and the large one gives what is left to half of all.
    assert int((model[1].weight != 0).sum()) == 6
    assert int((model[0].weight != 0).sum()) == 5500 - 6


def test_a_layer_smaller_than_the_minimum_is_left_whole():
    model = nn.Sequential(nn.Linear(100, 100, bias=False), linear([0.0, 1e-6, 1e-6, 1e-6]))
    attach(model, GlobalMagnitude(), {**UNSTRUCTURED, "sparsity": 0.9}).finish()
    assert torch.equal(model[1].weight, torch.tensor([[0.0, 1e-6, 1e-6, 1e-6]]))
    assert int((model[0].weight != 0).sum()) == round(0.1 * 10004) - 4


OWN = [{"match": "2", "sparsity": 0.25}]


def test_own_sparsity_takes_no_part():
    model = nn.Sequential(linear([1.0, 2.0, 3.0, 4.0]), linear([5.0, 6.0, 7.0, 8.0]), linear([0.1, 0.2, 0.3, 0.4]))
    attach(model, GlobalMagnitude(), {**UNSTRUCTURED, "sparsity": 0.375, "layers": OWN}).finish()
    assert [int((m.weight != 0).sum()) for m in model] == [1, 3, 3] or [int((m.weight != 0).sum()) for m in model] == [
        1,
        4,
        3,
    ]


def test_sparsity_follows_the_cubic():
    method = GlobalMagnitude(every=2, begin=0.1, end=0.6)
    run = attach(net(), method, {**UNSTRUCTURED, "sparsity": 0.8}, steps=40)
    for _ in range(40):
        step(run)
        progress = run.step_number // 2 * 2 / 40
        due = 0.8 * (1 - (1 - min(max(progress - 0.1, 0.0) / 0.5, 1.0)) ** 3)
        assert run.sparsity == pytest.approx(due, abs=0.51 / 582)
    assert len({round(layer.sparsity, 2) for layer in run.layers}) > 1


@pytest.mark.parametrize("pattern", ["unstructured", "4x1"])
def test_resume(pattern):
    check_resume(GlobalMagnitude(every=2, end=0.9), {**UNSTRUCTURED, "pattern": pattern}, steps=12, at=5)
