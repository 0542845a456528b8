"""Trained networks of several runs in one folder, at their operating point, with the manifest that measuring reads.

Adds what needs no training: every dense network pruned in one shot.
"""

from __future__ import annotations

import fnmatch
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from gossamer import _atomic
from gossamer._errors import InputError
from gossamer.person import dataset as data
from gossamer.person.candidates import Recipe, parse
from gossamer.person.models import PersonNet, build
from gossamer.person.operating_point import balanced
from gossamer.person.preprocess import INPUT_SIZE
from gossamer.person.quantized import QuantizeSettings, quantize_aware
from gossamer.person.run_folder import read_run, weights_file
from gossamer.person.teachers import Teacher
from gossamer.person.weights import load_network
from gossamer.recipe import SparsifyStep
from gossamer.sparsify.training import Sparsifier

_REARRANGED = re.compile(r"-r(\d+)$")
"""A network that starts from ``<network>-r<seed>`` starts from ``<network>-s<seed>`` with its channels rearranged."""
ONE_SHOT = (0.5, 0.75, 0.9, 0.95)
"""Shares of zeros, in 1x4 blocks, of the networks that are pruned in one shot."""


def collect(
    people: data.PersonDataset,
    starts: Sequence[Path],
    runs: Sequence[Path],
    output: Path,
    *,
    one_shot: Sequence[float] = ONE_SHOT,
    one_shot_of: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Write ``<name>.pt`` per network and ``manifest.json``.

    Every network is at its operating point, see :func:`gossamer.person.operating_point.balanced`; where pruning in one
    shot leaves nothing to tell labels apart by, it is left as it is, and its entry's ``settings`` say so
    (``operating_point`` is false).

    Args:
        people: its val split gives the operating points.
        starts: folders of ``fit`` with the dense networks that others start from; their method is called ``start``.
        runs: folders of ``fit`` with all others; dense ones are called ``dense``.
        output: the folder; made when it is missing.
        one_shot: shares of zeros for the dense networks named in ``one_shot_of`` (such as ``v1-0.75``).

    Returns:
        The manifest's entries.

    Raises:
        InputError: a run is not finished, two networks would have one name, or a network cannot have an operating
            point.
        ModelError: a file of weights is missing, damaged, or holds some that are not finite.
    """
    rows = people.select("val")
    images = torch.from_numpy(people.images(rows, size=INPUT_SIZE)).permute(0, 3, 1, 2)
    label = data.labels(rows)
    output.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []

    def keep(network: PersonNet, name: str, entry: dict[str, Any], origin: Path) -> None:
        if any(e["file"] == f"{name}.pt" for e in entries):
            raise InputError(
                f"a second network is called '{name}'", where=str(origin), hint="give each seed and network once"
            )
        try:
            network, found = balanced(network, images, label), True
        except InputError as error:  # pruned in one shot it may tell nothing apart any more: it is measured as it is
            if entry["method"] != "one-shot":
                raise InputError(error.message, where=f"{origin}: {name}", hint=error.hint) from error
            found = False
        entry = {**entry, "settings": {**entry["settings"], "operating_point": found}}
        content = io.BytesIO()
        torch.save(network.state_dict(), content)
        _atomic.write(output / f"{name}.pt", content.getvalue())
        entries.append({"file": f"{name}.pt", **entry})

    for kind, folder in [*(("start", p) for p in starts), *(("dense", p) for p in runs)]:
        for recipe, network, record in _networks(folder):
            entry = _entry(recipe, kind, record)
            keep(network, _name(entry, recipe), entry, folder)
            if kind != "dense" or recipe.target is not None or recipe.network not in one_shot_of:
                continue
            for share in one_shot:
                parent = _name(entry, recipe)
                pruned = {**entry, "method": "one-shot", "pattern": "1x4", "sparsity": share, "parent": parent}
                cut = build(recipe.network)
                cut.load_state_dict(network.state_dict())
                sparsifier = Sparsifier(cut, {"pattern": "1x4", "sparsity": share}, total_steps=1)
                sparsifier.prune()
                sparsifier.finish()
                keep(cut, _name(pruned, recipe), pruned, folder)
    _atomic.write(output / "manifest.json", (json.dumps(entries, indent=1) + "\n").encode())
    return entries


def quantize_collected(
    people: data.PersonDataset,
    networks: Path,
    output: Path,
    wanted: Sequence[str],
    settings: QuantizeSettings,
    *,
    teachers: Sequence[Teacher] = (),
    log: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Fine-tune collected networks under quantisation; writes their weights, ``<name>.qdq.onnx`` and a manifest.

    Goes on where it was interrupted: networks that are in the manifest of ``output`` with these settings, and whose
    weights are the same still, are kept.

    Args:
        people: train and val are used.
        networks: folder of :func:`collect`.
        output: the folder; made when it is missing.
        wanted: globs of names, such as ``v1-0.75-granet-1x4-0.9-s*``.
        settings: of every run.
        teachers: mark the views.
        log: receives one line now and then.

    Raises:
        InputError: a glob names no network.
    """
    entries = json.loads((networks / "manifest.json").read_text(encoding="utf-8"))
    stems = {e["file"].removesuffix(".pt"): e for e in entries}
    for glob in wanted:
        if not fnmatch.filter(stems, glob):
            raise InputError(f"no network is called '{glob}'", where=str(networks / "manifest.json"))
    output.mkdir(parents=True, exist_ok=True)
    place = output / "manifest.json"
    done = {e["file"]: e for e in json.loads(place.read_text(encoding="utf-8"))} if place.is_file() else {}
    for name in sorted({n for glob in wanted for n in fnmatch.filter(stems, glob)}):
        source = stems[name]
        chosen = json.loads(json.dumps(asdict(settings)))  # as the manifest gives it back
        entry = {**source, "qdq": f"{name}.qdq.onnx", "settings": {**source["settings"], "quantize": chosen}}
        network = load_network(networks / source["file"], source["network"])
        content = (networks / source["file"]).read_bytes()
        kept = done.get(source["file"], {}).get("settings", {}).get("quantize") == chosen
        mine = output / source["file"]
        if not kept or not mine.is_file() or mine.read_bytes() != content or not (output / entry["qdq"]).is_file():
            log(name)
            made = quantize_aware(network, people, settings, teachers=teachers, log=log)
            _atomic.write(output / entry["qdq"], made.onnx())
            _atomic.write(mine, content)
        done[source["file"]] = entry
        _atomic.write(place, (json.dumps(list(done.values()), indent=1) + "\n").encode())
    return list(done.values())


def write_starts(runs: Sequence[Path], output: Path, rearrange_for: SparsifyStep | None = None) -> list[str]:
    """Write dense networks as ``<network>-s<seed>.pt``, for candidates with ``from:``; returns the names.

    Args:
        runs: folders of ``fit``.
        output: the folder; made when it is missing.
        rearrange_for: write each also as ``<network>-r<seed>.pt`` with its channels in the order for this pruning.
    """
    from gossamer.person.rearranged import rearranged_state

    output.mkdir(parents=True, exist_ok=True)
    names = []
    for folder in runs:
        for recipe, network, _ in _networks(folder):
            states = {f"{recipe.network}-s{recipe.seed}": network.state_dict()}
            if rearrange_for is not None:
                states[f"{recipe.network}-r{recipe.seed}"] = rearranged_state(network.eval(), rearrange_for)
            for name, state in states.items():
                content = io.BytesIO()
                torch.save(state, content)
                _atomic.write(output / f"{name}.pt", content.getvalue())
                names.append(name)
    return names


def _networks(folder: Path) -> Iterator[tuple[Recipe, PersonNet, dict[str, Any]]]:
    record = read_run(folder)
    for text in record["settings"]["candidates"]:
        recipe = parse(text)
        yield recipe, load_network(folder / weights_file(text), recipe.network), record


def _entry(recipe: Recipe, kind: str, record: dict[str, Any]) -> dict[str, Any]:
    settings = {k: v for k, v in record["settings"].items() if k not in ("candidates", "initial")}
    entry: dict[str, Any] = {
        "network": recipe.network,
        "method": kind,
        "pattern": None,
        "sparsity": 0.0,
        "seed": recipe.seed,
        "parent": _REARRANGED.sub(r"-s\1", recipe.start) or None,
        "steps": record["steps"],
        "settings": {"candidate": recipe.text, "seconds": record.get("by_clock"), **settings},
        "machine": record["machine"],
    }
    if recipe.target is not None and recipe.method is not None:
        rearranged = "-rearranged" if _REARRANGED.search(recipe.start) else ""
        entry["method"] = f"{recipe.method.name}{rearranged}"
        entry["pattern"], entry["sparsity"] = recipe.target.pattern, round(recipe.target.wanted, 6)
    return entry


def _name(entry: dict[str, Any], recipe: Recipe) -> str:
    if entry["method"] == "start":
        return f"{recipe.network}-s{recipe.seed}"
    shape = f"-{entry['pattern'].replace(':', '-')}-{entry['sparsity']:g}" if entry["pattern"] else ""
    return f"{recipe.network}-{entry['method']}{shape}-s{recipe.seed}"
