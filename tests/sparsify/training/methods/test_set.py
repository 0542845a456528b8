"""SET: the smallest leave, random ones enter, as many as left."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gossamer._errors import InputError
from gossamer.sparsify.training import Sparsifier
from gossamer.sparsify.training.methods.set import SET
from tests.sparsify.training.nets import UNSTRUCTURED, attach, check_resume, linear, masks, net, step


def moved(seed=0, zeta=0.5, pattern="unstructured"):
    """A run over a 2x8 layer whose first row is kept, with magnitudes 1..8, after one move."""
    run = attach(
        linear([1.0, -2.0, 3.0, -4.0, 5.0, -6.0, 7.0, -8.0], [9.0] * 8),
        SET(zeta=zeta, every=1),
        {**UNSTRUCTURED, "pattern": pattern},
        seed=seed,
    )
    layer = run.layers[0]
    layer.mask.copy_(torch.tensor([[True] * 8, [False] * 8]))
    run.memory["kept"] = [8]
    run.optimizer.state[layer.weight]["momentum_buffer"] = torch.ones(2, 8)
    run.step()
    return run


def test_smallest_magnitudes_leave_and_as_many_enter():
    for seed in range(20):
        layer = moved(seed).layers[0]
        assert int(layer.mask.sum()) == 8
        assert layer.mask[0, 4:].all()


def test_entries_are_random_and_each_place_as_likely():
    entered = torch.zeros(2, 8)
    for seed in range(600):
        entered += moved(seed).layers[0].mask
    # 4 of the 12 free places (8 pruned, 4 just dropped): 200 of 600, deviation 11.5.
    assert (entered[0, 4:] == 600).all()
    free = torch.cat([entered[0, :4], entered[1]])
    assert float(free.sum()) == 2400
    assert float((free - 200).abs().max()) < 50
    assert torch.equal(moved(3).layers[0].mask, moved(3).layers[0].mask)


def test_new_weights_and_their_moments_start_at_zero():
    run = moved()
    layer = run.layers[0]
    new = layer.mask[1]
    assert new.any()
    assert layer.weight[1].tolist() == [0.0 if n else 9.0 for n in new.tolist()]
    assert run.optimizer.state[layer.weight]["momentum_buffer"][1].tolist() == [0.0 if n else 1.0 for n in new.tolist()]
    assert layer.weight[0].tolist() == [1.0, -2.0, 3.0, -4.0, 5.0, -6.0, 7.0, -8.0]


def test_number_dropped_is_rounded_down():
    for seed in range(10):
        assert moved(seed, zeta=0.49).layers[0].mask[0, 3:].all()  # 3.92 of 8: three


def test_blocks_move_whole():
    entered = set()
    for seed in range(20):
        mask = moved(seed, pattern="1x4").layers[0].mask
        blocks = mask.reshape(4, 4).sum(dim=1).tolist()
        assert blocks[1] == 4  # magnitudes 5..8
        assert sorted(blocks) == [0, 0, 4, 4]
        entered.add(tuple(blocks))
    assert len(entered) == 3


def test_every_so_many_steps_but_not_at_the_end():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 8))
    run = attach(model, SET(every=4, zeta=0.5), steps=14)
    kept, at = [int(layer.mask.sum()) for layer in run.layers], []
    for _ in range(14):
        before = masks(run)
        step(run)
        if not all(torch.equal(a, b) for a, b in zip(before, masks(run), strict=True)):
            at.append(run.step_number)
        assert [int(layer.mask.sum()) for layer in run.layers] == kept
    assert at == [4, 8]  # 12 has fewer than four steps after it


def test_needs_the_optimizer():
    with pytest.raises(InputError, match="method 'set' moves connections and needs the optimizer"):
        Sparsifier(net(), UNSTRUCTURED, SET(), total_steps=10)


@pytest.mark.parametrize("pattern", ["unstructured", "1x4"])
def test_resume(pattern):
    check_resume(SET(every=2), {**UNSTRUCTURED, "pattern": pattern}, steps=12, at=5)
