"""Grey inputs and the MCUNet-like network: tables, shapes, export to ONNX, bundles in the native core."""

from __future__ import annotations

import io
import json

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from PIL import Image

import gossamer
from gossamer import person
from gossamer.person.evaluate import bundle_predictor, onnx_predictor
from gossamer.person.preprocess import model_metadata, to_grey
from gossamer.quantize import quantize
from gossamer.recipe import QuantizeStep
from tests.person.packs import square

torch = pytest.importorskip("torch", reason="networks need the [torch] extra")

from gossamer.person import models  # noqa: E402 - after the skip
from gossamer.person.onnx_export import to_onnx  # noqa: E402

NAMES = ["mcunet-0.5", "mcunet-0.25-grey", "v1-0.25-grey", "v2-0.25-grey"]


def photos(count: int, seed: int = 0) -> np.ndarray:
    """float32 [count, 3, 96, 96] in 0..1."""
    opened = [Image.open(io.BytesIO(square(i % 2, seed + i))) for i in range(count)]
    return np.concatenate([person.preprocess(image) for image in opened])


def settled(name: str) -> models.PersonNet:
    """A network of random weights with statistics of its own and logits that differ from photo to photo."""
    torch.manual_seed(3)
    network = models.build(name)
    x = torch.from_numpy(photos(16))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the statistics of the one pass
    with torch.no_grad():
        network(x)
        network.eval()
        logits = network(x)
        network.classifier.weight *= 2.0 / (logits[:, 1] - logits[:, 0]).std()
        logits = network(x)
        network.classifier.bias[1] -= (logits[:, 1] - logits[:, 0]).median()
    return network


def test_the_table_of_the_mcunet_like_network() -> None:
    network = models.build("mcunet-1")
    blocks = [m for m in network.trunk if isinstance(m, models.InvertedResidual)]
    depthwise = [next(c for c in b.modules() if isinstance(c, torch.nn.Conv2d) and c.groups > 1) for b in blocks]
    assert [d.kernel_size[0] for d in depthwise] == [3, 5, 3, 7, 3, 5, 5, 7, 3, 5, 5, 3, 7, 3, 5, 3, 3]
    assert [d.stride[0] for d in depthwise].count(2) == 4
    assert [b.skip for b in blocks].count(False) == 6  # the first block of each stage
    assert network.features(torch.zeros(1, 3, 96, 96)).shape == (1, 160, 3, 3)
    # stem 3x3, depthwise and linear projection, then per block: expand, depthwise, project; two numbers a normalisation
    total = 3 * 16 * 9 + 16 * 9 + 16 * 8 + 2 * (16 + 16 + 8)
    inputs = 8
    for outputs, _, stage in (
        (16, 2, ((3, 3), (5, 4), (3, 4))),
        (24, 2, ((7, 4), (3, 4), (5, 4))),
        (40, 2, ((5, 6), (7, 4), (3, 5), (5, 4))),
        (48, 1, ((5, 5), (3, 4), (7, 3))),
        (96, 2, ((3, 5), (5, 5), (3, 4))),
        (160, 1, ((3, 5),)),
    ):
        for kernel, expansion in stage:
            hidden = inputs * expansion
            total += inputs * hidden + hidden * kernel**2 + hidden * outputs + 2 * (2 * hidden + outputs)
            inputs = outputs
    assert models.parameter_count(network) == total + 160 * 2 + 2 == 517_818


@pytest.mark.parametrize("name", ["mcunet-1", "mcunet-0.5-grey", "v1-0.25-grey", "v2-0.35-grey"])
def test_names_blocks_of_four_and_channels(name: str) -> None:
    network = models.build(name).eval()
    assert network.name == name
    assert network.channels == (1 if name.endswith("grey") else 3)
    assert network(torch.rand(2, network.channels, 96, 96)).shape == (2, 2)
    prunable = [m for m in network.modules() if models.is_prunable(m)]
    assert network.trunk[0][0] not in prunable
    assert all(m.in_channels % 4 == 0 and m.groups == 1 for m in prunable)


def test_existing_networks_keep_their_names() -> None:
    assert [tuple(w.shape) for w in list(models.build("v2-0.35").state_dict().values())[:1]] == [(16, 3, 3, 3)]
    assert models.build("v1-0.25").state_dict().keys() == models.build("v1-0.25-grey").state_dict().keys()


def test_grey_networks_take_colour_as_luma() -> None:
    network = settled("v1-0.25-grey")
    colour = photos(4, seed=50)
    with torch.no_grad():
        as_colour = network(torch.from_numpy(colour))
        as_grey = network(torch.from_numpy(to_grey(colour)))
    assert as_colour.std() > 0.1
    assert torch.allclose(as_colour, as_grey, atol=1e-4)
    photo = Image.open(io.BytesIO(square(1, 9)))
    grey = person.preprocess(photo, channels=1)
    assert grey.shape == (1, 1, 96, 96)
    expected = np.asarray(photo.convert("L").resize((96, 96), Image.Resampling.BILINEAR)) / 255
    assert grey[0, 0] == pytest.approx(expected, abs=1e-6)
    assert to_grey(person.preprocess(photo)) == pytest.approx(grey, abs=1.5 / 255)


@pytest.mark.parametrize("name", NAMES)
def test_export_and_native_core_equal_torch(name: str) -> None:
    network = settled(name)
    content = to_onnx(network, {"gossamer.manifest": json.dumps(model_metadata(name, network.channels))})
    graph = onnx.load_from_string(content).graph
    assert [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim] == [1, network.channels, 96, 96]
    x = photos(12, seed=70)
    with torch.no_grad():
        expected = person.person_probability(network(torch.from_numpy(x)).numpy())
    assert expected.std() > 0.05
    assert onnx_predictor(content)(x) == pytest.approx(expected, abs=1e-4)
    plain = {"version": 1, "name": "plain", "target": {"measure": False}}
    bundle = gossamer.optimize(content, recipe=plain, key=False)
    assert bundle_predictor(bundle.data, verify=False)(x) == pytest.approx(expected, abs=1e-4)
    image = bundle.manifest["inputs"][0]["image"]
    assert image["channels"] == ("CHANNELS_GRAY" if network.channels == 1 else "CHANNELS_RGB")
    # int8: the quantised graph in ONNX Runtime and the same in the native core
    calibration = photos(24, seed=200)
    feed = to_grey(calibration) if network.channels == 1 else calibration
    quantised = quantize(gossamer.load(content), QuantizeStep(), [{"image": i[None]} for i in feed])
    qdq = ir.to_proto(quantised).SerializeToString()
    int8 = gossamer.optimize(qdq, recipe=plain, key=False)
    assert {layer["dtype"] for layer in int8.manifest["layers"]} == {"int8"}
    reference = onnx_predictor(qdq)(x)
    assert reference.std() > 0.1
    assert bundle_predictor(int8.data, verify=False)(x) == pytest.approx(reference, abs=0.05)  # a step of the logits
    assert len(int8.data) < len(content) / 2
