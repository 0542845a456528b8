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


def preprocess(photo: Image, channels: int = 3) -> npt.NDArray[np.float32]:
    """Photo to model input: RGB or grey, squashed to 96x96 (aspect ratio not kept), divided by 255, channels first.

    The resize is Pillow's ``BILINEAR``, which widens its triangle filter when it shrinks (antialiasing); other
    bilinear resizes skip that and give other pixels.

    Args:
        photo: a Pillow image of any size and mode; EXIF rotation is the caller's business.
        channels: of the model's input: 3, or 1 for luma (ITU-R 601, Pillow's mode L).

    Returns:
        float32 [1, channels, 96, 96], values 0..1.
    """
    from PIL import Image as pil  # noqa: N813 - the module, beside the class of that name

    mode = "L" if channels == 1 else "RGB"
    small = photo.convert(mode).resize((INPUT_SIZE, INPUT_SIZE), pil.Resampling.BILINEAR)
    pixels = np.asarray(small, dtype=np.float32).reshape(INPUT_SIZE, INPUT_SIZE, -1) / np.float32(255)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def to_grey(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Luma (ITU-R 601) of RGB: float32 [N, 3, H, W] to [N, 1, H, W]."""
    weights = np.array([0.299, 0.587, 0.114], np.float32).reshape(1, 3, 1, 1)
    grey: npt.NDArray[np.float32] = (images * weights).sum(axis=1, keepdims=True, dtype=np.float32)
    return grey


def as_inputs(photos: npt.NDArray[np.uint8], channels: int = 3) -> npt.NDArray[np.float32]:
    """Photos of the input's size as inputs: uint8 [N, 96, 96, 3] to float32 [N, channels, 96, 96] in 0..1."""
    pixels = photos.astype(np.float32).transpose(0, 3, 1, 2) / np.float32(255)
    return np.ascontiguousarray(to_grey(pixels) if channels == 1 else pixels)


def manifest_preprocessing(channels: int = 3) -> dict[str, Any]:
    """:func:`preprocess` as data, for the manifest of a bundle and for the model card."""
    return {
        "input": INPUT_NAME,
        "layout": "NCHW",
        "colour": "RGB" if channels == 3 else "grey",
        "size": [INPUT_SIZE, INPUT_SIZE],
        "resize": "squash",
        "filter": "pillow-bilinear-antialias",
        "scale": 1.0 / 255.0,
        "mean": [0.0] * channels,
        "std": [1.0] * channels,
    }


def model_metadata(name: str, channels: int = 3) -> dict[str, Any]:
    """What an ONNX file says about itself under ``gossamer.manifest``: name, labels, preprocessing."""
    return {
        "name": name,
        "description": f"Is there a person in the photo? 96x96 {'RGB' if channels == 3 else 'grey'}.",
        "license": "Apache-2.0",
        "labels": list(LABELS),
        "logits": True,
        "preprocess": {
            "resize": "stretch",
            "colour": "rgb" if channels == 3 else "gray",
            "mean": 0.0,
            "std": 255.0,
        },
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
