"""COCO and Visual Wake Words annotations: the 0.5% rule, crowds, files with labels of their own, malformed ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gossamer import InputError
from gossamer.person import dataset
from gossamer.person.dataset import coco, json_stream
from tests.person.packs import DOG, PERSON, jpeg, write_coco

# photos of 100x80: 0.5% are 40 pixels
BOXES = [
    (0, PERSON, [0.0, 0.0, 5.0, 8.0], 0),  # exactly 0.5%
    (0, DOG, [0.0, 0.0, 90.0, 70.0], 0),
    (1, PERSON, [0.0, 0.0, 4.9, 8.0], 0),  # smaller: left out
    (2, PERSON, [0.0, 0.0, 50.0, 50.0], 1),  # a crowd alone: left out
    (3, DOG, [3.0, 4.0, 5.0, 6.0], 0),
    (4, PERSON, [1.0, 1.0, 3.0, 3.0], 0),
    (4, PERSON, [0.0, 0.0, 100.0, 80.0], 0),
    (4, PERSON, [0.0, 0.0, 100.0, 80.0], 1),
    (6, PERSON, [10.0, 10.0, 40.0, 40.0], 0),
]
FILES = [f"{i:012d}.jpg" for i in range(7)]  # photo 5 has no annotation


def write(folder: Path, name: str = "val2017") -> Path:
    write_coco(folder, name, {f: jpeg(40 + 30 * i) for i, f in enumerate(FILES)}, BOXES)
    return folder


def test_the_rule_of_visual_wake_words(tmp_path: Path) -> None:
    photos = dataset.open_photos(write(tmp_path))
    assert photos.layout == "coco"
    assert photos.splits == ("val",)
    assert photos.split_named("validation") == "val"
    found = {p.file: p for p in photos.records("val")}
    assert {f: p.label for f, p in found.items()} == {FILES[0]: 1, FILES[3]: 0, FILES[4]: 1, FILES[6]: 1}
    assert found[FILES[0]].largest_person_area == pytest.approx(0.005)
    assert found[FILES[4]].largest_person_area == 1.0
    assert [found[FILES[i]].distance for i in (0, 4, 6, 3)] == ["far", "near", "medium", ""]
    assert {p.source for p in found.values()} == {"val2017"}
    assert photos.notes == (
        "instances_val2017.json: 1 photos left out: their persons cover less than 0.5%",
        "instances_val2017.json: 1 photos left out: their only persons are crowds",
        "instances_val2017.json: 1 photos left out: nothing in them is annotated",
    )


def test_photos_are_found_and_lighting_measured(tmp_path: Path) -> None:
    photos = dataset.open_photos(write(tmp_path))
    (tmp_path / "val2017" / FILES[3]).unlink()
    (tmp_path / "val2017" / FILES[6]).write_bytes(b"")
    skipped = dataset.Skipped()
    read = {p.file: (p.lighting, image.size) for p, image in photos.read("val", skipped)}
    assert read == {FILES[0]: ("dark", (40, 30)), FILES[4]: ("normal", (40, 30))}
    assert skipped.named == [(FILES[3], "not in the folder"), (FILES[6], "empty, 0 bytes")]
    # images/ beside annotations/ is another usual place
    (tmp_path / "val2017").rename(tmp_path / "images")
    assert len(list(photos.read("val", dataset.Skipped()))) == 2


def test_several_files_are_several_splits(tmp_path: Path) -> None:
    write(tmp_path, "val2017")
    write(tmp_path, "train2017")
    (tmp_path / "annotations" / "captions_val2017.json").write_text("not even JSON")
    photos = dataset.open_photos(tmp_path)
    assert photos.splits == ("train", "val")
    assert len(photos.select("train")) == 4
    assert len(photos.select()) == 8
    assert len(photos.select(without=["val2017"])) == 4
    assert photos.images(photos.select()[:5], size=16).shape == (5, 16, 16, 3)


def test_annotations_made_for_visual_wake_words(tmp_path: Path) -> None:
    """Person boxes alone, and a background category: images without a box are negatives."""
    path = write_coco(tmp_path, "minival", {f: jpeg(99) for f in FILES[:3]}, [(1, PERSON, [0.0, 0.0, 30.0, 30.0], 0)])
    value = json.loads(path.read_text())
    value["categories"] = [{"id": 0, "name": "not-person"}, {"id": 1, "name": "person"}]
    path.write_text(json.dumps(value))
    photos = dataset.open_photos(tmp_path)
    assert photos.splits == ("val",)
    assert [p.label for p in photos.records()] == [0, 1, 0]
    assert photos.notes == ()


@pytest.mark.parametrize("as_list", [False, True])
def test_precomputed_labels_by_image(tmp_path: Path, as_list: bool) -> None:
    """As TensorFlow's build_visualwakewords_data writes them: annotations and categories are objects."""

    def entry(image: int, label: int, objects: list[dict[str, Any]]) -> Any:
        if as_list:
            return [{"image_id": image, "label": label, "object": objects, "count": len(objects)}]
        return {"label": label, "objects": objects}

    images = [{"id": i, "file_name": FILES[i], "width": 100, "height": 80} for i in range(3)]
    value = {
        "images": images,
        "annotations": {
            "0": entry(0, 1, [{"bbox": [0, 0, 40, 20], "area": 7.0}, {"bbox": [0, 0, 1, 1], "area": 1.0}]),
            "1": entry(1, 0, []),
            "2": entry(2, 1, []),
        },
        "categories": {"1": {"id": 1, "name": "person", "supercategory": "person"}},
    }
    path = tmp_path / "instances_visualwakewords_val2014.json"
    path.write_text(json.dumps(value))
    photos = dataset.open_photos(tmp_path)
    assert photos.splits == ("val",)
    found = list(photos.records())
    assert [p.label for p in found] == [1, 0, 1]
    assert dataset.areas(found) == pytest.approx([0.1, 0.0, float("nan")], nan_ok=True)
    assert [p.distance for p in found] == ["medium", "", ""]
    value["annotations"]["1"] = entry(1, 3, [])
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match="label is 3") as caught:
        dataset.open_photos(tmp_path)
    assert "annotations[1]" in str(caught.value.where)
    del value["annotations"]["1"]
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match="image 1 has no label"):
        dataset.open_photos(tmp_path)


