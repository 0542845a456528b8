"""Gossamer in WASM and its peers, in Node and in headless Chromium.

All engines run in one process or page, one thread each, in turns, after a warm-up that rests so that the engine can
compile for speed. The table holds medians, the ratio to the peer that counts and the number to reach beside it. Peers
come from npm at pinned versions on first use; what is not there is skipped by name. Ends with 1 where outputs disagree
or an engine fails.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np

from tools.bench import plots, table
from tools.bench.agree import References
from tools.bench.contenders import Contender
from tools.bench.models import CACHE, MODELS, PRECISIONS, Variant, export, input_shape, sample
from tools.bench.native import numbers, words
from tools.bench.process import EngineFailedError
from tools.bench.table import Row
from tools.bench.tfjs_model import write as write_tfjs
from tools.bench.web_hosts import (
    HOSTS,
    PINNED,
    HostError,
    chromium,
    download_bytes,
    installed,
    node,
    run,
    set_up,
    wasm_folder,
)

PACKAGES = {"litert.js": "@litertjs/core", "onnxruntime-web": "onnxruntime-web", "tfjs-wasm": "@tensorflow/tfjs-core"}
ENGINES = ("gossamer", *PACKAGES)
PATTERNS = {"int8": "1x4", "f32": "unstructured"}
"""What Gossamer prunes by where the command line does not say."""
PAUSE_MS = 150
NOISY = 1.25
"""Times the fastest run: a median above it comes from a disturbed machine."""


@dataclass(frozen=True)
class Subject:
    """An engine with a file of a graph."""

    engine: str
    variant: Variant
    file: Path

    @property
    def version(self) -> str:
        return "" if self.engine == "gossamer" else PINNED[PACKAGES[self.engine]]

    @property
    def file_bytes(self) -> int:
        weights = [self.file.with_suffix(".bin")] if self.engine == "tfjs-wasm" else []
        return sum(f.stat().st_size for f in [self.file, *weights])


@dataclass
class Report:
    """What a run measured, and what went wrong in it."""

    rows: list[Row] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    @property
    def disagree(self) -> list[str]:
        """Subjects whose output is not that of their graph."""
        wrong = [r for r in self.rows if r["agrees"] is False]
        return [f"{r['host']} {r['model']} {table.label(r)} {r['sparsity']:.0%}" for r in wrong]


def subjects(
    model: str,
    precisions: Sequence[str],
    pattern: str | None,
    shares: Sequence[float],
    bits: int,
    engines: Sequence[str],
) -> Iterator[Subject]:
    """All that one interleaved run times: dense peers once, sparse ones where Gossamer has the same zeros."""

    def one(engine: str, kind: str, variant: Variant) -> Subject:
        v = variant
        made = export(v.model, v.precision, v.pattern, v.sparsity, formats=[kind], target="wasm32",
                      activation_bits=v.activation_bits)  # fmt: skip
        return Subject(engine, v, write_tfjs(made[kind], CACHE) if engine == "tfjs-wasm" else made[kind])

    for precision in precisions:
        own = bits if precision == "int8" else 8
        dense = Variant(model, precision, "dense", 0.0)
        if "litert.js" in engines:
            yield one("litert.js", "tflite", dense)
        if "onnxruntime-web" in engines:
            yield one("onnxruntime-web", "onnx", dense)
        if "tfjs-wasm" in engines and precision == "f32":
            yield one("tfjs-wasm", "onnx", dense)
        if "gossamer" in engines:
            yield one("gossamer", "goss", Variant(model, precision, "dense", 0.0, own))
        for share in shares:
            kind = pattern or PATTERNS[precision]
            if "gossamer" in engines:
                yield one("gossamer", "goss", Variant(model, precision, kind, share, own))
            if "litert.js" in engines and precision == "f32":
                yield one("litert.js", "sparse.tflite", Variant(model, "f32", kind, share))


def measure(
    host: str, found: Sequence[Subject], report: Report, *, rounds: int, cold_starts: int, core: int | None
) -> None:
    """Times subjects of one model in one host and adds their rows to the report.

    Args:
        host: ``node`` or ``chromium``.
        found: what to time, all of one model.
        report: takes rows and failures.
        rounds: timed runs of each, in turns.
        cold_starts: fresh processes or browsers for cold start and memory, at least one.
        core: to pin the host to.
    """
    model = found[0].variant.model
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "x.npy", sample(model))
        (folder / "x.f32").write_bytes(sample(model).tobytes())
        for s in found:
            (folder / s.file.name).symlink_to(s.file)
            if s.engine == "tfjs-wasm":
                (folder / f"{s.file.stem}.bin").symlink_to(s.file.with_suffix(".bin"))
        plans = [{"engine": s.engine, "model": f"/models/{s.file.name}", "shape": input_shape(model)} for s in found]
        common = {"input": "/models/x.f32", "rounds": rounds, "pause": PAUSE_MS}
        answer = run(host, common | {"subjects": plans}, folder, core)
        references = References(folder / "x.npy", CACHE)
        for s, plan, got in zip(found, plans, answer["subjects"], strict=True):
            if got["error"]:
                report.failed.append(f"{host} {model} {s.engine} {s.variant.label}: {got['error'].splitlines()[0]}")
                continue
            cold = [run(host, common | {"subjects": [plan], "cold": True}, folder, core) for _ in range(cold_starts)]
            contender = Contender(s.engine, s.variant.precision, s.variant)
            try:
                off = references.difference(contender, np.asarray(got["output"], np.float32).reshape(-1))
            except EngineFailedError as error:
                report.failed.append(f"{host} {model} {s.engine} {s.variant.label}: {error}")
                continue
            row = _row(f"{host} {answer['version']}", s, got, cold, rounds)
            report.rows.append(row | {"difference": off.value, "difference_unit": off.unit, "agrees": off.agrees})


def _row(host: str, s: Subject, got: dict[str, Any], cold: Sequence[dict[str, float]], rounds: int) -> Row:
    times = sorted(got["ms"])
    median = statistics.median(times)
    return {
        "model": s.variant.model,
        "engine": s.engine,
        "version": s.version,
        "kernels": got["detail"],
        "precision": s.variant.precision,
        "activation_bits": s.variant.activation_bits,
        "pattern": s.variant.pattern,
        "sparsity": s.variant.sparsity,
        "threads": 1,
        "host": host,
        "median_ms": median,
        "min_ms": times[0],
        "p90_ms": float(np.percentile(times, 90)),
        "runs": rounds,
        "noisy_rounds": sum(t > NOISY * times[0] for t in times) if median > NOISY * times[0] else 0,
        "file_bytes": s.file_bytes,
        "rss_mb": statistics.median(c["rss_mb"] for c in cold),
        "cold_ms": statistics.median(c["cold_ms"] for c in cold),
    }


def available(engines: Sequence[str], report: Report) -> list[str]:
    """The engines that are there; installs the peers first."""
    try:
        set_up()
    except HostError as error:
        report.missing["the peers"] = str(error)
    for name in engines:
        if name != "gossamer" and not installed(PACKAGES[name]):
            report.missing.setdefault(name, f"{PACKAGES[name]} is not installed")
    return [e for e in engines if e not in report.missing]


def hosts_there(hosts: Sequence[str], report: Report) -> list[str]:
    """The hosts that this machine has."""
    found = []
    for host in hosts:
        try:
            node()
            if host == "chromium":
                chromium()
            found.append(host)
        except HostError as error:
            report.missing[host] = str(error)
    return found


@click.command(help=__doc__)
@click.option("--models", default="mobilenet_v1", show_default=True, help=f"Some of {', '.join(MODELS)}.")
@click.option("--precisions", default="int8,f32", show_default=True, help="int8, f32 or both.")
@click.option("--sparsity", default="0.5,0.75,0.9", show_default=True, help="Shares of zeros.")
@click.option("--pattern", help="Of Gossamer's files.  [default: 1x4 for int8, unstructured for f32]")
@click.option("--activation-bits", type=click.Choice(["8", "7"]), default="8", show_default=True, help="Of Gossamer's.")
@click.option("--hosts", default=",".join(HOSTS), show_default=True, help="Where to run.")
@click.option("--engines", default=",".join(ENGINES), show_default=True, help="Which to run.")
@click.option("--runs", default=60, show_default=True, type=click.IntRange(10), help="Timed runs of each, in turns.")
@click.option("--cold-starts", default=1, show_default=True, type=click.IntRange(1), help="Fresh processes of each.")
@click.option("--core", default=(os.cpu_count() or 1) - 1, show_default=True, help="To pin to; -1: none.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the rows here.")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="Write the plot here, PNG, per host.")
def main(
    models: str,
    precisions: str,
    sparsity: str,
    pattern: str | None,
    activation_bits: str,
    hosts: str,
    engines: str,
    runs: int,
    cold_starts: int,
    core: int,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    chosen, shares, bits = words(precisions, PRECISIONS), numbers(sparsity), int(activation_bits)
    report = Report()
    there = available(words(engines, ENGINES), report)
    for host in hosts_there(words(hosts, HOSTS), report):
        for model in words(models, MODELS):
            start = len(report.rows)
            found = list(subjects(model, chosen, pattern, shares, bits, there))
            if not found:
                continue
            try:
                measure(host, found, report, rounds=runs, cold_starts=cold_starts, core=core if core >= 0 else None)
            except HostError as error:
                report.failed.append(f"{host} {model}: {error}")
            rows = report.rows[start:]
            for precision in chosen if rows else []:
                kind = pattern or PATTERNS[precision]
                mine = [r for r in rows if r["precision"] == precision]
                kernels = next((r["kernels"] for r in mine if r["engine"] == "gossamer"), "none")
                click.echo(f"\n{rows[0]['host']}, {model} {precision} {kind}; Gossamer's kernels: {kernels}")
                click.echo("\n".join(table.lines(mine, table.ratios(rows, host, model, precision, kind))))
    _size()
    for name, why in sorted(report.missing.items()):
        click.echo(f"skipped: {name} ({why})")
    if json_file:
        json_file.write_text(json.dumps(report.rows, indent=1) + "\n", encoding="utf-8")
    if plot_file:
        for host in dict.fromkeys(r["host"] for r in report.rows):
            path = plot_file.with_stem(f"{plot_file.stem}-{host.split()[0]}")
            plots.latency([r for r in report.rows if r["host"] == host], path, f"{host}; 1 thread")
    for name in report.disagree:
        click.echo(f"outputs disagree: {name}")
    for text in report.failed:
        click.echo(f"failed: {text}")
    if report.disagree or report.failed:
        sys.exit(1)


def _size() -> None:
    """The download of a page against its limit."""
    sizes = download_bytes(wasm_folder())
    total, limit = sum(sizes.values()), table.targets("footprint")[0]["js_wasm_gzip_bytes"]
    mark = "ok" if total <= limit else table.SHORT
    click.echo(f"\na page loads {sizes['javascript']} + {sizes['wasm']} = {total} bytes of JavaScript and WASM, "
               f"gzipped; at most {limit}: {mark}")  # fmt: skip


if __name__ == "__main__":
    main(prog_name="python -m tools.bench.wasm")
