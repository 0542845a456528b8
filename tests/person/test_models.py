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
    recipe = candidates.parse("v2-0.45+granet:1x4:0.75,every=8+without:street+from:parent+seed:3")
    assert recipe.method is not None and recipe.target is not None
    assert recipe.method.settings()["method"] == "granet"
    assert recipe.method.settings()["every"] == 8
    assert (recipe.target.pattern, recipe.target.sparsity) == ("1x4", 0.75)
    assert (recipe.network, recipe.labels_only, recipe.without) == ("v2-0.45", False, ("street",))
    assert (recipe.start, recipe.seed) == ("parent", 3)
    pairs = candidates.parse("v1-0.25+sr-ste:2:4").target
    assert pairs is not None and (pairs.pattern, pairs.wanted) == ("2:4", 0.5)
    assert candidates.parse("v1-0.25+labels").labels_only
    wrong = {
        "v1-0.25+gradual-magnitude:1x4:1.5": "below 1",
        "v1-0.25+gradual-magnitude:1x4": "needs a share",
        "v1-0.25+gradual-magnitude:5x4:0.5": "pattern",
        "v1-0.25+gradual-magnitude:1x4:0.5,speed=3": "speed",
        "v1-0.25+magic:1x4:0.5": "no training method 'magic'",
        "v1-0.25+": "option ''",
        "v1-0.25+without:": "option 'without:'",
        "v1-0.25+seed:x": "no training method 'seed'",
    }
    for text, message in wrong.items():
        with pytest.raises(InputError, match=message):
            candidates.parse(text)


def test_a_candidate_prunes_while_its_average_follows() -> None:
    candidate = candidates.Candidate(
        candidates.parse("v1-0.25+gradual-magnitude:1x4:0.75,every=1"), 0, 0.0, torch.device("cpu"), seed=2, steps=10
    )
    candidate.attach(torch.optim.SGD(candidate.parameters(), lr=0.1))
    assert candidate.sparsifier is not None
    layers = {layer.name: layer for layer in candidate.sparsifier.layers}
    assert len(layers) == 13
    before = {n: layer.weight.detach().clone() for n, layer in layers.items()}
    for _ in range(3):
        candidate.sparsifier.step()
    share = 0.75 * (1 - (1 - 0.3 / 0.6) ** 3)
    for name, layer in layers.items():
        blocks = layer.size // 4
        gone = blocks - int(layer.kept_units().sum())
        assert gone == pytest.approx(share * blocks, abs=1), name
    average = candidate.finished(last=True)
    assert candidate.sparsifier.sparsity == pytest.approx(0.75, abs=1e-3)
    for name, layer in layers.items():
        weight = average.get_submodule(name).weight
        assert torch.equal(weight, before[name] * layer.mask), name


def test_candidates_start_from_weights_of_their_own_network_only() -> None:
    other = candidates.Candidate(candidates.parse("v1-0.35"), 0, 0.0, torch.device("cpu"), seed=0)
    with pytest.raises(InputError, match="another network"):
        candidates.Candidate(
            candidates.parse("v1-0.25+from:x"), 0, 0.0, torch.device("cpu"), start=other.net.state_dict()
        )
    same = candidates.Candidate(candidates.parse("v1-0.25+seed:1"), 0, 0.0, torch.device("cpu"), seed=4)
    again = candidates.Candidate(candidates.parse("v1-0.25+seed:1"), 0, 0.0, torch.device("cpu"), seed=4)
    different = candidates.Candidate(candidates.parse("v1-0.25+seed:2"), 0, 0.0, torch.device("cpu"), seed=4)
    first, second, third = (c.net.trunk[0][0].weight for c in (same, again, different))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
