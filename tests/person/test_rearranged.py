"""A person network with rearranged channels: the same function, more magnitude in its blocks."""

from __future__ import annotations

import pytest
import torch

from gossamer._errors import RecipeError
from gossamer.person.models import build
from gossamer.person.rearranged import exported_names, rearranged_state, rearranged_with_report
from gossamer.recipe import SparsifyStep
from gossamer.sparsify.matrix import from_onnx
from gossamer.sparsify.patterns import get


def trained_like(name: str, seed: int = 0) -> torch.nn.Module:
    """Weights and statistics that differ from channel to channel, as training leaves them."""
    torch.manual_seed(seed)
    network = build(name)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data *= torch.rand(1, module.weight.shape[1], 1, 1) * 2
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.5, 0.5)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize("name", ["v1-0.25", "v2-0.35"])
def test_the_function_stays_and_the_blocks_keep_more(name):
    network = trained_like(name)
    step = SparsifyStep(pattern="1x4", sparsity=0.9)
    state, report = rearranged_with_report(network, step, seconds=20)
    other = build(name).eval()
    other.load_state_dict(state)
    x = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(other(x), network(x), rtol=1e-4, atol=1e-5)
    assert report.after > report.before + 0.01
    assert not all(torch.equal(a, b) for a, b in zip(state.values(), network.state_dict().values(), strict=True))

    def kept(weights: dict[str, torch.Tensor]) -> float:
        total = 0.0
        for weight in weights.values():
            if weight.ndim == 4 and weight.shape[1] > 3:
                matrix, columns = from_onnx(weight.abs())
                total += float(matrix[get("1x4").project(matrix, 0.9, columns=columns)].double().sum())
        return total

    assert kept(state) / report.magnitude == pytest.approx(report.after, rel=1e-5)
    assert kept(network.state_dict()) / report.magnitude == pytest.approx(report.before, rel=1e-5)


def test_the_network_is_left_alone_and_copies_share_no_memory():
    network = trained_like("v1-0.25")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = rearranged_state(network, SparsifyStep(pattern="1x4", sparsity=0.75), seconds=20)
    for value in state.values():
        value.zero_()
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_names_of_the_export():
    names = exported_names(build("v2-0.35"))
    assert names["trunk.0.0.weight"] == "trunk.0.conv.weight"
    assert names["trunk.2.branch.1.1.running_var"] == "trunk.2.branch.1.norm.running_var"
    assert "classifier.weight" not in names


def test_a_layer_that_is_not_there():
    step = SparsifyStep(pattern="1x4", sparsity=0.75, exclude=("trunk.99.conv",))
    with pytest.raises(RecipeError, match=r"names no layer of this model: 'trunk\.99\.conv'"):
        rearranged_state(build("v1-0.25"), step)
