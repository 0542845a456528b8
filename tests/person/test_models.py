"""Networks, their depthwise kernels for training, gradual pruning, and export."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from gossamer import InputError
from gossamer.person.evaluate import onnx_predictor

torch = pytest.importorskip("torch", reason="networks need the [torch] extra")

from gossamer.person import candidates, models, training  # noqa: E402 - after the skip
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


def test_fast_depthwise_equals_torchs() -> None:
    pytest.importorskip("triton", reason="the kernels need triton, which comes with torch's CUDA builds")
    code = """
import torch
from gossamer.person.depthwise import DepthwiseConv2d
torch.manual_seed(5)
for stride, size, channels in [(1, 7, 8), (2, 8, 24), (2, 7, 16), (1, 3, 72)]:
    layer = torch.nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
    fast = DepthwiseConv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
    fast.load_state_dict(layer.state_dict())
    x = torch.randn(5, channels, size, size).contiguous(memory_format=torch.channels_last)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    ya, yb = layer(a), fast(b)
    g = torch.randn_like(ya)
    ya.backward(g)
    yb.backward(g)
    for one, other in ((ya, yb), (a.grad, b.grad), (layer.weight.grad, fast.weight.grad)):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4), (stride, size, channels)
print("equal")
"""
    # triton's interpreter runs the kernels on a CPU; it is switched on before triton is imported
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert out.stdout == "equal\n", out.stderr


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


def test_pruning_takes_the_weakest_blocks_of_each_layer_for_good() -> None:
    torch.manual_seed(2)
    candidate = candidates.Candidate(candidates.parse("v1-0.25+1x4:0.75"), 0, 0.0, torch.device("cpu"))
    layers = [m for m in candidate.net.modules() if models.is_prunable(m)]
    first = candidate.net.trunk[0][0].weight.detach().clone()
    before = [m.weight.detach().clone() for m in layers]

    def blocks(weight: torch.Tensor) -> torch.Tensor:
        return weight.permute(0, 2, 3, 1).reshape(-1, 4)

    candidate.prune(0.0)
    candidate.apply_masks()
    assert all(torch.equal(m.weight, w) for m, w in zip(layers, before, strict=True))
    candidate.prune(0.2)
    candidate.apply_masks()
    early = [blocks(m.weight).abs().sum(dim=1) == 0 for m in layers]
    share = 0.75 * (1 - (1 - 1 / 3) ** 3)
    assert [int(e.sum()) for e in early] == [int(share * len(e)) for e in early]
    candidate.prune(0.9)
    candidate.apply_masks()
    for layer, was, gone in zip(layers, before, early, strict=True):
        now, old = blocks(layer.weight.detach()), blocks(was)
        weak = int(0.75 * len(old))
        order = old.square().sum(dim=1).argsort()
        assert (now[order[:weak]] == 0).all()
        assert torch.equal(now[order[weak:]], old[order[weak:]])
        assert (now[gone] == 0).all()
    assert torch.equal(first, candidate.net.trunk[0][0].weight)  # the first convolution stays as it is
    average = candidate.finished()
    kept = [m for m in average.modules() if models.is_prunable(m)]
    assert all(torch.equal(a.weight == 0, m.weight == 0) for a, m in zip(kept, layers, strict=True))
