"""BDWP's rule: outputs by the forward mask, gradients of inputs by the backward mask, dense gradients of weights."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from gossamer.sparsify.patterns import NM, detect
from gossamer.sparsify.training import Sparsifier, get_method
from gossamer.sparsify.training.methods.bdwp import BidirectionalPruning
from gossamer.sparsify.training.two_way import backward_mask
from tests.sparsify.training.nets import check_resume

TARGET = {"pattern": "1:2", "keep_dense": []}
PLAIN = BidirectionalPruning(decay=0.0)


def _attach(model: nn.Module, pattern: str = "1:2") -> Sparsifier:
    return Sparsifier(model, {"pattern": pattern, "keep_dense": []}, PLAIN, total_steps=4)


def test_a_linear_layer_by_hand() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, 2.0], [4.0, 1.0]]))
        model[0].bias.copy_(torch.tensor([0.5, -0.5]))
    (layer,) = _attach(model).layers
    assert layer.mask.tolist() == [[True, False], [True, False]]  # the larger of each row
    assert layer.masked.backward_mask is not None
    assert layer.masked.backward_mask.tolist() == [[False, True], [True, False]]  # the larger of each column
    x = torch.tensor([[10.0, 100.0]], requires_grad=True)
    y = model(x)
    assert y.tolist() == [[3.0 * 10 + 0.5, 4.0 * 10 - 0.5]]
    y.backward(torch.tensor([[1.0, 5.0]]))
    assert x.grad is not None and x.grad.tolist() == [[4.0 * 5.0, 2.0 * 1.0]]  # the forward mask would give 23, 0
    assert layer.weight.grad is not None
    assert layer.weight.grad.tolist() == [[10.0, 100.0], [50.0, 500.0]]  # g x^T, at pruned places too
    assert model[0].bias.grad.tolist() == [1.0, 5.0]


def _forward(module: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    plain = copy.deepcopy(module)
    with torch.no_grad():
        plain.weight.copy_(weight)  # type: ignore[union-attr, operator]
    out: Tensor = plain(x)
    return out


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Linear(8, 6), (3, 5, 8)),
        (nn.Conv1d(4, 8, 3, padding=2, dilation=2), (2, 4, 9)),
        (nn.Conv2d(4, 8, 3, stride=2, padding=1), (2, 4, 7, 6)),
        (nn.Conv2d(8, 8, (3, 1), groups=2, bias=False), (2, 8, 5, 4)),
        (nn.Conv2d(4, 4, 2, padding="same"), (2, 4, 5, 5)),
        (nn.Conv2d(4, 4, 3, padding="valid"), (2, 4, 5, 5)),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), (2, 4, 5, 5)),
        (nn.Conv3d(4, 4, 2), (1, 4, 3, 3, 3)),
    ],
    ids=lambda v: str(v) if isinstance(v, nn.Module) else "",
)
def test_every_layer_is_the_two_masked_layers_that_it_stands_for(module: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    module = copy.deepcopy(module)
    plain = copy.deepcopy(module)
    x = torch.randn(shape, requires_grad=True)
    target = {"pattern": "1:2", "keep_dense": [], "include": ["0"]}
    (layer,) = Sparsifier(nn.Sequential(module), target, PLAIN, total_steps=2).layers
    weight, back = layer.weight.detach(), layer.masked.backward_mask
    assert back is not None
    assert float(back.float().mean()) == 0.5 and not torch.equal(back, layer.mask)
    y = module(x)
    assert torch.equal(y, _forward(plain, x, weight * layer.mask))
    g = torch.randn_like(y)
    y.backward(g)
    assert x.grad is not None and layer.weight.grad is not None
    (by_backward_mask,) = torch.autograd.grad(_forward(plain, x, weight * back), x, g)
    torch.testing.assert_close(x.grad, by_backward_mask)
    dense = copy.deepcopy(plain)
    dense(x.detach()).backward(g)
    torch.testing.assert_close(layer.weight.grad, dense.weight.grad)  # g x^T does not depend on the weight


def test_backward_masks_keep_n_of_m_along_the_outputs_of_each_tap() -> None:
    torch.manual_seed(1)
    weight = torch.randn(8, 5, 3, 3)
    mask = backward_mask(NM(2, 4), weight)
    assert mask.reshape(2, 4, 5, 3, 3).sum(dim=1).unique().tolist() == [2]
    kept = (weight.abs() * mask).reshape(2, 4, 5, 3, 3).sum(dim=1)
    assert torch.allclose(kept, weight.abs().reshape(2, 4, 5, 3, 3).topk(2, dim=1).values.sum(dim=1))


def test_groups_of_a_convolution_are_not_mixed() -> None:
    weight = torch.tensor([1.0, 2.0, 30.0, 40.0]).reshape(4, 1, 1, 1)
    assert backward_mask(NM(1, 2), weight, groups=2).flatten().tolist() == [False, True, False, True]
    assert backward_mask(NM(1, 4), weight, groups=1).flatten().tolist() == [False, False, False, True]


def test_both_masks_follow_the_weights() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    run = _attach(model)
    run.penalty()
    with torch.no_grad():
        run.layers[0].weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 9.0]]))
    run.step()
    assert run.layers[0].mask.tolist() == [[False, True], [False, True]]
    assert run.layers[0].masked.backward_mask is not None
    assert run.layers[0].masked.backward_mask.tolist() == [[False, False], [True, True]]


def test_a_copy_runs_on_its_own_weights_and_masks() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    _attach(model)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        model[0].parametrizations.weight.original.zero_()
    assert model(torch.ones(1, 2)).abs().sum() == 0
    assert twin(torch.ones(1, 2)).abs().sum() > 0


def test_a_frozen_input_needs_no_second_product() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    _attach(model)
    out = model(torch.ones(1, 2))
    assert "_Passed" not in type(out.grad_fn).__name__


def test_finish_leaves_the_forward_zeros_in_a_plain_layer() -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(8, 8, 3))
    run = Sparsifier(model, {"pattern": "2:8", "keep_dense": []}, "bdwp", total_steps=2)
    mask, stored = run.layers[0].mask.clone(), run.layers[0].weight.detach().clone()
    assert run.finish() == {"0": 0.75}
    assert type(model[0]) is nn.Conv2d
    assert torch.equal(model[0].weight.detach(), stored * mask)
    assert detect(model[0].weight.detach().permute(0, 2, 3, 1).reshape(8 * 9, 8).numpy()) == "2:8"
    x = torch.randn(1, 8, 5, 5)
    assert torch.equal(model(x), functional.conv2d(x, stored * mask, model[0].bias))


def test_training_in_bfloat16_gives_gradients_of_the_inputs_type() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    run = Sparsifier(model, {"pattern": "2:4", "keep_dense": []}, get_method("bdwp"), total_steps=2)
    x = torch.randn(4, 8, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(x).square().sum() + run.penalty()
    loss.backward()
    assert x.grad is not None and x.grad.dtype == torch.float32 and x.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of torch to itself
def test_it_compiles() -> None:
    torch.manual_seed(4)
    model = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 9, 2))
    run = _attach(model)
    x = torch.randn(2, 4, 3, 3, requires_grad=True)
    model(x).square().sum().backward()
    eager = [layer.weight.grad for layer in run.layers]
    seen = x.grad
    model.zero_grad(set_to_none=True)
    x.grad = None
    torch.compile(model, backend="aot_eager", fullgraph=True)(x).square().sum().backward()
    assert seen is not None and x.grad is not None
    torch.testing.assert_close(x.grad, seen)
    for layer, before in zip(run.layers, eager, strict=True):
        torch.testing.assert_close(layer.weight.grad, before)


def test_a_resumed_run_ends_like_an_uninterrupted_one() -> None:
    check_resume(get_method("bdwp", {"decay": 0.1, "every": 3}), {"pattern": "2:4", "keep_dense": []}, steps=8, at=4)
