"""MaskSparsity's rule: which filters are marked, what is pulled, what is cut, and that cut channels are dead."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gossamer import RecipeError
from gossamer.sparsify.training import Sparsifier, get_method
from gossamer.sparsify.training.methods.mask_sparsity import MaskSparsity
from tests.sparsify.training.nets import check_resume, net

HALF = {"pattern": "1x4", "sparsity": 0.5, "keep_dense": [], "include": ["0"], "exclude": ["3"]}


def _normed(seed: int = 0, filters: int = 8) -> nn.Sequential:
    """Convolution, batch norm, ReLU, convolution, for inputs ``[N, 4, 5, 5]``; the filters' magnitudes fall."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(4, filters, 3), nn.BatchNorm2d(filters), nn.ReLU(), nn.Conv2d(filters, 3, 1), nn.Flatten()
    )
    with torch.no_grad():
        ones = torch.sign(model[0].weight)
        model[0].weight.copy_(ones * torch.linspace(1.0, 0.1, filters).reshape(-1, 1, 1, 1))
    return model


def _train(run: Sparsifier, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        x = torch.randn(6, 4, 5, 5, generator=torch.Generator().manual_seed(run.step_number))
        loss = (run.model(x) - 1.0).square().mean() + run.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.step()


def test_the_least_filters_are_marked_at_begin_and_their_scales_alone_are_pulled() -> None:
    model = _normed()
    run = Sparsifier(model, HALF, MaskSparsity(begin=0.25, end=0.75, strength=0.5), total_steps=4)
    assert float(run.penalty().detach()) == 0.0
    run.step()
    assert run.memory["marked.0"].tolist() == [False] * 4 + [True] * 4
    assert bool(run.layers[0].mask.all())  # nothing is masked before the cut
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([1.0, 1.0, 1.0, 1.0, 2.0, -3.0, 0.5, 0.0]))
    penalty = run.penalty()
    assert float(penalty.detach()) == 0.5 * (2.0 + 3.0 + 0.5)
    penalty.backward()
    assert model[1].weight.grad.tolist() == [0.0, 0.0, 0.0, 0.0, 0.5, -0.5, 0.5, 0.0]
    assert model[0].parametrizations.weight.original.grad is None


def test_filters_below_the_threshold_are_cut_at_end_and_the_others_at_the_finish() -> None:
    model = _normed()
    run = Sparsifier(model, HALF, MaskSparsity(begin=0.0, end=0.5, every=2), total_steps=8)
    run.penalty()
    gamma = model[1].weight
    with torch.no_grad():
        gamma.copy_(torch.tensor([0.001, 1.0, 1.0, 1.0, 0.009, 0.011, -0.002, 1.0]))
    for _ in range(3):
        run.step()
    assert bool(run.layers[0].mask.all())
    run.step()  # half of the run: marked filters 4 and 6 are below 0.01; filter 0 is not marked
    assert run.layers[0].mask.flatten(1).any(dim=1).tolist() == [True] * 4 + [False, True, False, True]
    assert gamma.tolist() == pytest.approx([0.001, 1.0, 1.0, 1.0, 0.0, 0.011, 0.0, 1.0])
    assert float(run.penalty().detach()) == pytest.approx(5e-4 * (0.011 + 1.0))
    with torch.no_grad():
        gamma[5] = 0.0
    run.step()
    assert bool(run.layers[0].mask[5].all())  # looked at every second step
    run.step()
    assert not bool(run.layers[0].mask[5].any())
    assert run.finish() == {"0": 0.5}
    assert gamma.tolist() == pytest.approx([0.001, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    assert bool((model[0].weight[4:] == 0).all())


def test_training_pulls_marked_scales_down_and_leaves_the_others() -> None:
    model = _normed()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run = Sparsifier(model, HALF, MaskSparsity(begin=0.0, end=1.0, strength=0.2), total_steps=60)
    _train(run, optimizer, 50)
    scales = model[1].weight.detach()
    assert float(scales[4:].abs().max()) < 0.05 < 0.5 < float(scales[:4].abs().min())


def test_a_cut_channel_is_a_constant_zero_and_its_readers_get_no_signal() -> None:
    model = _normed()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    run = Sparsifier(model, HALF, MaskSparsity(begin=0.0, end=0.5, threshold=10.0), total_steps=8)
    _train(run, optimizer, 8)  # every marked filter is below 10 and cut at step 4, with momentum left in the optimiser
    gone = slice(4, 8)
    seen: list[Tensor] = []
    model[2].register_forward_hook(lambda _m, _x, out: seen.append(out))
    for training in (True, False):
        model.train(training)
        model.zero_grad()
        model(torch.randn(6, 4, 5, 5)).square().sum().backward()
        assert bool((seen[-1][:, gone] == 0).all())
        assert bool((seen[-1][:, :4] != 0).any())
        reader = model[3].weight.grad
        assert bool((reader[:, gone] == 0).all()) and bool((reader[:, :4] != 0).all())
    run.finish()
    assert bool((model[0].weight[gone] == 0).all()) and bool((model[0].bias[gone] == 0).all())
    assert bool((model[1].weight[gone] == 0).all()) and bool((model[1].bias[gone] == 0).all())
    assert bool((model[1].bias[:4] != 0).all())
    model(torch.randn(2, 4, 5, 5))
    assert bool((seen[-1][:, gone] == 0).all())


def test_blocks_of_four_rows_mark_four_filters_at_a_time() -> None:
    model = _normed(filters=12)
    with torch.no_grad():
        model[0].weight[9].fill_(20.0)  # its block of rows 8..11 has the largest mean
    target = {**HALF, "pattern": "4x4", "sparsity": 1.0 / 3.0}
    run = Sparsifier(model, target, MaskSparsity(begin=0.0), total_steps=4)
    assert run.memory["marked.0"].tolist() == [False] * 4 + [True] * 4 + [False] * 4
    assert run.finish() == {"0": pytest.approx(1.0 / 3.0)}


def test_a_global_distribution_takes_filters_where_they_are_least() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2)
    )
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[2].weight.copy_(torch.tensor([0.1, 0.1, 0.1, 5.0]).reshape(4, 1, 1, 1).expand(4, 4, 1, 1))
    target = {
        "pattern": "unstructured",
        "sparsity": 12 / 28,
        "distribution": "global",
        "keep_dense": [],
        "exclude": ["5"],
    }
    run = Sparsifier(model, target, MaskSparsity(begin=0.0), total_steps=4)
    assert run.memory["marked.0"].tolist() == [False] * 4
    assert run.memory["marked.2"].tolist() == [True] * 3 + [False]
    assert run.finish() == {"0": 0.0, "2": 0.75}


