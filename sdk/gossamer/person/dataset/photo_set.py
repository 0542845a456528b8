"""What every data set can do: give its records, decode photos one after another, and name those that it could not."""

from __future__ import annotations

import dataclasses
import io
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from gossamer._errors import InputError
from gossamer.person.dataset.photo import Photo, lighting_of

if TYPE_CHECKING:
    from PIL.Image import Image

_TEST_NAMES = ("test", "validation", "val")
_ALIASES = {"val": "validation", "validation": "val"}


class Skipped:
    """Photos that could not be read, counted by reason; the first ``keep`` of them by name.

    Attributes:
        count: all of them.
        reasons: photos by reason.
        named: (file, reason) of the first ones.
    """

    def __init__(self, keep: int = 1000) -> None:
        self.count = 0
        self.reasons: dict[str, int] = {}
        self.named: list[tuple[str, str]] = []
        self._keep = keep

    def add(self, file: str, reason: str) -> None:
        """Count one photo."""
        self.count += 1
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        if len(self.named) < self._keep:
            self.named.append((file, reason))

    def to_json(self) -> dict[str, object]:
        """``{"count", "reasons", "files": [{"file", "reason"}]}``."""
        files = [{"file": f, "reason": r} for f, r in self.named]
        return {"count": self.count, "reasons": dict(sorted(self.reasons.items())), "files": files}


class BadPhotoError(Exception):
    """A photo's bytes are missing or damaged; the text is the reason, without the photo's name."""


