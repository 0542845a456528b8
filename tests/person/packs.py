"""Tiny data sets in the very layouts that are published: person128, Wake Vision's parquet and TFRecord shards, COCO."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FIELDS = (
    "age_unknown",
    "body_part",
    "bright",
    "dark",
    "depiction",
    "far",
    "filename",
    "gender_unknown",
    "image",
    "medium_distance",
    "middle_age",
    "near",
    "non-person_depiction",
    "non-person_non-depiction",
    "normal_lighting",
    "older",
    "person",
    "person_depiction",
    "predominantly_female",
    "predominantly_male",
    "young",
)
"""Columns of the data set on Hugging Face, in its order."""


def jpeg(value: int | tuple[int, int, int], size: tuple[int, int] = (40, 30)) -> bytes:
    """A photo of one colour."""
    buffer = io.BytesIO()
    colour = (value,) * 3 if isinstance(value, int) else value
    Image.new("RGB", size, colour).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def square(label: int, seed: int, side: int = 64) -> bytes:
    """A dark photo, with a bright square in it for label 1."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 80, (side, side, 3)).astype(np.uint8)
    if label:
        y, x = rng.integers(4, side // 2 - 4, 2)
        pixels[y : y + side // 2, x : x + side // 2] = 250
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


PEOPLE_HEADER = (
    "file,split,label,source,largest_person_area_fraction,n_persons_ge_0.5pct,n_person_boxes,mean_brightness,"
    "orig_width,orig_height"
)


def write_people(folder: Path, pixels: Callable[[int], np.ndarray], area: float, street: bool = False) -> Path:
    """person128's labels.csv and images.zip: 48 train, 16 val and 16 test photos, every other one with a person.

    Args:
        folder: to write into.
        pixels: uint8 [128, 128, 3] of a photo by its label, called in the photos' order.
        area: largest person's share of photos with one.
        street: whether every eighth photo of train, a positive one, is of source ``street`` instead of ``home``.
    """
    rows = [PEOPLE_HEADER]
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for split, count in (("train", 48), ("val", 16), ("test", 16)):
            for i in range(count):
                label = i % 2
                source = "street" if street and split == "train" and i % 8 == 1 else "home"
                name, buffer = f"{source}/{split}{i}.jpg", io.BytesIO()
                Image.fromarray(pixels(label)).save(buffer, "JPEG", quality=90)
                archive.writestr(name, buffer.getvalue())
                rows.append(f"{name},{split},{label},{source},{area * label:.5f},{label},{label},60.0,128,128")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def row(person: int, image: bytes | None, name: str = "1_o.jpg", **yes: int) -> dict[str, Any]:
    """One row of the validation or test split: every field 0 but those given."""
    values: dict[str, Any] = dict.fromkeys(FIELDS, 0)
    values |= {"person": person, "filename": name, "image": image}
    return values | {k.replace("__", "-"): v for k, v in yes.items()}


def train_row(person: int, image: bytes, name: str = "1_o.jpg") -> dict[str, Any]:
    """One row of a training split: labels alone, -1 elsewhere."""
    return dict.fromkeys(FIELDS, -1) | {"person": person, "filename": name, "image": image}


def write_parquet(path: Path, rows: Iterable[Mapping[str, Any]], group: int = 100) -> Path:
    """A shard as the ``datasets`` library writes it: ``image`` a struct of bytes and path, row groups of 100."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    listed = list(rows)
    columns = {}
    for name in listed[0]:
        cells = [r[name] for r in listed]
        if name == "image":
            kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
            cells = [{"bytes": c, "path": r["filename"]} for c, r in zip(cells, listed, strict=True)]
        else:
            kind = pa.string() if name == "filename" else pa.int64()
        columns[name] = pa.array(cells, kind)
    pq.write_table(pa.table(columns), path, row_group_size=group)
    return path


def crc32c(data: bytes) -> int:
    """CRC-32C bit by bit, the definition."""
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def record(data: bytes, checksum: Callable[[bytes], int] = crc32c) -> bytes:
    """One TFRecord."""

    def masked(part: bytes) -> bytes:
        crc = checksum(part)
        return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def _varint(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _counted(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def example(values: Mapping[str, Any]) -> bytes:
    """A serialised ``tf.train.Example`` of integers, floats, strings and bytes."""
    entries = b""
    for name, value in values.items():
        if isinstance(value, float):
            feature = _counted(2, _counted(1, struct.pack("<f", value)))
        elif isinstance(value, int):
            feature = _counted(3, _counted(1, _varint(value)))  # packed, as proto3 and TensorFlow write it
        else:
            content = value.encode() if isinstance(value, str) else value
            feature = _counted(1, _counted(1, content))
        entries += _counted(1, _counted(1, name.encode()) + _counted(2, feature))
    return _counted(1, entries)


def write_tfrecord(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """A shard as TensorFlow Datasets writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(record(example(r)) for r in rows))
    return path


PERSON, DOG = 1, 18


def write_coco(folder: Path, name: str, images: Mapping[str, bytes], boxes: Iterable[tuple[Any, ...]]) -> Path:
    """``annotations/instances_<name>.json`` and the photos in ``<name>/``.

    Args:
        folder: of the data set.
        name: such as ``val2017``.
        images: content by file name; ids count from 1.
        boxes: (image number from 0, category, [x, y, width, height], iscrowd).
    """
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / name).mkdir(exist_ok=True)
    listed = []
    for i, (file, content) in enumerate(images.items()):
        (folder / name / file).write_bytes(content)
        listed.append({"id": i + 1, "file_name": file, "width": 100, "height": 80, "license": 4})
    value = {
        "info": {"description": "made up", "year": 2017},
        "licenses": [{"id": 4, "name": "none"}],
        "images": listed,
        "annotations": [
            {
                "id": 900 + i,
                "image_id": image + 1,
                "category_id": category,
                "bbox": box,
                "area": 1.0,
                "iscrowd": crowd,
                "segmentation": [[1.5, 2.0, 3.25, 4.0]],
            }
            for i, (image, category, box, crowd) in enumerate(boxes)
        ],
        "categories": [
            {"supercategory": "person", "id": PERSON, "name": "person"},
            {"supercategory": "animal", "id": DOG, "name": "dog"},
        ],
    }
    path = folder / "annotations" / f"instances_{name}.json"
    path.write_text(json.dumps(value))
    return path
