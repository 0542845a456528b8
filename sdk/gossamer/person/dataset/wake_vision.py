"""Wake Vision (arXiv 2405.00892) from a local folder: Hugging Face's parquet shards or TensorFlow Datasets' TFRecords.

Names, splits and fields are those of https://huggingface.co/datasets/Harvard-Edge/Wake-Vision and of
tensorflow_datasets' builder ``wake_vision``. A field is 1 (yes), 0 (no) or -1 (not given: the training splits have
labels alone).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from gossamer._errors import InputError
from gossamer.person.dataset.parquet import ParquetFile, content
from gossamer.person.dataset.photo import Photo
from gossamer.person.dataset.photo_set import BadPhotoError, PhotoSet
from gossamer.person.dataset.tfrecord import RecordFile, parse_example

SPLITS = ("train_large", "train_quality", "train_bbox", "train", "validation", "test")
FLAGS: dict[str, dict[str, str]] = {
    "distance": {"near": "near", "medium_distance": "medium", "far": "far"},
    "lighting": {"dark": "dark", "normal_lighting": "normal", "bright": "bright"},
    "gender": {"predominantly_female": "female", "predominantly_male": "male", "gender_unknown": "unknown"},
    "age": {"young": "young", "middle_age": "middle", "older": "older", "age_unknown": "unknown"},
    "depiction": {"person_depiction": "person", "non-person_depiction": "other", "non-person_non-depiction": "none"},
}
"""The data set's field of every slice, by fine-grained set."""
_FIELDS = tuple(field for flags in FLAGS.values() for field in flags)
_ONE_CLASS = {"distance": 1, "gender": 1, "age": 1, "depiction": 0}
_PARQUET = re.compile(r"(?P<split>[A-Za-z_]+?)(_part_\d+)?(-(?P<shard>\d+)-of-(?P<of>\d+))?(-[0-9a-f]{8,})?\.parquet")
_TFRECORD = re.compile(r"[\w.]+-(?P<split>[A-Za-z_]+)\.tfrecord(-(?P<shard>\d+)-of-(?P<of>\d+))?")


class WakeVision(PhotoSet):
    """Wake Vision's shards below a folder.

    Args:
        folder: holds ``<split>-00000-of-000NN.parquet`` (also ``train_quality_part_0-...``, or ``0000.parquet`` in a
            folder named after the split), or ``wake_vision-<split>.tfrecord-00000-of-000NN``, at any depth.

    Attributes:
        shards: files by split, sorted.

    Raises:
        InputError: no shards, both kinds, or a file whose name tells no split.
    """

    layout: ClassVar[str] = "wake-vision"

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        parquet, records = shards_below(self.folder)
        if bool(parquet) == bool(records):
            have = "both parquet and TFRecord shards" if parquet else "no parquet or TFRecord shards"
            raise InputError(
                have,
                where=str(self.folder),
                hint="give the folder of one of the published layouts: test-00000-of-000NN.parquet, or "
                "wake_vision-test.tfrecord-00000-of-000NN",
            )
        self.shards: dict[str, list[Path]] = {}
        published: dict[str, set[int]] = {}
        for path in parquet or records:
            split, of = _split_of(path)
            self.shards.setdefault(split, []).append(path)
            if of is not None:
                published.setdefault(split, set()).add(of)
        self._published = {s: of.pop() for s, of in published.items() if len(of) == 1}

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits that have shards here."""
        return tuple(s for s in SPLITS if s in self.shards)

    @property
    def notes(self) -> tuple[str, ...]:
        """Splits of which shards are missing, in words."""
        missing = [(s, len(self.shards[s]), n) for s, n in self._published.items() if len(self.shards[s]) < n]
        return tuple(f"{s}: {have} of {n} shards are here" for s, have, n in missing)

    def records(self, split: str | None = None) -> Iterator[Photo]:
        """See :meth:`PhotoSet.records`. TFRecord photos whose checksum is wrong are left out; ``read`` names them."""
        for path, name in self._paths(split):
            if path.suffix == ".parquet":
                with ParquetFile(path) as shard:
                    columns = _columns(shard, ("person", *_FIELDS))
                    for row, values in shard.rows(columns):
                        yield _photo(values, self._name(path, row), name, f"{path}#{row}")
            else:
                yield from (photo for photo, data in self._examples(path, name) if not isinstance(data, BadPhotoError))

    def count(self, split: str | None = None) -> int:
        """See :meth:`PhotoSet.count`; reads the shards' own counts or lengths."""
        total = 0
        for path, _ in self._paths(split):
            if path.suffix == ".parquet":
                with ParquetFile(path) as table:
                    total += table.rows_in_all
            else:
                with RecordFile(path) as shard:
                    total += shard.count()
        return total

    def stream(self, split: str | None = None) -> Iterator[tuple[Photo, bytes | BadPhotoError]]:
        """See :meth:`PhotoSet.stream`."""
        for path, name in self._paths(split):
            if path.suffix == ".parquet":
                with ParquetFile(path) as shard:
                    columns = _columns(shard, ("person", "image", *_FIELDS))
                    for row, values in shard.rows(columns):
                        yield _photo(values, self._name(path, row), name, f"{path}#{row}"), content(values["image"])
            else:
                yield from self._examples(path, name)

    def encoded(self, photos: Iterable[Photo]) -> Iterator[tuple[Photo, bytes | BadPhotoError]]:
        """See :meth:`PhotoSet.encoded`; photos in the order of the shards are read in one pass."""
        with contextlib.ExitStack() as stack:
            opened, shard = None, None
            for photo in photos:
                name, _, row = photo.file.rpartition("#")
                if name != opened:
                    stack.close()
                    path = self.folder / name
                    reader = ParquetFile(path) if path.suffix == ".parquet" else RecordFile(path)
                    opened, shard = name, stack.enter_context(reader)
                if isinstance(shard, ParquetFile):
                    yield photo, shard.image(int(row))
                elif isinstance(shard, RecordFile):
                    data = shard.read(int(row))
                    yield photo, data if isinstance(data, BadPhotoError) else _image(parse_example(data, photo.file))

    def _examples(self, path: Path, split: str) -> Iterator[tuple[Photo, bytes | BadPhotoError]]:
        with RecordFile(path) as shard:
            for row, data in shard:
                name, where = self._name(path, row), f"{path}#{row}"
                if isinstance(data, BadPhotoError):
                    yield Photo(name, split, 0, self.layout), data
                    continue
                example = parse_example(data, where)
                yield _photo(_numbers(example, where), name, split, where), _image(example)

    def _paths(self, split: str | None) -> list[tuple[Path, str]]:
        names = self.splits if split is None else (self.split_named(split),)
        return [(path, name) for name in names for path in self.shards[name]]

    def _name(self, path: Path, row: int) -> str:
        return f"{path.relative_to(self.folder).as_posix()}#{row}"


