"""Takes the statistics of batch normalisations anew on plain photos.

In training they are gathered on crops, blends and noise, which differ from the photos a device sees. Only means and
variances change here, no weight does.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from gossamer.person.dataset import PersonDataset, sampling_weights
from gossamer.person.models import PersonNet
from gossamer.person.preprocess import INPUT_SIZE

PHOTOS = 2048
_BATCH = 256


def clean_photos(people: PersonDataset, count: int = PHOTOS, seed: int = 0) -> Tensor:
    """Train photos, uint8 [count, 3, 96, 96], drawn as :func:`sampling_weights` says, every other one mirrored."""
    rows = people.select("train")
    drawn = np.random.default_rng(seed).choice(len(rows), size=count, p=sampling_weights(rows))
    distinct, position = np.unique(drawn, return_inverse=True)
    pixels = people.images([rows[i] for i in distinct], size=INPUT_SIZE)[position]
    pixels[::2] = pixels[::2, :, ::-1]
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))


@torch.no_grad()
def recalibrate(network: PersonNet, photos: Tensor) -> PersonNet:
    """Replace running means and variances by those over ``photos`` (uint8 [N, 3, 96, 96]); evaluation mode after."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    kept = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # a plain average over the batches
    network.train()
    for start in range(0, len(photos), _BATCH):
        network(photos[start : start + _BATCH].float() / 255.0)
    for m, momentum in zip(norms, kept, strict=True):
        m.momentum = momentum
    return network.eval()
