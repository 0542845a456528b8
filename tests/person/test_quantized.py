"""Quantisation-aware training of a detector: what torch decides is what the bundle decides, and zeros stay zeros."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gossamer import ModelError, optimize
from gossamer.person.dataset import PersonDataset, labels
from gossamer.person.evaluate import bundle_predictor

torch = pytest.importorskip("torch", reason="training needs the [torch] extra")

from gossamer.person.models import build  # noqa: E402 - after the skip
from gossamer.person.quantized import QuantizeSettings, quantize_aware  # noqa: E402
from gossamer.sparsify.training import Sparsifier  # noqa: E402

PERSON128 = Path(__file__).resolve().parents[3] / "shared" / "data" / "person128"


def silent(_: str) -> None:
    pass


def random_network():
    torch.manual_seed(3)
    network = build("v1-0.25")
    with torch.no_grad():
        for _ in range(20):  # statistics of its own
            network(torch.rand(16, 3, 96, 96))
    return network.eval()


def sparse_network():
    network = random_network()
    sparsifier = Sparsifier(network, {"pattern": "1x4", "sparsity": 0.75}, total_steps=1)
    sparsifier.prune()
    sparsifier.finish()
    return network.eval()


def test_training_moves_the_int8_network_and_keeps_its_zeros(tiny_people: Path) -> None:
    people = PersonDataset(tiny_people)
    network = sparse_network()
    settings = QuantizeSettings(steps=10, batch=8, views=32, without=(), learning_rate=1e-3, rebalance=False)
    made = quantize_aware(network, people, settings, log=silent)
    assert len(made.losses) == 10
    assert made.settings["steps"] == 10
    bundle = optimize(made.onnx(), recipe={"version": 1, "target": {"measure": False}}, key=False)
    photos = people.images(people.select("test"), size=96)
    inputs = photos.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    assert np.array_equal(made.scores(photos), bundle_predictor(bundle.data, verify=False)(inputs))
    sparse = [layer for layer in bundle.layers if layer.sparsity_percent > 70]
    assert len(sparse) == 13
    plain = quantize_aware(network, people, QuantizeSettings(steps=0, rebalance=False), log=silent)
    assert plain.losses == []
    assert not np.array_equal(plain.scores(photos), made.scores(photos))


def test_a_diverged_network_is_refused(tiny_people: Path) -> None:
    network = sparse_network()
    with torch.no_grad():
        network.classifier.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match=r"classifier.weight' holds 512 values that are not finite"):
        quantize_aware(network, PersonDataset(tiny_people), QuantizeSettings(steps=1, batch=4, views=8, without=()))


@pytest.mark.slow
def test_every_decision_on_person128_is_the_same_in_torch_and_in_the_bundle() -> None:
    if not PERSON128.is_dir():
        pytest.skip("needs person128 in ../shared/data")
    people = PersonDataset(PERSON128)
    made = quantize_aware(
        sparse_network(), people, QuantizeSettings(steps=4, batch=16, views=64, rebalance=False), log=silent
    )
    rows = people.select("test")
    photos = people.images(rows, size=96)
    bundle = optimize(made.onnx(), recipe={"version": 1, "target": {"measure": False}}, key=False)
    inputs = photos.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    mine, device = made.scores(photos), bundle_predictor(bundle.data, verify=False)(inputs)
    assert len(rows) == 792 and labels(rows).sum() == 167
    assert np.array_equal(mine, device)


def test_rebalancing_moves_the_decision_to_where_val_asks_for_it(tiny_people: Path) -> None:
    """A network whose margin is the mean brightness, off by a constant: photos with a bright square score higher."""
    from gossamer.person import operating_point

    people = PersonDataset(tiny_people)
    network = random_network()
    rows = people.select("val")
    photos, label = people.images(rows, size=96), labels(rows)
    images = torch.from_numpy(photos).permute(0, 3, 1, 2)
    with torch.no_grad():
        features = network.features(images.float() / 255).mean(dim=(2, 3))
        direction = features[label == 1].mean(0) - features[label == 0].mean(0)
        direction /= direction.norm()
        network.classifier.weight.copy_(torch.stack([-direction, direction]))
        network.classifier.bias.copy_(torch.tensor([-5.0, 5.0]))  # everything is a person
    plain = quantize_aware(network, people, QuantizeSettings(steps=0, rebalance=False), log=silent)
    assert (plain.scores(photos) >= 0.5).all()
    moved = quantize_aware(
        operating_point.balanced(network, images, label), people, QuantizeSettings(steps=0), log=silent
    )
    called = moved.scores(photos) >= 0.5
    assert called[label == 1].mean() > 0.6
    assert (~called)[label == 0].mean() > 0.6
