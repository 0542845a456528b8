"""Wake Vision's published layouts: tiny shards in the very same form, and damaged ones."""

from __future__ import annotations

import io
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from gossamer import InputError
from gossamer.person import dataset
from gossamer.person.dataset.crc32c import crc32c, masked
from gossamer.person.dataset.tfrecord import RecordFile, parse_example
from gossamer.person.dataset.wake_vision import WakeVision
from tests.person import packs

TEST_ROWS = [
    packs.row(1, packs.jpeg(30), "10_a_o.jpg", predominantly_male=1, older=1, near=1, dark=1, body_part=1),
    packs.row(0, packs.jpeg(128), "11_b_o.jpg", normal_lighting=1, non__person_non__depiction=1),
    packs.row(1, packs.jpeg(200), "12_c_o.jpg", gender_unknown=1, young=1, far=1, bright=1),
    packs.row(0, packs.jpeg(90), "13_d_o.jpg", normal_lighting=1, person_depiction=1, depiction=1),
    packs.row(1, packs.jpeg(120), "14_e_o.jpg", medium_distance=1, normal_lighting=1),
    # relabelled: it keeps the distance of the person that is none
    packs.row(0, packs.jpeg(60), "15_f_o.jpg", near=1, dark=1, non__person_depiction=1, depiction=1),
]


def as_parquet(folder: Path) -> Path:
    packs.write_parquet(folder / "data" / "test-00000-of-00002.parquet", TEST_ROWS[:4], group=2)
    packs.write_parquet(folder / "data" / "test-00001-of-00002.parquet", TEST_ROWS[4:])
    train = [packs.train_row(i % 2, packs.jpeg(40 * i)) for i in range(4)]
    packs.write_parquet(folder / "data" / "train_quality_part_0-00000-of-00030.parquet", train)
    return folder


def as_tfrecord(folder: Path) -> Path:
    place = folder / "wake_vision" / "1.0.0"
    packs.write_tfrecord(place / "wake_vision-test.tfrecord-00000-of-00002", TEST_ROWS[:4])
    packs.write_tfrecord(place / "wake_vision-test.tfrecord-00001-of-00002", TEST_ROWS[4:])
    train = [packs.train_row(i % 2, packs.jpeg(40 * i)) for i in range(4)]
    packs.write_tfrecord(place / "wake_vision-train_quality.tfrecord-00000-of-00001", train)
    (place / "features.json").write_text("{}")
    (place / "dataset_info.json").write_text("{}")
    return folder


LAYOUTS = pytest.mark.parametrize("write", [as_parquet, as_tfrecord])


@LAYOUTS
def test_records_splits_and_slices(write: Callable[[Path], Path], tmp_path: Path) -> None:
    photos = dataset.open_photos(write(tmp_path))
    assert isinstance(photos, WakeVision)
    assert photos.splits == ("train_quality", "test")
    assert photos.default_split() == "test"
    assert photos.count("test") == 6
    found = list(photos.records("test"))
    assert [p.label for p in found] == [1, 0, 1, 0, 1, 0]
    assert {p.source for p in found} == {"wake-vision"}
    assert [p.distance for p in found] == ["near", "", "far", "", "medium", ""]
    assert [p.lighting for p in found] == ["dark", "normal", "bright", "normal", "normal", "dark"]
    assert [p.gender for p in found] == ["male", "", "unknown", "", "", ""]
    assert [p.age for p in found] == ["older", "", "young", "", "", ""]
    assert [p.depiction for p in found] == ["", "none", "", "person", "", "other"]
    assert [p.file.rpartition("#")[2] for p in found] == ["0", "1", "2", "3", "0", "1"]
    train = photos.select("train_quality")
    assert [p.label for p in train] == [0, 1, 0, 1]
    assert {(p.distance, p.lighting, p.gender, p.age, p.depiction) for p in train} == {("",) * 5}
    assert dataset.areas(train) == pytest.approx([float("nan")] * 4, nan_ok=True)


@LAYOUTS
def test_photos_are_decoded_and_lighting_measured_where_not_stated(
    write: Callable[[Path], Path], tmp_path: Path
) -> None:
    photos = dataset.open_photos(write(tmp_path))
    skipped = dataset.Skipped()
    read = list(photos.read("test", skipped))
    assert skipped.count == 0
    assert [image.size for _, image in read] == [(40, 30)] * 6
    assert [p.brightness for p, _ in read] == pytest.approx([30, 128, 200, 90, 120, 60], abs=1)
    assert [p.lighting for p, _ in read] == ["dark", "normal", "bright", "normal", "normal", "dark"]
    train = [p.lighting for p, _ in photos.read("train_quality", skipped)]
    assert train == ["dark", "dark", "dark", "normal"]  # 0, 40, 80, 120


