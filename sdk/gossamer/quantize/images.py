"""A photo to a model input: decode, resize, arrange, scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gossamer._errors import CalibrationError, GossamerError

if TYPE_CHECKING:
    from gossamer.recipe import Preprocess

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})


def image_layout(shape: Sequence[int | None]) -> tuple[str, int, int, int] | None:
    """``(layout, channels, height, width)`` of an image input, layout ``NCHW`` or ``NHWC``; ``None`` for another input.

    An image input has four fixed dimensions (the first may be free) and 1 or 3 channels.
    """
    if len(shape) != 4 or any(d is None for d in shape[1:]) or shape[0] not in (1, None):
        return None
    _, a, b, c = (int(d) if d is not None else 1 for d in shape)
    if a in (1, 3):
        return "NCHW", a, b, c
    if c in (1, 3):
        return "NHWC", c, a, b
    return None


def load_image(
    path: str | Path,
    shape: Sequence[int | None],
    preprocess: Preprocess,
    dtype: npt.DTypeLike = np.float32,
    *,
    error: type[GossamerError] = CalibrationError,
) -> npt.NDArray[Any]:
    """One image file as one model input.

    Args:
        path: JPEG, PNG, BMP, WebP, GIF (first frame), TIFF or PPM; EXIF rotation is applied.
        shape: ``[1, C, H, W]`` or ``[1, H, W, C]`` with C of 1 or 3.
        preprocess: resize mode, channel order, mean and std in units of pixels 0..255.
        dtype: float32: ``(pixel - mean) / std``; uint8: the pixel; int8: the pixel minus 128.
        error: class of the error raised.

    Returns:
        An array of ``dtype``, shape ``shape`` with batch 1.

    Raises:
        CalibrationError: (or ``error``) not an image, unreadable, or the input takes no image.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    found = image_layout(shape)
    if found is None:
        raise error(
            f"an input of shape {list(shape)} takes no image",
            where=str(path),
            hint="images need [1, C, H, W] or [1, H, W, C] with 1 or 3 channels; give .npy or .npz files instead",
        )
    layout, channels, height, width = found
    try:
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened) or opened
            image = upright.convert("L" if channels == 1 else "RGB")
    except UnidentifiedImageError as problem:
        raise error("this file is not an image", where=str(path), hint="remove it or replace it") from problem
    except (OSError, ValueError, SyntaxError, EOFError) as problem:
        raise error(f"the image cannot be read: {problem}", where=str(path)) from problem
    except Image.DecompressionBombError as problem:
        raise error(f"the image is too large: {problem}", where=str(path)) from problem
    box = None
    if preprocess.resize == "crop":
        scale = min(image.width / width, image.height / height)
        w, h = width * scale, height * scale
        left, top = (image.width - w) / 2, (image.height - h) / 2
        box = (max(left, 0.0), max(top, 0.0), min(left + w, image.width), min(top + h, image.height))
    image = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
    pixels = np.asarray(image, dtype=np.float32).reshape(height, width, channels)
    if preprocess.colour == "bgr":
        pixels = pixels[:, :, ::-1]
    kind = np.dtype(dtype)
    if kind == np.uint8:
        values: npt.NDArray[Any] = pixels.astype(np.uint8)
    elif kind == np.int8:
        values = (pixels - 128).astype(np.int8)
    else:
        if len(preprocess.mean) not in (1, channels) or len(preprocess.std) not in (1, channels):
            raise error(
                f"mean has {len(preprocess.mean)} values, std {len(preprocess.std)}, the input {channels} channels",
                where=str(path),
                hint="give one value for all channels",
            )
        mean, std = np.asarray(preprocess.mean, np.float32), np.asarray(preprocess.std, np.float32)
        values = ((pixels - mean) / std).astype(kind)
    if layout == "NCHW":
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values[None])
