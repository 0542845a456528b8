"""``gossamer optimize`` that finds the sparsities itself: what it prints, writes and refuses."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest

from tests.shellkit import LABELS, leftovers


@pytest.fixture
def data(work, tmp_path, monkeypatch):
    """24 pictures in a table: two of three labelled as the model itself decides them, the others as the class after."""
    from PIL import Image

    from gossamer import _images
    from gossamer._load import load
    from gossamer._manifest import image_from, model_ports
    from gossamer._reference import open_reference
    from gossamer.recipe import Preprocess

    monkeypatch.setenv("GOSSAMER_CACHE", str(tmp_path / "cache"))
    port = model_ports(load(work.model).graph.inputs, "input")[0]
    port.image.CopyFrom(image_from(Preprocess(resize="stretch"), port))
    reference, rng = open_reference(work.model), np.random.default_rng(2)
    (tmp_path / "data").mkdir()
    rows = []
    for i in range(24):
        coarse = rng.integers(0, 256, (4, 5, 3), np.uint8)
        image = Image.fromarray(coarse).resize((40, 30), Image.Resampling.BICUBIC)
        image.save(tmp_path / "data" / f"{i}.png")
        y = reference.run({"image": _images.to_input(image, port)})[0]
        label = LABELS[(int(y.argmax()) + (i % 3 == 0)) % len(LABELS)]
        rows.append((f"{i}.png", label, "val" if i % 2 else "train"))
    with (tmp_path / "data" / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "label", "split"), *rows])
    return tmp_path / "data" / "labels.csv"


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "r.yaml"
    step = {"calibrate": "minmax", "preprocess": {"resize": "stretch", "mean": 0, "std": 255}}
    path.write_text(json.dumps({"version": 1, "sparsify": {"pattern": "1x4", "sparsity": 0.5}, "quantize": step}))
    return path


def arguments(work, recipe, out, *more):
    return ["optimize", work.model, "-r", recipe, "-c", work.photos, "-o", out, *more]


def test_search_prints_layers_trials_and_writes_bundle_report_and_plot(cli, work, recipe, data, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    goal = ["--max-accuracy-drop", "0.9", "--eval-data", data, "--eval-split", "val"]
    ran = cli(*arguments(work, recipe, out / "m.goss", *goal, "--report", out / "r.html"))
    assert ran.code == 0, ran.err
    assert leftovers(out) == ["m.goss", "r-tradeoffs.png", "r.html"]
    assert re.search(r"^> +\S+ .* met$", ran.out, re.M)
    for text in ("goal      accuracy drop of at most 0.9", "12 examples", "split val", "signature", "plot  "):
        assert text in ran.out
    assert "why not pruned" in ran.out and "mid" in ran.out
    assert "Trade-offs" in (out / "r.html").read_text()
    assert (out / "r-tradeoffs.png").read_bytes().startswith(b"\x89PNG")
    for stage in ("times:", "sensitivity:", "trials:"):
        assert stage in ran.err  # progress
    assert cli("verify", out / "m.goss").code == 0


def test_json_has_the_search_and_nothing_else_is_printed(cli, work, recipe, data, tmp_path):
    goal = ["--latency-ms", "1000", "--eval-data", data, "--eval-split", "train", "--metric", "accuracy"]
    ran = cli(*arguments(work, recipe, tmp_path / "m.goss", *goal, "--json"))
    assert ran.code == 0, ran.err
    assert ran.err == ""
    value = ran.json
    chosen = [t for t in value["search"]["trials"] if t["chosen"]]
    assert len(chosen) == 1 and chosen[0]["latency_us"] < 1e6
    assert value["search"]["metric"] == "accuracy" and value["search"]["samples"] == 12
    assert value["search"]["baseline"] == pytest.approx(8 / 12)  # what the labels are made of
    assert value["bundle_bytes"] == (tmp_path / "m.goss").stat().st_size
    assert value["manifest"]["metrics"][0]["name"] == "accuracy_percent"


def test_nothing_meets_the_goal(cli, work, recipe, data, tmp_path):
    goal = ["--latency-ms", "0.0001", "--eval-data", data, "--eval-split", "val"]
    ran = cli(*arguments(work, recipe, tmp_path / "m.goss", *goal))
    assert ran.code == 14 and not (tmp_path / "m.goss").exists()
    assert (
        "error: none of" in ran.err and "latency of at most 0.0001 ms" in ran.err and "the best found: drop" in ran.err
    )
    assert "missed" in ran.out and "dense" in ran.out  # what was tried
    ran = cli(*arguments(work, recipe, tmp_path / "m.goss", *goal, "--json"))
    assert ran.code == 14
    assert json.loads(ran.err)["error"]["type"] == "ConstraintError"
    assert not any(t["chosen"] for t in ran.json["search"]["trials"])


def test_unlabelled_pictures_measure_agreement(cli, work, recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("GOSSAMER_CACHE", str(tmp_path / "cache"))
    goal = ["--max-accuracy-drop", "0.95", "--eval-data", work.photos]
    ran = cli(*arguments(work, recipe, tmp_path / "m.goss", *goal))
    assert ran.code == 0, ran.err
    assert "measured  agreement with the original on 6 examples without labels" in ran.out


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--max-accuracy-drop", "0.1"], 2, ["--eval-data"]),
        (["--eval-data", "x.csv"], 2, ["--max-accuracy-drop"]),
        (["--max-accuracy-drop", "0.1", "--latency-ms", "1", "--eval-data", "x.csv"], 2, ["exclude each other"]),
        (["--max-accuracy-drop", "1.5", "--eval-data", "x.csv"], 2, ["0.0<=x<1.0"]),
        (["--max-accuracy-drop", "0.1", "--eval-data", "absent"], 10, ["no such file", "absent"]),
        (["--train-data", "absent"], 5, ["no train step", "train"]),
        (["--checkpoint", "absent"], 5, ["a folder for checkpoints", "no train step"]),
        (["--train-split", "a"], 2, ["--train-split needs --train-data"]),
        (["--eval-split", "a"], 2, ["--eval-split needs --eval-data"]),
    ],
)
def test_options_that_do_not_fit(cli, work, recipe, tmp_path, options, code, words):
    ran = cli(*arguments(work, recipe, tmp_path / "m.goss", *options))
    assert ran.code == code, ran.err
    assert all(word in ran.err for word in words), ran.err
    assert not (tmp_path / "m.goss").exists()


def test_a_report_does_not_replace_bundle_or_model(cli, work, recipe, tmp_path):
    out = tmp_path / "m.goss"
    ran = cli(*arguments(work, recipe, out, "--report", tmp_path / "." / "m.goss"))
    assert ran.code == 11 and "would replace the bundle" in ran.err and not out.exists()
    before = work.model.read_bytes()
    ran = cli(*arguments(work, recipe, out, "--report", work.model))
    assert ran.code == 11 and "would replace the model" in ran.err and work.model.read_bytes() == before
    goal = ["--max-accuracy-drop", "0.9", "--eval-data", work.photos, "--report", tmp_path / "r.html"]
    ran = cli(*arguments(work, recipe, tmp_path / "r-tradeoffs.png", *goal))
    assert ran.code == 11 and "would replace the bundle" in ran.err


def test_a_table_with_splits_says_that_one_has_to_be_named(cli, work, recipe, data, tmp_path):
    ran = cli(*arguments(work, recipe, tmp_path / "m.goss", "--max-accuracy-drop", "0.1", "--eval-data", data))
    assert ran.code == 10 and "splits train, val" in ran.err
