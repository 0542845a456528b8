"""The shipped model: its size, its form, and that it does what its card says."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from gossamer import person
from gossamer.person import dataset
from gossamer.person.card_text import render
from gossamer.person.evaluate import evaluate, onnx_predictor


def test_file_is_small_and_is_the_one_of_the_card() -> None:
    content, card = person.model_path().read_bytes(), person.model_card()
    assert len(content) == card["bytes"] < 2_000_000
    assert hashlib.sha256(content).hexdigest() == card["sha256"]
    assert person.card_path().read_text(encoding="utf-8") == render(card)


def test_form_of_the_graph() -> None:
    model = onnx.load(person.model_path())
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    (x,), (y,) = model.graph.input, model.graph.output
    assert (x.name, [d.dim_value for d in x.type.tensor_type.shape.dim]) == (person.INPUT_NAME, [1, 3, 96, 96])
    assert (y.name, [d.dim_value for d in y.type.tensor_type.shape.dim]) == (person.OUTPUT_NAME, [1, 2])
    names = [n.name for n in model.graph.node]
    assert len(set(names)) == len(names)
    metadata = {p.key: json.loads(p.value) for p in model.metadata_props}
    assert metadata["gossamer.manifest"]["labels"] == list(person.LABELS)
    assert metadata["gossamer.manifest"]["preprocess"] == {
        "resize": "stretch",
        "colour": "rgb",
        "mean": 0.0,
        "std": 255.0,
    }
    for tensor in model.graph.initializer:
        assert np.isfinite(onnx.numpy_helper.to_array(tensor)).all()


def test_it_reproduces_the_test_numbers_of_its_card(data_dir: Path) -> None:
    people = dataset.PersonDataset(data_dir / "person128")
    report = evaluate(onnx_predictor(person.model_path()), people, "test")
    card = person.model_card()["test"]
    for name, mine, theirs in [
        ("all", report["all"], card["all"]),
        *((s, report["sources"][s], card["sources"][s]) for s in card["sources"]),
    ]:
        for key in ("accuracy", "tpr", "tnr"):
            # another machine's float rounding may move a photo that sits on the threshold
            assert abs(mine[key]["count"] - theirs[key]["count"]) <= 1, (name, key)
            assert mine[key]["of"] == theirs[key]["of"]
        assert mine["roc_auc"] == pytest.approx(theirs["roc_auc"], abs=2e-3)


def test_a_card_says_which_run_its_weights_started_from(tiny_people: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="training needs the [torch] extra")
    from gossamer.person.card import ship_run
    from gossamer.person.models import build
    from gossamer.person.run_folder import weights_file

    torch.manual_seed(0)
    machine = {"device": "cpu", "torch": "2", "python": "3"}
    settings = {"epochs": 1, "batch": 8, "distill": 0.8, "seed": 0}

    def run(name: str, candidate: str, initial: list[list[str]], steps: int) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        torch.save(build("v1-0.1").state_dict(), folder / weights_file(candidate))
        record = {"settings": {"candidates": [candidate], "initial": initial, **settings}, "steps": steps}
        record |= {"teachers": [], "seconds": 1.0, "machine": machine, "parameters": {candidate: 9}}
        (folder / "run.json").write_text(json.dumps(record))
        return folder

    first = run("first", "v1-0.1+seed:3", [], 11)
    (tmp_path / "starts").mkdir()  # the same bytes under the name to start from, without a run beside them
    content = (first / weights_file("v1-0.1+seed:3")).read_bytes()
    (tmp_path / "a").mkdir()
    for folder in ("starts", "a"):
        (tmp_path / folder / "old.pt").write_bytes(content)
    second = run("second", "v1-0.1+granet:1x4:0.5+from:old", [["old", hashlib.sha256(content).hexdigest()]], 22)
    card = ship_run(tiny_people, [second], tmp_path / "out")
    assert card["training"]["started_from"]["steps"] == 11
    text = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    assert "First stage (its `v1-0.1_seed_3.pt` is what the second starts from)" in text
    assert "11 steps of 8 views" in text and "22 steps of 8 views" in text
    assert "`+METHOD:PATTERN:F`" in text and "+1x4:F" not in text
    alone = ship_run(tiny_people, [first], tmp_path / "out")
    assert "started_from" not in alone["training"]


def test_importing_person_stays_light() -> None:
    heavy = {"torch", "onnxruntime", "PIL"}
    code = f"import sys, gossamer.person as p; p.model_path(); print(sorted({heavy} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
