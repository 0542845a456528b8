"""A bank of augmented views with what the teachers say about them, made once and drawn from many times.

Teachers cost more than the student's training step. With tens of views of each photo in memory they run once a view,
while the student passes over the bank again and again. Each draw is mirrored, moved by a few pixels and brightened or
darkened a little at random: too little to change what the teachers would say.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer._errors import InputError
from gossamer.person.augment import Augmentation, mix_views, random_views, resize
from gossamer.person.ensemble import TeacherEnsemble
from gossamer.person.preprocess import INPUT_SIZE

SHIFT = 4
"""Largest move of a drawn view in pixels, either way."""
GAIN = 0.1
"""Largest relative change of a drawn view's brightness."""


@dataclass(slots=True)
class Bank:
    """Views and their targets.

    Attributes:
        views: uint8 [N, 96, 96, 3].
        label: float32 [N], the photos' labels blended as the views are.
        person: float32 [N], the teachers' probability; equals ``label`` without teachers.
        features: float16 [N, C, 3, 3], the teachers' standardised features; C is 0 without teachers.
        sources: int64 [N], bit i set when a photo of source number i is in the view.
    """

    views: Tensor
    label: Tensor
    person: Tensor
    features: Tensor
    sources: Tensor

    def weights(self, without: int) -> Tensor:
        """Drawing weights [N]: both labels equally often, views with any source of the bit mask ``without`` never.

        Raises:
            InputError: no view of one of the labels is left.
        """
        allowed = ((self.sources & without) == 0).float()
        positive, negative = self.label * allowed, (1.0 - self.label) * allowed
        for left, name in ((positive, "with a person"), (negative, "without a person")):
            if not float(left.sum()) > 0.0:
                raise InputError(
                    f"no view {name} is left of {len(self.label)}",
                    where="bank of views",
                    hint="leave out fewer sources, or make a larger bank",
                )
        return positive / positive.sum() + negative / negative.sum()

    def draw(self, cumulative: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Views float32 [count, 3, 96, 96] in 0..1 (channels last), label, person, features; torch's own generator.

        Args:
            cumulative: from :func:`cumulative`; a CUDA graph can hold this draw, torch.multinomial it cannot.
            count: views.
        """
        device = cumulative.device
        index = torch.searchsorted(cumulative, torch.rand(count, dtype=torch.float64, device=device), right=True)
        mirror = torch.rand(count, device=device) < 0.5
        move = torch.randint(-SHIFT, SHIFT + 1, (2, count, 1), device=device)
        place = torch.arange(INPUT_SIZE, device=device)
        rows, columns = (place + move).clamp_(0, INPUT_SIZE - 1)
        columns = torch.where(mirror[:, None], INPUT_SIZE - 1 - columns, columns)
        pixels = self.views[index[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
        gain = (1.0 + GAIN * (2.0 * torch.rand((count, 1, 1, 1), device=device) - 1.0)) / 255.0
        views = (pixels.float() * gain).clamp_(0.0, 1.0)
        features = self.features[index].float()
        features = torch.where(mirror.view(-1, 1, 1, 1), features.flip(3), features)
        return views, self.label[index], self.person[index], features


def cumulative(weights: Tensor) -> Tensor:
    """Drawing weights [N] summed up to 1, float64 [N], for :meth:`Bank.draw`."""
    total = weights.double().cumsum(0)
    return total / total[-1]


@torch.no_grad()
def fill(
    photos: Tensor,
    label: Tensor,
    source: Tensor,
    weights: Tensor,
    size: int,
    augmentation: Augmentation,
    teachers: TeacherEnsemble | None,
    generator: torch.Generator,
    chunk: int = 512,
) -> Bank:
    """Make ``size`` views; fits the ensemble on the first 4096 or so.

    Args:
        photos: uint8 [P, 3, S, S] on the device to use.
        label: float32 [P] of 0 and 1.
        source: int64 [P], the number of each photo's source.
        weights: float32 [P], how often each photo is drawn.
        size: views.
        augmentation: how views are made.
        teachers: an ensemble to fit and to ask, or None.
        generator: random numbers, on the device.
        chunk: views made at a time.
    """
    device = photos.device

    def make(count: int) -> tuple[Tensor, Tensor, Tensor]:
        index = torch.multinomial(weights, count, replacement=True, generator=generator)
        views = random_views(photos[index], augmentation, generator)
        views, mark, bits = mix_views(
            views, label[index], torch.ones_like(source[index]) << source[index], augmentation, generator
        )
        return views, mark, bits

    if teachers is not None:
        drawn = [make(min(chunk, size)) for _ in range(max(1, -(-min(4096, size) // chunk)))]
        raw = [teachers.raw(v) for v, _, _ in drawn]
        teachers.fit(
            torch.cat([m for m, _ in raw]), torch.cat([f for _, f in raw]), torch.cat([t for _, t, _ in drawn])
        )
        width = raw[0][1].shape[1]
    else:
        width = 0
    bank = Bank(
        views=torch.empty((size, INPUT_SIZE, INPUT_SIZE, 3), dtype=torch.uint8, device=device),
        label=torch.empty(size, device=device),
        person=torch.empty(size, device=device),
        features=torch.empty((size, width, 3, 3), dtype=torch.float16, device=device),
        sources=torch.empty(size, dtype=torch.int64, device=device),
    )
    for start in range(0, size, chunk):
        part = slice(start, min(start + chunk, size))
        views, mark, bits = make(part.stop - start)
        bank.views[part] = (resize(views, INPUT_SIZE) * 255.0).round().to(torch.uint8).permute(0, 2, 3, 1)
        bank.label[part], bank.sources[part], bank.person[part] = mark, bits, mark
        if teachers is not None:
            bank.person[part], bank.features[part] = teachers(views)
    return bank
