"""Augmentation: resampling as Pillow does it, mixing with matching targets, drawing from the bank."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="augmentation needs the [torch] extra")

from gossamer.person.augment import Augmentation, mix_views, random_views, resize, resize_matrix  # noqa: E402
from gossamer.person.bank import cumulative, fill  # noqa: E402

STILL = Augmentation(
    min_area=1.0, max_aspect=1.0, colour=0.0, hue=0.0, grey=0.0, blur=0.0, noise=0.0, erase=0.0, mix=0.0
)


def photos(count: int, size: int = 128) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(4).integers(0, 256, (count, 3, size, size)).astype(np.uint8))


@pytest.mark.parametrize("size", [96, 61, 144, 128])
def test_resize_equals_pillow_within_its_rounding(size: int) -> None:
    images = photos(3)
    ours = resize(images.float(), size)
    for image, mine in zip(images, ours, strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        theirs = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        assert np.abs(mine.numpy() - theirs).max() <= 1.01  # Pillow rounds to bytes after each of two passes


def test_crop_equals_pillows_box_and_a_negative_length_mirrors() -> None:
    image = photos(1)[0]
    rows = resize_matrix(torch.tensor([20.0]), torch.tensor([64.0]), 128, 128)[0]
    mirrored = resize_matrix(torch.tensor([20.0]), torch.tensor([-64.0]), 128, 128)[0]
    assert torch.allclose(rows.flip(0), mirrored, atol=1e-6)
    assert torch.allclose(rows.sum(dim=1), torch.ones(128))
    picture = Image.fromarray(image[0].numpy())
    theirs = np.asarray(picture.resize((128, 128), Image.Resampling.BILINEAR, box=(0, 20, 128, 84)))
    inner = slice(2, -2)  # at the cut Pillow does not look outside the box, the matrix does
    assert np.abs((rows @ image[0].float()).numpy() - theirs)[inner].max() <= 1.01


def test_views_without_any_change_are_the_photo_or_its_mirror() -> None:
    images = photos(16, 32)
    views = random_views(images, STILL, torch.Generator().manual_seed(0))
    plain = images.float() / 255
    same = [torch.allclose(v, p, atol=1e-5) for v, p in zip(views, plain, strict=True)]
    flipped = [torch.allclose(v, p.flip(2), atol=1e-5) for v, p in zip(views, plain, strict=True)]
    assert all(a != b for a, b in zip(same, flipped, strict=True))
    assert 0 < sum(same) < 16


def test_views_stay_in_range_and_follow_the_seed() -> None:
    images = photos(8, 64)
    one = random_views(images, Augmentation(), torch.Generator().manual_seed(7))
    two = random_views(images, Augmentation(), torch.Generator().manual_seed(7))
    assert torch.equal(one, two)
    assert one.min() >= 0.0
    assert one.max() <= 1.0
    assert not torch.allclose(one, random_views(images, Augmentation(), torch.Generator().manual_seed(8)))


def test_mixing_blends_target_and_sources_by_the_share_of_pixels() -> None:
    count = 64
    label = (torch.arange(count) % 2).float()
    views = label.view(-1, 1, 1, 1).expand(count, 3, 40, 40).clone()  # a view shows its own label
    bits = torch.where(label > 0, 2, 1)
    mixed, target, sources = mix_views(views, label, bits, Augmentation(mix=1.0), torch.Generator().manual_seed(1))
    assert torch.allclose(mixed.mean(dim=(1, 2, 3)), target, atol=1e-5)
    changed = (target - label).abs() > 1e-6
    assert changed.any()
    assert (sources[changed] == 3).all()
    same, target, sources = mix_views(views, label, bits, STILL, torch.Generator().manual_seed(1))
    assert torch.equal(same, views)
    assert torch.equal(target, label)
    assert torch.equal(sources, bits)


def test_bank_draws_both_labels_equally_and_leaves_sources_out() -> None:
    images, label = photos(20, 128), (torch.arange(20) < 5).float()
    source = torch.tensor([0] * 3 + [1] * 2 + [0] * 15)
    weights = torch.full((20,), 0.05)
    bank = fill(images, label, source, weights, 300, Augmentation(), None, torch.Generator().manual_seed(3))
    assert bank.views.shape == (300, 96, 96, 3)
    assert bank.features.shape[1] == 0
    assert torch.equal(bank.label, bank.person)
    for without in (0, 0b10):
        w = bank.weights(without)
        assert float((w * bank.label).sum() / w.sum()) == pytest.approx(0.5, abs=0.12)
        assert (w[(bank.sources & without) > 0] == 0).all()
    torch.manual_seed(5)
    views, drawn, _, _ = bank.draw(cumulative(bank.weights(0)), 4000)
    assert views.shape[1:] == (3, 96, 96)
    assert float(drawn.mean()) == pytest.approx(0.5, abs=0.05)
