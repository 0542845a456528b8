"""Person detectors, quantised and fine-tuned: what torch says of person128's photos is what the bundle decides."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from tests.qat.support import Array, bits, on_device, person_model, shipped, train

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'gossamer[torch]'")

NETWORKS = ("shipped", "v1-0.25", "v2-0.35")


@cache
def photos(data: Path, split: str, count: int) -> Array:
    """Evenly spread photos, float32 ``[N, 3, 96, 96]`` in 0..1."""
    from gossamer.person.dataset import PersonDataset

    dataset = PersonDataset(data / "person128")
    rows = dataset.select(split)
    images = dataset.images(rows[:: max(1, len(rows) // count)][:count], size=96)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)


def fine_tuned(name: str, data: Path) -> Any:
    from gossamer.quantize.qat import prepare_qat

    model: ir.Model = shipped() if name == "shipped" else person_model(name)
    q = prepare_qat(model, photos(data, "train", 16))
    before = {n: p.detach().clone() for n, p in q.named_parameters() if p.dim() > 1}
    train(q, photos(data, "train", 16)[:8], steps=2, lr=0.01 if name == "shipped" else 5e-4)
    assert all(not torch.equal(w, q.get_parameter(n)) for n, w in before.items())
    return q


def check_same_decisions(name: str, data: Path, count: int) -> None:
    q = fine_tuned(name, data)
    x = photos(data, "test", count)
    exact = q.exact(torch.from_numpy(x))
    device = on_device(q.to_onnx(), x)
    assert device.shape == (count, 2) and np.unique(bits(device)).size > 50
    assert np.array_equal(bits(exact), bits(device))
    assert np.array_equal(exact.numpy().argmax(1), device.argmax(1))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_bundle_decides_the_same(name: str, data_dir: Path) -> None:
    """64 photos, every bit of every logit."""
    check_same_decisions(name, data_dir, 64)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_bundle_decides_the_same_on_the_whole_test_split(name: str, data_dir: Path) -> None:
    check_same_decisions(name, data_dir, 792)


@pytest.mark.slow
def test_training_under_quantisation_lowers_the_loss_on_the_device(data_dir: Path) -> None:
    """Photos that the network is trained on: the loss of the exact logits falls."""
    from gossamer.quantize.qat import prepare_qat

    q = prepare_qat(shipped(), photos(data_dir, "train", 16), activation_scales="learned")
    x = torch.from_numpy(photos(data_dir, "train", 16))
    labels = torch.from_numpy(np.random.default_rng(1).integers(0, 2, 16))
    before = float(torch.nn.functional.cross_entropy(q.exact(x), labels))
    train(q, x.numpy(), steps=30, lr=2e-3, scale_lr=2e-5)
    after = float(torch.nn.functional.cross_entropy(q.exact(x), labels))
    assert after < 0.2 * before