def shards_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """Parquet and TFRecord files below a folder, sorted."""
    return sorted(folder.rglob("*.parquet")), sorted(p for p in folder.rglob("*.tfrecord*") if p.is_file())


def _split_of(path: Path) -> tuple[str, int | None]:
    """Split and number of shards by the file's name; for ``0007.parquet`` the split is the folder's name."""
    match = (_PARQUET if path.suffix == ".parquet" else _TFRECORD).fullmatch(path.name)
    split = match["split"] if match else path.parent.name if re.fullmatch(r"\d+\.parquet", path.name) else ""
    if split not in SPLITS:
        raise InputError(
            f"the file's name tells no split of Wake Vision: {split or path.name!r}",
            where=str(path),
            hint=f"splits: {', '.join(SPLITS)}",
        )
    # the published parts count their own shards only: train_quality_part_0-00012-of-00030
    known = match is not None and match["of"] and "_part_" not in path.name
    return split, int(match["of"]) if match is not None and known else None


def _columns(shard: ParquetFile, wanted: Iterable[str]) -> list[str]:
    for needed in ("person", "image"):
        if needed not in shard.columns:
            raise InputError(
                f"no column {needed!r}", where=str(shard.path), hint=f"columns: {', '.join(shard.columns)[:200]}"
            )
    return [c for c in wanted if c in shard.columns]


def _photo(values: Mapping[str, Any], file: str, split: str, where: str) -> Photo:
    """The record of one row.

    Raises:
        InputError: ``person`` is not 0 or 1, a field is not -1, 0 or 1, or two slices of one set are 1.
    """
    label = values.get("person")
    if type(label) is not int or label not in (0, 1):
        raise InputError(f"person is {label!r}", where=where, hint="the label must be 0 (no person) or 1 (person)")
    slices = dict.fromkeys(FLAGS, "")
    for name, flags in FLAGS.items():
        chosen = []
        for field, slice_name in flags.items():
            value = values.get(field)
            if value is not None and (type(value) is not int or value not in (-1, 0, 1)):
                raise InputError(f"{field} is {value!r}", where=where, hint="a field must be 0, 1, or -1 for not given")
            if value == 1:
                chosen.append((field, slice_name))
        if len(chosen) > 1:
            both = " and ".join(field for field, _ in chosen)
            raise InputError(f"{both} are both 1", where=where, hint="a photo belongs to one slice of a set")
        # relabelled photos keep fields of their first label: those that their label rules out say nothing
        if chosen and _ONE_CLASS.get(name, label) == label:
            slices[name] = chosen[0][1]
    return Photo(
        file,
        split,
        label,
        WakeVision.layout,
        distance=slices["distance"],
        lighting=slices["lighting"],
        gender=slices["gender"],
        age=slices["age"],
        depiction=slices["depiction"],
    )


def _numbers(example: Mapping[str, Any], where: str) -> dict[str, int]:
    values = {}
    for field in ("person", *_FIELDS):
        found = example.get(field)
        if found is None:
            continue
        if len(found) != 1 or not isinstance(found[0], int):
            raise InputError(f"{field} holds {len(found)} values", where=where, hint="a field is one integer")
        values[field] = found[0]
    if "person" not in values:
        raise InputError("no field 'person'", where=where, hint=f"fields: {', '.join(sorted(example))[:200]}")
    return values


def _image(example: Mapping[str, Any]) -> bytes | BadPhotoError:
    found = example.get("image")
    return found[0] if found and isinstance(found[0], bytes) else BadPhotoError("without an image")