def test_a_layer_without_a_batch_norm_is_an_error_that_says_what_is_there() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
    with pytest.raises(RecipeError, match=r"no batch norm with a scale for the 8 outputs of layer '0'.*'1', a ReLU"):
        Sparsifier(model, {**HALF, "exclude": []}, MaskSparsity(), total_steps=4)
    last = nn.Sequential(nn.Linear(4, 8))
    target = {"pattern": "1x4", "sparsity": 0.5, "keep_dense": []}
    with pytest.raises(RecipeError, match="behind it is none"):
        Sparsifier(last, target, MaskSparsity(), total_steps=4)
    narrow = nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8, affine=False))
    with pytest.raises(RecipeError, match="no batch norm with a scale"):
        Sparsifier(narrow, target, MaskSparsity(), total_steps=4)


class _Crossed(nn.Module):
    """Registers its batch norms in the order in which they are not used."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 1)
        self.norm_b, self.norm_a = nn.BatchNorm2d(8), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm_b(self.b(self.norm_a(self.a(x))))
        return out


def test_norms_are_named_where_the_order_does_not_tell() -> None:
    model = _Crossed()
    target = {"pattern": "1x4", "sparsity": 0.5, "keep_dense": []}
    rule = get_method("mask-sparsity", {"norms": {"a": "norm_a", "b": "norm_b"}, "begin": 0.0})
    run = Sparsifier(model, target, rule, total_steps=4)
    with torch.no_grad():
        model.norm_a.weight.fill_(2.0)
    assert float(run.penalty().detach()) == pytest.approx(5e-4 * (4 * 2.0 + 4 * 1.0))
    with pytest.raises(RecipeError, match=r"layer 'b'.*'a', a ParametrizedConv2d"):
        Sparsifier(_Crossed(), target, MaskSparsity(norms={"a": "norm_a", "b": "a"}), total_steps=4)


@pytest.mark.parametrize(
    ("options", "text"),
    [({"begin": 0.6, "end": 0.5}, "filters are cut after they are marked"), ({"strength": 0.0}, "greater than 0")],
)
def test_settings_that_cannot_be(options: dict[str, Any], text: str) -> None:
    with pytest.raises(RecipeError, match=text):
        get_method("mask-sparsity", options)


def test_a_resumed_run_ends_like_an_uninterrupted_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def normed(seed: int = 0) -> nn.Sequential:
        parts = list(net(seed))
        return nn.Sequential(parts[0], nn.BatchNorm2d(6), *parts[1:3], nn.BatchNorm2d(10), *parts[3:])

    monkeypatch.setattr("tests.sparsify.training.nets.net", normed)
    target = {"pattern": "unstructured", "sparsity": 0.5, "keep_dense": [], "exclude": ["7"]}
    rule = MaskSparsity(begin=0.2, end=0.5, every=2, threshold=0.99, strength=0.1)
    for at in (1, 3, 6):
        check_resume(rule, target, steps=8, at=at)
