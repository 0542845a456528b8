"""How the cost grows with the work: latency against density, width, resolution and threads, each with a straight line.

MobileNetV1, int8, 1x4; LiteRT int8 dense beside it. Width and resolution are drawn against the multiply-accumulates of
the network before pruning, since those grow with their squares. The line is fitted to relative errors, and its
residuals are printed: what strays from "a constant plus so much per MAC" shows there. Where the compiler chose dense
kernels because they are faster, the cost is level: those points are printed and drawn, and kept out of the line.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from tools.bench.contenders import Contender
from tools.bench.interleave import Timing, interleave
from tools.bench.models import CACHE, Variant, export, sample
from tools.bench.native import host, words
from tools.bench.process import EngineFailedError, MissingEngineError, Worker, cores
from tools.bench.table import targets

MODEL, PATTERN, SPARSITY = "mobilenet_v1", "1x4", 0.75
DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
WIDTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
SIZES = (96, 128, 160, 192, 224, 288, 352, 448)
THREADS = (1, 2)
MOSTLY = 0.9
"""Share of the pruned layers' multiply-accumulates from which a network counts as running sparse."""
AXES = ("density", "width", "resolution", "threads")


@dataclass(frozen=True)
class Point:
    """A contender at one place of an axis; ``x`` is what the line is drawn against."""

    axis: str
    value: float
    x: float
    contender: Contender
    threads: int = 1


@dataclass(frozen=True)
class Line:
    """``constant + slope * x``, ms.

    Attributes:
        residuals: of every point, as a share of the line's value there.
    """

    constant: float
    slope: float
    residuals: tuple[float, ...]


def fit(x: Sequence[float], y: Sequence[float]) -> Line:
    """The straight line of least relative squares; at least two different ``x``, all ``y`` above 0."""
    xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
    slope, constant = np.polyfit(xs, ys, 1, w=1 / ys)
    line = constant + slope * xs
    return Line(float(constant), float(slope), tuple(float(r) for r in ys / line - 1))


def macs(onnx: Path) -> float:
    """Millions of multiply-accumulates of one inference, zeros included."""
    import gossamer
    from gossamer.sparsify.layers import find_layers

    total = 0
    layers, skipped = find_layers(gossamer.load(onnx))
    if skipped:
        raise ValueError(f"{onnx.name}: weights that cannot be counted: {skipped[0].reason}")
    for layer in layers:
        shape = layer.node.outputs[0].shape
        assert shape is not None
        pixels = int(np.prod(shape.numpy()[2:], dtype=np.int64))
        total += layer.weight.size * pixels
    return total / 1e6


def sparse_share(bundle: Path) -> float:
    """Of the multiply-accumulates of pruned layers, the share in layers that run sparse; 0 without pruned layers."""
    from gossamer_runtime import Session

    with Session(bundle, verify=False) as session:
        pruned = [r for r in session.manifest["layers"] if r["pruned_pattern"] != "dense"]
    work = {r["name"]: int(r["macs"]) for r in pruned}
    total = sum(work.values())
    return sum(work[r["name"]] for r in pruned if r["pattern"] != "dense") / total if total else 0.0


def points(axis: str) -> list[Point]:
    """The contenders of an axis, Gossamer's and LiteRT's."""
    found = []
    if axis == "density":
        for density in DENSITIES:
            variant = _variant(MODEL, round(1 - density, 6))
            found.append(Point(axis, density, density, Contender("gossamer", "int8", variant)))
        return found
    if axis == "threads":
        for threads in THREADS:
            ours, peer = _pair(MODEL)
            found += [Point(axis, threads, threads, c, threads) for c in (ours, peer)]
        return found
    names = {w: f"mobilenet_v1_{w:g}_224" for w in WIDTHS} if axis == "width" else {}
    names = names or {s: f"mobilenet_v1_1_{s}" for s in SIZES}
    for value, model in names.items():
        for contender in _pair(model):
            found.append(Point(axis, value, macs(_onnx(contender.variant)), contender))
    return found


def _variant(model: str, sparsity: float) -> Variant:
    return Variant(model, "int8", PATTERN if sparsity else "dense", sparsity)


def _pair(model: str) -> tuple[Contender, Contender]:
    return (
        Contender("gossamer", "int8", _variant(model, SPARSITY)),
        Contender("litert", "int8", _variant(model, 0.0)),
    )


def _onnx(v: Variant) -> Path:
    return export(v.model, v.precision, v.pattern, v.sparsity, CACHE, formats=["onnx"])["onnx"]


def measure(found: Sequence[Point], runs: int) -> dict[Point, Timing]:
    """Times the points in turn; an engine that is not installed is named and left out."""
    running: dict[Point, Worker] = {}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        for point in found:
            contender = point.contender
            x = Path(name) / f"{contender.variant.model}.npy"
            np.save(x, sample(contender.variant.model))
            try:
                pinned = cores(point.threads)
                file = contender.file(point.threads)
                worker = Worker(contender.engine, file, x, point.threads, contender.precision, cores=pinned)
                running[point] = stack.enter_context(worker)
            except MissingEngineError as error:
                click.echo(f"skipped: {contender.engine} ({error} is not installed)")
            except ValueError as error:
                click.echo(f"skipped: {contender.label}: {error}")
        return dict(zip(running, interleave([w.burst for w in running.values()], runs=runs), strict=True))


