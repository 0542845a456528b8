"""To prune or not to prune: sparse networks against dense ones of equal size or latency; methods against each other.

A dense network of exactly equal size or latency was not trained; it is read off the straight line between the two
measured widths around it. Outside the measured widths nothing is said.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gossamer.person.metrics import Z_95
from gossamer.person.run_record import DENSE
from gossamer.report._pareto_points import Axis, Loaded, Point, Split, Spread, accuracy_of, references

AXES: tuple[Axis, ...] = ("bytes", "latency_us")


@dataclass(frozen=True)
class Difference:
    """Accuracy of one kind minus that of another (or of a mix of two).

    Attributes:
        seeds: of the differences, one per seed that both have (``paired``); else of the first's seeds, each minus the
            mean of the other.
        paired: whether seeds were paired.
        photos: 95% interval of the mean over all seeds, from the photos: each photo is its own pair. None where the
            records do not say what was called on every photo.
        verdict: ``better``, ``worse`` when the photos' interval and every seed agree; else ``not told apart``.
    """

    seeds: Spread
    paired: bool
    photos: tuple[float, float] | None
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class AgainstDense:
    """A sparse point beside the dense curve.

    Attributes:
        point: the sparse one.
        axis: equal in this.
        at: the sparse point's place on the axis.
        between: the two measured dense points around it with their shares (0..1, adding up to 1); None outside.
        reason: why there is no such dense point, else empty.
        dense_accuracy: of the line between them.
        difference: sparse minus dense.
    """

    point: Point
    axis: Axis
    at: float
    between: tuple[tuple[Point, float], tuple[Point, float]] | None
    reason: str
    dense_accuracy: float | None
    difference: Difference | None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "sparse": self.point.kind.label,
            "axis": self.axis,
            "at": self.at,
            "between": None if self.between is None else [{"dense": p.kind.label, "share": w} for p, w in self.between],
            "reason": self.reason,
            "sparse_accuracy": self.point.accuracy.mean,
            "dense_accuracy": self.dense_accuracy,
            "difference": None if self.difference is None else self.difference.to_json(),
        }


@dataclass(frozen=True)
class Rank:
    """A point's place among those of the same network and sparsity; ``behind``: its accuracy minus the first's."""

    place: int
    point: Point
    behind: Difference | None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "place": self.place,
            "point": self.point.kind.label,
            "accuracy": self.point.accuracy.mean,
            "behind": None if self.behind is None else self.behind.to_json(),
        }


def dense_curve(all_of: Sequence[Point], like: Point, axis: Axis) -> list[Point]:
    """Dense points of the same family by their place on an axis; those quantised alike, else all others.

    Starts are among them only where no dense network of the family was trained for longer.
    """
    aside = references(all_of)
    family = [p for p in all_of if p.kind.dense and p.kind.family == like.kind.family and p.kind not in aside]
    alike = [p for p in family if p.kind.quantization == like.kind.quantization]
    return sorted(alike or family, key=lambda p: p.at(axis))


def surrounding(
    curve: Sequence[Point], at: float, axis: Axis
) -> tuple[tuple[Point, float], tuple[Point, float]] | None:
    """The two neighbours on a curve sorted by ``axis`` and their shares at ``at``; None outside of it."""
    for left, right in itertools.pairwise(curve):
        a, b = left.at(axis), right.at(axis)
        if a <= at <= b:
            share = (at - a) / (b - a) if b > a else 0.5
            return (left, 1.0 - share), (right, share)
    if len(curve) == 1 and curve[0].at(axis) == at:
        return (curve[0], 1.0), (curve[0], 0.0)
    return None


def against_dense(all_of: Sequence[Point], split: Split = "test") -> list[AgainstDense]:
    """Every sparse point beside the dense curve of its family, at equal size and at equal latency."""
    return [_against(point, axis, all_of, split) for point in all_of if not point.kind.dense for axis in AXES]


def _against(point: Point, axis: Axis, all_of: Sequence[Point], split: Split) -> AgainstDense:
    curve, at = dense_curve(all_of, point, axis), point.at(axis)
    between = surrounding(curve, at, axis)
    if between is None:
        side = ""
        if curve:
            side = f": {'below' if at < curve[0].at(axis) else 'above'} all {len(curve)} measured"
        return AgainstDense(point, axis, at, None, f"no dense model measured there{side}", None, None)
    mix: dict[int, tuple[Point, float]] = {}
    for p, share in between:
        if share > 0.0:
            mix[id(p)] = (p, share)
    others = list(mix.values())
    value = math.fsum(share * p.accuracy.mean for p, share in others)
    return AgainstDense(point, axis, at, between, "", value, difference(point, others, split))


def difference(point: Point, others: Sequence[tuple[Point, float]], split: Split) -> Difference:
    """Accuracy of ``point`` minus that of a mix of points with shares that add up to 1.

    Paired by seed where at least one seed is in all of them. The photos' interval is the normal one of the mean over
    photos of (share of right calls minus share of the others' right calls), each class on its own, halved and added:
    what a difference of balanced accuracies is.
    """
    common = [seed for seed in point.runs if all(seed in p.runs for p, _ in others)]
    if common:
        each = [
            accuracy_of(point.runs[seed], split)
            - math.fsum(share * accuracy_of(p.runs[seed], split) for p, share in others)
            for seed in common
        ]
    else:
        mean = math.fsum(share * p.accuracy.mean for p, share in others)
        each = [accuracy_of(run, split) - mean for run in point.runs.values()]
    seeds = Spread.of(each)
    photos = _photo_interval(point, others, common, split)
    verdict = "not told apart"
    if photos is not None and photos[0] > 0.0 and seeds.low > 0.0:
        verdict = "better"
    elif photos is not None and photos[1] < 0.0 and seeds.high < 0.0:
        verdict = "worse"
    return Difference(seeds, bool(common), photos, verdict)


def _photo_interval(
    point: Point, others: Sequence[tuple[Point, float]], common: Sequence[int], split: Split
) -> tuple[float, float] | None:
    mine = _right(point.runs, common, split)
    if mine is None:
        return None
    label, right = mine
    gap = right.copy()
    for p, share in others:
        theirs = _right(p.runs, common, split)
        if theirs is None or not np.array_equal(theirs[0], label):
            return None
        gap -= share * theirs[1]
    mean, variance = 0.0, 0.0
    for wanted in (True, False):
        part = gap[label == wanted]
        if part.size < 2:
            return None
        mean += float(part.mean()) / 2
        variance += float(part.var(ddof=1)) / part.size / 4
    half = Z_95 * math.sqrt(variance)
    return mean - half, mean + half


def _right(
    runs: Mapping[int, Loaded], seeds: Sequence[int], split: Split
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]] | None:
    """Labels, and for every photo the share of the seeds (all, where none are named) that call it right."""
    label: npt.NDArray[np.bool_] | None = None
    right: list[npt.NDArray[np.bool_]] = []
    for run in [runs[seed] for seed in seeds] or list(runs.values()):
        if run.record.calls is None:
            return None
        calls = getattr(run.record.calls, split)
        own = calls.bits("label")
        if label is not None and not np.array_equal(label, own):
            return None
        label = own
        right.append(calls.bits("int8") == own)
    assert label is not None
    return label, np.mean(right, axis=0)


def loss(point: Point, records: Sequence[Loaded], split: Split = "test") -> Spread | None:
    """Accuracy of the bundles minus that of their dense float parents, run by run.

    The parent is the record that ``parent`` names if that is dense, else the dense one of the same network and seed
    (a start where there is no other); that of a dense network is its own float self. None when a run has no parent.
    """
    dense = sorted(
        (x.record for x in records if x.record.dense),
        key=lambda r: (r.method == DENSE, r.quantization == "static"),
    )
    by_name = {r.name: r for r in dense}
    by_seed = {(r.network, r.seed): r for r in dense}  # of several, the one set last: trained longest, and as float
    each = []
    for run in point.runs.values():
        r = run.record
        parent = r if r.dense else by_name.get(r.parent or "") or by_seed.get((r.network, r.seed))
        if parent is None:
            return None
        each.append(accuracy_of(run, split) - getattr(parent.float_, split).all.balanced_accuracy.value)
    return Spread.of(each)


def ranking(all_of: Sequence[Point], split: Split = "test") -> dict[tuple[str, float], list[Rank]]:
    """Sparse points of each network and sparsity, best mean accuracy first, with the difference to the first."""
    grouped: dict[tuple[str, float], list[Point]] = {}
    for point in all_of:
        if not point.kind.dense:
            grouped.setdefault((point.kind.network, point.kind.sparsity), []).append(point)
    out = {}
    for key in sorted(grouped):
        ordered = sorted(grouped[key], key=lambda p: (-p.accuracy.mean, p.kind))
        ranks = [Rank(1, ordered[0], None)]
        for i, point in enumerate(ordered[1:], 2):
            ranks.append(Rank(i, point, difference(point, [(ordered[0], 1.0)], split)))
        out[key] = ranks
    return out
