"""The plot of a search: what each bundle tried loses, against its latency and its size."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from gossamer.report import _plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gossamer.search.result import SearchResult, Trial

_MISSED, _GOAL = "#b45309", "#64748b"


def svg(result: SearchResult) -> str:
    """The plot as inline SVG."""
    return _plots._svg(figure(result))


def png(result: SearchResult) -> bytes:
    """The plot as a PNG file, white behind it."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"font.family": "sans-serif"}):
        figure(result).savefig(buffer, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def figure(result: SearchResult) -> Figure:
    """Two panels: drop in points with its 95% interval against microseconds, and against kilobytes."""
    from matplotlib.figure import Figure

    found = Figure(figsize=(10.5, 3.9), layout="constrained")
    by_time, by_size = found.subplots(1, 2, sharey=True)
    for axes, label in ((by_time, "latency, microseconds"), (by_size, "bundle, kB")):
        axes.set_axisbelow(True)
        axes.grid(color=_plots._GRID, linewidth=0.8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.tick_params(labelsize=8, colors=_plots._INK, color=_plots._DENSE)
        axes.set_xlabel(label, fontsize=8)
    by_time.set_ylabel(f"drop of {result.metric}, points (bars: 95% interval)", fontsize=8)
    for trial in result.trials:
        _mark(by_time, trial, trial.latency_us)
        _mark(by_size, trial, trial.bundle_bytes / 1e3)
    if result.goal.max_drop is not None:
        for axes in (by_time, by_size):
            axes.axhline(100 * result.goal.max_drop, color=_GOAL, linewidth=1, linestyle="--", zorder=1)
    elif result.goal.latency_us is not None:
        by_time.axvline(result.goal.latency_us, color=_GOAL, linewidth=1, linestyle="--", zorder=1)
    by_time.legend(handles=_legend(result), frameon=False, fontsize=8)
    return found


def _mark(axes: Any, trial: Trial, x: float) -> None:
    kind = _kind(trial)
    colour, marker, size = _LOOKS[kind]
    y = 100 * trial.drop
    axes.errorbar(x, y, 100 * trial.interval, color=colour, elinewidth=0.7, alpha=0.35, capsize=0, zorder=2)
    axes.plot(x, y, marker, color=colour, markersize=size, zorder=4 if trial.chosen else 3)
    if trial.chosen or kind == "dense":
        side = {"ha": "left", "xytext": (7, 5)} if trial.chosen else {"ha": "right", "xytext": (-6, 6)}
        axes.annotate(kind, (x, y), textcoords="offset points", fontsize=8, color=_plots._INK, **side)


_LOOKS = {
    "chosen": (_plots._SPARSE, "*", 13),
    "dense": (_plots._INK, "s", 6),
    "goal met": (_plots._SPARSE, "o", 5),
    "goal missed": (_MISSED, "o", 5),
}


def _kind(trial: Trial) -> str:
    if trial.chosen:
        return "chosen"
    if trial.name == "dense":
        return "dense"
    return "goal met" if trial.meets else "goal missed"


def _legend(result: SearchResult) -> list[Any]:
    from matplotlib.lines import Line2D

    seen = {_kind(t) for t in result.trials}
    marks = [
        Line2D([], [], color=c, marker=m, markersize=s * 0.8, linestyle="", label=name)
        for name, (c, m, s) in _LOOKS.items()
        if name in seen
    ]
    return [*marks, Line2D([], [], color=_GOAL, linewidth=1, linestyle="--", label=result.goal.told())]