@LAYOUTS
def test_any_rows_in_any_order(write: Callable[[Path], Path], tmp_path: Path) -> None:
    photos = dataset.open_photos(write(tmp_path))
    rows = photos.select("test")
    pixels = photos.images([rows[i] for i in (5, 0, 3, 2, 2)], size=8)
    assert pixels.shape == (5, 8, 8, 3)
    assert pixels.mean(axis=(1, 2, 3)) == pytest.approx([60, 30, 90, 200, 200], abs=1)


def test_shards_of_the_converted_branch_and_what_is_missing(tmp_path: Path) -> None:
    packs.write_parquet(tmp_path / "default" / "validation" / "0000.parquet", TEST_ROWS)
    photos = dataset.open_photos(tmp_path)
    assert photos.splits == ("validation",)
    assert photos.split_named("val") == "validation"
    assert photos.notes == ()
    packs.write_parquet(tmp_path / "test-00003-of-00032.parquet", TEST_ROWS)
    assert dataset.open_photos(tmp_path).notes == ("test: 1 of 32 shards are here",)
    with pytest.raises(InputError, match="unknown split 'train'"):
        photos.select("train")


@LAYOUTS
def test_damaged_photos_are_skipped_by_name(write: Callable[[Path], Path], tmp_path: Path) -> None:
    rows = [dict(r) for r in TEST_ROWS]
    rows[0]["image"] = b""
    rows[1]["image"] = b"no photo at all"
    rows[2]["image"] = rows[2]["image"][:-20]
    if write is as_parquet:
        rows[3]["image"] = None
        packs.write_parquet(tmp_path / "test-00000-of-00001.parquet", rows)
    else:
        del rows[3]["image"]
        packs.write_tfrecord(tmp_path / "wake_vision-test.tfrecord-00000-of-00001", rows)
    photos = dataset.open_photos(tmp_path)
    skipped = dataset.Skipped()
    assert [p.label for p, _ in photos.read("test", skipped)] == [1, 0]
    assert skipped.count == 4
    assert [file.rpartition("#")[2] for file, _ in skipped.named] == ["0", "1", "2", "3"]
    reasons = [reason for _, reason in skipped.named]
    assert reasons[0] == "empty, 0 bytes"
    assert reasons[1] == "not a readable image"
    assert reasons[2] == "truncated"
    assert reasons[3].startswith("without")
    kept, pixels = photos.load(photos.select("test"), dataset.Skipped(), size=8)
    assert len(kept) == len(pixels) == 2
    assert pixels.mean(axis=(1, 2, 3)) == pytest.approx([120, 60], abs=1)
    with pytest.raises(InputError, match="empty, 0 bytes"):
        photos.images(photos.select("test"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"person": 2}, "person is 2"),
        ({"person": -1}, "person is -1"),
        ({"near": 5}, "near is 5"),
        ({"near": 1, "far": 1}, "near and far are both 1"),
    ],
)
@LAYOUTS
def test_wrong_labels_are_refused_with_file_and_row(
    write: Callable[[Path], Path], tmp_path: Path, change: dict[str, int], message: str
) -> None:
    rows = [TEST_ROWS[1], TEST_ROWS[0] | change]
    if write is as_parquet:
        packs.write_parquet(tmp_path / "test-00000-of-00001.parquet", rows)
    else:
        packs.write_tfrecord(tmp_path / "wake_vision-test.tfrecord-00000-of-00001", rows)
    photos = dataset.open_photos(tmp_path)
    for pass_over in (photos.records("test"), (p for p, _ in photos.read("test", dataset.Skipped()))):
        with pytest.raises(InputError, match=message) as caught:
            list(pass_over)
        assert "test" in str(caught.value.where)
        assert str(caught.value.where).endswith("#1")


@LAYOUTS
def test_missing_fields_are_named(write: Callable[[Path], Path], tmp_path: Path) -> None:
    bare = [{k: v for k, v in r.items() if k != "person"} for r in TEST_ROWS]
    if write is as_parquet:
        packs.write_parquet(tmp_path / "test-00000-of-00001.parquet", bare)
    else:
        packs.write_tfrecord(tmp_path / "wake_vision-test.tfrecord-00000-of-00001", bare)
    with pytest.raises(InputError, match="'person'"):
        list(dataset.open_photos(tmp_path).records())
    # the fine-grained fields are optional
    few = [{k: r[k] for k in ("person", "image", "filename")} for r in TEST_ROWS]
    for path in tmp_path.iterdir():
        path.unlink()
    if write is as_parquet:
        packs.write_parquet(tmp_path / "test-00000-of-00001.parquet", few)
    else:
        packs.write_tfrecord(tmp_path / "wake_vision-test.tfrecord-00000-of-00001", few)
    assert {p.gender for p in dataset.open_photos(tmp_path).records()} == {""}


