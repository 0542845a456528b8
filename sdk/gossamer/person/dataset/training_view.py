"""Any data set as training wants it: splits ``train`` and ``val``, readable photos alone, both labels in each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from gossamer.person.dataset.photo import Photo
from gossamer.person.dataset.photo_set import BadPhotoError, PhotoSet, Skipped, decode, require_both_labels

_TRAIN = ("train", "train_quality", "train_large", "train_bbox")


class TrainingView(PhotoSet):
    """Two splits of a data set under the names ``train`` and ``val``, each photo tried once.

    Args:
        photos: the data set.
        train: split to train on; by default ``train``, else Wake Vision's ``train_quality``, else ``train_large``.
        val: split to choose by; by default ``val`` or ``validation``.
        progress: called with (photos tried, photos).

    Attributes:
        skipped: photos that cannot be decoded.

    Raises:
        InputError: a split is missing, a row is malformed, or a split lacks one of the labels.
    """

    layout = "training view"

    def __init__(
        self,
        photos: PhotoSet,
        train: str | None = None,
        val: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._photos = photos
        self.folder: Path = photos.folder
        self.skipped = Skipped()
        fallback = next((name for name in _TRAIN if name in photos.splits), "train")
        self._named = {"train": photos.split_named(train or fallback), "val": photos.split_named(val or "val")}
        self._rows: dict[str, list[Photo]] = {}
        done, total = 0, sum(map(photos.count, self._named.values())) if progress is not None else 0
        for own, name in self._named.items():
            rows = self._rows[own] = []
            for photo, content in photos.stream(name):
                try:
                    decode(content)
                    rows.append(photo)
                except BadPhotoError as e:
                    self.skipped.add(photo.file, str(e))
                done += 1
                if progress is not None:
                    progress(done, total)
            require_both_labels((p.label for p in rows), f"{photos.folder}, split {name}")

    @property
    def splits(self) -> tuple[str, ...]:
        """``train`` and ``val``."""
        return tuple(self._named)

    @property
    def notes(self) -> tuple[str, ...]:
        """The data set's own."""
        return self._photos.notes

    def records(self, split: str | None = None) -> Iterator[Photo]:
        """Readable photos of a split; they keep the data set's own names of splits."""
        names = self.splits if split is None else (self.split_named(split),)
        return (p for name in names for p in self._rows[name])

    def select(self, split: str | None = None, *, without: Iterable[str] = ()) -> list[Photo]:
        """See :meth:`PhotoSet.select`."""
        left_out = set(without)
        super().select(None, without=left_out)  # names sources that do not occur
        return [p for p in self.records(split) if p.source not in left_out]

    def encoded(self, photos: Iterable[Photo]) -> Iterator[tuple[Photo, bytes | BadPhotoError]]:
        """See :meth:`PhotoSet.encoded`."""
        return self._photos.encoded(photos)
