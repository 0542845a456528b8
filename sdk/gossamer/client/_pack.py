"""What a client sends beside its model: arrays as .npz, pictures as a .zip that is equal for equal pictures."""

from __future__ import annotations

import contextlib
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from gossamer._errors import InputError

MODELS = {".onnx": "ONNX", ".tflite": "TFLITE", ".pt2": "PT2"}
PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
_EPOCH = (1980, 1, 1, 0, 0, 0)


def model_format(path: Path) -> str:
    """``ONNX``, ``TFLITE`` or ``PT2``, by the file's name.

    Raises:
        InputError: the file is missing or of another kind.
    """
    if not path.is_file():
        raise InputError("no such model file", where=str(path), hint="check the path")
    if path.suffix.lower() not in MODELS:
        raise InputError(
            "the model's format is not known by its name", where=str(path), hint="use .onnx, .tflite or .pt2"
        )
    return MODELS[path.suffix.lower()]


@contextlib.contextmanager
def packed(path: Path) -> Iterator[tuple[Path, str]]:
    """A file to upload and its format (``NPZ`` or ``ZIP``), of an .npz, a .zip, or a folder with pictures.

    Raises:
        InputError: nothing there, another kind of file, or a folder without pictures.
    """
    if path.is_dir():
        with tempfile.TemporaryDirectory(prefix="gossamer-") as folder:
            archive = Path(folder) / "pictures.zip"
            _zip(path, archive)
            yield archive, "ZIP"
        return
    if not path.is_file():
        raise InputError("no such file or folder", where=str(path), hint="check the path")
    kind = {".npz": "NPZ", ".zip": "ZIP"}.get(path.suffix.lower())
    if kind is None:
        raise InputError(
            "neither an .npz, a .zip nor a folder", where=str(path), hint="save arrays with numpy.savez, by input name"
        )
    yield path, kind


def _zip(folder: Path, archive: Path) -> None:
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURES and p.is_file())
    if not found:
        raise InputError(
            "the folder holds no pictures", where=str(folder), hint="give a folder with .jpg or .png files"
        )
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED, allowZip64=True) as out:  # pictures do not shrink
        for path in found:
            info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH)
            info.external_attr = 0o100644 << 16
            info.file_size = path.stat().st_size
            with path.open("rb") as source, out.open(info, "w") as target:
                while chunk := source.read(1 << 20):
                    target.write(chunk)
