"""What all data sets share: layouts found by themselves, slices by thresholds, skips, counts, empty classes."""

from __future__ import annotations

import math
import shutil
import zipfile
from pathlib import Path

import pytest

from gossamer import InputError
from gossamer.person import dataset
from gossamer.person.dataset.counts import count_photos
from gossamer.person.dataset.crc32c import crc32c
from tests.person import packs


def test_thresholds_of_the_slices() -> None:
    distance, lighting = dataset.distance_of, dataset.lighting_of
    assert [distance(1, a) for a in (0.005, 0.0999, 0.1, 0.599, 0.6, 1.0)] == [
        "far",
        "far",
        "medium",
        "medium",
        "near",
        "near",
    ]
    assert distance(0, 0.7) == distance(1, math.nan) == lighting(math.nan) == ""
    assert [lighting(b) for b in (0, 84.9, 85, 169.9, 170, 255)] == ["dark"] * 2 + ["normal"] * 2 + ["bright"] * 2


def test_layouts_are_recognised(tiny_people: Path, tmp_path: Path) -> None:
    assert dataset.open_photos(tiny_people).layout == "person128"
    with pytest.raises(InputError, match="no known layout"):
        dataset.open_photos(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        dataset.open_photos(tmp_path / "none")
    with pytest.raises(InputError, match="unknown layout 'voc'"):
        dataset.open_photos(tmp_path, "voc")
    shutil.copytree(tiny_people, tmp_path, dirs_exist_ok=True)
    packs.write_coco(tmp_path, "val2017", {"a.jpg": packs.jpeg(9)}, [(0, packs.DOG, [0, 0, 9, 9], 0)])
    with pytest.raises(InputError, match="several layouts fit: person128, coco") as caught:
        dataset.open_photos(tmp_path)
    assert "--layout" in str(caught.value.hint)
    assert dataset.open_photos(tmp_path, "coco").splits == ("val",)
    assert dataset.open_photos(tmp_path, "person128").splits == dataset.SPLITS


def test_person128_carries_distance_and_lighting(tiny_people: Path) -> None:
    rows = dataset.open_photos(tiny_people).select("test")
    assert {(p.label, p.distance, p.lighting) for p in rows} == {(1, "medium", "dark"), (0, "", "dark")}
    assert {p.brightness for p in rows} == {60.0}


def test_a_damaged_photo_of_person128_is_skipped(tiny_people: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_people / "labels.csv", tmp_path)
    with zipfile.ZipFile(tiny_people / "images.zip") as old, zipfile.ZipFile(tmp_path / "images.zip", "w") as new:
        for name in old.namelist():
            if name.endswith("/test0.jpg"):
                continue
            new.writestr(name, old.read(name)[:-500] if name.endswith("/test1.jpg") else old.read(name))
    photos, skipped = dataset.open_photos(tmp_path), dataset.Skipped(keep=1)
    assert len(list(photos.read("test", skipped))) == 14
    assert (skipped.count, skipped.named) == (2, [("home/test0.jpg", "not in the archive")])
    assert skipped.reasons == {"not in the archive": 1, "truncated": 1}
    rows = photos.select("test")
    kept, pixels = photos.load(rows, dataset.Skipped(), size=32)
    assert [p.file for p in kept] == [p.file for p in rows[2:]]
    assert pixels.shape == (14, 32, 32, 3)
    with pytest.raises(InputError, match=r"test0\.jpg is not in the archive"):
        photos.images(rows)
    (tmp_path / "images.zip").write_bytes(b"no zip")
    with pytest.raises(InputError, match="not a zip archive"):
        photos.images(rows)


def test_both_classes_are_needed() -> None:
    dataset.require_both_labels([0, 1], "x")
    for labels, message in (
        ([1, 1], "no photo without a person: all 2 have the label 1"),
        ([0], "no photo with a person: all 1 have the label 0"),
        ([], "there are no photos at all"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            dataset.require_both_labels(labels, "folder, split test")
        assert caught.value.where == "folder, split test"


def test_counts(tmp_path: Path) -> None:
    rows = [
        packs.row(1, packs.jpeg(30), near=1, dark=1, young=1),
        packs.row(1, b"", far=1, dark=1),
        packs.row(1, packs.jpeg(30), far=1, dark=1),
        packs.row(0, packs.jpeg(30), dark=1, person_depiction=1),
    ]
    packs.write_parquet(tmp_path / "test-00000-of-00001.parquet", rows)
    packs.write_parquet(tmp_path / "validation-00000-of-00001.parquet", [packs.row(1, packs.jpeg(200))])
    photos = dataset.open_photos(tmp_path)
    steps: list[tuple[int, int]] = []
    counts = count_photos(photos, progress=lambda done, total: steps.append((done, total)))
    found = counts.to_json()
    assert found["photos"] == 4
    assert found["splits"] == {
        "test": {"wake-vision": {"person": 2, "none": 1}},
        "validation": {"wake-vision": {"person": 1, "none": 0}},
    }
    assert found["slices"]["test"]["distance"] == {"near": {"person": 1, "none": 0}, "far": {"person": 1, "none": 0}}
    assert found["slices"]["test"]["depiction"] == {"person": {"person": 0, "none": 1}}
    assert found["slices"]["validation"]["lighting"] == {"bright": {"person": 1, "none": 0}}  # measured
    assert found["skipped"]["reasons"] == {"empty, 0 bytes": 1}
    assert steps[-1] == (5, 5)
    text = counts.text()
    assert "split validation has no photos without a person" in text
    assert "test-00000-of-00001.parquet#1: empty, 0 bytes" in text
    quick = count_photos(photos, decode=False)
    assert quick.to_json()["photos"] == 5
    assert "labels only" in quick.text()
    assert quick.skipped.count == 0


def test_shards_are_read_in_bounded_memory(tmp_path: Path) -> None:
    """40 photos of 0.7 MB, one at a time."""
    import os
    import tracemalloc

    big = packs.jpeg(77) + os.urandom(700_000)  # what follows a JPEG's end is ignored
    path = tmp_path / "wake_vision-test.tfrecord-00000-of-00001"
    one = packs.record(packs.example(packs.row(1, big)), crc32c)
    path.write_bytes(one * 40)
    photos, skipped = dataset.open_photos(tmp_path), dataset.Skipped()
    tracemalloc.start()
    try:
        assert sum(1 for _ in photos.read("test", skipped)) == 40
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert skipped.count == 0
    assert peak < 8_000_000
