"""``gossamer person`` on real files: what it prints, its JSON, its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import gossamer
from gossamer import person
from tests.person import packs
from tests.person.detectors import brightness
from tests.shellkit import cli, home

__all__ = ["cli", "home"]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of brightness as ONNX and as signed bundle, and photos: 4 with a person, 4 without, 1 damaged."""
    folder = tmp_path_factory.mktemp("desk")
    rows = [packs.row(1, packs.jpeg(v), near=1) for v in (250, 200, 180, 60)]
    rows += [packs.row(0, packs.jpeg(v)) for v in (10, 20, 90, 140)]
    rows.append(packs.row(0, b"broken"))
    packs.write_parquet(folder / "photos" / "validation-00000-of-00001.parquet", rows)
    brightness(folder / "m.onnx", labels=["no person", "person"])
    (folder / "loose").mkdir()
    (folder / "loose" / "dark.jpg").write_bytes(packs.jpeg(5))
    (folder / "loose" / "light.jpg").write_bytes(packs.jpeg(240))
    (folder / "loose" / "none.jpg").write_bytes(b"")
    return folder


def failed(ran: Any, code: int, *words: str) -> None:
    assert ran.code == code, ran.err
    assert "Traceback" not in ran.err + ran.out
    for word in words:
        assert word in ran.err, ran.err


def test_evaluate_prints_tables_and_writes_pages(cli, home, desk, tmp_path):
    page, markdown = tmp_path / "r.html", tmp_path / "r.md"
    ran = cli("person", "evaluate", desk / "m.onnx", "--data", desk / "photos", "--html", page, "--markdown", markdown)
    assert ran.code == 0, ran.err
    assert "split validation, 8 photos" in ran.out
    assert "75.0% (3/4;" in ran.out
    assert "1 photos skipped" in ran.out
    assert "validation-00000-of-00001.parquet#8" in ran.out
    assert "Fine-grained sets" in ran.out
    assert page.read_text().startswith("<!doctype html>")
    assert "distance: near" in markdown.read_text()


def test_evaluate_json_and_label_order(cli, home, desk):
    arguments = ("person", "evaluate", desk / "m.onnx", "--data", desk / "photos", "--json")
    value = cli(*arguments).json
    assert (value["all"]["tpr"]["count"], value["all"]["tnr"]["count"]) == (3, 3)
    assert value["skipped"]["reasons"] == {"not a readable image": 1}
    assert value["model"]["assumed"] == []
    turned = cli(*arguments, "--label-order", "person, no person").json
    assert (turned["all"]["tpr"]["count"], turned["all"]["tnr"]["count"]) == (1, 1)
    assert turned["model"]["person_output"] == 0
    sure = cli(*arguments, "--threshold", "0.999").json
    assert sure["all"]["tpr"]["count"] == 1
    assert sure["decision"] == "its probability is at least 0.999"
    failed(cli(*arguments[:-1], "--label-order", "cat,dog"), 10, "labels name no person")


def test_evaluate_a_bundle_and_its_signature(cli, home, desk, tmp_path):
    bundle = tmp_path / "m.goss"
    recipe = {"version": 1, "name": "plain", "target": {"measure": False}}
    gossamer.optimize(desk / "m.onnx", recipe=recipe, output=bundle)
    value = cli("person", "evaluate", bundle, "--data", desk / "photos", "--json").json
    assert value["model"]["engine"] == "gossamer"
    assert (value["all"]["tpr"]["count"], value["all"]["tnr"]["count"]) == (3, 3)
    unsigned = tmp_path / "u.goss"
    gossamer.optimize(desk / "m.onnx", recipe=recipe, output=unsigned, key=False)
    failed(cli("person", "evaluate", unsigned, "--data", desk / "photos"), 9)
    assert cli("person", "evaluate", unsigned, "--data", desk / "photos", "--no-verify").code == 0


