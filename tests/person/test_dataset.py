"""Reading person128: a made-up one, broken ones, and the real one where it is there."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gossamer import InputError, person
from gossamer.person import dataset


def test_reads_rows_splits_and_sources(tiny_people: Path) -> None:
    people = dataset.PersonDataset(tiny_people)
    assert len(people) == 80
    assert [len(people.select(s)) for s in dataset.SPLITS] == [48, 16, 16]
    train = people.select("train", without=["street"])
    assert len(train) == 42
    assert set(dataset.sources(train)) == {"home"}
    assert dataset.labels(people.select("val")).tolist() == [0, 1] * 8
    assert dataset.areas(people.select("val"))[:2] == pytest.approx([0.0, 0.19141])


def test_images_are_decoded_in_order_and_resized(tiny_people: Path) -> None:
    people = dataset.PersonDataset(tiny_people)
    rows = people.select("val")[:4]
    seen: list[int] = []
    full = people.images(rows, progress=seen.append)
    assert full.shape == (4, 128, 128, 3)
    assert full.dtype == np.uint8
    assert seen == [1, 2, 3, 4]
    bright = (full.min(axis=3) > 200).mean(axis=(1, 2))
    assert bright[0] == 0
    assert bright[1] == pytest.approx(56 * 56 / 128**2, rel=0.05)
    small = people.images(rows, size=96)
    expected = np.asarray(Image.fromarray(full[1]).resize((96, 96), Image.Resampling.BILINEAR))
    assert np.array_equal(small[1], expected)


def test_sampling_balances_labels_and_holds_one_label_sources_back(tiny_people: Path) -> None:
    rows = dataset.PersonDataset(tiny_people).select("train")
    weights, label, source = dataset.sampling_weights(rows), dataset.labels(rows), dataset.sources(rows)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[label == 1].sum() == pytest.approx(0.5)
    # 18 positives at home, 6 in the street, whose square root counts a quarter
    home, street = 18**0.5, 0.25 * 6**0.5
    assert weights[source == "street"].sum() == pytest.approx(0.5 * street / (home + street))
    with pytest.raises(InputError, match="both labels"):
        dataset.sampling_weights([r for r in rows if r.label == 1])


def test_unknown_split_source_and_folder_are_named(tiny_people: Path, tmp_path: Path) -> None:
    people = dataset.PersonDataset(tiny_people)
    with pytest.raises(InputError, match="unknown split 'dev'"):
        people.select("dev")
    with pytest.raises(InputError, match="no source 'sea'"):
        people.select("train", without=["sea"])
    with pytest.raises(InputError, match=r"labels\.csv"):
        dataset.PersonDataset(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.jpg,dev,1,home,0.5", "split 'dev'"),
        ("a.jpg,train,2,home,0.5", "label '2'"),
        ("a.jpg,train,1,home,much", "not a number"),
        ("a.jpg,train,1,home,1.5", "not a fraction"),
        ("a.jpg,train,1,home,nan", "not a fraction"),
    ],
)
def test_broken_rows_are_refused_with_their_line(tiny_people: Path, tmp_path: Path, line: str, message: str) -> None:
    shutil.copy(tiny_people / "images.zip", tmp_path)
    (tmp_path / "labels.csv").write_text(f"file,split,label,source,largest_person_area_fraction\n{line}\n")
    with pytest.raises(InputError, match=message) as caught:
        dataset.PersonDataset(tmp_path)
    assert "labels.csv:2" in str(caught.value)


def test_missing_column_and_broken_photo(tiny_people: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_people / "images.zip", tmp_path)
    (tmp_path / "labels.csv").write_text("file,split\n")
    with pytest.raises(InputError, match="no column 'label'"):
        dataset.PersonDataset(tmp_path)
    import zipfile

    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("home/x.jpg", b"not a photo")
    (tmp_path / "labels.csv").write_text(
        "file,split,label,source,largest_person_area_fraction\nhome/x.jpg,train,0,home,0\nhome/y.jpg,train,0,home,0\n"
    )
    people = dataset.PersonDataset(tmp_path)
    with pytest.raises(InputError, match="not a readable image"):
        people.images(people.select()[:1])
    with pytest.raises(InputError, match="not in the archive"):
        people.images(people.select()[1:])


def test_the_real_data_set_has_the_counts_of_its_readme(data_dir: Path) -> None:
    people = dataset.PersonDataset(data_dir / "person128")
    counted = Counter((p.split, p.label) for p in people)
    assert counted == {
        ("train", 1): 1610,
        ("train", 0): 2279,
        ("val", 1): 90,
        ("val", 0): 303,
        ("test", 1): 167,
        ("test", 0): 625,
    }
    assert sum(p.source == "tudstreet" for p in people) == 982
    assert all(p.largest_person_area >= dataset.MIN_PERSON_AREA for p in people if p.label)
    assert people.images(people.select("val")[:3]).shape == (3, 128, 128, 3)


def test_preprocess_is_squash_scale_and_channels_first() -> None:
    pixels = np.zeros((50, 200, 3), np.uint8)
    pixels[..., 0] = 255
    pixels[:, 100:, 1] = 51
    x = person.preprocess(Image.fromarray(pixels))
    assert x.shape == (1, 3, 96, 96)
    assert x.dtype == np.float32
    assert x.flags.c_contiguous
    assert (x[0, 0] == 1.0).all()
    assert x[0, 1, :, :40] == pytest.approx(0.0)
    assert x[0, 1, :, 60:] == pytest.approx(0.2)
    assert (x[0, 2] == 0).all()
    grey = person.preprocess(Image.new("L", (7, 9), 51))
    assert grey == pytest.approx(0.2)


def test_person_probability_is_the_softmax() -> None:
    logits = np.array([[0.0, 0.0], [1.0, 3.0], [-800.0, 800.0], [800.0, -800.0]])
    expected = [0.5, 1 / (1 + np.exp(-2.0)), 1.0, 0.0]
    assert person.person_probability(logits) == pytest.approx(expected)
    with pytest.raises(ValueError, match="last axis of 2"):
        person.person_probability(np.zeros((2, 3)))
