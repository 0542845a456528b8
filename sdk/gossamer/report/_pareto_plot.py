"""The plot of a Pareto report: accuracy against measured latency and against size."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gossamer.report._pareto_points import Axis, Point, Split, front

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INK, _GRID, _SOFT = "#334155", "#e5e7eb", "#94a3b8"
_COLOURS = (
    "#0f766e", "#b45309", "#1d4ed8", "#be185d", "#65a30d", "#7c3aed", "#0891b2", "#a16207", "#dc2626", "#475569",
)  # fmt: skip
ZOOM = 0.12
_MARKERS = ("o", "^", "D", "v", "P", "X", "<", ">")
_AXES: tuple[tuple[Axis, str, float], ...] = (
    ("latency_us", "median latency of one inference, microseconds", 1.0),
    ("bytes", "bundle, kB", 1e-3),
)


def figure(points: Sequence[Point], split: Split) -> Figure:
    """Two panels; a colour per method and pattern, a marker per sparsity, a dashed line through the dense widths.

    When accuracies lie further apart than ``ZOOM``, two more show the best of them.

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
    families = sorted({p.kind.family for p in points if p.kind.dense})
    for i, family in enumerate(families):
        dense = [p for p in points if p.kind.dense and p.kind.family == family]
        for quantization in sorted({p.kind.quantization for p in dense}):
            curve = sorted((p for p in dense if p.kind.quantization == quantization), key=lambda p: p.at(axis))
            label = f"dense {family}{' (qat)' * (quantization == 'qat')}"
            line = ("--", ":", "-.")[i % 3] if quantization == "static" else (0, (1, 3))
            _line(axes, curve, axis, scale, _INK, label, line)
            for p in curve:
                _mark(axes, p, axis, scale, _INK, "s", id(p) in best)
                axes.annotate(
                    p.kind.network,
                    (p.at(axis) * scale, p.accuracy.mean),
                    (4, -11),
                    textcoords="offset points",
                    fontsize=7,
                    color=_INK,
                )
    sparse = [p for p in points if not p.kind.dense]
    series = list(dict.fromkeys(p.kind.series for p in sparse))
    levels = sorted({p.kind.sparsity for p in sparse})
    markers = {level: _MARKERS[i % len(_MARKERS)] for i, level in enumerate(levels)}
    for i, name in enumerate(series):
        colour = _COLOURS[i % len(_COLOURS)]
        for j, network in enumerate(sorted({p.kind.network for p in sparse if p.kind.series == name})):
            mine = [p for p in sparse if p.kind.series == name and p.kind.network == network]
            _line(axes, sorted(mine, key=lambda p: p.kind.sparsity), axis, scale, colour, name if j == 0 else None, "-")
            for p in mine:
                _mark(axes, p, axis, scale, colour, markers[p.kind.sparsity], id(p) in best)
    for level, marker in markers.items():
        axes.plot([], [], marker=marker, linestyle="", color=_SOFT, label=f"{100 * level:g}% zeros asked for")
    axes.plot([], [], "o", markerfacecolor="none", markeredgecolor="black", label="on the front", markersize=9)


def _line(axes: Any, run: Sequence[Point], axis: Axis, scale: float, colour: str, label: str | None, line: Any) -> None:
    xs, ys = [p.at(axis) * scale for p in run], [p.accuracy.mean for p in run]
    axes.plot(xs, ys, color=colour, linewidth=1.4, linestyle=line, alpha=0.8, label=label, zorder=2)


def _mark(axes: Any, p: Point, axis: Axis, scale: float, colour: str, marker: str, on_front: bool) -> None:
    axes.errorbar(
        p.at(axis) * scale,
        p.accuracy.mean,
        [[p.accuracy.mean - p.accuracy.low], [p.accuracy.high - p.accuracy.mean]],
        color=colour,
        marker=marker,
        markersize=6.5,
        markeredgecolor="black" if on_front else colour,
        markeredgewidth=1.3 if on_front else 0.5,
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
