"""Tiny networks with known weights, and a run that is saved in the middle and resumed."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.sparsify.training import Method, Sparsifier

UNSTRUCTURED = {"pattern": "unstructured", "sparsity": 0.5, "keep_dense": []}


def linear(*rows: list[float]) -> nn.Linear:
    """A linear layer without bias and with these weights."""
    weight = torch.tensor(rows)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


def net(seed: int = 0) -> nn.Sequential:
    """Two convolutions of uneven channel counts and a linear layer; inputs ``[N, 3, 5, 5]``."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 10, 1), nn.ReLU(), nn.Flatten(), nn.Linear(90, 4))


def attach(
    model: nn.Module, method: Method, target: Mapping[str, Any] = UNSTRUCTURED, *, steps: int = 10, **kwargs: Any
) -> Sparsifier:
    """A sparsifier with an SGD optimiser with momentum."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return Sparsifier(model, target, method, total_steps=steps, optimizer=optimizer, **kwargs)


def step(run: Sparsifier) -> None:
    """One training step on inputs that depend on the step's number alone."""
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(run.step_number))
    x = x.to(run.layers[0].weight.device)
    loss = run.model(x).square().mean() + run.penalty()
    assert run.optimizer is not None
    run.optimizer.zero_grad()
    loss.backward()
    run.optimizer.step()
    run.step()


def masks(run: Sparsifier) -> list[Tensor]:
    """Copies of all masks."""
    return [layer.mask.clone() for layer in run.layers]


def check_resume(method: Method, target: Mapping[str, Any], *, steps: int, at: int, device: str = "cpu") -> None:
    """A run saved after ``at`` steps, through bytes, and resumed on a fresh model ends like one that was not."""

    def fresh(seed: int) -> Sparsifier:
        return attach(net(seed).to(device), method, target, steps=steps, seed=seed)

    whole = fresh(0)
    for _ in range(steps):
        step(whole)
    first = fresh(0)
    for _ in range(at):
        step(first)
    assert first.optimizer is not None
    buffer = io.BytesIO()
    torch.save([first.model.state_dict(), first.state_dict(), first.optimizer.state_dict()], buffer)
    buffer.seek(0)
    model_state, run_state, optimizer_state = torch.load(buffer, weights_only=True)
    second = fresh(1)
    second.model.load_state_dict(model_state)
    second.load_state_dict(run_state)
    assert second.optimizer is not None
    second.optimizer.load_state_dict(optimizer_state)
    for _ in range(steps - at):
        step(second)
    for a, b in zip(masks(whole), masks(second), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(whole.layers, second.layers, strict=True):
        assert torch.equal(a.weight, b.weight)
    assert whole.finish() == second.finish()
