"""The search on the shipped person detector and real photos; its promise is measured again with code of its own."""

from __future__ import annotations

import csv
import io
import zipfile

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image

from gossamer import person
from gossamer.search.auto import optimize_auto
from gossamer_runtime import Session


def photos(folder, split):
    """float32 [N, 3, 96, 96] in 0..1 and labels [N], read without the library's readers."""
    with (folder / "labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    images = []
    with zipfile.ZipFile(folder / "images.zip") as archive:
        for row in rows:
            image = Image.open(io.BytesIO(archive.read(row["file"]))).convert("RGB")
            pixels = np.asarray(image.resize((96, 96), Image.Resampling.BILINEAR))
            images.append(pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255))
    return np.stack(images), np.array([int(row["label"]) for row in rows])


def balanced(decided, labels):
    return np.mean([(decided[labels == c] == c).mean() for c in (0, 1)])


@pytest.mark.slow
def test_the_drop_holds_when_measured_again_and_it_is_faster_than_dense(data_dir, tmp_path):
    folder = data_dir / "person128"
    x, y = photos(folder, "val")
    output = tmp_path / "person.goss"
    found = optimize_auto(
        person.model_path(), "person-demo", x[::4].copy(), output, eval_data=folder / "labels.csv", eval_split="val",
        max_accuracy_drop=0.02, subset=128, sparsities=(0.5, 0.7, 0.85), key=False,
    )  # fmt: skip
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(person.model_path()), options, providers=["CPUExecutionProvider"])
    original = np.array([session.run(None, {"image": row[None]})[0].argmax() for row in x])
    with Session(output, verify=False) as ours:
        decided = np.array([ours.run(row[None]).argmax() for row in x])
    drop = balanced(original, y) - balanced(decided, y)
    assert drop == pytest.approx(found.chosen.drop, abs=1e-6) and drop <= 0.02
    assert found.samples == len(y) == 393
    faster = found.chosen.latency_us < found.dense.latency_us
    assert faster or any("no faster than dense" in note for note in found.notes), found.table()
