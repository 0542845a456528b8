"""A training step captured as a CUDA graph goes on with the masks, penalties and leaks of the run."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from gossamer.sparsify.training import Sparsifier, get_method

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

CASES = {
    "gradual-magnitude": ("1x4", {"every": 1}),
    "sr-ste": ("2:4", {"decay": 0.1}),
    "bdwp": ("2:4", {"decay": 0.1}),
    "progressive-flow": ("1:4", {"decay": "linear"}),
    "mask-sparsity": ("1x4", {"begin": 0.25, "end": 0.5, "threshold": 0.98, "every": 1, "strength": 0.1}),
    "group-envelope": ("1x4", {"strength": 0.1, "end": 0.5}),
}
STEPS = 12


def _start(name, pattern, options):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16)
    ).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    target = {"pattern": pattern, "keep_dense": []}
    if ":" not in pattern:
        target["sparsity"] = 0.5
    return (
        model,
        optimizer,
        Sparsifier(model, target, get_method(name, options), total_steps=STEPS, optimizer=optimizer),
    )


def _update(model, optimizer, run, x):
    optimizer.zero_grad(set_to_none=True)
    loss = functional.mse_loss(model(x), x.new_ones(()).expand(x.shape[0], 16, 6, 6)) + run.penalty()
    loss.backward()
    optimizer.step()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", list(CASES))
def test_a_captured_step_trains_like_an_eager_one(name):
    pattern, options = CASES[name]
    inputs = [torch.randn(4, 8, 6, 6, generator=torch.Generator().manual_seed(i)).cuda() for i in range(STEPS)]
    eager_model, eager_optimizer, eager = _start(name, pattern, options)
    for x in inputs:
        _update(eager_model, eager_optimizer, eager, x)
        eager.step()

    model, optimizer, run = _start(name, pattern, options)
    held = inputs[0].clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.cuda.stream(stream):
        for _ in range(3):
            _update(model, optimizer, run, held)
        optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=stream):
        _update(model, optimizer, run, held)
    model.load_state_dict(before)
    for state in optimizer.state.values():
        state["momentum_buffer"].zero_()
    for x in inputs:
        held.copy_(x)
        graph.replay()
        run.step()
    torch.cuda.synchronize()
    for a, b in zip(eager.layers, run.layers, strict=True):
        assert (a.mask != b.mask).float().mean() < 0.02  # sums in another order may turn a near tie
        torch.testing.assert_close(a.weight, b.weight, rtol=2e-2, atol=2e-3)
    assert run.finish().keys() == eager.finish().keys()


@pytest.mark.parametrize("name", ["sr-ste", "bdwp", "progressive-flow"])
def test_choosing_n_of_m_masks_does_not_wait_for_the_device(name):
    pattern, options = CASES[name]
    _, _, run = _start(name, pattern, options)
    run.penalty()
    run.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        run.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
