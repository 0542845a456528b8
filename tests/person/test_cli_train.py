"""``gossamer person train``: from a folder of any layout to weights that the other commands take; teachers that fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer import InputError, ModelError
from gossamer.person import dataset
from gossamer.person.dataset.training_view import TrainingView
from tests.person import packs
from tests.shellkit import cli, home

__all__ = ["cli", "home"]
torch = pytest.importorskip("torch", reason="training needs the [torch] extra")

QUICK = ("--bank", "48", "--batch", "16", "--warmup", "1", "--device", "cpu")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wake Vision's layout: 24 training photos, one of them damaged, 12 for validation, 12 for test."""
    folder = tmp_path_factory.mktemp("shards")
    rows = [packs.train_row(i % 2, packs.square(i % 2, i)) for i in range(24)]
    rows[5]["image"] = b"no photo"
    packs.write_parquet(folder / "train_quality_part_0-00000-of-00001.parquet", rows)
    for split, first in (("validation", 100), ("test", 200)):
        rows = [packs.row(i % 2, packs.square(i % 2, first + i), near=i % 2) for i in range(12)]
        packs.write_parquet(folder / f"{split}-00000-of-00001.parquet", rows)
    return folder


def failed(ran: Any, code: int, *words: str) -> None:
    assert ran.code == code, ran.err
    assert "Traceback" not in ran.err + ran.out
    for word in words:
        assert word in ran.err, ran.err


@pytest.mark.slow
def test_train_then_evaluate(cli, home, shards, tmp_path):
    run = tmp_path / "run"
    common = ("person", "train", "--data", shards, "-o", run, *QUICK, "--epochs", "2")
    names = ("--candidate", "v1-0.25-grey", "--candidate", "v1-0.25+gradual-magnitude:1x4:0.5")
    first = cli(*common, *names, "--stop-after", "1")
    assert first.code == 0, first.err
    assert "1 photos skipped" in first.err
    assert "train_quality_part_0-00000-of-00001.parquet#5: not a readable image" in first.err
    ran = cli(*common, *names, "--json")
    assert ran.code == 0, ran.err
    record = json.loads(ran.out)
    assert record["steps"] == 6
    assert len(record["losses"]) == 2
    assert record["skipped"]["count"] == 1
    assert sorted(p.name for p in run.iterdir()) == [
        "run.json",
        "state.pt",
        "v1-0.25-grey.onnx",
        "v1-0.25-grey.pt",
        "v1-0.25_gradual-magnitude_1x4_0.5.onnx",
        "v1-0.25_gradual-magnitude_1x4_0.5.pt",
    ]
    for stem in ("v1-0.25-grey", "v1-0.25_gradual-magnitude_1x4_0.5"):
        reports = [
            cli("person", "evaluate", run / f"{stem}{end}", "--data", shards, "--json").json for end in (".pt", ".onnx")
        ]
        assert reports[0]["all"] == reports[1]["all"]
        assert reports[0]["all"]["n"] == 12
        assert reports[0]["fine_grained"]["distance"]["slices"]["near"]["n"] == 6
    other = cli(*common[:-1], "3", *names)
    failed(other, 10, "the saved run has epochs = 2, this one 3")


def test_wrong_options_are_refused_before_the_photos_are_read(cli, home, shards, tmp_path):
    common = ("person", "train", "--data", shards, "-o", tmp_path / "run", *QUICK)
    failed(cli(*common, "--candidate", "v9-1"), 10, "no network 'v9-1'")
    failed(cli(*common, "--candidate", "v1-0.25+magic:1x4:0.5"), 10, "magic")
    failed(cli(*common, "--candidate", "v1-0.25+from:old"), 10, "--init")
    failed(cli(*common, "--candidate", "v1-0.25+from:old", "--init", tmp_path), 10, "no weights to start from")
    failed(cli(*common, "--teacher", tmp_path / "none.tflite"), 10, "no such teacher")
    failed(cli(*common, "--train-split", "trian"), 10, "unknown split 'trian'")
    failed(cli("person", "train", "--data", tmp_path, "-o", tmp_path / "run"), 10, "no known layout")
    failed(cli(*common, "--epochs", "0"), 2)
    assert not (tmp_path / "run").exists()


