"""Networks, their fast gradient, soft shrinkage and export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from gossamer import InputError
from gossamer.person.evaluate import onnx_predictor

torch = pytest.importorskip("torch", reason="networks need the [torch] extra")

from gossamer.person import candidates, depthwise, models, training  # noqa: E402 - after the skip
from gossamer.person.onnx_export import save_onnx, to_onnx  # noqa: E402


def test_parameter_counts() -> None:
    # MobileNetV1 0.25 with 2 classes: convolutions 3*8*9 + depthwise 9*(8+16+32+32+64+64+5*128+128+256)
    # + pointwise pairs, two parameters per normalised channel, and the classifier 256*2 + 2
    pairs = [(8, 16), (16, 32), (32, 32), (32, 64), (64, 64), (64, 128), *[(128, 128)] * 5, (128, 256), (256, 256)]
    convolutions = 3 * 8 * 9 + sum(9 * a + a * b for a, b in pairs)
    normalised = 2 * (8 + sum(a + b for a, b in pairs))
    assert models.parameter_count(models.build("v1-0.25")) == convolutions + normalised + 256 * 2 + 2 == 213586
    for name in ("v1-0.35", "v2-0.35", "v2-0.45"):
        assert 4 * models.parameter_count(models.build(name)) < 2_000_000


@pytest.mark.parametrize("name", ["v1-0.25", "v2-0.35"])
def test_shapes_and_blocks_of_four(name: str) -> None:
    network = models.build(name).eval()
    x = torch.rand(2, 3, 96, 96)
    assert network.features(x).shape[2:] == (3, 3)
    assert network(x).shape == (2, 2)
    prunable = [m for m in network.modules() if models.is_prunable(m)]
    assert prunable
    assert all(m.in_channels % 4 == 0 and m.groups == 1 for m in prunable)
    assert network.trunk[0][0] not in prunable


@pytest.mark.parametrize("name", ["v3-0.25", "v1", "v1-0", "v1-9", ""])
def test_unknown_networks_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="no network"):
        models.build(name)


def test_fast_depthwise_gradient_equals_torchs() -> None:
    torch.manual_seed(5)
    for stride, size, channels, kernel in [(1, 7, 5, 3), (2, 7, 3, 3), (2, 8, 4, 5), (1, 3, 1, 3)]:
        layer = torch.nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False).double()
        fast = depthwise.DepthwiseConv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)
        fast = fast.double()
        fast.load_state_dict(layer.state_dict())
        x = torch.randn(6, channels, size, size, dtype=torch.float64)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        ya, yb = layer(a), fast(b)
        g = torch.randn_like(ya)
        ya.backward(g)
        yb.backward(g)
        assert torch.equal(ya, yb)
        assert torch.allclose(a.grad, b.grad)
        assert torch.allclose(layer.weight.grad, fast.weight.grad, rtol=1e-5, atol=1e-5)  # summed in float32


@pytest.mark.parametrize("name", ["v1-0.25", "v2-0.35"])
def test_export_equals_torch_and_is_reproducible(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = models.build(name)
    with torch.no_grad():
        for _ in range(2):  # give the normalisations statistics of their own
            network(torch.rand(8, 3, 96, 96))
    network.eval()
    content = to_onnx(network, {"a": "b"})
    assert content == to_onnx(network, {"a": "b"})
    assert save_onnx(network, tmp_path / "n.onnx", {"a": "b"}) == len(content)
    assert (tmp_path / "n.onnx").read_bytes() == content
    assert onnx.load_from_string(content).ir_version <= 10
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 96, 96)).astype(np.uint8)
    expected = training.scores(network, torch.from_numpy(images))
    assert onnx_predictor(content)(images.astype(np.float32) / np.float32(255)) == pytest.approx(expected, abs=1e-6)


def test_candidates_are_parsed_and_nonsense_refused() -> None:
    recipe = candidates.parse("v2-0.45+1x4:0.75+without:street")
    assert (recipe.network, recipe.sparsity, recipe.labels_only, recipe.without) == (
        "v2-0.45",
        0.75,
        False,
        ("street",),
    )
    assert candidates.parse("v1-0.25+labels").labels_only
    for text in ("v1-0.25+1x4:1.5", "v1-0.25+1x4", "v1-0.25+4x4:0.5", "v1-0.25+", "v1-0.25+without:"):
        with pytest.raises(InputError, match="option"):
            candidates.parse(text)


def test_shrinkage_scales_the_weakest_blocks_alone() -> None:
    torch.manual_seed(2)
    candidate = candidates.Candidate(candidates.parse("v1-0.25+1x4:0.75"), 0, 0.0, torch.device("cpu"))
    layer = candidate.prunable[3]
    before = layer.weight.detach().clone()
    candidate.shrink(1.0, 0.5)
    blocks = before.permute(0, 2, 3, 1).reshape(-1, 4)
    ratio = (layer.weight.detach() / before).permute(0, 2, 3, 1).reshape(-1, 4)
    weak = int(0.75 * len(blocks))
    order = blocks.square().sum(dim=1).argsort()
    assert torch.allclose(ratio[order[:weak]], torch.tensor(0.5))
    assert torch.equal(ratio[order[weak:]], torch.ones(len(blocks) - weak, 4))
    first = candidate.net.trunk[0][0].weight.detach().clone()
    candidate.shrink(1.0, 0.5)
    assert torch.equal(first, candidate.net.trunk[0][0].weight)  # the first convolution stays as it is
    untouched = candidate.prunable[3].weight.detach().clone()
    candidate.shrink(0.0, 0.5)
    assert torch.equal(untouched, candidate.prunable[3].weight)


def test_recalibration_sets_the_statistics_of_plain_photos_and_nothing_else() -> None:
    from gossamer.person.recalibrate import recalibrate

    torch.manual_seed(6)
    network = models.build("v1-0.25")
    weights = {k: v.clone() for k, v in network.named_parameters()}
    photos = torch.randint(0, 256, (64, 3, 96, 96), dtype=torch.uint8)
    recalibrate(network, photos)
    first = network.trunk[0][0](photos.float() / 255)
    norm = network.trunk[0][1]
    assert torch.allclose(norm.running_mean, first.mean(dim=(0, 2, 3)), atol=1e-5)
    assert torch.allclose(norm.running_var, first.var(dim=(0, 2, 3)), rtol=1e-4)
    assert not network.training
    assert norm.momentum == 0.1
    for key, value in network.named_parameters():
        assert torch.equal(value, weights[key]), key
