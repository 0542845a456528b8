"""The folder that a training run leaves: ``run.json``, and ``<candidate>.pt`` and ``<candidate>.onnx`` by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gossamer._errors import InputError


def weights_file(candidate: str) -> str:
    """Name of the file that holds a candidate's weights inside a run's folder."""
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in candidate) + ".pt"


def read_run(folder: str | Path) -> dict[str, Any]:
    """What ``run.json`` says, see :func:`gossamer.person.fitting.fit`.

    Raises:
        InputError: the run is not finished, or its record is damaged.
    """
    path = Path(folder) / "run.json"
    if not path.is_file():
        raise InputError("no run.json", where=str(folder), hint="give a folder that `fit` has finished")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        list(record["settings"]["candidates"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("not the record of a training run", where=str(path), hint="run `fit` again") from error
    return dict(record)
