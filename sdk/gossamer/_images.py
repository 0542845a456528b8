"""Images to model inputs, by the preprocessing that the manifest states, and scores to labels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gossamer._errors import InputError
from gossamer._proto.v1 import manifest_pb2 as pb

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PRESETS = ("unit", "signed", "imagenet", "raw")
"""``unit``: 0..1; ``signed``: -1..1; ``imagenet``: 0..1, then mean and deviation of ImageNet; ``raw``: bytes 0..255."""


def preprocessing(
    shape: Sequence[int], dtype: npt.DTypeLike, preset: str = "unit", *, channels: str = "rgb", resize: str = "stretch"
) -> pb.ImagePreprocessing | None:
    """The preprocessing of an input that takes pictures, by preset; None when the shape is not a picture's.

    Args:
        shape: of the input: ``[1, C, H, W]`` or ``[1, H, W, C]`` with C 1 or 3.
        dtype: of the input.
        preset: one of ``PRESETS``. 8-bit inputs with ``raw`` hold the bytes themselves.
        channels: ``rgb`` or ``bgr``; an input of one channel is grey.
        resize: ``stretch`` or ``crop`` (short side, then centre).

    Raises:
        InputError: an unknown preset, channel order or way to resize.
    """
    if preset not in PRESETS or channels not in ("rgb", "bgr") or resize not in ("stretch", "crop"):
        raise InputError(
            f"unknown preprocessing: {preset}, {channels}, {resize}",
            hint=f"presets {', '.join(PRESETS)}; channels rgb or bgr; resize stretch or crop",
        )
    if len(shape) != 4 or shape[0] != 1:
        return None
    p = pb.ImagePreprocessing()
    if shape[1] in (1, 3):
        p.layout, depth = p.LAYOUT_NCHW, shape[1]
    elif shape[3] in (1, 3):
        p.layout, depth = p.LAYOUT_NHWC, shape[3]
    else:
        return None
    p.channels = p.CHANNELS_GRAY if depth == 1 else p.CHANNELS_BGR if channels == "bgr" else p.CHANNELS_RGB
    p.resize = p.RESIZE_SHORT_SIDE_CENTER_CROP if resize == "crop" else p.RESIZE_STRETCH
    if preset == "raw":
        p.raw_bytes = np.dtype(dtype).itemsize == 1
    elif preset == "signed":
        p.divisor, p.mean[:], p.std[:] = 127.5, [1.0], [1.0]
    elif preset == "unit" or depth == 1:
        p.divisor = 255.0
    else:
        p.divisor, p.mean[:], p.std[:] = 255.0, _IMAGENET[0], _IMAGENET[1]
    return p


def open_image(path: str | os.PathLike[str]) -> Image:
    """Decode a picture and turn it the way its EXIF data say.

    Raises:
        InputError: there is no such file, or it is not a picture.
    """
    return decode_image(os.fspath(path), os.fspath(path))


def decode_image(file: str | IO[bytes], where: str) -> Image:
    """As ``open_image``, of a path or an open file that errors call ``where``.

    Raises:
        InputError: there is no such file, or it is not a picture.
    """
    from PIL import Image as pil  # noqa: N813 - the module, beside the class of that name
    from PIL import ImageOps, UnidentifiedImageError

    try:
        with pil.open(file) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except FileNotFoundError:
        raise InputError("no such picture", where=where, hint="check the path") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, pil.DecompressionBombError) as e:
        reason = "not a picture that can be read" if isinstance(e, UnidentifiedImageError) else f"broken picture: {e}"
        raise InputError(reason, where=where, hint=f"give one of {', '.join(SUFFIXES)}") from e


def image_files(sources: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Pictures among files and folders (searched through, sorted); files are taken whatever they are called.

    Raises:
        InputError: a path does not exist, or there is no picture at all.
    """
    found: list[Path] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        elif path.exists():
            found.append(path)
        else:
            raise InputError("no such file or folder", where=str(path), hint="check the path")
    if not found:
        names = ", ".join(str(s) for s in sources)
        raise InputError("no pictures found", where=names, hint=f"pictures end in {', '.join(SUFFIXES)}")
    return found


