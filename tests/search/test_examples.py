"""Reading examples: every form, every mistake and what is said about it."""

from __future__ import annotations

import io
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from gossamer import _images
from gossamer._errors import InputError
from gossamer._proto.v1 import manifest_pb2 as pb
from gossamer.search import examples as module
from gossamer.search.examples import Classes
from gossamer.search.read import read_examples

NAMED = Classes(3, ("ant", "bee", "cat"))
BARE = Classes(3)


def picture_port():
    port = pb.Port(name="image", dtype="float32", shape=[1, 3, 8, 8])
    port.image.CopyFrom(_images.preprocessing([1, 3, 8, 8], np.float32, "unit"))
    return port


PORTS = [picture_port()]
ARRAYS = [pb.Port(name="x", dtype="float32", shape=[1, 5])]


def picture(value):
    buffer = io.BytesIO()
    Image.new("RGB", (10, 10), (value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def class_folders(folder, names=("ant", "bee", "cat"), count=2):
    for i, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for k in range(count):
            (folder / name / f"{k}.png").write_bytes(picture(100 * i + k))
    return folder


# Folders


@pytest.mark.parametrize(
    ("names", "classes", "labels"),
    [
        (("ant", "bee", "cat"), NAMED, [0, 0, 1, 1, 2, 2]),
        (("cat", "ant"), NAMED, [0, 0, 2, 2]),  # by name, not by order
        (("2", "0"), NAMED, [0, 0, 2, 2]),  # by number
        (("x", "y", "z"), BARE, [0, 0, 1, 1, 2, 2]),  # sorted, where the model has no names
    ],
)
def test_folder_of_classes(tmp_path, names, classes, labels):
    found = read_examples(class_folders(tmp_path / "d", names), PORTS, classes)
    assert found.labels.tolist() == labels
    values = {round(float(found[i]["image"][0, 0, 0, 0]) * 255) // 100 for i in range(2)}
    assert found[0]["image"].shape == (1, 3, 8, 8) and len(values) == 1


def test_folder_without_classes_has_no_labels(tmp_path):
    (tmp_path / "d" / "2020").mkdir(parents=True)
    (tmp_path / "d" / "2020" / "a.png").write_bytes(picture(1))
    (tmp_path / "d" / "b.png").write_bytes(picture(2))
    found = read_examples(tmp_path / "d", PORTS, NAMED)
    assert found.labels is None and len(found) == 2 and "without labels" in found.told()


@pytest.mark.parametrize(("classes", "hint"), [(NAMED, "'ant', 'bee', 'cat'"), (BARE, "exactly 3 subfolders")])
def test_folder_names_that_are_no_classes(tmp_path, classes, hint):
    with pytest.raises(InputError, match="subfolder 'wasp' is no class") as caught:
        read_examples(class_folders(tmp_path / "d", ("wasp", "zebra")), PORTS, classes)
    assert hint in caught.value.hint


def test_empty_class(tmp_path):
    folder = class_folders(tmp_path / "d")
    shutil.rmtree(folder / "bee")
    (folder / "bee").mkdir()
    with pytest.raises(InputError, match="class 'bee' has no pictures") as caught:
        read_examples(folder, PORTS, NAMED)
    assert caught.value.where == str(folder / "bee")


def test_single_bad_pictures_are_left_out_counted_and_named(tmp_path):
    folder = class_folders(tmp_path / "d", count=10)
    (folder / "bee" / "5.png").write_bytes(b"not a picture")
    found = read_examples(folder, PORTS, NAMED).prepare()
    assert len(found) == 29 and found.skipped == ("bee/5.png",)
    assert "1 unreadable left out: bee/5.png" in found.told()
    assert np.bincount(found.labels).tolist() == [10, 9, 10]
    for k in range(4):
        (folder / "ant" / f"{k}.png").write_bytes(picture(3)[:40])
    with pytest.raises(InputError, match=r"5 of 30 examples cannot be read: ant/0.png, .*"):
        read_examples(folder, PORTS, NAMED).prepare()


# Tables


def labelled(folder, text, name="labels.csv"):
    (folder / name).write_text(text)
    return folder / name


def test_table_beside_a_zip_a_folder_or_its_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for i in range(3):
            archive.writestr(f"s/{i}.png", picture(50 * i))
    table = labelled(tmp_path, "file,label,extra\ns/0.png,cat,1\ns/1.png,0,2\ns/2.png,bee,3\n")
    found = read_examples(table, PORTS, NAMED)
    assert found.labels.tolist() == [2, 0, 1]
    assert float(found[2]["image"][0, 0, 0, 0]) == pytest.approx(100 / 255, abs=1e-6)
    for place in (tmp_path / "a" / "photos", tmp_path / "b"):
        place.mkdir(parents=True)
        (place / "0.png").write_bytes(picture(7))
        table = labelled(tmp_path / place.relative_to(tmp_path).parts[0], "file,label\n0.png,1\n")
        assert read_examples(table, PORTS, BARE).labels.tolist() == [1]


@pytest.mark.parametrize(
    ("text", "split", "message", "line"),
    [
        ("file,label\n0.png,wasp\n", None, "label 'wasp' is no class", 2),
        ("file,label\n0.png,ant\n0.png,3\n", None, "label '3' is no class", 3),
        ("file,label\n0.png,\n", None, "a file or a label is missing", 2),
        ("file,klass\n0.png,ant\n", None, "no column 'label'", 1),
        ("file,label\n", None, "no rows", None),
        ("file,label\n9.png,ant\n", None, "nowhere to be found", None),
        ("file,label,split\n0.png,ant,train\n0.png,bee,val\n", None, "has the splits train, val", None),
        ("file,label,split\n0.png,ant,train\n", "test", "no rows of split 'test'", None),
        ("file,label\n0.png,ant\n", "val", "no column 'split'", 1),
    ],
)
def test_mistakes_in_a_table(tmp_path, text, split, message, line):
    (tmp_path / "0.png").write_bytes(picture(7))
    table = labelled(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        read_examples(table, PORTS, NAMED, split=split)
    assert caught.value.where == (f"{table}:{line}" if line else str(table))


def test_split_of_a_table(tmp_path):
    (tmp_path / "0.png").write_bytes(picture(7))
    table = labelled(tmp_path, "file,label,split\n0.png,ant,train\n0.png,bee,val\n0.png,cat,val\n")
    found = read_examples(table, PORTS, NAMED, split="val")
    assert found.labels.tolist() == [1, 2] and found.source.endswith("split val")


def test_a_file_that_the_archive_lacks_is_one_bad_example(tmp_path):
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("0.png", picture(1))
    table = labelled(tmp_path, "file,label\n" + "0.png,ant\n" * 10 + "0.png,bee\n1.png,bee\n")
    assert read_examples(table, PORTS, NAMED).prepare().skipped == ("1.png",)


# Arrays


def test_arrays_with_and_without_labels(tmp_path):
    x, y = np.arange(20, dtype=np.float32).reshape(4, 5), np.array([0, 2, 1, 1])
    np.savez(tmp_path / "d.npz", x=x, y=y)
    found = read_examples(tmp_path / "d.npz", ARRAYS, BARE)
    assert found.labels.tolist() == [0, 2, 1, 1]
    np.testing.assert_array_equal(found[3]["x"], x[3:])
    np.testing.assert_array_equal(read_examples((x, y), ARRAYS, BARE)[1]["x"], x[1:2])
    np.save(tmp_path / "d.npy", x)
    assert read_examples(tmp_path / "d.npy", ARRAYS, BARE).labels is None
    assert read_examples(x, ARRAYS, BARE).labels is None
    assert read_examples(found, ARRAYS, BARE) is found


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((3, 5), np.float32), np.array([0, 1]), "not one class number for each of 3"),
        (np.zeros((2, 5), np.float32), np.array([0.0, 1.0]), "y is float64"),
        (np.zeros((2, 5), np.float32), np.array([0, 3]), "label 3 of sample 1 is no class"),
        (np.zeros((2, 5), np.float32), np.array([-1, 0]), "label -1 of sample 0 is no class"),
        (np.zeros((2, 4), np.float32), np.array([0, 1]), "must be float32"),
        (np.zeros((2, 5), np.float64), np.array([0, 1]), "must be float32"),
        (np.full((2, 5), np.nan, np.float32), np.array([0, 1]), "NaN"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, x, y, message):
    np.savez(tmp_path / "d.npz", x=x, y=y)
    with pytest.raises(InputError, match=message):
        read_examples(tmp_path / "d.npz", ARRAYS, BARE)


def test_files_of_no_form(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_examples(tmp_path / "absent", PORTS, BARE)
    (tmp_path / "d.npz").write_bytes(b"PK\x03\x04 damaged")
    with pytest.raises(InputError, match=r"damaged|cannot read"):
        read_examples(tmp_path / "d.npz", ARRAYS, BARE)
    (tmp_path / "d.txt").write_text("x")
    with pytest.raises(InputError, match="neither a folder"):
        read_examples(tmp_path / "d.txt", PORTS, BARE)
    with pytest.raises(InputError, match="has splits"):
        read_examples(tmp_path / "d.npz", ARRAYS, BARE, split="val")
    with pytest.raises(InputError, match="takes no pictures"):
        read_examples(class_folders(tmp_path / "d"), ARRAYS, NAMED)


# What a set of examples does


def test_one_label_alone_tells_nothing(tmp_path):
    x = np.arange(20, dtype=np.float32).reshape(4, 5)
    one = read_examples((x, np.array([1, 1, 1, 1])), ARRAYS, Classes(3, ("ant", "bee", "cat")))
    with pytest.raises(InputError, match="all 4 examples are labelled 'bee'") as caught:
        one.prepare()
    assert "add examples of the other classes" in caught.value.hint
    assert len(read_examples((x, np.array([1, 1, 1, 2])), ARRAYS, BARE).prepare()) == 4
    assert len(read_examples(x, ARRAYS, BARE).prepare()) == 4
    folder = class_folders(tmp_path / "d")  # a class that is left empty by a picture that cannot be read
    names = sorted(p.name for p in folder.iterdir())
    for name in names[1:]:
        for picture_ in (folder / name).iterdir():
            picture_.unlink()
        (folder / name).rmdir()
    with pytest.raises(InputError, match="examples are labelled"):
        read_examples(folder, PORTS, NAMED).prepare()


def test_subset_is_even_over_classes_and_small_ones_are_whole():
    x = np.arange(500, dtype=np.float32).reshape(100, 5)
    found = read_examples((x, np.array([0] * 90 + [1] * 4 + [2] * 6)), ARRAYS, BARE).subset(20)
    assert np.bincount(found.labels).tolist() == [10, 4, 6]
    assert found[0]["x"][0, 0] == 0 and len(found) == 20
    unlabelled = read_examples(x, ARRAYS, BARE)
    assert len(unlabelled.subset(7)) == 7 and unlabelled.subset(200) is unlabelled


def test_decoded_inputs_are_kept_within_the_budget(tmp_path, monkeypatch):
    reads = []
    kept = _images.open_image
    monkeypatch.setattr(_images, "open_image", lambda path: (reads.append(path), kept(path))[1])
    found = read_examples(class_folders(tmp_path / "d"), PORTS, NAMED).prepare()
    assert len(reads) == 6
    assert [s["image"].shape for s in found] == [(1, 3, 8, 8)] * 6 and len(reads) == 6
    monkeypatch.setattr(module, "CACHE_BYTES", 2 * 3 * 64 * 4)
    found = read_examples(tmp_path / "d", PORTS, NAMED).prepare()
    reads.clear()
    assert len(list(found)) == 6 and len(reads) == 4
