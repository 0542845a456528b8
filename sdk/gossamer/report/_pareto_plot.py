"""The plot of a Pareto report: accuracy against measured latency and against size."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gossamer.report._pareto_points import Axis, Point, Split, front, references

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INK, _GRID, _SOFT = "#334155", "#e5e7eb", "#94a3b8"
_COLOURS = (
    "#0f766e", "#ea580c", "#1d4ed8", "#be185d", "#65a30d", "#7c3aed", "#0891b2", "#a16207", "#dc2626", "#475569",
)  # fmt: skip
_STYLES = ("-", (0, (6, 2)), (0, (4, 1, 1, 1)))
"""Lines of the first ten ways of pruning, the next ten, ..."""
_QAT = (0, (1, 2))
ZOOM = 0.12
_MARKERS = ("o", "^", "D", "v", "P", "X", "<", ">")
_AXES: tuple[tuple[Axis, str, float], ...] = (
    ("latency_us", "median latency of one inference, microseconds", 1.0),
    ("bytes", "bundle, kB", 1e-3),
)


def figure(points: Sequence[Point], split: Split) -> Figure:
    """Two panels; a colour per method and pattern, a marker per sparsity, a dashed line through the dense widths.

    When accuracies lie further apart than ``ZOOM``, two more show the best of them. Networks trained with quantisation
    have the colour of those that were not, hollow markers and a dotted line. Starts are small, pale squares.

    Vertical bars go from the worst to the best seed. Points of the Pareto front have a dark edge. The grey bar at the
    right edge is as long as the 95% interval that the photos alone give one network.
    """
    from matplotlib.figure import Figure

    low, high = min(p.accuracy.low for p in points), max(p.accuracy.high for p in points)
    rows = 2 if high - low > ZOOM else 1
    made = Figure(figsize=(13.5, 0.9 + 5.5 * rows), layout="constrained")
    panels = made.subplots(rows, 2, sharey="row", squeeze=False)
    for row in panels:
        for axes, (axis, title, scale) in zip(row, _AXES, strict=True):
            _panel(axes, points, axis, scale)
            axes.set_xlabel(title, fontsize=9)
        row[0].set_ylabel(f"balanced accuracy on {split}, int8 bundle", fontsize=9)
    if rows == 2:
        panels[1][0].set_ylim(high - ZOOM, high + 0.08 * ZOOM)
        for axes in panels[1]:
            axes.set_title(f"the same, the best {ZOOM:g} alone", fontsize=9, color=_INK)
    for row, bottom in zip(panels, (low, high - ZOOM), strict=False):
        for axes in row:
            _interval(axes, points, bottom)
    handles, labels = panels[0][0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    return made


def svg(points: Sequence[Point], split: Split) -> str:
    """As SVG text for a page."""
    from gossamer.report._plots import _svg

    return _svg(figure(points, split))


def png(points: Sequence[Point], split: Split) -> bytes:
    """As PNG, 1,755 pixels wide; the same points give the same bytes."""
    buffer = io.BytesIO()
    figure(points, split).savefig(buffer, format="png", dpi=130, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def _panel(axes: Any, points: Sequence[Point], axis: Axis, scale: float) -> None:
    axes.set_axisbelow(True)
    axes.grid(color=_GRID, linewidth=0.8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8, colors=_INK)
    best = {id(p) for p in front(points, axis)}
    aside = references(points)
    for i, family in enumerate(sorted({p.kind.family for p in points if p.kind.dense})):
        for quantization in ("static", "qat"):
            alike = [
                p for p in points if p.kind.dense and (p.kind.family, p.kind.quantization) == (family, quantization)
            ]
            curve = sorted((p for p in alike if p.kind not in aside), key=lambda p: p.at(axis))
            qat = quantization == "qat"
            if curve:
                line = _QAT if qat else ("--", "-.", (0, (8, 3)))[i % 3]
                _line(axes, curve, axis, scale, _INK, f"dense {family}{' (qat)' * qat}", line)
            for p in curve:
                _mark(axes, p, axis, scale, _INK, "s", id(p) in best, hollow=qat)
                if not qat:
                    _name(axes, p, axis, scale, last=p is curve[-1])
            starts = sorted((p for p in alike if p.kind in aside), key=lambda p: p.at(axis))
            if starts:
                _line(axes, starts, axis, scale, _SOFT, f"{family}, start (dense){' (qat)' * qat}", ":")
            for p in starts:
                _mark(axes, p, axis, scale, _SOFT, "s", False, hollow=True, size=4.0)
    sparse = [p for p in points if not p.kind.dense]
    ways = list(dict.fromkeys(p.kind.way for p in sparse))
    levels = sorted({p.kind.sparsity for p in sparse})
    markers = {level: _MARKERS[i % len(_MARKERS)] for i, level in enumerate(levels)}
    for way, quantization in dict.fromkeys((p.kind.way, p.kind.quantization) for p in sparse):
        number, qat = ways.index(way), quantization == "qat"
        colour, style = _COLOURS[number % len(_COLOURS)], _STYLES[number // len(_COLOURS) % len(_STYLES)]
        label: str | None = f"{way}{' (qat)' * qat}"
        all_of = [p for p in sparse if (p.kind.way, p.kind.quantization) == (way, quantization)]
        for network in sorted({p.kind.network for p in all_of}):
            mine = sorted((p for p in all_of if p.kind.network == network), key=lambda p: p.kind.sparsity)
            _line(axes, mine, axis, scale, colour, label, _QAT if qat else style)
            label = None  # once in the legend
            for p in mine:
                _mark(axes, p, axis, scale, colour, markers[p.kind.sparsity], id(p) in best, hollow=qat)
    for level, marker in markers.items():
        axes.plot([], [], marker=marker, linestyle="", color=_SOFT, label=f"{100 * level:g}% zeros asked for")
    axes.plot([], [], "o", markerfacecolor="none", markeredgecolor="black", label="on the front", markersize=9)


def _line(axes: Any, run: Sequence[Point], axis: Axis, scale: float, colour: str, label: str | None, line: Any) -> None:
    xs, ys = [p.at(axis) * scale for p in run], [p.accuracy.mean for p in run]
    axes.plot(xs, ys, color=colour, linewidth=1.4, linestyle=line, alpha=0.8, label=label, zorder=2)


def _name(axes: Any, p: Point, axis: Axis, scale: float, *, last: bool) -> None:
    """The network's name below a dense point, on a pale ground; left of the last one, which may stand at the edge."""
    axes.annotate(
        p.kind.network,
        (p.at(axis) * scale, p.accuracy.mean),
        (-6 if last else 6, -13),
        textcoords="offset points",
        ha="right" if last else "left",
        fontsize=8,
        color=_INK,
        zorder=5,
        bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.7},
    )


