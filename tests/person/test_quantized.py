"""Quantisation-aware training of a detector: what torch decides is what the bundle decides, and zeros stay zeros."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gossamer import InputError, ModelError, optimize
from gossamer.person.dataset import PersonDataset, labels
from gossamer.person.evaluate import bundle_predictor

torch = pytest.importorskip("torch", reason="training needs the [torch] extra")

from gossamer.person import quantized  # noqa: E402 - after the skip
from gossamer.person.models import build  # noqa: E402
from gossamer.person.quantized import QuantizeSettings, quantize_aware  # noqa: E402
from gossamer.sparsify.training import Sparsifier  # noqa: E402

PERSON128 = Path(__file__).resolve().parents[3] / "shared" / "data" / "person128"


def silent(_: str) -> None:
    pass


def random_network(people: PersonDataset):
    torch.manual_seed(3)
    network = build("v1-0.25")
    photos = torch.from_numpy(people.images(people.select("train")[:48], size=96)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        for _ in range(30):  # statistics of photos: on others the features would all be the same
            network(photos)
    return network.eval()


def sparse_network(people: PersonDataset):
    network = random_network(people)
    sparsifier = Sparsifier(network, {"pattern": "1x4", "sparsity": 0.75}, total_steps=1)
    sparsifier.prune()
    sparsifier.finish()
    return network.eval()


def test_training_moves_the_int8_network_and_keeps_its_zeros(tiny_people: Path) -> None:
    people = PersonDataset(tiny_people)
    network = sparse_network(people)
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
    network = sparse_network(PersonDataset(tiny_people))
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
        sparse_network(people), people, QuantizeSettings(steps=4, batch=16, views=64, rebalance=False), log=silent
    )
    rows = people.select("test")
    photos = people.images(rows, size=96)
    bundle = optimize(made.onnx(), recipe={"version": 1, "target": {"measure": False}}, key=False)
    inputs = photos.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    mine, device = made.scores(photos), bundle_predictor(bundle.data, verify=False)(inputs)
    assert len(rows) == 792 and labels(rows).sum() == 167
    assert np.array_equal(mine, device)


@pytest.mark.parametrize("gain", [1.0, 40.0])
def test_rebalancing_moves_the_bias_to_where_val_asks_for_it(tiny_people: Path, gain: float) -> None:
    """With a gain of 40 probabilities are 0 and 1 exactly: the margins say more."""
    people = PersonDataset(tiny_people)
    label = labels(people.select("val"))
    spread = gain * (np.linspace(-1.0, 1.0, len(label)) + 3.0 * label)

    class Brightness(quantized.Quantized):
        """Margins that are moved by the bias, as an int8 network's are."""

        def logits(self, images: np.ndarray, batch: int = 64) -> np.ndarray:
            assert len(images) == len(label)
            low, high = self.graph.classifier.bias.tolist()
            return np.stack([np.full(len(label), low), spread + high], axis=1)

    graph = torch.nn.Module()
    graph.classifier = torch.nn.Linear(1, 2)
    with torch.no_grad():
        graph.classifier.bias.copy_(torch.tensor([-3.0, 3.0]) * gain)  # everything is a person
    made = Brightness(graph, [], {})
    photos = people.images(people.select("val"), size=96)
    assert (made.scores(photos) > 0.5).all()
    quantized._rebalance(made, people)
    low, high = graph.classifier.bias.tolist()
    assert low + high == pytest.approx(0.0, abs=1e-5 * gain)
    # No person is at -1..1 and persons at 2..4: the middle, 1.5, is where the decision belongs.
    assert high - low == pytest.approx(-1.5 * gain, abs=0.2 * gain)
    assert ((made.scores(photos) > 0.5) == (label == 1)).all()


def test_grey_networks_are_trained_on_luma(tiny_people: Path) -> None:
    people = PersonDataset(tiny_people)
    torch.manual_seed(5)
    network = build("v1-0.25-grey")
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(16, 3, 96, 96))
    settings = QuantizeSettings(steps=2, batch=4, views=16, without=(), rebalance=False)
    made = quantize_aware(network.eval(), people, settings, log=silent)
    bundle = optimize(made.onnx(), recipe={"version": 1, "target": {"measure": False}}, key=False)
    photos = people.images(people.select("test"), size=96)
    inputs = photos.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    assert np.array_equal(made.scores(photos), bundle_predictor(bundle.data, verify=False)(inputs))


def test_settings_out_of_range_are_refused(tiny_people: Path) -> None:
    for wrong in ({"steps": -1}, {"batch": 0}, {"views": 0}, {"own": 1.5}):
        with pytest.raises(InputError, match="at least"):
            quantize_aware(build("v1-0.25"), PersonDataset(tiny_people), QuantizeSettings(**wrong), log=silent)
