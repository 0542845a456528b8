"""Plots of a report as inline SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gossamer._result import LayerRow
    from gossamer_runtime import Profile

_SPARSE, _DENSE, _INK, _GRID = "#0f766e", "#c2c7d0", "#334155", "#e5e7eb"


def layer_latency(rows: Sequence[LayerRow], profile: Profile, dense: Profile | None) -> str:
    """Bars per operator with weights: this bundle beside the dense one (or the compiler's own dense measurement)."""
    ours = {op.name: op.median_us for op in profile.ops}
    theirs = {op.name: op.median_us for op in dense.ops} if dense is not None else {}
    names = [r.name for r in rows if r.name in ours]
    if not names:
        return ""
    against = [theirs.get(r.name) or r.dense_us or 0.0 for r in rows if r.name in ours]
    figure, axes = _figure(10.5, 0.21 * len(names) + 0.8)
    at = list(range(len(names)))
    if any(against):
        axes.barh([y + 0.2 for y in at], against, 0.38, color=_DENSE, label="dense")
    axes.barh([y - 0.2 for y in at], [ours[n] for n in names], 0.38, color=_SPARSE, label="this bundle")
    axes.set_yticks(at, [_short(n) for n in names], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("median, microseconds", fontsize=8)
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return _svg(figure)


def totals(pairs: Sequence[tuple[str, float, str]], unit: str) -> str:
    """A few labelled bars: (name, value, text beside the bar)."""
    figure, axes = _figure(4.9, 0.42 * len(pairs) + 0.6)
    at = list(range(len(pairs)))
    colours = [_DENSE] * (len(pairs) - 1) + [_SPARSE]
    axes.barh(at, [v for _, v, _ in pairs], 0.62, color=colours)
    axes.set_yticks(at, [n for n, _, _ in pairs], fontsize=9)
    axes.invert_yaxis()
    top = max((v for _, v, _ in pairs), default=1.0) or 1.0
    axes.set_xlim(0, top * 1.3)
    for y, (_, value, text) in zip(at, pairs, strict=True):
        axes.text(value + top * 0.012, y, text, va="center", fontsize=8.5, color=_INK)
    axes.set_xlabel(unit, fontsize=8)
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    return _svg(figure)


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_DENSE)
    axes.tick_params(axis="y", length=0, colors=_INK)
    axes.tick_params(axis="x", labelsize=8, colors=_INK, color=_DENSE)
    return figure, axes


def _svg(figure: Figure) -> str:
    import matplotlib

    buffer = io.StringIO()
    # Text stays text, and ids follow from a fixed salt: the same numbers give the same page.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "gossamer", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:16]}...{name[-21:]}"
