"""The shipped model's card: picks the best candidate by val, measures it on test, writes ONNX, JSON and Markdown.

Every number of the Markdown card comes from the JSON card; nothing is typed by hand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gossamer import _atomic
from gossamer._errors import InputError
from gossamer.person.dataset import PersonDataset
from gossamer.person.evaluate import evaluate, onnx_predictor
from gossamer.person.preprocess import LABELS, manifest_preprocessing, model_metadata
from gossamer.person.run_folder import read_run, weights_file

NAME = "person_96"
MAX_BYTES = 2_000_000
"""Largest ONNX file that may ship, in bytes."""


def ship_run(
    data: str | Path, runs: Sequence[str | Path], output: str | Path, *, candidate: str | None = None
) -> dict[str, Any]:
    """Write ``person_96.onnx``, ``person_96.json`` and ``MODEL_CARD.md`` into ``output``.

    Args:
        data: folder of person128.
        runs: folders written by ``tools/train_person.py fit``.
        output: folder of the shipped files.
        candidate: take this one instead of the best balanced accuracy on val among those for shipping (candidates
            with the option ``labels`` are ablations and are never chosen by themselves).

    Returns:
        The JSON card.

    Raises:
        InputError: a run is not finished, no such candidate, or its ONNX file is larger than ``MAX_BYTES``.
        ModelError: a file of weights is missing, damaged, or holds some that are not finite.
    """
    people = PersonDataset(data)
    found = [_measured(people, Path(run), name) for run in runs for name in read_run(run)["settings"]["candidates"]]
    allowed = [
        f for f in found if (candidate is None and "+labels" not in f["candidate"]) or f["candidate"] == candidate
    ]
    if not allowed:
        raise InputError(f"no candidate {candidate!r}", hint=", ".join(f["candidate"] for f in found))
    best = max(allowed, key=lambda f: (f["val"]["all"]["balanced_accuracy"]["value"], f["val"]["all"]["roc_auc"]))
    content = best["onnx"]
    if len(content) > MAX_BYTES:
        raise InputError(f"{best['candidate']} has {len(content)} bytes", hint=f"at most {MAX_BYTES} ship")
    card: dict[str, Any] = {
        "name": NAME,
        "candidate": best["candidate"],
        "parameters": best["parameters"],
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "labels": list(LABELS),
        "preprocessing": manifest_preprocessing(best["channels"]),
        "threshold": 0.5,
        "training": best["training"],
        "val": best["val"],
        "test": best["test"],
        "counts": _counts(people),
        "others": [
            {k: f[k] for k in ("candidate", "parameters", "steps", "val", "test")} for f in found if f is not best
        ],
    }
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    _atomic.write(folder / f"{NAME}.onnx", content)
    write_card(card, folder)
    return card


def write_card(card: dict[str, Any], folder: str | Path) -> None:
    """Write the JSON card and the Markdown card rendered from it."""
    from gossamer.person.card_text import render

    _atomic.write(Path(folder) / f"{NAME}.json", (json.dumps(card, indent=1) + "\n").encode())
    _atomic.write(Path(folder) / "MODEL_CARD.md", render(card).encode())


def _measured(people: PersonDataset, run: Path, name: str) -> dict[str, Any]:
    from gossamer.person.candidates import parse
    from gossamer.person.onnx_export import to_onnx
    from gossamer.person.weights import load_network

    record, recipe = read_run(run), parse(name)
    network = load_network(run / weights_file(name), recipe.network)
    content = to_onnx(
        network, {"gossamer.manifest": json.dumps(model_metadata(NAME, network.channels), sort_keys=True)}
    )
    predict = onnx_predictor(content)
    training: dict[str, Any] = {
        k: record[k] for k in ("settings", "teachers", "steps", "seconds", "machine") if k in record
    }
    training["by_clock"] = record.get("by_clock")
    digest = dict(record["settings"]["initial"]).get(recipe.start)
    if digest:
        training["started_from"] = _origin(run, digest)
    return {
        "candidate": name,
        "channels": network.channels,
        "parameters": record["parameters"][name],
        "steps": record["steps"],
        "training": training,
        "onnx": content,
        "val": evaluate(predict, people, "val"),
        "test": evaluate(predict, people, "test"),
    }


def _origin(run: Path, digest: str) -> dict[str, Any]:
    """The run beside this one whose weights have the digest; where none has, or no run is beside them, the digest."""
    for path in sorted(run.parent.rglob("*.pt")):
        beside = path.name != "state.pt" and (path.parent / "run.json").is_file()
        if beside and hashlib.sha256(path.read_bytes()).hexdigest() == digest:
            record = read_run(path.parent)
            kept: dict[str, Any] = {
                k: record[k] for k in ("settings", "teachers", "steps", "seconds", "machine") if k in record
            }
            return {"weights": path.name, "by_clock": record.get("by_clock"), **kept}
    return {"sha256": digest}


def _counts(people: PersonDataset) -> dict[str, dict[str, dict[str, int]]]:
    out: dict[str, dict[str, dict[str, int]]] = {}
    for photo in people:
        cell = out.setdefault(photo.source, {}).setdefault(photo.split, {"person": 0, "no person": 0})
        cell["person" if photo.label else "no person"] += 1
    return out