def _mark(
    axes: Any,
    p: Point,
    axis: Axis,
    scale: float,
    colour: str,
    marker: str,
    on_front: bool,
    *,
    hollow: bool = False,
    size: float = 6.5,
) -> None:
    axes.errorbar(
        p.at(axis) * scale,
        p.accuracy.mean,
        [[p.accuracy.mean - p.accuracy.low], [p.accuracy.high - p.accuracy.mean]],
        color=colour,
        marker=marker,
        markersize=size,
        markerfacecolor="white" if hollow else colour,
        markeredgecolor="black" if on_front else colour,
        markeredgewidth=1.3 if on_front or hollow else 0.5,
        elinewidth=1.0,
        capsize=2,
        zorder=3,
    )


def _interval(axes: Any, points: Sequence[Point], bottom: float) -> None:
    """The bar that says how far the photos alone may be off; it stands on ``bottom``."""
    half = sum(p.half_interval for p in points) / len(points)
    middle = bottom + half
    axes.errorbar(
        [0.985], [middle], [[half], [half]], transform=axes.get_yaxis_transform(), color=_SOFT, elinewidth=2, capsize=4
    )
    axes.text(
        0.975,
        middle,
        "95% interval\nof one network\n(photos alone)",
        transform=axes.get_yaxis_transform(),
        ha="right",
        va="center",
        fontsize=7,
        color=_SOFT,
    )