def test_shards_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no parquet or TFRecord shards"):
        dataset.open_photos(tmp_path, "wake-vision")
    (tmp_path / "test-00000-of-00001.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(InputError, match="not a readable parquet file") as caught:
        list(dataset.open_photos(tmp_path).records())
    assert "test-00000-of-00001.parquet" in str(caught.value.where)
    packs.write_tfrecord(tmp_path / "wake_vision-test.tfrecord-00000-of-00001", TEST_ROWS)
    with pytest.raises(InputError, match="both parquet and TFRecord"):
        dataset.open_photos(tmp_path)
    shutil.move(tmp_path / "test-00000-of-00001.parquet", tmp_path / "cats.parquet")
    (tmp_path / "wake_vision-test.tfrecord-00000-of-00001").unlink()
    with pytest.raises(InputError, match="tells no split of Wake Vision"):
        dataset.open_photos(tmp_path)


def test_damaged_records(tmp_path: Path) -> None:
    whole = tmp_path / "wake_vision-test.tfrecord-00000-of-00001"
    packs.write_tfrecord(whole, TEST_ROWS)
    content = bytearray(whole.read_bytes())
    lengths, at = [], 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        lengths.append((at, length))
        at += 12 + length + 4
    assert len(lengths) == 6
    # one flipped bit in a photo: that record alone is skipped
    start, length = lengths[2]
    content[start + 12 + length // 2] ^= 4
    whole.write_bytes(content)
    photos, skipped = dataset.open_photos(tmp_path), dataset.Skipped()
    assert len(list(photos.read("test", skipped))) == 5
    assert skipped.named == [(f"{whole.name}#2", "damaged: its checksum is wrong")]
    assert len(photos.select("test")) == 5
    assert photos.count("test") == 6
    # a flipped bit in a length: what follows cannot be found
    content[lengths[4][0]] ^= 1
    whole.write_bytes(content)
    with pytest.raises(InputError, match="does not match its checksum") as caught:
        list(photos.read("test", skipped))
    assert str(caught.value.where).endswith("#4")
    # cut short: inside a photo, and inside a length
    packs.write_tfrecord(whole, TEST_ROWS)
    content = bytearray(whole.read_bytes())
    for size in (lengths[5][0] + 40, lengths[5][0] + 5):
        whole.write_bytes(content[:size])
        with pytest.raises(InputError, match="ends inside the record"):
            list(photos.read("test", dataset.Skipped()))
    whole.write_bytes(packs.record(b"\xff\xff\xff"))
    with pytest.raises(InputError, match=r"not a tf\.train\.Example"):
        list(photos.records())
    whole.write_bytes(b"")
    assert list(photos.records()) == []


def test_records_are_found_forwards_and_backwards(tmp_path: Path) -> None:
    path = tmp_path / "x.tfrecord"
    path.write_bytes(b"".join(packs.record(bytes([i]) * (10 * i)) for i in range(5)))
    with RecordFile(path) as shard:
        assert [shard.read(i) for i in (1, 3, 0, 4)] == [b"\1" * 10, b"\3" * 30, b"", b"\4" * 40]
        assert [len(d) for _, d in shard if isinstance(d, bytes)] == [0, 10, 20, 30, 40]
        assert shard.count() == 5


def test_example_values() -> None:
    values = {"a": 7, "b": -1, "c": 2.5, "d": b"\0\xff", "e": "text", "f": 1 << 62}
    found = parse_example(packs.example(values), "x")
    assert found == {"a": [7], "b": [-1], "c": [2.5], "d": [b"\0\xff"], "e": [b"text"], "f": [1 << 62]}
    # integers one by one instead of packed: field 1, wire type 0
    entry = b"\x0a\x01n" + b"\x12\x06\x1a\x04\x08\x05\x08\x7f"
    assert parse_example(b"\x0a" + bytes([len(entry) + 2]) + b"\x0a" + bytes([len(entry)]) + entry, "x") == {
        "n": [5, 127]
    }
    for broken in (b"\x0a\x80", b"\x0a\x7f\x00", b"\x0b\x00", b"\x0a\x02\x0a\x05"):
        with pytest.raises(InputError, match=r"not a tf\.train\.Example"):
            parse_example(broken, "x")


def test_crc32c_of_rfc_3720_and_of_every_length() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    noise = bytes((i * i * 31 + i) % 251 for i in range(3000))
    for size in (0, 1, 127, 128, 129, 255, 256, 257, 511, 512, 767, 768, 769, 1024, 2999):
        assert crc32c(noise[:size]) == packs.crc32c(noise[:size]), size
    assert masked(0) == 0xA282EAD8
    assert masked(0xFFFFFFFF) == 0xA282EAD7


def test_exif_rotation_is_undone(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20), (200, 0, 0))
    exif = image.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    packs.write_parquet(tmp_path / "test-00000-of-00001.parquet", [packs.row(1, buffer.getvalue())])
    ((_, read),) = dataset.open_photos(tmp_path).read("test", dataset.Skipped())
    assert read.size == (20, 40)
