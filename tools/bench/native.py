"""Gossamer and its peers on this machine's processor, interleaved in one run.

Every engine runs in a process of its own, pinned, and one computes at a time. The table holds medians over all rounds,
the ratio to the fastest peer and the number to reach beside it. Ends with 1 where outputs disagree or an engine fails;
a peer that is not installed is skipped by name.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np

from tools.bench import plots, table
from tools.bench.agree import References
from tools.bench.contenders import PACKAGES, Contender, contenders
from tools.bench.interleave import Timing, interleave
from tools.bench.models import CACHE, MODELS, PRECISIONS, sample
from tools.bench.process import EngineFailedError, MissingEngineError, Worker, cores
from tools.bench.table import Row


@dataclass
class Report:
    """What a run measured, and what went wrong in it."""

    rows: list[Row] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)

    @property
    def disagree(self) -> list[str]:
        """Contenders whose output is not that of their graph."""
        return [f"{r['model']} {table.label(r)} {r['sparsity']:.0%}" for r in self.rows if r["agrees"] is False]


def host() -> str:
    """The processor's name and the instruction set that Gossamer's kernels use on it."""
    from gossamer.compile.cost_table import cpu_model
    from gossamer_runtime import _native

    return f"{cpu_model()}, {_native.detect_isa()}"


def measure(
    found: Sequence[Contender],
    report: Report,
    *,
    threads: int = 1,
    runs: int = 60,
    rounds: int = 6,
    cold_starts: int = 2,
    folder: Path = CACHE,
) -> None:
    """Times contenders of one model in turn and adds their rows to the report; files are made first.

    Args:
        found: contenders of one model.
        report: takes rows, names of missing packages, and failures.
        threads: of every engine; the processes share the last ``threads`` cores that this process may use.
        runs, rounds: as in :func:`tools.bench.interleave.interleave`.
        cold_starts: fresh processes for the cold start, besides the one that is timed.
        folder: where model files are kept.
    """
    pinned = cores(threads)
    model = found[0].variant.model
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        x = Path(name) / "x.npy"
        np.save(x, sample(model))
        running: dict[Contender, Worker] = {}
        colds: dict[Contender, list[float]] = {}

        def start(contender: Contender) -> Worker:
            file = contender.file(threads, folder)
            return Worker(contender.engine, file, x, threads, contender.precision, cores=pinned)

        for contender in found:
            try:
                for _ in range(cold_starts):
                    with start(contender) as fresh:
                        colds.setdefault(contender, []).append(fresh.cold_ms)
                running[contender] = stack.enter_context(start(contender))
            except MissingEngineError:
                report.missing.add(contender.engine)
            except EngineFailedError as error:
                report.failed.append(f"{model} {contender.where}: {error}")
        timings = _time(running, report, runs, rounds)
        references = References(x, folder)
        for contender, timing in timings.items():
            worker = running[contender]
            try:
                off = references.difference(contender, worker.output())
            except EngineFailedError as error:
                report.failed.append(f"{model} {contender.where}: {error}")
                continue
            report.rows.append(
                {
                    "model": model,
                    "engine": contender.engine,
                    "version": contender.version,
                    "precision": contender.precision,
                    "pattern": contender.variant.pattern,
                    "sparsity": contender.variant.sparsity,
                    "threads": threads,
                    "host": host(),
                    "median_ms": timing.median,
                    "min_ms": timing.least,
                    "p90_ms": timing.p90,
                    "runs": timing.runs,
                    "repeated_rounds": timing.repeated,
                    "noisy_rounds": timing.noisy,
                    "busy_threads": worker.busy_threads,
                    "file_bytes": contender.file(threads, folder).stat().st_size,
                    "rss_mb": worker.peak_rss_mb(),
                    "cold_ms": statistics.median([worker.cold_ms, *colds.get(contender, [])]),
                    "difference": off.value,
                    "difference_unit": off.unit,
                    "agrees": off.agrees,
                }
            )


def _time(running: dict[Contender, Worker], report: Report, runs: int, rounds: int) -> dict[Contender, Timing]:
    """Timings of all; one that dies is reported and the others start over without it."""
    while running:
        workers = list(running.values())
        try:
            timings = interleave([w.burst for w in workers], runs=runs, rounds=rounds)
        except EngineFailedError as error:
            dead = [c for c, w in running.items() if w.process.poll() is not None]
            report.failed += [f"{c.variant.model} {c.where}: {error}" for c in dead]
            for contender in dead:
                del running[contender]
            continue
        return dict(zip(running, timings, strict=True))
    return {}


def numbers(text: str) -> list[float]:
    """``0.5,0.75`` as shares of zeros; :class:`click.BadParameter` for what is none in (0, 1)."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r} is no list of numbers such as 0.5,0.75,0.9") from None
    if not all(0 < s < 1 for s in found):
        raise click.BadParameter(f"{text!r}: a sparsity lies above 0 and below 1")
    return found