def to_input(image: Image, port: pb.Port) -> npt.NDArray[Any]:
    """A picture as the array that an input takes: ``port.shape``, ``port.dtype``.

    Resizes with Pillow's antialiased bilinear filter.

    Raises:
        InputError: the input does not take pictures.
    """
    from PIL import Image as pil  # noqa: N813 - the module, beside the class of that name

    p = port.image
    if not port.HasField("image") or p.layout == p.LAYOUT_UNSPECIFIED:
        raise InputError(
            f"the manifest does not say how a picture becomes input {port.name!r}",
            hint="give an .npy file, or state --preprocess when optimising",
        )
    dims = list(port.shape)
    height, width = dims[2:4] if p.layout == p.LAYOUT_NCHW else dims[1:3]
    gray = p.channels == p.CHANNELS_GRAY
    image = image.convert("L" if gray else "RGB")
    if p.resize == p.RESIZE_SHORT_SIDE_CENTER_CROP:
        short = p.resize_short or max(height, width)
        factor = short / min(image.size)
        size = (max(width, round(image.width * factor)), max(height, round(image.height * factor)))
        image = image.resize(size, pil.Resampling.BILINEAR)
        left, top = (size[0] - width) // 2, (size[1] - height) // 2
        image = image.crop((left, top, left + width, top + height))
    else:
        image = image.resize((width, height), pil.Resampling.BILINEAR)
    pixels = np.asarray(image)
    if gray:
        pixels = pixels[:, :, None]
    if p.channels == p.CHANNELS_BGR:
        pixels = pixels[:, :, ::-1]
    if p.layout == p.LAYOUT_NCHW:
        pixels = pixels.transpose(2, 0, 1)
    if p.raw_bytes:
        values = pixels.astype(np.int16) - (128 if port.dtype == "int8" else 0)
        return np.ascontiguousarray(values[None].astype(port.dtype))
    channel = (3, 1, 1) if p.layout == p.LAYOUT_NCHW else (3,)
    real = pixels.astype(np.float32)
    if p.divisor:
        real = real / np.float32(p.divisor)
    for values, operation in ((p.mean, np.subtract), (p.std, np.divide)):
        if values:
            v = np.array(values, np.float32)
            real = operation(real, v.reshape(channel) if v.size == 3 else v.reshape(()))
    return quantised(real[None], port)


def quantised(real: npt.NDArray[Any], port: pb.Port) -> npt.NDArray[Any]:
    """Real values as the port stores them: rounded to its grid where it is quantised, else converted."""
    dtype = np.dtype(port.dtype)
    if dtype.kind == "f":
        return np.ascontiguousarray(real.astype(dtype))
    info = np.iinfo(dtype)
    scaled = np.rint(real / np.float32(port.scale)) + port.zero_point if port.scale else np.rint(real)
    return np.ascontiguousarray(np.clip(scaled, info.min, info.max).astype(dtype))


def dequantised(values: npt.NDArray[Any], scale: float, zero_point: int) -> npt.NDArray[np.float64]:
    """Stored values as real numbers; unchanged where ``scale`` is 0."""
    real = np.asarray(values, np.float64)
    return (real - zero_point) * scale if scale else real


@dataclass(frozen=True)
class Score:
    """One class of one output. ``probability``: ``value`` is one, between 0 and 1; else the raw score."""

    index: int
    label: str
    value: float
    probability: bool


def scores(values: npt.NDArray[Any], port: pb.Port, top: int = 5) -> list[Score]:
    """The best classes of an output, best first.

    Args:
        values: the output as it came from the session.
        port: its description; labels, softmax and quantisation are taken from there.
        top: at most this many.
    """
    post = port.postprocessing
    real = dequantised(values, port.scale, port.zero_point).reshape(-1)
    probability = bool(post.logits) or bool(real.size and real.min() >= 0 and real.max() <= 1)
    if post.kind == post.KIND_BINARY and real.size == 1:
        p = 1 / (1 + np.exp(-real)) if post.logits else real
        real, probability = np.array([1 - p[0], p[0]]), True
    elif post.logits:
        e = np.exp(real - real.max())
        real = e / e.sum()
    labels = list(post.labels)
    order = np.argsort(-real, kind="stable")[:top]
    return [Score(int(i), labels[i] if i < len(labels) else f"class {i}", float(real[i]), probability) for i in order]