def test_evaluate_refuses_bad_input(cli, home, desk, tmp_path):
    failed(cli("person", "evaluate", desk / "none.onnx", "--data", desk / "photos"), 3, "cannot read the model")
    failed(cli("person", "evaluate", desk / "m.onnx", "--data", tmp_path), 10, "no known layout")
    failed(cli("person", "evaluate", desk / "m.onnx", "--data", tmp_path / "x"), 10, "no such folder")
    failed(cli("person", "evaluate", desk / "m.onnx", "--data", desk / "photos", "--split", "test"), 10, "'test'")
    failed(cli("person", "evaluate", desk / "m.onnx"), 2, "--data")
    out = tmp_path / "no" / "r.html"
    failed(cli("person", "evaluate", desk / "m.onnx", "--data", desk / "photos", "--html", out), 11)
    cats = brightness(tmp_path / "cats.onnx", labels=["cat", "dog"])
    failed(cli("person", "evaluate", cats, "--data", desk / "photos"), 3, "'cat', 'dog'", "--label-order")
    shard = packs.write_parquet(tmp_path / "d" / "test-00000-of-00001.parquet", [packs.row(1, packs.jpeg(9))])
    ran = cli("person", "evaluate", desk / "m.onnx", "--data", shard.parent, "--json")
    failed(ran, 10, "no photo without a person")
    assert json.loads(ran.err)["error"]["type"] == "InputError"
    packs.write_parquet(shard, [packs.row(3, packs.jpeg(9))])
    failed(cli("person", "evaluate", desk / "m.onnx", "--data", shard.parent), 10, "person is 3", "parquet#0")


def test_data_counts(cli, home, desk):
    ran = cli("person", "data", desk / "photos")
    assert ran.code == 0
    assert "wake-vision, 8 photos" in ran.out
    assert "1 photos skipped" in ran.out
    value = cli("person", "data", desk / "photos", "--json").json
    assert value["splits"] == {"validation": {"wake-vision": {"person": 4, "none": 4}}}
    assert value["slices"]["validation"]["distance"] == {"near": {"person": 4, "none": 0}}
    quick = cli("person", "data", desk / "photos", "--labels-only", "--layout", "wake-vision", "--json").json
    assert quick["photos"] == 9
    failed(cli("person", "data", desk / "photos", "--layout", "coco"), 10, "no COCO annotations")


def test_predict(cli, home, desk, tmp_path):
    ran = cli("person", "predict", desk / "m.onnx", desk / "loose")
    assert ran.code == 0
    assert [line.split("%")[1].rsplit("  ", 1)[0].strip() for line in ran.out.splitlines()] == ["no person", "person"]
    assert "none.jpg" in ran.err
    value = cli("person", "predict", desk / "m.onnx", desk / "loose" / "light.jpg", "--json").json
    assert value["results"][0]["person"] is True
    assert value["results"][0]["probability"] > 0.99
    failed(cli("person", "predict", desk / "m.onnx", desk / "loose" / "none.jpg"), 10, "none of 1 photos could be read")
    failed(cli("person", "predict", desk / "m.onnx", tmp_path / "none.jpg"), 10, "no such file")


def test_models_lists_what_ships(cli, home, desk, monkeypatch, tmp_path):
    ran = cli("person", "models")
    assert ran.code == 0
    found = cli("person", "models", "--json").json["models"]
    assert found
    assert all(Path(m["path"]).stat().st_size == m["bytes"] for m in found)
    assert all(m["name"] in ran.out for m in found)
    shipped = found[0]["name"]
    assert cli("person", "predict", shipped, desk / "loose" / "light.jpg").code == 0
    failed(cli("person", "predict", "nobody", desk / "loose" / "light.jpg"), 3, "not a model file")
    # an index of several, and a broken one
    from gossamer.person import _shipped

    monkeypatch.setattr(_shipped, "_FOLDER", tmp_path)
    (tmp_path / "small.goss").write_bytes(b"1234")
    entry = {"name": "small", "file": "small.goss", "sparsity": 0.9, "network": "v1-0.25", "description": "tiny"}
    (tmp_path / "index.json").write_text(json.dumps({"models": [entry]}))
    out = cli("person", "models").out
    assert all(word in out for word in ("small", "90%", "v1-0.25", "4 B", "tiny"))
    (tmp_path / "index.json").write_text(json.dumps({"models": [{"name": "x"}]}))
    failed(cli("person", "models"), 3, "malformed")
    (tmp_path / "index.json").write_text(json.dumps({"models": [{"name": "x", "file": "none.goss"}]}))
    failed(cli("person", "models"), 3, "lacks none.goss")


@pytest.mark.parametrize("command", ["evaluate", "data", "predict", "models", "train"])
def test_help_has_an_example(cli, command):
    ran = cli("person", command, "--help")
    assert ran.code == 0
    assert f"gossamer person {command}" in ran.out


def test_the_shipped_model_on_a_made_up_person128(cli, home, tiny_people):
    value = cli("person", "evaluate", person.model_path(), "--data", tiny_people, "--json").json
    assert value["all"]["n"] == 16
    assert value["data"]["layout"] == "person128"
    assert set(value["fine_grained"]) == {"distance", "lighting"}