class PhotoSet(ABC):
    """A data set in a local folder. Nothing but records is held in memory, and ``records`` gives those one by one.

    Attributes:
        layout: which of the published layouts it has.
        folder: where it lies.
    """

    layout: ClassVar[str]
    folder: Path

    @property
    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Splits that it has, as it calls them."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of its numbers should know: photos left out by its rules, parts that are missing."""
        return ()

    @abstractmethod
    def records(self, split: str | None = None) -> Iterator[Photo]:
        """Records of a split (None: all), in their order, without reading pixels.

        Raises:
            InputError: an unknown split, or a malformed row; the message names file and row.
        """

    @abstractmethod
    def encoded(self, photos: Iterable[Photo]) -> Iterator[tuple[Photo, bytes | BadPhotoError]]:
        """The photos' file contents, in the order given, or why there are none."""

    def count(self, split: str | None = None) -> int:
        """Photos of a split (None: all), readable or not.

        Raises:
            InputError: an unknown split, or a malformed row.
        """
        return sum(1 for _ in self.records(split))

    def stream(self, split: str | None = None) -> Iterator[tuple[Photo, bytes | BadPhotoError]]:
        """Records of a split with their file contents: one pass over the files."""
        return self.encoded(self.records(split))

    def read(self, split: str | None, skipped: Skipped) -> Iterator[tuple[Photo, Image]]:
        """Records of a split with decoded photos, RGB or grey, one at a time.

        Lighting is measured on the photo where the data set does not state it.

        Args:
            split: None: all.
            skipped: receives the photos that cannot be decoded.

        Raises:
            InputError: an unknown split, or a malformed row.
        """
        for photo, content in self.stream(split):
            try:
                image = decode(content)
            except BadPhotoError as e:
                skipped.add(photo.file, str(e))
                continue
            yield measured(photo, image), image

    def select(self, split: str | None = None, *, without: Iterable[str] = ()) -> list[Photo]:
        """Records of one split (None: all) as a list, leaving out the sources named in ``without``.

        Raises:
            InputError: an unknown split, a malformed row, or a source that does not occur.
        """
        left_out, found, known = set(without), [], set()
        for photo in self.records():
            known.add(photo.source)
            found.append(photo)
        unknown = left_out - known
        if unknown:
            raise InputError(
                f"no source {sorted(unknown)[0]!r}", where=self.layout, hint=f"sources: {', '.join(sorted(known))}"
            )
        wanted = None if split is None else self.split_named(split)
        return [p for p in found if (wanted is None or p.split == wanted) and p.source not in left_out]

    def load(
        self,
        photos: Iterable[Photo],
        skipped: Skipped,
        *,
        size: int = 128,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[list[Photo], npt.NDArray[np.uint8]]:
        """Decode photos into one array: those that could be read, and uint8 [N, size, size, 3] (RGB, squashed).

        Args:
            photos: records of this data set.
            skipped: receives the photos that cannot be decoded.
            size: height and width in pixels; Pillow's antialiased bilinear filter.
            progress: called with the number of photos done so far.
        """
        wanted = list(photos)
        out = np.empty((len(wanted), size, size, 3), dtype=np.uint8)
        kept: list[Photo] = []
        for i, (photo, content) in enumerate(self.encoded(wanted)):
            try:
                out[len(kept)] = squashed(decode(content), size)
                kept.append(photo)
            except BadPhotoError as e:
                skipped.add(photo.file, str(e))
            if progress is not None:
                progress(i + 1)
        return kept, out[: len(kept)]

    def images(
        self, photos: Iterable[Photo], *, size: int = 128, progress: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.uint8]:
        """As ``load``, for photos that must all be there: uint8 [N, size, size, 3].

        Raises:
            InputError: a photo is missing or cannot be decoded.
        """
        wanted = list(photos)
        out = np.empty((len(wanted), size, size, 3), dtype=np.uint8)
        for i, (photo, content) in enumerate(self.encoded(wanted)):
            try:
                out[i] = squashed(decode(content), size)
            except BadPhotoError as e:
                raise InputError(f"{photo.file} is {e}", where=str(self.folder)) from e
            if progress is not None:
                progress(i + 1)
        return out

    def split_named(self, split: str) -> str:
        """This data set's own name of a split: ``val`` and ``validation`` stand for each other.

        Raises:
            InputError: it has no such split.
        """
        if split in self.splits:
            return split
        other = _ALIASES.get(split)
        if other in self.splits:
            return str(other)
        raise InputError(f"unknown split {split!r}", where=self.layout, hint=f"one of {', '.join(self.splits)}")

    def default_split(self) -> str:
        """The split to judge by: ``test``, else ``validation`` or ``val``, else the only one there is.

        Raises:
            InputError: none of them.
        """
        for name in _TEST_NAMES:
            if name in self.splits:
                return name
        if len(self.splits) == 1:
            return self.splits[0]
        raise InputError("no split to judge by", where=str(self.folder), hint=f"name one of {', '.join(self.splits)}")


def require_both_labels(labels: Iterable[int], where: str) -> None:
    """Check that photos with and photos without a person are there.

    Raises:
        InputError: there are none at all, or one of the classes is empty.
    """
    counts = [0, 0]
    for label in labels:
        counts[label] += 1
    for label, name in ((1, "with a person"), (0, "without a person")):
        if counts[label] == 0:
            have = f"all {sum(counts)} have the label {1 - label}" if sum(counts) else "there are no photos at all"
            raise InputError(f"no photo {name}: {have}", where=where, hint="judging needs photos of both classes")


def decode(content: bytes | BadPhotoError) -> Image:
    """A photo's file content as a Pillow image, RGB (grey photos become RGB), turned as its EXIF data say.

    Raises:
        BadPhotoError: empty, truncated, or not an image.
    """
    from PIL import Image as pil  # noqa: N813 - the module, beside the class of that name
    from PIL import ImageOps, UnidentifiedImageError

    if isinstance(content, BadPhotoError):
        raise content
    if not content:
        raise BadPhotoError("empty, 0 bytes")
    try:
        with pil.open(io.BytesIO(content)) as image:
            image.load()
            turned: Image = ImageOps.exif_transpose(image).convert("RGB")
            return turned
    except UnidentifiedImageError:
        raise BadPhotoError("not a readable image") from None
    except (OSError, ValueError, SyntaxError, pil.DecompressionBombError) as e:
        reason = (
            "truncated" if "truncated" in str(e).lower() else f"not a readable image: {str(e).splitlines()[0][:80]}"
        )
        raise BadPhotoError(reason) from e


def squashed(image: Image, size: int) -> npt.NDArray[np.uint8]:
    """uint8 [size, size, 3]: aspect ratio not kept, Pillow's antialiased bilinear filter."""
    from PIL import Image as pil  # noqa: N813

    if image.size != (size, size):
        image = image.resize((size, size), pil.Resampling.BILINEAR)
    return np.asarray(image)


def measured(photo: Photo, image: Image) -> Photo:
    """The record with brightness and lighting, from the decoded photo where they were not known."""
    if photo.lighting and not math.isnan(photo.brightness):
        return photo
    brightness = photo.brightness if not math.isnan(photo.brightness) else mean_luma(image)
    return dataclasses.replace(photo, brightness=brightness, lighting=photo.lighting or lighting_of(brightness))


def mean_luma(image: Image) -> float:
    """Mean of the luma (ITU-R 601, 0..255) of all pixels."""
    from PIL import ImageStat

    return float(ImageStat.Stat(image.convert("L")).mean[0])
