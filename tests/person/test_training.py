"""Training: the loss falls, an interrupted run goes on to the same weights, wrong settings are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gossamer import InputError
from gossamer.person.dataset import PersonDataset

torch = pytest.importorskip("torch", reason="training needs the [torch] extra")

from gossamer.person.training import TrainSettings, train  # noqa: E402 - after the skip

ROOT = Path(__file__).resolve().parents[2]
SMALL = TrainSettings(candidates=("v1-0.25",), bank=96, epochs=3, batch=16, warmup=2, ema_decay=0.5, seed=4)


def silent(_: str) -> None:
    pass


@pytest.mark.slow
def test_loss_falls_and_a_stopped_run_ends_where_an_unbroken_one_does(tiny_people: Path, tmp_path: Path) -> None:
    people = PersonDataset(tiny_people)
    whole = train(people, SMALL, state_path=tmp_path / "whole.pt", log=silent)
    assert whole.steps == 18
    assert whole.losses[-1][0] < whole.losses[0][0]
    first = train(people, SMALL, state_path=tmp_path / "state.pt", stop_after=1, log=silent)
    assert len(first.losses) == 1
    lines: list[str] = []
    rest = train(people, SMALL, state_path=tmp_path / "state.pt", log=lines.append)
    assert "going on after epoch 1" in lines
    assert rest.losses == pytest.approx([pytest.approx(x) for x in whole.losses])
    for key, value in whole.networks["v1-0.25"].state_dict().items():
        assert torch.allclose(value, rest.networks["v1-0.25"].state_dict()[key], atol=1e-6), key
    assert not list(tmp_path.glob("*.part"))
    other = TrainSettings(candidates=("v1-0.25",), bank=96, epochs=4, batch=16, warmup=2, ema_decay=0.5, seed=4)
    with pytest.raises(InputError, match="epochs = 3, this one 4"):
        train(people, other, state_path=tmp_path / "state.pt", log=silent)
    with pytest.raises(InputError, match="by the clock"):
        train(people, SMALL, state_path=tmp_path / "state.pt", seconds=1.0, log=silent)


def test_wrong_settings_are_refused_before_any_work(tiny_people: Path) -> None:
    people = PersonDataset(tiny_people)
    with pytest.raises(InputError, match="at least"):
        train(people, TrainSettings(epochs=0), log=silent)
    with pytest.raises(InputError, match="no source 'sea'"):
        train(people, TrainSettings(candidates=("v1-0.25+without:sea",)), log=silent)


@pytest.mark.slow
def test_the_tool_trains_and_ships_a_model_with_its_card(tiny_people: Path, tmp_path: Path) -> None:
    tool = [sys.executable, str(ROOT / "tools" / "train_person.py")]
    common = ["--data", str(tiny_people), "-o", str(tmp_path / "run"), "--device", "cpu"]
    sizes = ["--epochs", "1", "--bank", "48", "--batch", "16", "--warmup", "1"]
    fit = [*tool, "fit", *common, *sizes, "--candidates", "v1-0.25+gradual-magnitude:1x4:0.5", "v1-0.25+labels"]
    subprocess.run(fit, check=True, capture_output=True)
    ship = [*tool, "ship", "--data", str(tiny_people), "--run", str(tmp_path / "run"), "-o", str(tmp_path / "out")]
    subprocess.run(ship, check=True, capture_output=True)
    card = json.loads((tmp_path / "out" / "person_96.json").read_text())
    assert card["candidate"] == "v1-0.25+gradual-magnitude:1x4:0.5"
    assert card["test"]["all"]["n"] == 16
    assert [o["candidate"] for o in card["others"]] == ["v1-0.25+labels"]
    assert (tmp_path / "out" / "person_96.onnx").stat().st_size == card["bytes"]
    text = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    assert card["sha256"] in text
    missing = subprocess.run(
        [*tool, "fit", "--data", str(tmp_path), "-o", str(tmp_path / "x")], capture_output=True, text=True
    )
    assert missing.returncode == InputError.exit_code
    assert "labels.csv" in missing.stderr
    assert "Traceback" not in missing.stderr
