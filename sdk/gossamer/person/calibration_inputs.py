"""The photos that calibrate: which activations' ranges a network is quantised by, the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gossamer.person.preprocess import INPUT_NAME, INPUT_SIZE, as_inputs

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
    return as_inputs(people.images([rows[i] for i in spread], size=INPUT_SIZE), channels)


def calibration_samples(people: PhotoSet, channels: int = 3) -> list[dict[str, npt.NDArray[np.float32]]]:
    """:func:`calibration_images` as :func:`gossamer.optimize` takes samples."""
    return [{INPUT_NAME: image[None]} for image in calibration_images(people, channels)]