def check_pattern(pattern: str, shares: Sequence[float]) -> None:
    """:class:`click.BadParameter` where Gossamer cannot prune so, such as 2:4 to anything but half."""
    from gossamer import RecipeError
    from gossamer.recipe import load_recipe

    for sparsity in shares:
        try:
            load_recipe({"version": 1, "sparsify": {"pattern": pattern, "sparsity": sparsity}})
        except RecipeError as error:
            raise click.BadParameter(str(error)) from error


def words(text: str, known: Sequence[str]) -> list[str]:
    """A comma-separated list of known names; :class:`click.BadParameter` names the others."""
    found = text.split(",")
    unknown = [w for w in found if w not in known]
    if unknown:
        raise click.BadParameter(f"no {', '.join(unknown)}: use {', '.join(known)}")
    return found


@click.command(help=__doc__)
@click.option("--models", default=",".join(MODELS), show_default=True, help="Some of these.")
@click.option("--precisions", default="int8", show_default=True, help="Of Gossamer: int8, f32 or both.")
@click.option("--sparsity", default="0.5,0.75,0.9", show_default=True, help="Shares of zeros.")
@click.option("--pattern", default="1x4", show_default=True, help="unstructured, 1x4, 4x1, 4x4 or n:m.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 64), help="Of every engine.")
@click.option("--runs", default=60, show_default=True, type=click.IntRange(50), help="At least so many of each.")
@click.option("--rounds", default=6, show_default=True, type=click.IntRange(2), help="How often engines take turns.")
@click.option("--cold-starts", default=2, show_default=True, type=click.IntRange(0), help="Fresh processes more.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the rows here.")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="Write the plot here, PNG.")
def main(
    models: str,
    precisions: str,
    sparsity: str,
    pattern: str,
    threads: int,
    runs: int,
    rounds: int,
    cold_starts: int,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    if not hasattr(os, "sched_setaffinity"):
        raise click.ClickException("this benchmark pins processes to cores, which takes Linux")
    chosen, shares = words(precisions, PRECISIONS), numbers(sparsity)
    check_pattern(pattern, shares)
    report = Report()
    click.echo(f"{host()}; {threads} thread{'s' if threads > 1 else ''}")
    for model in words(models, MODELS):
        start = len(report.rows)
        field = list(contenders(model, chosen, pattern, shares))
        measure(field, report, threads=threads, runs=runs, rounds=rounds, cold_starts=cold_starts)
        rows = report.rows[start:]
        for precision in chosen:
            click.echo(f"\n{model} {precision} {pattern}")
            click.echo("\n".join(table.lines(rows, table.ratios(rows, "native", model, precision, pattern))))
    for name in sorted(report.missing):
        click.echo(f"skipped: {name} ({PACKAGES[name]} is not installed)")
    for row in report.rows:
        if row["busy_threads"] > threads:
            click.echo(f"{row['model']} {table.label(row)}: {row['busy_threads']} threads worked, {threads} asked")
    if json_file:
        json_file.write_text(json.dumps(report.rows, indent=1) + "\n", encoding="utf-8")
    if plot_file:
        plots.latency(report.rows, plot_file, f"{host()}; {threads} thread(s); Gossamer {pattern}")
    for name in report.disagree:
        click.echo(f"outputs disagree: {name}")
    for text in report.failed:
        click.echo(f"failed: {text}")
    if report.disagree or report.failed:
        sys.exit(1)
