"""Augmentation of photos on the GPU or CPU, written as batched torch tensor operations.

A random crop, flip, resize and blur of a separable filter are two matrix products per image: rows times image times
columns, with a triangle filter that widens when it shrinks, as Pillow's does. Colour changes are one 3x3 matrix and
an offset per image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How far views may stray from the photo; probabilities and fractions in 0..1.

    Attributes:
        min_area: smallest crop as a fraction of the photo's area.
        max_aspect: largest stretch of width against height of a crop, as a ratio.
        colour: largest relative change of brightness, contrast and saturation.
        hue: largest turn of the hue, as a fraction of a full turn.
        grey: probability of a grey view.
        blur: probability of a Gaussian blur (sigma 0.3 to 1.8 pixels).
        noise: probability of pixel noise (standard deviation up to 0.06).
        erase: probability of one rectangle (2% to 20% of the area) of flat random colour.
        mix: probability that a view is blended with another (half of them mixup, half cutmix).
    """

    min_area: float = 0.35
    max_aspect: float = 1.4
    colour: float = 0.4
    hue: float = 0.05
    grey: float = 0.1
    blur: float = 0.2
    noise: float = 0.2
    erase: float = 0.25
    mix: float = 0.4


def resize_matrix(start: Tensor, length: Tensor, out_size: int, in_size: int) -> Tensor:
    """Matrices [N, out_size, in_size] that resample the stretch ``start .. start + length`` of each row of pixels.

    Triangle filter of half-width max(1, length / out_size), rows normalised at the borders: Pillow's ``BILINEAR``.

    Args:
        start, length: [N], in pixels; a negative length mirrors.
    """
    step = length / out_size
    position = torch.arange(out_size, device=start.device, dtype=torch.float32) + 0.5
    centre = torch.where(length < 0, start - length, start)[:, None] + position * step[:, None]
    support = step.abs().clamp_min(1.0)[:, None, None]
    pixel = torch.arange(in_size, device=start.device, dtype=torch.float32) + 0.5
    weight = (1.0 - (pixel - centre[:, :, None]).abs() / support).clamp_min(0.0)
    return weight / weight.sum(dim=2, keepdim=True).clamp_min(1e-6)


def resize(images: Tensor, size: int) -> Tensor:
    """Squash [N, 3, H, W] to [N, 3, size, size] with :func:`resize_matrix`."""
    height, width = images.shape[2:]
    if height == size and width == size:
        return images
    zero = torch.zeros(1, device=images.device)
    rows = resize_matrix(zero, zero + height, size, height)[0]
    columns = resize_matrix(zero, zero + width, size, width)[0]
    return rows @ images @ columns.T


def random_views(photos: Tensor, settings: Augmentation, generator: torch.Generator | None = None) -> Tensor:
    """One random view of each photo, before any mixing.

    Args:
        photos: uint8 [N, 3, S, S].
        settings: how far to go.
        generator: random numbers, on the device of the photos.

    Returns:
        float32 [N, 3, S, S] in 0..1.
    """
    count, _, size, _ = photos.shape
    device = photos.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand((count, *shape), device=device, generator=generator) * (high - low) + low

    def chance(probability: float) -> Tensor:
        return torch.rand(count, device=device, generator=generator) < probability

    area = uniform(settings.min_area, 1.0)
    aspect = torch.exp(uniform(-math.log(settings.max_aspect), math.log(settings.max_aspect)))
    height = (area / aspect).sqrt().clamp_max(1.0) * size
    width = (area * aspect).sqrt().clamp_max(1.0) * size
    top = uniform(0.0, 1.0) * (size - height)
    left = uniform(0.0, 1.0) * (size - width)
    mirrored = torch.where(chance(0.5), -width, width)
    sigma = torch.where(chance(settings.blur), uniform(0.3, 1.8), torch.full_like(area, 1e-3))
    smooth = _gaussian_matrix(sigma, size)
    rows = smooth @ resize_matrix(top, height, size, size)
    columns = smooth @ resize_matrix(left, mirrored, size, size)
    view = torch.matmul(torch.matmul(rows[:, None], photos.float() / 255.0), columns[:, None].transpose(2, 3))
    view = _recolour(view, settings, generator)
    noise = torch.where(chance(settings.noise), uniform(0.0, 0.06), torch.zeros_like(area))
    view = view + noise.view(-1, 1, 1, 1) * torch.randn(view.shape, device=device, generator=generator)
    hole = _rectangle(uniform(0.02, 0.20), size, uniform(0.0, 1.0, 2), torch.exp(uniform(-1.0, 1.0)))
    hole = hole & chance(settings.erase).view(-1, 1, 1)
    return torch.where(hole[:, None], uniform(0.0, 1.0, 3, 1, 1), view).clamp_(0.0, 1.0)