def test_labels_inside_images(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": FILES[i], "width": 10, "height": 10, "label": i % 2} for i in range(4)]
    path = tmp_path / "annotations" / "vww_test.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"images": images, "annotations": []}))
    photos = dataset.open_photos(tmp_path)
    assert photos.splits == ("test",)
    assert [p.label for p in photos.records("test")] == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("place", "value", "message", "where"),
    [
        (("images", 1, "width"), 0, "width and height are 0", "images[1]"),
        (("images", 0, "file_name"), None, "no field 'file_name'", "images[0]"),
        (("images", 2, "id"), [], r"id is \[\]", "images[2]"),
        (("images", 3, "label"), 7, "label is 7", "images[3]"),
        (("annotations", 4, "bbox"), [1, 2, 3], r"bbox is \[1, 2, 3\]", "annotations[4]"),
        (("annotations", 4, "bbox"), [0, 0, -1, 5], "bbox is", "annotations[4]"),
        (("annotations", 0, "bbox"), [0, 0, float("nan"), 5], "bbox is", "annotations[0]"),
        (("annotations", 2, "category_id"), None, "no field 'category_id'", "annotations[2]"),
        (("categories", 0, "name"), "cat", "no category 'person'", "instances_val2017.json"),
    ],
)
def test_malformed_annotations_are_named(
    tmp_path: Path, place: tuple[str, int, str], value: Any, message: str, where: str
) -> None:
    write(tmp_path)
    path = tmp_path / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content[place[0]][place[1]][place[2]] = value
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message) as caught:
        dataset.open_photos(tmp_path)
    assert where in str(caught.value.where)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"images": [', '{"images": [{}} }', '{"images": []} x', '{"a" 1}', "nonsense", "[" * 9999]
)
def test_broken_json(tmp_path: Path, text: str) -> None:
    path = tmp_path / "instances_val2017.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        dataset.open_photos(tmp_path)
    assert "instances_val2017.json" in str(caught.value.where)
    path.write_bytes(b'{"images": "\xff\xfe"}')
    with pytest.raises(InputError, match="not JSON"):
        dataset.open_photos(tmp_path)


def test_members_stream_over_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"a": [1, 22, -3.5e2, "t,]}\n\\", None, True, []], "b": {"x": {"y": [1, 2]}, "z": 1234567}, "c": 98765}
    expected = [
        *(("a", i, v) for i, v in enumerate(value["a"])),
        *(("b", k, v) for k, v in value["b"].items()),
        ("c", None, 98765),
    ]
    path = tmp_path / "x.json"
    path.write_text(" " + json.dumps(value, indent=1) + "\n ")
    for chunk in (1, 2, 3, 7, 1000):
        monkeypatch.setattr(json_stream, "_CHUNK", chunk)
        assert list(json_stream.members(path)) == expected, chunk
    path.write_text('{"a": [], "b": {}}')
    assert list(json_stream.members(path)) == []


def test_annotations_are_read_in_bounded_memory(tmp_path: Path) -> None:
    """30 MB of masks pass through; what stays are the images."""
    import tracemalloc

    path = tmp_path / "instances_val2017.json"
    mask = {"counts": "0" * 15_000, "size": [10, 10]}
    with path.open("w") as file:
        file.write('{"images": [{"id": 1, "file_name": "a.jpg", "width": 10, "height": 10}], "annotations": [')
        one = json.dumps({"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "iscrowd": 0, "segmentation": mask})
        file.write(",".join([one] * 2000))
        file.write('], "categories": [{"id": 1, "name": "person"}]}')
    assert path.stat().st_size > 25_000_000
    tracemalloc.start()
    try:
        (photo,) = coco.CocoPhotos(tmp_path).records()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert photo.largest_person_area == 0.25
    assert peak < 12_000_000
