"""What is in a data set: photos by split, source, label and slice, and those that cannot be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gossamer._tables import columns
from gossamer.person.dataset.photo import FINE_GRAINED
from gossamer.person.dataset.photo_set import PhotoSet, Skipped

_SHOWN = 20


@dataclass
class Counts:
    """The result of :func:`count_photos`.

    Attributes:
        folder, layout, notes: of the data set.
        cells: photos by (split, source, label).
        slices: photos by (split, set, slice, label).
        decoded: whether the photos were read, or their labels alone.
        skipped: photos that could not be read; not in the counts.
    """

    folder: str
    layout: str
    notes: tuple[str, ...]
    decoded: bool
    cells: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    slices: Counter[tuple[str, str, str, int]] = field(default_factory=Counter)
    skipped: Skipped = field(default_factory=Skipped)

    def to_json(self) -> dict[str, Any]:
        """Plain values: ``splits`` by split, source and label, ``slices`` by split, set, slice and label."""
        splits: dict[str, Any] = {}
        for (split, source, label), n in sorted(self.cells.items()):
            splits.setdefault(split, {}).setdefault(source, {"person": 0, "none": 0})[_name(label)] = n
        slices: dict[str, Any] = {}
        for (split, name, value, label), n in sorted(self.slices.items()):
            cell = slices.setdefault(split, {}).setdefault(name, {}).setdefault(value, {"person": 0, "none": 0})
            cell[_name(label)] = n
        return {
            "folder": self.folder,
            "layout": self.layout,
            "notes": list(self.notes),
            "photos": sum(self.cells.values()),
            "decoded": self.decoded,
            "splits": splits,
            "slices": slices,
            "skipped": self.skipped.to_json(),
        }

    def text(self) -> str:
        """Tables for a terminal."""
        splits = list(dict.fromkeys(s for s, _, _ in self.cells))
        parts = [f"{self.folder}: {self.layout}, {sum(self.cells.values())} photos"]
        parts += [f"note: {note}" for note in self.notes]
        for split in splits:
            for label in (1, 0):
                if not any(n for (s, _, y), n in self.cells.items() if s == split and y == label):
                    parts.append(f"note: split {split} has no photos {'with' if label else 'without'} a person")
        rows = [
            [split, source, str(self.cells[split, source, 1]), str(self.cells[split, source, 0])]
            for split in splits
            for source in sorted({source for s, source, _ in self.cells if s == split})
        ]
        out = ["\n".join(parts), columns(["split", "source", "person", "none"], rows, left={0, 1})]
        rows = [
            [
                split,
                f"{name}: {value}",
                str(self.slices[split, name, value, 1]),
                str(self.slices[split, name, value, 0]),
            ]
            for split in splits
            for name, values in FINE_GRAINED.items()
            for value in values
            if self.slices[split, name, value, 1] or self.slices[split, name, value, 0]
        ]
        if rows:
            out.append(columns(["split", "slice", "person", "none"], rows, left={0, 1}))
        if self.skipped.count:
            lines = [f"{self.skipped.count} photos skipped: they cannot be read"]
            lines += [f"  {file}: {reason}" for file, reason in self.skipped.named[:_SHOWN]]
            more = self.skipped.count - min(_SHOWN, len(self.skipped.named))
            out.append("\n".join([*lines, *([f"  and {more} more"] if more else [])]))
        elif not self.decoded:
            out.append("photos were not read: labels only")
        return "\n\n".join(out)


def count_photos(
    photos: PhotoSet, *, decode: bool = True, progress: Callable[[int, int], None] | None = None
) -> Counts:
    """Count a data set.

    Args:
        photos: from :func:`gossamer.person.dataset.open_photos`.
        decode: read every photo, to find those that are damaged and to measure lighting where it is not stated.
        progress: called with (photos done, photos).

    Raises:
        InputError: a malformed row; the message names file and row.
    """
    counts = Counts(str(photos.folder), photos.layout, photos.notes, decode)
    total = photos.count() if progress is not None else 0
    records = (p for p, _ in photos.read(None, counts.skipped)) if decode else photos.records()
    for done, photo in enumerate(records, 1):
        counts.cells[photo.split, photo.source, photo.label] += 1
        for name in FINE_GRAINED:
            value = getattr(photo, name)
            if value:
                counts.slices[photo.split, name, value, photo.label] += 1
        if progress is not None:
            progress(done + counts.skipped.count, total)
    return counts


def _name(label: int) -> str:
    return "person" if label else "none"
