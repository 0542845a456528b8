"""Where the weights and the card of the shipped person detector lie inside the installed package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gossamer._errors import ModelError

_FOLDER = Path(__file__).resolve().parent / "models"


def model_path() -> Path:
    """Path of the shipped float32 ONNX model, ``person_96.onnx``.

    Raises:
        ModelError: the installation lacks the file.
    """
    return _existing("person_96.onnx")


def card_path() -> Path:
    """Path of the model card for people, ``MODEL_CARD.md``.

    Raises:
        ModelError: the installation lacks the file.
    """
    return _existing("MODEL_CARD.md")


def model_card() -> dict[str, Any]:
    """The model card for programs: training settings, counts, and accuracies as fractions with 95% intervals.

    Raises:
        ModelError: the installation lacks the file.
    """
    card: dict[str, Any] = json.loads(_existing("person_96.json").read_text(encoding="utf-8"))
    return card


def shipped_models() -> list[dict[str, Any]]:
    """The models that ship, best first: ``models/index.json``, or the one float32 model without it.

    ``index.json`` is ``{"models": [{"name", "file", ...}]}``; ``description``, ``network``, ``sparsity`` (share of
    zeros, 0..1) and ``balanced_accuracy`` (``{"value", "low", "high"}`` on person128's test split) are shown where they
    are given. Each entry gains ``path`` and ``bytes``.

    Raises:
        ModelError: the index is malformed, or a file that it names is missing.
    """
    index = _FOLDER / "index.json"
    if index.is_file():
        try:
            entries = json.loads(index.read_text(encoding="utf-8"))["models"]
            found = [{**e, "name": str(e["name"]), "file": Path(e["file"]).name} for e in entries]
        except (ValueError, KeyError, TypeError) as e:
            raise ModelError(
                f"the index of shipped models is malformed: {e}", where=str(index), hint="reinstall gossamer"
            ) from e
    else:
        card = model_card()
        found = [
            {
                "name": card["name"],
                "file": "person_96.onnx",
                "description": "float32 ONNX, to prune and quantise",
                "network": str(card["candidate"]).split("+")[0],
                "balanced_accuracy": card["test"]["all"]["balanced_accuracy"],
            }
        ]
    for entry in found:
        path = _existing(entry["file"])
        entry |= {"path": str(path), "bytes": path.stat().st_size}
    return found


def shipped_model(name: str) -> Path | None:
    """Path of a shipped model by its name; None when there is none of that name."""
    return next((Path(e["path"]) for e in shipped_models() if e["name"] == name), None)


def _existing(name: str) -> Path:
    path = _FOLDER / name
    if not path.is_file():
        raise ModelError(
            f"the package lacks {name}",
            where=str(path),
            hint="reinstall gossamer, or rebuild it: tools/train_person.py",
        )
    return path