def test_the_view_of_training(tmp_path: Path, shards: Path, tiny_people: Path) -> None:
    steps: list[tuple[int, int]] = []
    view = TrainingView(dataset.open_photos(shards), progress=lambda done, total: steps.append((done, total)))
    assert view.splits == ("train", "val")
    assert (len(view.select("train")), len(view.select("val")), len(view.select())) == (23, 12, 35)
    assert view.skipped.named[0][1] == "not a readable image"
    assert steps[-1] == (36, 36)
    assert view.images(view.select("train"), size=8).shape == (23, 8, 8, 3)
    people = TrainingView(dataset.open_photos(tiny_people))
    assert len(people.select("train", without=["street"])) == 42
    with pytest.raises(InputError, match="no source 'sea'"):
        people.select("train", without=["sea"])
    packs.write_parquet(tmp_path / "train-00000-of-00001.parquet", [packs.train_row(1, packs.jpeg(9))] * 2)
    packs.write_parquet(tmp_path / "validation-00000-of-00001.parquet", [packs.row(1, packs.jpeg(9))] * 2)
    with pytest.raises(InputError, match="no photo without a person") as caught:
        TrainingView(dataset.open_photos(tmp_path))
    assert "split train" in str(caught.value.where)


def test_a_teacher_the_other_way_round_is_found_out(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tflite", reason="teachers need the [tflite] extra")
    from gossamer.person.teacher_check import check_direction, open_teachers

    path = data_dir / "models" / "mlperf-tiny" / "vww_96_float.tflite"
    people = dataset.PersonDataset(data_dir / "person128")
    monkeypatch.setattr("gossamer.person.teacher_check.ENOUGH", 128)
    (right,), (turned,) = open_teachers([path]), open_teachers([], [path])
    (auc,) = check_direction([right], people)
    assert auc > 0.75
    with pytest.raises(InputError, match=r"ranks photos without a person higher .* on 128 training photos") as caught:
        check_direction([right, turned], people)
    assert "--teacher-person-first" in str(caught.value.hint)
    images = people.images(people.select("val")[:3])
    x = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))[..., :96, :96].float() / 255
    with torch.no_grad():
        assert torch.allclose(right(x)[0], -turned(x)[0], atol=1e-5)


def test_teachers_of_another_form_are_refused(data_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("tflite", reason="teachers need the [tflite] extra")
    from gossamer.person.teacher_check import open_teachers

    (tmp_path / "x.tflite").write_bytes(b"nothing like it")
    with pytest.raises(ModelError, match="not a TFLite file"):
        open_teachers([tmp_path / "x.tflite"])
    with pytest.raises(InputError, match="two outputs"):
        open_teachers([data_dir / "models" / "mlperf-tiny" / "pretrainedResnet.tflite"])
    with pytest.raises(InputError, match="a teacher takes a square photo"):
        open_teachers([data_dir / "models" / "mlperf-tiny" / "kws_ref_model_float32.tflite"])
    with pytest.raises(InputError, match="not a teachers file"):
        (tmp_path / "x.npz").write_bytes(b"nothing like it")
        open_teachers([tmp_path / "x.npz"])


class Bright(torch.nn.Module):
    """A teacher that takes dark photos for persons."""

    name, size = "dark", 96

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return -images.mean(dim=(1, 2, 3)), images


def test_a_teacher_is_tried_on_both_labels_however_the_photos_are_ordered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels alternate, so every other photo has the same one."""
    from gossamer.person.teacher_check import check_direction

    monkeypatch.setattr("gossamer.person.teacher_check.ENOUGH", 6)
    rows = [packs.train_row(i % 2, packs.square(i % 2, i)) for i in range(12)]
    packs.write_parquet(tmp_path / "train_quality_part_0-00000-of-00001.parquet", rows)
    packs.write_parquet(
        tmp_path / "validation-00000-of-00001.parquet", [packs.row(i, packs.square(i, 50 + i)) for i in range(2)]
    )
    people = TrainingView(dataset.open_photos(tmp_path))
    with pytest.raises(InputError, match=r"ROC AUC 0\.000 on 6 training photos"):
        check_direction([Bright()], people)
