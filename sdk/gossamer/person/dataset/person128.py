"""person128: reads the zip of 128x128 photos and its labels.csv, whole or by split and source."""

from __future__ import annotations

import csv
import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

from gossamer._errors import InputError
from gossamer.person.dataset.photo import Photo, distance_of, lighting_of
from gossamer.person.dataset.photo_set import BadPhotoError, PhotoSet

SPLITS = ("train", "val", "test")
PHOTO_SIZE = 128
"""Height and width of every stored photo in pixels."""
_COLUMNS = ("file", "split", "label", "source", "largest_person_area_fraction")


class PersonDataset(PhotoSet):
    """The labels of person128 in memory, its photos read on demand.

    Args:
        folder: holds ``labels.csv`` and ``images.zip``.

    Attributes:
        photos: all records in the order of labels.csv.

    Raises:
        InputError: a file is missing or a row is malformed; the message names file and line.
    """

    layout: ClassVar[str] = "person128"

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.archive = self.folder / "images.zip"
        for needed in (self.folder / "labels.csv", self.archive):
            if not needed.is_file():
                raise InputError(
                    f"person128 needs {needed.name}",
                    where=str(needed),
                    hint="give the folder that holds labels.csv and images.zip",
                )
        self.photos: tuple[Photo, ...] = tuple(_read_labels(self.folder / "labels.csv"))

    def __len__(self) -> int:
        return len(self.photos)

    def __iter__(self) -> Iterator[Photo]:
        return iter(self.photos)

    @property
    def splits(self) -> tuple[str, ...]:
        """Always train, val and test."""
        return SPLITS

    def records(self, split: str | None = None) -> Iterator[Photo]:
        """See :meth:`PhotoSet.records`."""
        wanted = None if split is None else self.split_named(split)
        return (p for p in self.photos if wanted is None or p.split == wanted)

    def encoded(self, photos: Iterable[Photo]) -> Iterator[tuple[Photo, bytes | BadPhotoError]]:
        """See :meth:`PhotoSet.encoded`.

        Raises:
            InputError: images.zip is not a zip.
        """
        try:
            archive = zipfile.ZipFile(self.archive)
        except zipfile.BadZipFile as e:
            raise InputError(f"not a zip archive: {e}", where=str(self.archive), hint="copy it again") from e
        with archive:
            for photo in photos:
                try:
                    yield photo, archive.read(photo.file)
                except KeyError:
                    yield photo, BadPhotoError("not in the archive")
                except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as e:
                    yield photo, BadPhotoError(f"damaged inside the archive: {e}")


def _read_labels(path: Path) -> Iterator[Photo]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [c for c in _COLUMNS if c not in (reader.fieldnames or [])]
        if missing:
            raise InputError(f"no column {missing[0]!r}", where=f"{path}:1", hint=f"columns: {', '.join(_COLUMNS)}")
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if row["split"] not in SPLITS or row["label"] not in ("0", "1"):
                raise InputError(
                    f"split {row['split']!r}, label {row['label']!r}",
                    where=where,
                    hint="split train, val or test; label 0 or 1",
                )
            label = int(row["label"])
            area = _number(row, "largest_person_area_fraction", where)
            if not 0.0 <= area <= 1.0:
                raise InputError(f"largest_person_area_fraction {area} is not a fraction", where=where)
            brightness = _number(row, "mean_brightness", where) if row.get("mean_brightness") else math.nan
            if not (math.isnan(brightness) or 0.0 <= brightness <= 255.0):
                raise InputError(f"mean_brightness {brightness} is not within 0..255", where=where)
            yield Photo(
                row["file"],
                row["split"],
                label,
                row["source"],
                area,
                brightness,
                distance=distance_of(label, area),
                lighting=lighting_of(brightness),
            )


def _number(row: dict[str, str], column: str, where: str) -> float:
    try:
        return float(row[column])
    except (TypeError, ValueError) as error:
        raise InputError(f"{column} is not a number", where=where) from error
