"""The photos that calibrate: which activations' ranges a network is quantised by, the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gossamer.person.preprocess import INPUT_SIZE, to_grey

if TYPE_CHECKING:
    from gossamer.person.dataset import PhotoSet

CALIBRATION_PHOTOS = 100


def calibration_images(people: PhotoSet, channels: int = 3, count: int = CALIBRATION_PHOTOS) -> npt.NDArray[np.float32]:
    """Evenly spread photos of the train split as a network's input, float32 [N, channels, 96, 96] in 0..1.

    Args:
        people: with a split ``train``.
        channels: of the network: 3, or 1 for luma.
        count: photos; all of them where there are fewer.

    Raises:
        InputError: a photo cannot be read.
    """
    rows = people.select("train")
    spread = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    photos = people.images([rows[i] for i in spread], size=INPUT_SIZE)
    pixels = photos.astype(np.float32).transpose(0, 3, 1, 2) / np.float32(255)
    return np.ascontiguousarray(to_grey(pixels) if channels == 1 else pixels)
