"""The one fixed way from a photo to the input of the person detector, and from its output to a probability."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image

INPUT_NAME = "image"
OUTPUT_NAME = "logits"
INPUT_SIZE = 96
"""Height and width of the input in pixels."""
LABELS = ("no person", "person")
"""Meaning of the two outputs, in order."""


def preprocess(photo: Image) -> npt.NDArray[np.float32]:
    """Photo to model input: RGB, squashed to 96x96 (aspect ratio not kept), divided by 255, channels first.

    The resize is Pillow's ``BILINEAR``, which widens its triangle filter when it shrinks (antialiasing); other
    bilinear resizes skip that and give other pixels.

    Args:
        photo: a Pillow image of any size and mode; EXIF rotation is the caller's business.

    Returns:
        float32 [1, 3, 96, 96], values 0..1.
    """
    from PIL import Image as pil  # noqa: N813 - the module, beside the class of that name

    small = photo.convert("RGB").resize((INPUT_SIZE, INPUT_SIZE), pil.Resampling.BILINEAR)
    pixels = np.asarray(small, dtype=np.float32) / np.float32(255)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def manifest_preprocessing() -> dict[str, Any]:
    """:func:`preprocess` as data, for the manifest of a bundle and for the model card."""
    return {
        "input": INPUT_NAME,
        "layout": "NCHW",
        "colour": "RGB",
        "size": [INPUT_SIZE, INPUT_SIZE],
        "resize": "squash",
        "filter": "pillow-bilinear-antialias",
        "scale": 1.0 / 255.0,
        "mean": [0.0, 0.0, 0.0],
        "std": [1.0, 1.0, 1.0],
    }


def person_probability(logits: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Softmax of the two outputs: [N, 2] logits (no person, person) to [N] probabilities of ``person``.

    Raises:
        ValueError: the last axis is not two long.
    """
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim == 0 or values.shape[-1] != 2:
        raise ValueError(f"logits must have a last axis of 2 (no person, person), got shape {values.shape}")
    margin = values[..., 1] - values[..., 0]
    probability: npt.NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * margin))
    return probability
