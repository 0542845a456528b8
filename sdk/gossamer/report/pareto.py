"""Accuracy against measured latency and against size, from records of trained networks: numbers, page and plot.

::

    from gossamer.report.pareto import collect, render

    data = collect(["records/"])
    Path("report.html").write_text(render(data))
    Path("plot.png").write_bytes(data.png())
"""

from __future__ import annotations

import importlib.resources
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gossamer._tables import columns
from gossamer.person.run_record import Machine
from gossamer.report import _pareto_compare as compare
from gossamer.report import _pareto_plot as plot
from gossamer.report._pareto_points import (
    Axis,
    Loaded,
    Point,
    Split,
    Spread,
    front,
    one_machine,
    points,
    read_all,
    references,
)

__all__ = ["ParetoData", "collect", "render"]

_FRONTS: dict[Axis, str] = {"bytes": "size", "latency_us": "latency"}


@dataclass(frozen=True)
class ParetoData:
    """Everything on the page.

    Attributes:
        split: which photos.
        photos, positives: how many, and how many show a person.
        machine: where latency was measured.
        points: dense ones first.
        losses: per point, accuracy minus that of the dense float parents; None without parents.
        against_dense: every sparse point beside dense ones of equal size and of equal latency.
        ranking: methods by (network, sparsity).
        warnings: what a reader has to know before any number.
    """

    split: Split
    photos: int
    positives: int
    machine: Machine
    points: list[Point]
    losses: list[Spread | None]
    against_dense: list[compare.AgainstDense]
    ranking: dict[tuple[str, float], list[compare.Rank]]
    warnings: list[str]

    def front(self, axis: Axis) -> list[Point]:
        """Points that no other one beats in accuracy at no more latency (or bytes), starts aside."""
        return front(self.points, axis)

    def png(self) -> bytes:
        """The plot."""
        return plot.png(self.points, self.split)

    @property
    def half_interval(self) -> float:
        """Mean half-width of the 95% interval that the photos give one network's balanced accuracy."""
        return sum(p.half_interval for p in self.points) / len(self.points)

    @property
    def seeds(self) -> tuple[int, int]:
        """Fewest and most seeds of a point."""
        counts = [len(p.runs) for p in self.points]
        return min(counts), max(counts)

    def table(self) -> str:
        """The points as text; accuracies in percent."""
        head = ["network", "zeros %", "seeds", "float %", "int8 %", "worst..best", "bytes", "latency us", "front"]
        fronts = {axis: {p.kind for p in self.front(axis)} for axis in compare.AXES}
        rows = [
            [
                p.kind.label,
                f"{100 * p.zeros.mean:.1f}",
                str(p.accuracy.n),
                f"{100 * p.float_accuracy.mean:.1f}",
                f"{100 * p.accuracy.mean:.1f}",
                f"{100 * p.accuracy.low:.1f}..{100 * p.accuracy.high:.1f}",
                f"{p.bytes.mean:.0f}",
                f"{p.latency_us.mean:.1f}",
                ", ".join(name for axis, name in _FRONTS.items() if p.kind in fronts[axis]),
            ]
            for p in self.points
        ]
        return columns(head, rows, left={0, 8})

    def to_json(self) -> dict[str, Any]:
        """Plain data; accuracies are fractions, units are in the keys."""
        return {
            "split": self.split,
            "photos": self.photos,
            "positives": self.positives,
            "machine": self.machine.model_dump(mode="json"),
            "warnings": self.warnings,
            "half_interval": self.half_interval,
            "points": [
                {**p.to_json(), "label": p.kind.label, "minus_dense_float": None if s is None else vars(s)}
                for p, s in zip(self.points, self.losses, strict=True)
            ],
            "front": {axis: [p.kind.label for p in self.front(axis)] for axis in compare.AXES},
            "against_dense": [row.to_json() for row in self.against_dense],
            "ranking": [
                {"network": network, "sparsity": sparsity, "ranks": [rank.to_json() for rank in ranks]}
                for (network, sparsity), ranks in self.ranking.items()
            ],
        }


def collect(paths: Sequence[str | os.PathLike[str]], *, split: Split = "test") -> ParetoData:
    """Read records and compare them.

    Args:
        paths: records, or folders of them, as ``tools.person_records`` writes them.
        split: ``test`` or ``val``.

    Raises:
        InputError: a record is missing, damaged, there twice, without latency, of other photos or of another machine.
    """
    loaded = read_all(paths)
    machine, warnings = one_machine(loaded)
    found = points(loaded, split)
    warnings += _warnings(found, loaded)
    whole = getattr(loaded[0].record.int8, split).all
    return ParetoData(
        split=split,
        photos=whole.n,
        positives=whole.positives,
        machine=machine,
        points=found,
        losses=[compare.loss(point, loaded, split) for point in found],
        against_dense=compare.against_dense(found, split),
        ranking=compare.ranking(found, split),
        warnings=warnings,
    )


def render(data: ParetoData) -> str:
    """The page as text: style and plot inside, no script, nothing fetched."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["points"] = lambda value: f"{100 * value:.1f}"
    environment.filters["signed"] = lambda value: f"{100 * value:+.1f}"
    template = environment.from_string(
        (importlib.resources.files("gossamer.report") / "pareto.html.j2").read_text(encoding="utf-8")
    )
    fronts = {axis: {p.kind for p in data.front(axis)} for axis in compare.AXES}
    rows = [
        (p, loss, ", ".join(name for axis, name in _FRONTS.items() if p.kind in fronts[axis]))
        for p, loss in zip(data.points, data.losses, strict=True)
    ]
    aside = references(data.points)
    return template.render(
        d=data,
        rows=rows,
        plot_svg=Markup(plot.svg(data.points, data.split)),
        dense_points=[p for p in data.points if p.kind.dense and p.kind not in aside],
        starts=sorted(kind.label for kind in aside),
    )


def _warnings(found: Sequence[Point], loaded: Sequence[Loaded]) -> list[str]:
    out = []
    few = [p.kind.label for p in found if len(p.runs) < 2]
    if few:
        out.append(f"One seed only, so no spread: {', '.join(few)}.")
    if not any(p.kind.dense for p in found):
        out.append("There is no dense model among the records: nothing to compare sparse ones with.")
    if any(x.record.calls is None for x in loaded):
        out.append("Some records do not say what was called on every photo: no interval of differences for those.")
    return out
