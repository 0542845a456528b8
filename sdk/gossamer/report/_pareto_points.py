"""Records of runs to points of a plot: the runs of one kind with other seeds are one point with mean and spread."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gossamer._errors import InputError
from gossamer.person.run_record import DENSE, START, Machine, Record, read_record

Split = Literal["test", "val"]
Axis = Literal["latency_us", "bytes"]


@dataclass(frozen=True)
class Loaded:
    """A record and the file it came from."""

    record: Record
    where: str


@dataclass(frozen=True)
class Spread:
    """Of one number over seeds: mean, smallest, largest, sample standard deviation (None for one seed), how many."""

    mean: float
    low: float
    high: float
    std: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Raises ValueError without values."""
        all_of = [float(v) for v in values]
        if not all_of:
            raise ValueError("no values")
        std = float(np.std(all_of, ddof=1)) if len(all_of) > 1 else None
        return cls(math.fsum(all_of) / len(all_of), min(all_of), max(all_of), std, len(all_of))


@dataclass(frozen=True, order=True)
class Kind:
    """What the runs of one point have in common."""

    network: str
    method: str
    pattern: str
    sparsity: float
    quantization: str

    @property
    def family(self) -> str:
        """The network without its width: ``v1-*`` for ``v1-0.25``."""
        return re.sub(r"-\d+(\.\d+)?", "-*", self.network, count=1)

    @property
    def dense(self) -> bool:
        """Trained without pruning."""
        return self.method in (DENSE, START)

    @property
    def start(self) -> bool:
        """Dense, and what others started from."""
        return self.method == START

    @property
    def label(self) -> str:
        """For people."""
        if self.dense:
            return f"{self.network} {self.method}{' (qat)' * (self.quantization == 'qat')}"
        return f"{self.network} {self.series} {100 * self.sparsity:g}%"

    @property
    def series(self) -> str:
        """Method and pattern, and ``qat`` where it was trained with quantisation."""
        return f"{self.method} {self.pattern}{' (qat)' * (self.quantization == 'qat')}"

    @property
    def way(self) -> str:
        """Method and pattern, whatever the share of zeros: ``n:m`` for all of those patterns, whose n and m say it."""
        by_count = re.fullmatch(r"\d+:\d+", self.pattern) is not None
        return f"{self.method} {'n:m' if by_count else self.pattern}"


@dataclass(frozen=True)
class Point:
    """The runs of one kind, a seed each.

    Attributes:
        kind: what they are.
        runs: by seed, in the order of seeds.
        accuracy: balanced accuracy of the int8 bundle on the split, as a fraction.
        float_accuracy: of the float network.
        tpr, tnr: of the bundle.
        steps: optimiser steps of training.
        zeros: share of zeros among prunable weights.
        latency_us, dense_latency_us: medians, of the bundle and of the same network stored dense.
        bytes: of the bundle.
        half_interval: mean half-width of the 95% interval that the photos of the split give one network's accuracy.
    """

    kind: Kind
    runs: dict[int, Loaded]
    accuracy: Spread
    float_accuracy: Spread
    tpr: Spread
    tnr: Spread
    steps: Spread
    zeros: Spread
    latency_us: Spread
    dense_latency_us: Spread
    bytes: Spread
    half_interval: float

    def at(self, axis: Axis) -> float:
        """Mean position on an axis."""
        spread: Spread = getattr(self, axis)
        return spread.mean

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        spreads = (
            "accuracy",
            "float_accuracy",
            "tpr",
            "tnr",
            "steps",
            "zeros",
            "latency_us",
            "dense_latency_us",
            "bytes",
        )
        return {
            **asdict(self.kind),
            "seeds": list(self.runs),
            **{key: asdict(getattr(self, key)) for key in spreads},
            "half_interval": self.half_interval,
            "records": [run.where for run in self.runs.values()],
        }