def mix_views(
    views: Tensor, targets: Tensor, sources: Tensor, settings: Augmentation, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Blend some views with a random other one: mixup (arXiv 1710.09412) or cutmix (arXiv 1905.04899).

    Args:
        views: [N, 3, S, S].
        targets: float [N], blended with the same share.
        sources: int64 [N] bit masks of where a view comes from, united when two are blended.
        settings: ``mix`` is the probability per view.

    Returns:
        views, targets and sources, as given.
    """
    count, _, size, _ = views.shape
    device = views.device
    other = torch.randperm(count, device=device, generator=generator)
    draw = torch.rand(count, device=device, generator=generator)
    share = torch.rand(count, device=device, generator=generator) * 0.5
    place = torch.rand((count, 2), device=device, generator=generator)
    pasted = _rectangle(share, size, place, torch.ones_like(share))
    covered = pasted.float().mean(dim=(1, 2))
    blend = torch.where(draw < settings.mix / 2, share, torch.zeros_like(share)).view(-1, 1, 1, 1)
    cut = pasted & ((draw >= settings.mix / 2) & (draw < settings.mix)).view(-1, 1, 1)
    taken = blend.flatten() + cut.float().amax(dim=(1, 2)) * covered
    mixed = torch.where(cut[:, None], views[other], views * (1 - blend) + views[other] * blend)
    both = torch.where(taken > 0, sources | sources[other], sources)
    return mixed, targets * (1 - taken) + targets[other] * taken, both


def _gaussian_matrix(sigma: Tensor, size: int) -> Tensor:
    pixel = torch.arange(size, device=sigma.device, dtype=torch.float32)
    distance = pixel[:, None] - pixel[None, :]
    weight = torch.exp(-0.5 * (distance / sigma.view(-1, 1, 1)) ** 2)
    return weight / weight.sum(dim=2, keepdim=True)


def _rectangle(area: Tensor, size: int, place: Tensor, aspect: Tensor) -> Tensor:
    """bool [N, size, size]: a rectangle of the given fraction of the area at a relative place inside the image."""
    height = ((area / aspect).sqrt().clamp_max(1.0) * size).view(-1, 1)
    width = ((area * aspect).sqrt().clamp_max(1.0) * size).view(-1, 1)
    top, left = place[:, :1] * (size - height), place[:, 1:] * (size - width)
    pixel = torch.arange(size, device=area.device, dtype=torch.float32) + 0.5
    rows = (pixel >= top) & (pixel < top + height)
    columns = (pixel >= left) & (pixel < left + width)
    return rows[:, :, None] & columns[:, None, :]


def _recolour(view: Tensor, settings: Augmentation, generator: torch.Generator | None) -> Tensor:
    """Brightness, contrast, saturation and hue as one matrix and one offset per image."""
    count, device = view.shape[0], view.device

    def factor(spread: float) -> Tensor:
        return 1.0 + spread * (2.0 * torch.rand((count, 1, 1), device=device, generator=generator) - 1.0)

    luma = torch.tensor([[0.299, 0.587, 0.114]], device=device).expand(3, 3)
    to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], device=device)
    saturation = factor(settings.colour)
    is_grey = torch.rand((count, 1, 1), device=device, generator=generator) < settings.grey
    saturation = torch.where(is_grey, torch.zeros_like(saturation), saturation)
    angle = (factor(1.0).flatten() - 1.0) * settings.hue * 2 * math.pi
    turn = torch.zeros(count, 3, 3, device=device)
    turn[:, 0, 0] = 1.0
    turn[:, 1, 1] = turn[:, 2, 2] = torch.cos(angle)
    turn[:, 2, 1] = torch.sin(angle)
    turn[:, 1, 2] = -turn[:, 2, 1]
    hue = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    matrix = (saturation * torch.eye(3, device=device) + (1.0 - saturation) * luma) @ hue * factor(settings.colour)
    flat = matrix @ view.flatten(2)
    middle = flat.mean(dim=(1, 2), keepdim=True)
    contrast = factor(settings.colour)
    recoloured: Tensor = middle + contrast * (flat - middle)
    return recoloured.view_as(view)
