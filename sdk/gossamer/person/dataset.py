"""person128: reads the zip of 128x128 photos and its labels.csv, whole or by split and source."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gossamer._errors import InputError

SPLITS = ("train", "val", "test")
PHOTO_SIZE = 128
"""Height and width of every stored photo in pixels."""
MIN_PERSON_AREA = 0.005
"""A photo is a positive when a person box covers at least this fraction of it (Visual Wake Words' rule)."""
_COLUMNS = ("file", "split", "label", "source", "largest_person_area_fraction")


@dataclass(frozen=True, slots=True)
class Photo:
    """One row of labels.csv.

    Attributes:
        file: name inside images.zip, ``<source>/<id>.jpg``.
        split: ``train``, ``val`` or ``test``.
        label: 1 person, 0 no person.
        source: the collection the photo came from.
        largest_person_area: area of the largest person box as a fraction (0..1) of the photo, 0 without persons.
    """

    file: str
    split: str
    label: int
    source: str
    largest_person_area: float


class PersonDataset:
    """The labels of person128 in memory, its photos read on demand.

    Args:
        folder: holds ``labels.csv`` and ``images.zip``.

    Raises:
        InputError: a file is missing or a row is malformed; the message names file and line.
    """

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

    def select(self, split: str | None = None, *, without: Iterable[str] = ()) -> list[Photo]:
        """Rows of one split (None: all), leaving out the sources named in ``without``.

        Raises:
            InputError: an unknown split, or a source that does not occur.
        """
        if split is not None and split not in SPLITS:
            raise InputError(f"unknown split {split!r}", where="person128", hint=f"one of {', '.join(SPLITS)}")
        left_out = set(without)
        unknown = left_out - {p.source for p in self.photos}
        if unknown:
            known = ", ".join(sorted({p.source for p in self.photos}))
            raise InputError(f"no source {sorted(unknown)[0]!r}", where="person128", hint=f"sources: {known}")
        return [p for p in self.photos if (split is None or p.split == split) and p.source not in left_out]

    def images(
        self, photos: Iterable[Photo], *, size: int = PHOTO_SIZE, progress: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.uint8]:
        """Decode photos: uint8 [N, size, size, 3], RGB; another size is squashed with Pillow's antialiased bilinear.

        Args:
            photos: rows of this data set.
            size: height and width in pixels.
            progress: called with the number of photos read so far.

        Raises:
            InputError: a photo is missing from the archive or cannot be decoded.
        """
        from PIL import Image, UnidentifiedImageError

        wanted = list(photos)
        out = np.empty((len(wanted), size, size, 3), dtype=np.uint8)
        with zipfile.ZipFile(self.archive) as archive:
            for i, photo in enumerate(wanted):
                try:
                    image = Image.open(io.BytesIO(archive.read(photo.file))).convert("RGB")
                except KeyError as error:
                    raise InputError(f"{photo.file} is not in the archive", where=str(self.archive)) from error
                except (UnidentifiedImageError, OSError) as error:
                    raise InputError(
                        f"{photo.file} is not a readable image: {error}", where=str(self.archive)
                    ) from error
                if image.size != (size, size):
                    image = image.resize((size, size), Image.Resampling.BILINEAR)
                out[i] = np.asarray(image)
                if progress is not None:
                    progress(i + 1)
        return out


def labels(photos: Iterable[Photo]) -> npt.NDArray[np.int64]:
    """int64 [N]: 1 person, 0 no person."""
    return np.array([p.label for p in photos], dtype=np.int64)


def sources(photos: Iterable[Photo]) -> npt.NDArray[np.str_]:
    """str [N]: the source of each photo."""
    return np.array([p.source for p in photos], dtype=np.str_)


def areas(photos: Iterable[Photo]) -> npt.NDArray[np.float64]:
    """float64 [N]: largest person box of each photo as a fraction of it."""
    return np.array([p.largest_person_area for p in photos], dtype=np.float64)


def sampling_weights(photos: Iterable[Photo], *, one_label_factor: float = 0.25) -> npt.NDArray[np.float64]:
    """Probability of drawing each photo so that label and source say little about each other.

    Each label gets half of the draws. Inside a label a source gets a share proportional to the square root of its
    photos, times ``one_label_factor`` when the source has photos of one label only: there the source gives the
    label away, and a model that learns to tell sources apart would look right for the wrong reason.

    Returns:
        float64 [N], summing to 1.

    Raises:
        InputError: one of the two labels is missing.
    """
    rows = list(photos)
    label, source = labels(rows), sources(rows)
    if set(label.tolist()) != {0, 1}:
        raise InputError("balanced sampling needs photos of both labels", where="person128")
    out = np.zeros(len(rows), dtype=np.float64)
    for wanted in (0, 1):
        share = {}
        for name in sorted(set(source[label == wanted].tolist())):
            count = int(np.sum((label == wanted) & (source == name)))
            both = len(set(label[source == name].tolist())) == 2
            share[name] = count**0.5 * (1.0 if both else one_label_factor), count
        total = sum(s for s, _ in share.values())
        for name, (weight, count) in share.items():
            out[(label == wanted) & (source == name)] = 0.5 * weight / total / count
    return out


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
            try:
                area = float(row["largest_person_area_fraction"])
            except (TypeError, ValueError) as error:
                raise InputError("largest_person_area_fraction is not a number", where=where) from error
            if not 0.0 <= area <= 1.0:
                raise InputError(f"largest_person_area_fraction {area} is not a fraction", where=where)
            yield Photo(row["file"], row["split"], int(row["label"]), row["source"], area)
