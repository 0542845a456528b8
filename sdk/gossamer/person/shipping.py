"""Chooses and packs the bundles that ship: one dense, one at 75% and one at 90% zeros, each chosen on val alone."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer import _atomic
from gossamer._errors import InputError
from gossamer.person.run_record import Record, read_record

LEVELS = {"person-dense": 0.0, "person-75": 0.75, "person-90": 0.9}
"""Name and share of zeros of what ships."""
PATTERN = "1x4"
MAX_BYTES = 3_000_000
"""The bundles together are smaller than this."""
CLOSE = 0.01
"""The best of them is the fastest whose balanced accuracy on val is within this of the highest."""


@dataclass(frozen=True)
class Choice:
    """A network to ship.

    Attributes:
        name: of the bundle.
        record: of the seed that is best on val.
        seeds: records of all seeds trained alike, that one included.
        others: mean balanced accuracy on val of the ways that were not taken, by label.
    """

    name: str
    record: Record
    seeds: tuple[Record, ...]
    others: dict[str, float]


def choose(records: Sequence[Record], network: str | None = None) -> list[Choice]:
    """For every level the way of training with the highest mean balanced accuracy of int8 bundles on val; of it the
    best seed. Ways with fewer seeds than others do not compete.

    Args:
        records: of all trained networks.
        network: take only these, such as ``v1-0.75``; None: of any width.

    Raises:
        InputError: a level was not trained.
    """
    out = []
    for name, level in LEVELS.items():
        pattern = PATTERN if level else "dense"
        groups: dict[str, list[Record]] = {}
        for r in records:
            if r.pattern == pattern and r.sparsity == level and (network is None or r.network == network):
                groups.setdefault(f"{r.network} {r.method} {r.quantization}", []).append(r)
        if not groups:
            raise InputError(f"no record of {level:.0%} zeros in pattern {pattern}", where="shipping")
        most = max(map(len, groups.values()))
        means = {label: statistics.fmean(map(_val, g)) for label, g in groups.items() if len(g) == most}
        best = max(means, key=lambda label: means[label])
        seeds = tuple(sorted(groups.pop(best), key=lambda r: r.seed))
        others = {label: means[label] for label in sorted(means) if label != best}
        out.append(Choice(name, max(seeds, key=_val), seeds, others))
    return out


def best_of(choices: Sequence[Choice]) -> Choice:
    """The fastest whose balanced accuracy on val is within ``CLOSE`` of the highest."""
    top = max(_val(c.record) for c in choices)
    near = [c for c in choices if _val(c.record) >= top - CLOSE]
    return min(near, key=_latency)


def ship_bundles(
    data: str | Path,
    records: Path,
    runs: Path,
    output: Path,
    key: str | Path,
    *,
    network: str | None = None,
) -> list[dict[str, Any]]:
    """Write the signed bundles, a card each (JSON and Markdown) and ``index.json``, best first.

    Args:
        data: folder of person128.
        records: folder that ``tools.person_records`` wrote, with its ``bundles``.
        runs: the folder it read.
        output: folder of the shipped files.
        key: private key, by name or path; its public part has to be among the runtime's trusted ones.
        network: see :func:`choose`.

    Returns:
        The entries of ``index.json``.

    Raises:
        InputError: a level is missing, or the bundles are larger than ``MAX_BYTES`` together.
    """
    from gossamer.bundle.sign import sign
    from gossamer.person.bundle_card import bundle_card, markdown

    choices = choose([read_record(p) for p in sorted(records.glob("*.json"))], network)
    best = best_of(choices)
    ordered = [best, *(c for c in choices if c is not best)]
    packed = {c.name: sign(_packed(data, runs, c), _private(key)) for c in ordered}
    total = sum(map(len, packed.values()))
    if total > MAX_BYTES:
        raise InputError(f"the bundles have {total} bytes together", hint=f"at most {MAX_BYTES} ship")
    entries = []
    for choice in ordered:
        file = _atomic.write(output / f"{choice.name}.goss", packed[choice.name])
        card = bundle_card(choice, file, data)
        _atomic.write(output / f"{choice.name}.json", (json.dumps(card, indent=1) + "\n").encode())
        _atomic.write(output / f"{choice.name}.md", markdown(card).encode())
        entries.append(
            {
                "name": choice.name,
                "file": file.name,
                "description": card["description"],
                "network": choice.record.network,
                "sparsity": choice.record.zeros,
                "balanced_accuracy": card["test"]["all"]["balanced_accuracy"],
            }
        )
    _atomic.write(output / "index.json", (json.dumps({"models": entries}, indent=1) + "\n").encode())
    return entries


def _packed(data: str | Path, runs: Path, choice: Choice) -> bytes:
    """The bundle of a record once more, under its shipping name and with its numbers; decisions are those recorded."""
    from gossamer.person import dataset
    from gossamer.person.calibration_inputs import calibration_samples
    from gossamer.person.evaluate import bundle_predictor
    from gossamer.person.onnx_export import to_onnx
    from gossamer.person.preprocess import INPUT_SIZE, as_inputs
    from gossamer.person.records import pack
    from gossamer.person.weights import load_network

    record = choice.record
    folder, _, stem = record.name.rpartition("__")
    place = runs.joinpath(*folder.split("__")) if folder else runs
    people = dataset.PersonDataset(data)
    network = load_network(place / f"{stem}.pt", record.network)
    trained = record.quantization == "qat"
    report = record.int8.test.all
    result = pack(
        (place / f"{stem}.qdq.onnx").read_bytes() if trained else to_onnx(network),
        choice.name,
        network.channels,
        None if trained else calibration_samples(people, network.channels),
        version="1",
        license="Apache-2.0",
        metrics=[
            _metric("balanced_accuracy_percent", report.balanced_accuracy.value),
            _metric("tpr_percent", report.tpr.value),
            _metric("tnr_percent", report.tnr.value),
        ],
    )
    photos = people.images(people.select("test"), size=INPUT_SIZE)
    called = bundle_predictor(result.data, verify=False)(as_inputs(photos)) >= 0.5
    recorded = called if record.calls is None else record.calls.test.bits("int8")
    if (called != recorded).any():
        raise InputError(
            f"'{choice.name}' decides otherwise than its record on {int((called != recorded).sum())} photos",
            where=str(place),
            hint="measure again with tools.person_records",
        )
    return result.data


def _metric(name: str, share: float | None) -> Any:
    from gossamer._proto.v1 import manifest_pb2 as pb

    return pb.Metric(name=name, value=100.0 * (share or 0.0), dataset="person128, test split")


def describe(record: Record) -> str:
    """What a bundle is, in one line."""
    way = {"start": "trained", "dense": "trained longer"}.get(record.method, record.method)
    zeros = f"{record.zeros:.0%} zeros in {record.pattern} blocks by {way}" if record.sparsity else f"dense, {way}"
    quantised = "quantisation-aware" if record.quantization == "qat" else "calibrated after training"
    return f"MobileNet {record.network}, int8 ({quantised}), {zeros}"


def _private(key: str | Path) -> Any:
    from gossamer.bundle import keys

    return keys.load_private(key)


def _val(record: Record) -> float:
    return float(record.int8.val.all.balanced_accuracy.value or 0.0)


def _latency(choice: Choice) -> float:
    bundle = choice.record.bundle
    return float(bundle.latency_us.median) if bundle.latency_us is not None else float("inf")
