"""COCO's ``instances_*.json`` with a folder of photos, and Visual Wake Words files made from it.

Label 1: a person box covers at least 0.5% of the photo (Visual Wake Words, arXiv 1906.05721, here by the box as in
person128; the original scripts take the segmented area). Photos whose only persons are smaller, whose only person marks
are crowds (``iscrowd``), or that COCO annotates nothing in, are left out and counted in ``notes``. Files with labels of
their own (``annotations`` by image id with ``label``, as TensorFlow's script writes them, or ``label`` inside
``images``) are believed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from gossamer._errors import InputError
from gossamer.person.dataset.json_stream import members
from gossamer.person.dataset.photo import MIN_PERSON_AREA, Photo, distance_of
from gossamer.person.dataset.photo_set import BadPhotoError, PhotoSet

_OTHER = ("captions_", "person_keypoints_", "stuff_", "panoptic_", "image_info_")
_RENAMED = {"minival": "val", "maxitrain": "train"}
_NAMES = {"person"}
_BACKGROUND = {"background", "not-person"}


class CocoPhotos(PhotoSet):
    """Annotations and photos below a folder.

    Args:
        folder: holds ``annotations/*.json`` or ``*.json``, and the photos in ``<name>``, ``images/<name>``, ``images``
            or the folder itself, where ``<name>`` is ``val2017`` for ``instances_val2017.json``.

    Raises:
        InputError: no annotations, or a malformed one; the message names file and element.
    """

    layout: ClassVar[str] = "coco"

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        files = annotation_files(self.folder)
        if not files:
            raise InputError(
                "no COCO annotations",
                where=str(self.folder),
                hint="give the folder that holds annotations/instances_<split>.json and the photos",
            )
        self._photos: list[Photo] = []
        self._places: dict[str, list[Path]] = {}
        notes = []
        for path in files:
            name = re.sub(r"^(instances_)?(visualwakewords_|vww_)?", "", path.stem)
            split = re.sub(r"_?\d{4}$", "", name)
            split = _RENAMED.get(split, split) or "all"
            self._places[name] = [
                self.folder / name,
                self.folder / "images" / name,
                self.folder / "images",
                self.folder,
            ]
            found = _Annotations(path)
            found.read()
            self._photos += found.photos(split, name)
            notes += [f"{path.name}: {text}" for text in found.notes]
        self._notes = tuple(notes)

    @property
    def notes(self) -> tuple[str, ...]:
        """How many photos of each file were left out by the rules, and why."""
        return self._notes

    @property
    def splits(self) -> tuple[str, ...]:
        """One per annotation file, without its year: ``val`` for ``instances_val2017.json``."""
        return tuple(dict.fromkeys(p.split for p in self._photos))

    def records(self, split: str | None = None) -> Iterator[Photo]:
        """See :meth:`PhotoSet.records`."""
        wanted = None if split is None else self.split_named(split)
        return (p for p in self._photos if wanted is None or p.split == wanted)

    def encoded(self, photos: Iterable[Photo]) -> Iterator[tuple[Photo, bytes | BadPhotoError]]:
        """See :meth:`PhotoSet.encoded`. A photo that lies nowhere is a bad one: extracts have few of COCO's."""
        for photo in photos:
            yield photo, self._content(photo)

    def _content(self, photo: Photo) -> bytes | BadPhotoError:
        for place in self._places[photo.source]:
            path = place / photo.file
            try:
                if path.is_file():
                    return path.read_bytes()
            except OSError as e:
                return BadPhotoError(f"unreadable: {e.strerror}")
        return BadPhotoError("not in the folder")


def annotation_files(folder: Path) -> list[Path]:
    """Annotation files of a folder: ``instances_*.json``, or else every JSON but COCO's files for other tasks."""
    found = sorted([*folder.glob("*.json"), *folder.glob("annotations/*.json")])
    instances = [p for p in found if p.name.startswith("instances_")]
    return instances or [p for p in found if not p.name.startswith(_OTHER)]


@dataclass
class _Annotations:
    """One file: sizes and names of its images, and the largest box of each category in each of them."""

    path: Path
    images: dict[int | str, tuple[str, float, int | None]] = field(default_factory=dict)
    boxes: dict[tuple[int | str, int | str], float] = field(default_factory=dict)
    crowds: set[tuple[int | str, int | str]] = field(default_factory=set)
    labels: dict[str, tuple[int, float]] = field(default_factory=dict)
    categories: dict[int | str, str] = field(default_factory=dict)
    annotated: set[int | str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def read(self) -> None:
        seen = set()
        for key, index, value in members(self.path):
            seen.add(key)
            where = f"{self.path}:{key}[{index}]"
            if key == "images":
                self._image(value, where)
            elif key == "annotations" and isinstance(index, str):
                self._labelled(index, value, where)
            elif key == "annotations":
                self._box(value, where)
            elif key == "categories" and isinstance(value, dict):
                self.categories[_key(value, "id", where)] = str(_field(value, "name", where))
        if "images" not in seen:
            raise InputError("no images", where=str(self.path), hint="COCO annotations hold a list 'images'")

    def photos(self, split: str, source: str) -> Iterator[Photo]:
        person = [i for i, name in self.categories.items() if name in _NAMES]
        own = bool(self.labels) or any(label is not None for _, _, label in self.images.values())
        if len(person) != 1 and not own:
            have = ", ".join(map(str, self.categories.values()))[:120] or "none"
            raise InputError("no category 'person'", where=str(self.path), hint=f"categories: {have}")
        # files made for Visual Wake Words keep person boxes alone: an image without any is a negative there
        complete = own or any(name in _BACKGROUND for name in self.categories.values())
        small = crowds = bare = 0
        for key, (file, size, stated) in self.images.items():
            marks = (key, person[0] if person else "")
            area = min(self.boxes.get(marks, 0.0) / size, 1.0)
            if own:
                label, largest = (stated, area) if stated is not None else self.labels.get(str(key), (None, 0.0))
                if label is None:
                    raise InputError(f"image {key} has no label", where=str(self.path), hint="0 or 1 for every image")
                # a label without boxes tells no size
                known = min(largest / size, 1.0) if largest else area or math.nan
                yield Photo(file, split, label, source, known if label else 0.0, distance=distance_of(label, known))
                continue
            if area >= MIN_PERSON_AREA:
                yield Photo(file, split, 1, source, area, distance=distance_of(1, area))
            elif marks in self.boxes:
                small += 1
            elif marks in self.crowds:
                crowds += 1
            elif key not in self.annotated and not complete:
                bare += 1
            else:
                yield Photo(file, split, 0, source, 0.0)
        strangers = len(self.annotated - self.images.keys())
        for count, why in (
            (small, f"photos left out: their persons cover less than {100 * MIN_PERSON_AREA:g}%"),
            (crowds, "photos left out: their only persons are crowds"),
            (bare, "photos left out: nothing in them is annotated"),
            (strangers, "images annotated but not listed"),
        ):
            if count:
                self.notes.append(f"{count} {why}")

    def _image(self, value: Any, where: str) -> None:
        key, file = _key(value, "id", where), str(_field(value, "file_name", where))
        sides = [_field(value, side, where) for side in ("width", "height")]
        if not all(isinstance(s, (int, float)) and s > 0 for s in sides):
            raise InputError(f"width and height are {sides[0]!r} and {sides[1]!r}", where=where, hint="pixels, above 0")
        label = value.get("label")
        self.images[key] = file, float(sides[0]) * float(sides[1]), None if label is None else _label(label, where)

    def _box(self, value: Any, where: str) -> None:
        image, category = _key(value, "image_id", where), _key(value, "category_id", where)
        self.annotated.add(image)
        marks = (image, category)
        if value.get("iscrowd"):
            self.crowds.add(marks)
            return
        self.boxes[marks] = max(self.boxes.get(marks, 0.0), _box_area(_field(value, "bbox", where), where))

    def _labelled(self, image: str, value: Any, where: str) -> None:
        """``{"label", "objects": [{"bbox"}]}``, or a list of one such with ``object``."""
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        label = _label(_field(value, "label", where), where)
        objects = value.get("objects", value.get("object", []))
        areas = [_box_area(_field(o, "bbox", where), where) for o in objects]
        self.labels[image] = label, max(areas, default=0.0)


def _field(value: Any, name: str, where: str) -> Any:
    if not isinstance(value, dict) or value.get(name) is None:
        raise InputError(f"no field {name!r}", where=where, hint="see COCO's data format")
    return value[name]


def _key(value: Any, name: str, where: str) -> int | str:
    found = _field(value, name, where)
    if not isinstance(found, (int, str)):
        raise InputError(f"{name} is {found!r}", where=where, hint="an integer or a string")
    return found


def _label(value: Any, where: str) -> int:
    if type(value) is not int or value not in (0, 1):
        raise InputError(f"label is {value!r}", where=where, hint="the label must be 0 (no person) or 1 (person)")
    return value


def _box_area(box: Any, where: str) -> float:
    good = isinstance(box, list) and len(box) == 4 and all(isinstance(v, (int, float)) for v in box)
    if not good or not all(math.isfinite(v) for v in box) or box[2] < 0 or box[3] < 0:
        raise InputError(f"bbox is {box!r}", where=where, hint="[x, y, width, height] in pixels")
    return float(box[2]) * float(box[3])
