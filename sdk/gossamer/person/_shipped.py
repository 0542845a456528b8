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


def _existing(name: str) -> Path:
    path = _FOLDER / name
    if not path.is_file():
        raise ModelError(
            f"the package lacks {name}",
            where=str(path),
            hint="reinstall gossamer, or rebuild it: tools/train_person.py",
        )
    return path
