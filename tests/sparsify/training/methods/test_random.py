"""The random control: densities, chance, patterns, and that masks never move."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gossamer._errors import RecipeError
from gossamer.sparsify.distribute import erk
from gossamer.sparsify.training.methods.random import Random
from tests.sparsify.training.nets import UNSTRUCTURED, attach, check_resume, masks, net, step


def test_layer_densities_are_erk_and_whole_network_meets_the_target():
    model = nn.Sequential(nn.Linear(64, 128), nn.Linear(128, 32), nn.Linear(32, 8))
    run = attach(model, Random(), {**UNSTRUCTURED, "sparsity": 0.7})
    # Density proportional to (rows + cols) / (rows * cols); the last layer's share passes 1, so it stays dense.
    assert erk([(128, 64), (32, 128), (8, 32)], 0.7)[2] == 0.0
    budget = 0.3 * (8192 + 4096 + 256) - 256
    factor = budget / (192 + 160)
    kept = [int(layer.mask.sum()) for layer in run.layers]
    assert kept == [round(factor * 192), round(factor * 160), 256]
    assert run.sparsity == pytest.approx(0.7, abs=1e-4)


def test_uniform_gives_each_layer_the_same_share():
    model = nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 8))
    run = attach(model, Random(distribution="uniform"), {**UNSTRUCTURED, "sparsity": 0.75})
    assert [int(layer.mask.sum()) for layer in run.layers] == [128, 64]


def test_masks_ignore_magnitudes_follow_the_seed_and_never_move():
    first, again, other = (attach(net(), Random(), seed=s) for s in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(masks(first), masks(again), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(masks(first), masks(other), strict=True))
    scaled = net()
    with torch.no_grad():
        for p in scaled.parameters():
            p.mul_(torch.rand_like(p))
    assert all(torch.equal(a, b) for a, b in zip(masks(first), masks(attach(scaled, Random(), seed=5)), strict=True))
    before = masks(first)
    for _ in range(3):
        step(first)
    assert all(torch.equal(a, b) for a, b in zip(before, masks(first), strict=True))


def test_every_weight_is_as_likely():
    kept = torch.zeros(8, 16)
    for seed in range(400):
        kept += attach(nn.Linear(16, 8, bias=False), Random(), seed=seed).layers[0].mask
    # 400 draws at 1/2: mean 200, deviation 10; 128 places stay within 4.5 deviations.
    assert float(kept.mean()) == 200.0
    assert float((kept - 200).abs().max()) < 45


@pytest.mark.parametrize(("pattern", "rows", "columns"), [("1x4", 1, 4), ("4x1", 4, 1), ("4x4", 4, 4)])
def test_blocks_are_whole(pattern, rows, columns):
    run = attach(nn.Linear(16, 8, bias=False), Random(), {**UNSTRUCTURED, "pattern": pattern})
    blocks = run.layers[0].mask.reshape(8 // rows, rows, 16 // columns, columns).sum(dim=(1, 3))
    assert set(blocks.flatten().tolist()) == {0, rows * columns}
    assert run.sparsity == 0.5


def test_blocks_at_the_edge_are_as_likely_as_others():
    kept = torch.zeros(2)
    for seed in range(300):  # 6 inputs: blocks of 4 and of 2 real weights
        mask = attach(nn.Linear(6, 8, bias=False), Random(), {**UNSTRUCTURED, "pattern": "1x4"}, seed=seed)
        kept += mask.layers[0].mask[:, [0, 5]].sum(dim=0)
    assert kept.sum() == pytest.approx(2400, rel=0.05)
    assert abs(float(kept[0] - kept[1])) < 250


def test_n_of_every_m_inputs():
    run = attach(nn.Conv2d(8, 5, 3, bias=False), Random(), {"pattern": "2:4", "keep_dense": []})
    groups = run.layers[0].mask.permute(0, 2, 3, 1).reshape(-1, 4)
    assert set(groups.sum(dim=1).tolist()) == {2}
    assert len({tuple(g) for g in groups.tolist()}) == 6  # all choices of 2 of 4 occur


def test_own_sparsity_of_a_layer_holds():
    model = nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 32))
    target = {**UNSTRUCTURED, "layers": [{"match": "0", "sparsity": 0.25}]}
    assert [layer.sparsity for layer in attach(model, Random(), target).layers] == [0.25, 0.5]


def test_empty_layer_is_refused():
    with pytest.raises(RecipeError, match="leaves layer '0' empty: none of its 16 weights would stay"):
        attach(nn.Sequential(nn.Linear(4, 4)), Random(), {**UNSTRUCTURED, "pattern": "4x4", "sparsity": 0.9})


def test_finish_leaves_plain_zeros():
    run = attach(net(), Random(), {**UNSTRUCTURED, "sparsity": 0.75})
    kept = masks(run)
    step(run)
    run.finish()
    weights = [run.model[i].weight for i in (0, 2, 5)]
    assert all(torch.equal(w != 0, m) for w, m in zip(weights, kept, strict=True))


def test_resume():
    check_resume(Random(), {**UNSTRUCTURED, "pattern": "1x4"}, steps=6, at=3)
