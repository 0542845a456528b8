"""Real photographs and clips, shaped as the third-party models want them."""

from __future__ import annotations

import csv
import io
import wave
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[Any]


@cache
def photos(data: Path, height: int, width: int, count: int) -> Array:
    """``count`` photos of the person128 test split and the Coral photos, ``[n, height, width, 3]`` uint8."""
    images: list[Array] = []
    for bmp in sorted((data / "models/coral").glob("*.bmp")):
        with Image.open(bmp) as image:
            if min(image.size) > 100:
                images.append(_resize(image, height, width))
    with zipfile.ZipFile(data / "person128/images.zip") as archive, (data / "person128/labels.csv").open() as labels:
        rows = [row for row in csv.DictReader(labels) if row["split"] == "test"]
        step = max(1, len(rows) // max(1, count - len(images)))
        for row in rows[::step][: count - len(images)]:
            with Image.open(io.BytesIO(archive.read(row["file"]))) as image:
                images.append(_resize(image, height, width))
    return np.stack(images)


def _resize(image: Image.Image, height: int, width: int) -> Array:
    return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))


def grey(rgb: Array) -> Array:
    """Luma of ``[..., 3]`` uint8, ``[..., 1]`` uint8."""
    return np.round(rgb @ np.array([0.299, 0.587, 0.114]))[..., None].astype(np.uint8)


@cache
def clips(data: Path, count: int) -> Array:
    """``count`` one-second Speech Commands clips, ``[n, 16000]`` float in -1..1, spread over the classes."""
    with zipfile.ZipFile(data / "sensors/speech_commands_kws01open_td.zip") as archive:
        names = sorted(n for n in archive.namelist() if n.endswith(".bin"))
        chosen = names[:: max(1, len(names) // count)][:count]
        waves = [np.frombuffer(archive.read(n), "<i2") for n in chosen]
    return np.stack(waves).astype(np.float64) / 32768


def wav(path: Path) -> Array:
    """A 16-bit mono recording as float in -1..1."""
    with wave.open(str(path)) as recording:
        return np.frombuffer(recording.readframes(recording.getnframes()), "<i2").astype(np.float64) / 32768


def log_mel(signal: Array, frame: int, hop: int, bands: int, frames: int) -> Array:
    """Log-mel energies ``[frames, bands]`` (natural log) of 16 kHz audio; HTK mel scale, 20 Hz to 7.6 kHz."""
    size = 1 << (frame - 1).bit_length()
    padded = np.pad(signal, (0, max(0, frame + hop * (frames - 1) - len(signal))))
    windows = np.stack([padded[i * hop : i * hop + frame] for i in range(frames)]) * np.hanning(frame)
    power = np.abs(np.fft.rfft(windows, size)) ** 2
    edges = 700 * (np.exp(np.linspace(*(1127 * np.log1p(np.array([20, 7600]) / 700)), bands + 2) / 1127) - 1)
    hertz = np.arange(power.shape[1]) * 16000 / size
    rising = (hertz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - hertz) / (edges[2:] - edges[1:-1])[:, None]
    return np.log(power @ np.clip(np.minimum(rising, falling), 0, None).T + 1e-6)


def mfcc(signal: Array) -> Array:
    """Ten mel cepstral coefficients of 49 frames (30 ms, hop 20 ms), ``[49, 10]``, as the keyword models take them."""
    mel = log_mel(signal, 480, 320, 40, 49)
    k = np.arange(10)[:, None] * (np.arange(40) + 0.5) * np.pi / 40
    return np.sqrt(2 / 40) * mel @ np.cos(k).T
