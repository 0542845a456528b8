"""The demo end to end on the shipped person detector, with and without a labelled test set."""

from __future__ import annotations

import re

import pytest

from gossamer import GossamerError, person
from gossamer_runtime import Session
from tools import demo


@pytest.fixture(autouse=True)
def shipped():
    pytest.importorskip("skimage", reason="the demo's photographs come with scikit-image: pip install 'gossamer[demo]'")
    try:
        person.model_path()
    except GossamerError as e:
        pytest.skip(f"no shipped person detector: {e.message}")


@pytest.mark.slow
def test_demo_without_a_test_set(home, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GOSSAMER_DATA", str(tmp_path / "none"))
    assert demo.main(["-o", str(tmp_path / "out"), "--runs", "5"]) == 0
    out = capsys.readouterr().out
    assert "Accuracy was not measured" in out
    assert re.search(r"same decision as the dense bundle on [6-8] of 8 photos", out)
    for name in ("person-dense", "person-75", "person-90"):
        assert re.search(rf"^{name}: signed by \S+ \(trusted\)$", out, re.M)
    for name in demo.PHOTOS:
        assert name in out
    with Session(tmp_path / "out" / "person.goss") as session:
        assert session.inputs[0].shape == (1, 3, person.INPUT_SIZE, person.INPUT_SIZE)
        assert session.manifest["outputs"][0]["postprocessing"]["labels"] == list(person.LABELS)
    with Session(tmp_path / "out" / "person-dense.goss") as session:
        assert {layer["pattern"] for layer in session.manifest["layers"]} == {"dense"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<figure>") == len(demo.PHOTOS)


def test_calibration_pictures_are_seeded():
    first, second = ([(i.size, i.tobytes()) for i in demo.calibration_pictures()] for _ in range(2))
    assert first == second
    assert len(first) == len(demo.CALIBRATION) * (demo.CROPS + 1)


def test_dense_recipe_prunes_nothing():
    recipe = demo.dense_recipe("person-demo")
    assert "sparsify" not in recipe and recipe["quantize"]
    assert recipe["target"] == {"kernels": "dense"}


def test_missing_model_is_an_error(home, tmp_path, capsys):
    assert demo.main(["-o", str(tmp_path / "out"), "--model", str(tmp_path / "no.onnx")]) == 3
    assert "no.onnx" in capsys.readouterr().err