def rows(timings: dict[Point, Timing]) -> list[dict[str, Any]]:
    """Plain values for JSON."""
    machine = host()
    return [
        {
            "axis": p.axis,
            "value": p.value,
            "x": p.x,
            "engine": p.contender.engine,
            "precision": p.contender.precision,
            "pattern": p.contender.variant.pattern,
            "sparsity": p.contender.variant.sparsity,
            "sparse_share": sparse_share(p.contender.file(p.threads)) if p.contender.engine == "gossamer" else None,
            "threads": p.threads,
            "host": machine,
            "median_ms": t.median,
            "min_ms": t.least,
            "p90_ms": t.p90,
            "runs": t.runs,
            "noisy_rounds": t.noisy,
        }
        for p, t in timings.items()
    ]


def report(axis: str, measured: Sequence[dict[str, Any]]) -> list[str]:
    """A table of an axis: every engine's points, and its line or, for threads, its gain."""
    out = []
    for engine in dict.fromkeys(r["engine"] for r in measured):
        mine = [r for r in measured if r["engine"] == engine]
        if len(mine) < 2:
            continue
        if axis == "threads":
            gain = mine[0]["median_ms"] / mine[-1]["median_ms"]
            (target,) = targets("threads")
            mark = ("ok" if gain >= target["speedup"] else "SHORT") if engine == "gossamer" else ""
            goal = f" (target {target['speedup']}x) {mark}" if mark else ""
            times = ", ".join(f"{r['value']:g}: {r['median_ms']:.3f} ms" for r in mine)
            out.append(f"{engine} by threads: {times}; {gain:.2f}x{goal}")
            continue
        straight = on_line(mine)
        line = fit([r["x"] for r in straight], [r["median_ms"] for r in straight])
        unit = "per unit of density" if axis == "density" else "per 100 M MACs"
        slope = line.slope * (1 if axis == "density" else 100)
        worst = max(line.residuals, key=abs)
        out.append(f"{engine} by {axis}: {line.constant:.3f} ms + {slope:.3f} ms {unit}; largest residual {worst:+.1%}")
        residuals = {id(r): f"{v:+7.1%}" for r, v in zip(straight, line.residuals, strict=True)}
        for r in mine:
            residual = residuals.get(id(r), "dense kernels are faster")
            noisy = "  (disturbed)" if r["noisy_rounds"] else ""
            out.append(f"  {r['value']:8g} {r['x']:10.2f} {r['median_ms']:9.3f} ms {residual}{noisy}")
    return out


def on_line(measured: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that a line is fitted to: another engine's, or of Gossamer those that run sparse (all, if few do)."""
    sparse = [r for r in measured if r["sparse_share"] is None or r["sparse_share"] >= MOSTLY]
    return sparse if len({r["x"] for r in sparse}) > 1 else list(measured)


def draw(measured: Sequence[dict[str, Any]], path: Path) -> None:
    """A panel per axis, points and fitted lines, from the origin."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    axes = [a for a in AXES if a != "threads" and any(r["axis"] == a for r in measured)]
    figure, panels = plt.subplots(1, len(axes), figsize=(5.2 * len(axes), 4.6), squeeze=False, layout="constrained")
    for panel, axis in zip(panels[0], axes, strict=True):
        for engine, colour in (("gossamer", "tab:blue"), ("litert", "tab:orange")):
            mine = [r for r in measured if r["axis"] == axis and r["engine"] == engine]
            if len(mine) < 2:
                continue
            straight = on_line(mine)
            line = fit([r["x"] for r in straight], [r["median_ms"] for r in straight])
            ends = np.array([0.0, max(r["x"] for r in straight)])
            sparsity = mine[0]["sparsity"] if axis != "density" else 0.0
            label = f"{engine} int8" + (f" {PATTERN} {sparsity:.0%}" if sparsity else "")
            panel.plot(ends, line.constant + line.slope * ends, color=colour, linewidth=1, alpha=0.6)
            panel.plot([r["x"] for r in mine], [r["median_ms"] for r in mine], "o", color=colour, label=label)
            if axis != "density":
                for r in mine:
                    panel.annotate(f"{r['value']:g}", (r["x"], r["median_ms"]), fontsize=7, xytext=(3, -8),
                                   textcoords="offset points")  # fmt: skip
        what = "density (share of nonzeros)" if axis == "density" else f"million MACs before pruning, by {axis}"
        panel.set(title=axis, xlabel=what, ylabel="median latency, ms")
        panel.set_xlim(left=0)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    figure.suptitle(f"MobileNetV1, {host()}", fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)


@click.command(help=__doc__)
@click.option("--axes", default=",".join(AXES), show_default=True, help="Some of these.")
@click.option("--runs", default=60, show_default=True, type=click.IntRange(50), help="At least so many of each.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the rows here.")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="Write the plot here, PNG.")
def main(axes: str, runs: int, json_file: Path | None, plot_file: Path | None) -> None:
    if not hasattr(os, "sched_setaffinity"):
        raise click.ClickException("this benchmark pins processes to cores, which takes Linux")
    measured: list[dict[str, Any]] = []
    for axis in words(axes, AXES):
        try:
            found = rows(measure(points(axis), runs))
        except EngineFailedError as error:
            raise click.ClickException(f"{axis}: {error}") from error
        measured += found
        click.echo("\n".join(report(axis, found)))
    if json_file:
        json_file.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    if plot_file:
        draw(measured, plot_file)
