"""Opening a folder of photos, whatever published layout it has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gossamer._errors import InputError
from gossamer.person.dataset.coco import CocoPhotos, annotation_files
from gossamer.person.dataset.person128 import PersonDataset
from gossamer.person.dataset.photo_set import PhotoSet
from gossamer.person.dataset.wake_vision import WakeVision, shards_below

_OPENERS: dict[str, Callable[[Path], PhotoSet]] = {
    "person128": PersonDataset,
    "wake-vision": WakeVision,
    "coco": CocoPhotos,
}
LAYOUTS = ("auto", *_OPENERS)


def open_photos(folder: str | Path, layout: str = "auto") -> PhotoSet:
    """Open a data set.

    Args:
        folder: see :class:`PersonDataset`, :class:`~gossamer.person.dataset.wake_vision.WakeVision` and
            :class:`~gossamer.person.dataset.coco.CocoPhotos` for what it must hold.
        layout: one of ``LAYOUTS``; ``auto`` looks at the files.

    Raises:
        InputError: no such folder or layout, or none or several layouts fit.
    """
    place = Path(folder)
    if layout not in LAYOUTS:
        raise InputError(f"unknown layout {layout!r}", where=str(place), hint=f"one of {', '.join(LAYOUTS)}")
    if not place.is_dir():
        raise InputError("no such folder", where=str(place), hint="check the path")
    if layout == "auto":
        fitting = []
        if (place / "labels.csv").is_file() and (place / "images.zip").is_file():
            fitting.append("person128")
        if any(shards_below(place)):
            fitting.append("wake-vision")
        if annotation_files(place):
            fitting.append("coco")
        if len(fitting) > 1 and "wake-vision" in fitting and "coco" in fitting:
            # tensorflow_datasets puts features.json and dataset_info.json beside its shards
            described = {"features.json", "dataset_info.json", "metadata.json"}
            if {p.name for p in annotation_files(place)} <= described:
                fitting.remove("coco")
        if len(fitting) != 1:
            raise InputError(
                f"several layouts fit: {', '.join(fitting)}" if fitting else "no known layout of photos",
                where=str(place),
                hint="choose one with --layout (layout=)"
                if fitting
                else "person128: labels.csv and images.zip; wake-vision: .parquet or .tfrecord shards; coco: "
                "annotations/instances_*.json and photos",
            )
        layout = fitting[0]
    return _OPENERS[layout](place)