def read_all(paths: Sequence[str | os.PathLike[str]]) -> list[Loaded]:
    """Records from files, and from all ``*.json`` of folders.

    Raises:
        InputError: a folder without records, or a record that is damaged; names file and field.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(path.glob("*.json"))
            if not inside:
                raise InputError("no records in the folder", where=str(path), hint="python -m tools.person_records")
            files += inside
        else:
            files.append(path)
    if not files:
        raise InputError("no records", hint="give files or folders that tools.person_records wrote")
    unique = {file.resolve(): file for file in files}
    return [Loaded(read_record(file), str(file)) for file in unique.values()]


def one_machine(records: Sequence[Loaded]) -> tuple[Machine, list[str]]:
    """The machine on which all latencies were measured, and warnings where they were not measured together.

    Raises:
        InputError: a record without latency, or two machines: their latencies do not belong on one axis.
    """
    warnings: list[str] = []
    first, where = None, ""
    for loaded in records:
        machine = loaded.record.machine
        if machine is None:
            raise InputError(
                "field 'bundle.latency_us' is empty: its latency was not measured",
                where=loaded.where,
                hint="let tools.person_records end: it times all bundles together",
            )
        if first is None:
            first, where = machine, loaded.where
        for key in ("cpu", "isa", "threads", "core"):
            mine, theirs = getattr(machine, key), getattr(first, key)
            if mine != theirs:
                raise InputError(
                    f"field 'machine.{key}' is {mine!r}, and {theirs!r} in {where}: latencies of two machines do not "
                    "belong on one axis",
                    where=loaded.where,
                    hint="time all bundles on one machine: python -m tools.person_records ... --retime",
                )
    assert first is not None  # read_all gives at least one
    sessions = sorted({x.record.machine.session for x in records if x.record.machine is not None})
    if len(sessions) > 1:
        warnings.append(
            f"Latencies come from {len(sessions)} sessions ({', '.join(sessions)}): the machine may have run "
            "at another speed in each. Time all bundles together: tools.person_records --retime."
        )
    return first, warnings


def points(records: Sequence[Loaded], split: Split = "test") -> list[Point]:
    """Records grouped by kind; dense ones first, then starts, then by network, method, pattern and sparsity.

    Raises:
        InputError: two records of one kind and seed, or splits of other photos.
    """
    grouped: dict[Kind, dict[int, Loaded]] = {}
    counts: dict[tuple[int, int], str] = {}
    for loaded in records:
        r = loaded.record
        kind = Kind(r.network, r.method, DENSE if r.dense else r.pattern, r.sparsity, r.quantization)
        runs = grouped.setdefault(kind, {})
        if r.seed in runs:
            raise InputError(
                f"seed {r.seed} of '{kind.label}' is in {runs[r.seed].where} already",
                where=loaded.where,
                hint="give one of them, or another 'method' name",
            )
        runs[r.seed] = loaded
        whole = _overall(loaded, split)
        counts.setdefault((whole.n, whole.positives), loaded.where)
        if len(counts) > 1:
            (n, positives), other = next(iter(counts.items()))
            raise InputError(
                f"field 'int8.{split}.all' counts {whole.n} photos, {whole.positives} with a person; {n} and "
                f"{positives} in {other}",
                where=loaded.where,
                hint="evaluate all networks on the same photos",
            )
    ordered = sorted(grouped, key=lambda k: (not k.dense, k.start, k))
    return [_point(kind, dict(sorted(grouped[kind].items())), split) for kind in ordered]


def _point(kind: Kind, runs: dict[int, Loaded], split: Split) -> Point:
    def over(value: Callable[[Record], float]) -> Spread:
        return Spread.of(value(run.record) for run in runs.values())

    reports = [_overall(run, split) for run in runs.values()]
    halves = [(r.balanced_accuracy.high - r.balanced_accuracy.low) / 2 for r in reports]
    return Point(
        kind=kind,
        runs=runs,
        accuracy=Spread.of(r.balanced_accuracy.value for r in reports),
        float_accuracy=over(lambda r: getattr(r.float_, split).all.balanced_accuracy.value),
        tpr=Spread.of(r.tpr.value for r in reports),
        tnr=Spread.of(r.tnr.value for r in reports),
        steps=over(lambda r: r.steps),
        zeros=over(lambda r: r.zeros),
        latency_us=over(lambda r: r.bundle.latency_us.median if r.bundle.latency_us else math.nan),
        dense_latency_us=over(lambda r: r.bundle.dense_latency_us.median if r.bundle.dense_latency_us else math.nan),
        bytes=over(lambda r: r.bundle.bytes),
        half_interval=math.fsum(halves) / len(halves),
    )


def _overall(loaded: Loaded, split: Split) -> Any:
    return getattr(loaded.record.int8, split).all


def accuracy_of(loaded: Loaded, split: Split) -> float:
    """Balanced accuracy of the bundle on the split."""
    return float(_overall(loaded, split).balanced_accuracy.value)


def front(all_of: Sequence[Point], axis: Axis) -> list[Point]:
    """The Pareto front: points that no other one beats or equals in accuracy at no more latency (or bytes).

    :func:`references` do not compete.
    """
    best, out = -math.inf, []
    aside = references(all_of)
    for point in sorted((p for p in all_of if p.kind not in aside), key=lambda p: (p.at(axis), -p.accuracy.mean)):
        if point.accuracy.mean > best:
            best = point.accuracy.mean
            out.append(point)
    return out


def references(all_of: Sequence[Point]) -> set[Kind]:
    """Starts beside dense networks of their family that were trained for longer: shown, but not compared with."""
    families = {p.kind.family for p in all_of if p.kind.method == DENSE}
    return {p.kind for p in all_of if p.kind.start and p.kind.family in families}
