"""Gossamer in WASM against LiteRT.js, onnxruntime-web and TensorFlow.js, in Node and in headless Chromium.

``python -m tools.bench wasm``: all engines run interleaved in one process or page, one thread each; what is missing is
skipped by name.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tools import build_native
from tools.bench.models import CACHE, ROOT, export, input_shape, sample
from tools.bench.table import targets
from tools.bench.tfjs_model import write as write_tfjs

TOOL = Path(__file__).resolve().parent / "web"
PACKAGES = CACHE / "node"
WEB = ROOT / "device_runtime" / "web"
DOWNLOAD_LIMIT = 150_000
"""Bytes of JavaScript and WASM, gzipped, that a page loads at most."""
ENGINES = ("gossamer", "litertjs", "ort-web", "tfjs-wasm")
PACKAGE_OF = {"litertjs": "@litertjs/core", "ort-web": "onnxruntime-web", "tfjs-wasm": "@tensorflow/tfjs-backend-wasm"}
HOSTS = ("node", "chromium")
TARGETS: dict[tuple[str, str, float], float] = {
    (host, goal["precision"], float(sparsity)): ratio
    for host in HOSTS
    for goal in targets(host)
    for sparsity, ratio in goal["ratio"].items()
}
"""Ratios that MobileNetV1 1.0/224 is to reach: int8 1x4 against LiteRT.js int8, f32 unstructured against LiteRT.js
with sparse weights of the same graph."""


@dataclass
class Subject:
    """One engine with one file, and what a run said about it."""

    engine: str
    precision: str
    pattern: str
    sparsity: float
    path: Path
    bits: int = 8
    relaxed: bool = True
    ms: list[float] = field(default_factory=list)
    output: Any = None
    detail: str = ""
    rss_mb: float | None = None
    cold_ms: float | None = None

    @property
    def name(self) -> str:
        kind = f"{self.pattern} {100 * self.sparsity:g}%" if self.sparsity else "dense"
        build = "" if self.relaxed else " simd128"
        return f"{self.engine} {self.precision}{' 7-bit' if self.bits == 7 else ''} {kind}{build}"

    @property
    def median(self) -> float:
        return float(np.median(self.ms))


def skip(what: str, why: str) -> None:
    """Says on standard error what a run leaves out."""
    print(f"skipped: {what}: {why}", file=sys.stderr)


def node() -> str | None:
    """Path of Node 20 or newer."""
    found = shutil.which("node")
    if not found:
        return None
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    return found if int(version.lstrip("v").split(".")[0]) >= 20 else None


def chromium() -> str | None:
    """Path of Chromium or Chrome."""
    return next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)


def set_up() -> None:
    """Installs the peers and the browser driver at the versions of ``web/package.json``; nothing when they are there."""
    wanted = (TOOL / "package.json").read_text()
    if (PACKAGES / "package.json").exists() and (PACKAGES / "package.json").read_text() == wanted:
        if (PACKAGES / ".done").exists():
            return
    npm = shutil.which("npm")
    if npm is None:
        skip("all peers", "npm is missing, which installs them")
        return
    PACKAGES.mkdir(parents=True, exist_ok=True)
    (PACKAGES / "package.json").write_text(wanted)
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=PACKAGES, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        skip("all peers", f"npm install failed: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else '?'}")
        return
    (PACKAGES / ".done").touch()


def installed(package: str) -> bool:
    """Whether a package is there."""
    return (PACKAGES / "node_modules" / package / "package.json").exists()


def wasm_folder() -> Path:
    """A folder with both builds, made from the present sources."""
    folder = ROOT / "build" / "native" / "web"
    for target in ("wasm", "wasm-relaxed"):
        build_native.script().build(target, output_dir=folder)
    return folder


def download_size(folder: Path) -> dict[str, int]:
    """Gzipped bytes of what a page loads: the modules and the larger of the two builds."""
    scripts = sum(len(gzip.compress((WEB / n).read_bytes(), 9)) for n in ("core.mjs", "gossamer.mjs", "profile.mjs"))
    builds = [len(gzip.compress((folder / n).read_bytes(), 9)) for n in ("gossamer.wasm", "gossamer-relaxed.wasm")]
    return {"javascript": scripts, "wasm": max(builds), "total": scripts + max(builds)}


def subjects(model: str, options: argparse.Namespace) -> list[Subject]:
    """Every engine and file of one model that the options ask for and that is installed."""
    found: list[Subject] = []
    peers = [e for e in options.engines if e != "gossamer"]
    for peer in list(peers):
        if not installed(PACKAGE_OF[peer]):
            skip(peer, f"{PACKAGE_OF[peer]} is not installed in {PACKAGES.relative_to(ROOT)}")
            peers.remove(peer)
    for precision in options.precisions:
        pattern = options.pattern or ("1x4" if precision == "int8" else "unstructured")
        formats = ["goss", "onnx", "tflite"]
        dense = export(model, precision, "dense", 0.0, formats=formats, target="wasm32")
        if "litertjs" in peers:
            found.append(Subject("litertjs", precision, "dense", 0.0, dense["tflite"]))
        if "ort-web" in peers:
            found.append(Subject("ort-web", precision, "dense", 0.0, dense["onnx"]))
        if "tfjs-wasm" in peers and precision == "f32":
            found.append(Subject("tfjs-wasm", precision, "dense", 0.0, write_tfjs(dense["onnx"], CACHE)))
        if "gossamer" not in options.engines:
            continue
        found.append(Subject("gossamer", precision, "dense", 0.0, dense["goss"]))
        for sparsity in options.sparsity:
            for bits in options.activation_bits if precision == "int8" else [8]:
                made = export(
                    model, precision, pattern, sparsity, formats=["goss"], target="wasm32", activation_bits=bits
                )
                found.append(Subject("gossamer", precision, pattern, sparsity, made["goss"], bits))
            if precision == "f32" and pattern == "unstructured" and "litertjs" in peers:
                made = export(model, precision, pattern, sparsity, formats=["sparse.tflite"])
                found.append(Subject("litertjs", precision, pattern, sparsity, made["sparse.tflite"]))
    return found


def _run(host: str, plan: dict[str, Any], core: int | None) -> dict[str, Any]:
    command = [str(node()), "--no-warnings", str(TOOL / f"{host}_host.mjs")]
    if core is not None and shutil.which("taskset"):
        command = ["taskset", "-c", str(core), *command]
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder) / "plan.json", Path(folder) / "result.json"
        question.write_text(json.dumps(plan))
        command += [str(question), str(answer)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
        if done.returncode != 0 or not answer.exists():
            raise RuntimeError(f"{host} ended with exit code {done.returncode}:\n{done.stderr[-3000:]}")
        return dict(json.loads(answer.read_text()))


def _plan(model: str, chosen: list[Subject], folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    content = sample(model).tobytes()
    x = CACHE / f"{model}-input-{hashlib.sha256(content).hexdigest()[:12]}.f32"
    x.write_bytes(content)
    return {
        "folders": {
            "/bench/": str(TOOL), "/gossamer/": str(WEB), "/models/": str(CACHE), "/wasm/": str(folder),
            "/packages/": str(PACKAGES / "node_modules"),
        },
        "packages": str(PACKAGES), "chromium": chromium(), "input": f"/models/{x.name}", "rounds": options.rounds,
        "pause": 150,
        "subjects": [
            {"engine": s.engine, "model": f"/models/{s.path.name}", "relaxed": s.relaxed, "shape": input_shape(model)}
            for s in chosen
        ],
    }  # fmt: skip


def measure(host: str, model: str, options: argparse.Namespace, folder: Path) -> tuple[list[Subject], str]:
    """Runs one model in one host; the subjects with their times, and the host's version."""
    chosen = subjects(model, options)
    answer = _run(host, _plan(model, chosen, folder, options), options.core)
    done = []
    for s, got in zip(chosen, answer["subjects"], strict=True):
        if got["error"]:
            skip(f"{s.name} in {host}", got["error"].splitlines()[0])
            continue
        s.ms, s.output, s.detail = got["ms"], np.asarray(got["output"], np.float32), got["detail"]
        if options.cold:
            first = _run(host, {**_plan(model, [s], folder, options), "cold": True}, options.core)
            s.cold_ms, s.rss_mb = first["cold_ms"], first["rss_mb"]
        done.append(s)
    return done, answer["version"]


def agreement(found: list[Subject]) -> list[str]:
    """Where scores differ: cosine of every subject's scores with those of another engine on the same graph."""
    problems = []
    groups: dict[tuple[str, str, float], list[Subject]] = {}
    for s in found:
        groups.setdefault((s.precision, s.pattern, s.sparsity), []).append(s)
    for group in groups.values():
        first = group[0].output.ravel()
        for s in group[1:]:
            other = s.output.ravel()
            cosine = float(first @ other / (np.linalg.norm(first) * np.linalg.norm(other) + 1e-30))
            least = 0.9999 if s.precision == "f32" else 0.98
            if s.bits == group[0].bits and cosine < least:
                problems.append(f"{s.name}: cosine {cosine:.5f} with {group[0].name}, less than {least}")
    return problems


def rows(model: str, host: str, found: list[Subject]) -> list[dict[str, Any]]:
    """The same rows as ``python -m tools.bench native --json`` writes."""
    return [
        {
            "model": model, "engine": s.engine, "precision": s.precision if s.bits == 8 else f"{s.precision} 7-bit",
            "pattern": s.pattern, "sparsity": s.sparsity, "threads": 1, "host": host, "median_ms": round(s.median, 4),
            "min_ms": round(min(s.ms), 4), "runs": len(s.ms), "file_bytes": s.path.stat().st_size,
            "rss_mb": None if s.rss_mb is None else round(s.rss_mb, 1),
            "cold_ms": None if s.cold_ms is None else round(s.cold_ms, 1),
        }
        for s in found
    ]  # fmt: skip


def _peer_of(s: Subject, found: list[Subject]) -> Subject | None:
    """What a sparse subject is held against: LiteRT.js with the same sparse weights (f32) or dense int8."""
    want = (s.pattern, s.sparsity) if s.precision == "f32" else ("dense", 0.0)
    return next(
        (p for p in found if p.engine == "litertjs" and p.precision == s.precision and (p.pattern, p.sparsity) == want),
        None,
    )


def table(model: str, host: str, found: list[Subject]) -> tuple[str, int]:
    """The ratio table of one host, and how many targets fall short."""
    lines = [
        f"{'engine':38} {'median [ms]':>12} {'min [ms]':>9} {'noise':>6} {'cold [ms]':>10} {'RSS [MB]':>9} {'ratio':>7} {'target':>7}"
    ]
    short = 0
    for s in found:
        noise = s.median / min(s.ms)
        cold, rss = (f"{v:.1f}" if v is not None else "-" for v in (s.cold_ms, s.rss_mb))
        peer = _peer_of(s, found) if s.engine == "gossamer" and s.sparsity else None
        ratio, target, mark = "", "", ""
        if peer is not None:
            value = peer.median / s.median
            ratio = f"{value:.2f}x"
            least = TARGETS.get((host, s.precision, s.sparsity)) if model == "mobilenet_v1" else None
            if least is not None and s.pattern in ("1x4", "unstructured"):
                target, mark = f"{least:.1f}x", " ok" if value >= least else " SHORT"
                short += value < least
        detail = f"  [{s.detail}]" if s.detail else ""
        lines.append(
            f"{s.name:38} {s.median:12.3f} {min(s.ms):9.3f} {noise:6.2f} {cold:>10} {rss:>9} {ratio:>7} {target:>7}{mark}{detail}"
        )
    return "\n".join(lines), short


def plot(every: list[dict[str, Any]], path: Path) -> None:
    """Latency against sparsity, a line for each engine and a panel for each host and model; dense peers are level lines."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = sorted({(r["model"], r["host"]) for r in every})
    figure, axes = pyplot.subplots(1, len(panels), figsize=(6 * len(panels), 4.5), squeeze=False, layout="constrained")
    for (model, host), axis in zip(panels, axes[0], strict=True):
        here = [r for r in every if (r["model"], r["host"]) == (model, host)]
        for engine, precision in sorted({(r["engine"], r["precision"]) for r in here}):
            line = sorted(
                (r["sparsity"], r["median_ms"]) for r in here if (r["engine"], r["precision"]) == (engine, precision)
            )
            if len(line) == 1:
                axis.axhline(line[0][1], linestyle=":", label=f"{engine} {precision}", color=f"C{len(axis.lines)}")
            else:
                axis.plot(
                    *zip(*line, strict=True), marker="o", label=f"{engine} {precision}", color=f"C{len(axis.lines)}"
                )
        axis.set(title=f"{model}, {host}", xlabel="share of zeros", ylabel="median latency [ms]", yscale="log")
        axis.grid(alpha=0.3, which="both")
        axis.legend(fontsize=7)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _numbers(text: str) -> list[float]:
    return [float(v) for v in text.split(",")]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m tools.bench wasm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m tools.bench wasm --models mobilenet_v1 --precisions int8 --sparsity 0.5,0.75,0.9 "
        "--json out.json",
    )
    p.add_argument("--models", default="mobilenet_v1", help="comma-separated names (default mobilenet_v1)")
    p.add_argument("--precisions", default="int8,f32", help="int8, f32 or both (default)")
    p.add_argument("--sparsity", type=_numbers, default=[0.5, 0.75, 0.9], help="shares of zeros (default 0.5,0.75,0.9)")
    p.add_argument("--pattern", help="default: 1x4 for int8, unstructured for f32")
    p.add_argument("--activation-bits", default="8,7", help="of Gossamer's int8 files: 8, 7 or both (default)")
    p.add_argument("--hosts", default=",".join(HOSTS), help="node, chromium or both (default)")
    p.add_argument("--engines", default=",".join(ENGINES), help=f"default {','.join(ENGINES)}")
    p.add_argument("--rounds", type=int, default=50, help="timed rounds (default 50)")
    p.add_argument(
        "--core", type=int, default=(os.cpu_count() or 1) - 1, help="core to pin to; -1: none (default last)"
    )
    p.add_argument("--cold", action="store_true", help="also cold start and memory, each in a process of its own")
    p.add_argument("--json", type=Path, help="where to write the rows")
    p.add_argument("--plot", type=Path, help="where to write the plot (PNG)")
    return p


def _choices(p: argparse.ArgumentParser, name: str, text: str, allowed: tuple[str, ...]) -> list[str]:
    chosen = [v for v in text.split(",") if v]
    wrong = sorted(set(chosen) - set(allowed))
    if wrong or not chosen:
        p.error(f"--{name} takes {', '.join(allowed)}, not {text!r}")
    return chosen


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0; 1 when outputs disagree or nothing ran. Targets that are missed are marked, not an error."""
    p = parser()
    options = p.parse_args(arguments)
    options.precisions = _choices(p, "precisions", options.precisions, ("int8", "f32"))
    options.engines = _choices(p, "engines", options.engines, ENGINES)
    options.activation_bits = [int(b) for b in _choices(p, "activation-bits", options.activation_bits, ("8", "7"))]
    options.core = None if options.core < 0 else options.core
    hosts = _choices(p, "hosts", options.hosts, HOSTS)
    if node() is None:
        print("error: Node.js 20 or newer is missing, which runs this benchmark", file=sys.stderr)
        return 1
    set_up()
    if "chromium" in hosts and (chromium() is None or not installed("playwright-core")):
        skip("chromium", "no Chromium on the PATH" if chromium() is None else "playwright-core is not installed")
        hosts.remove("chromium")
    folder = wasm_folder()
    every: list[dict[str, Any]] = []
    problems: list[str] = []
    for model in options.models.split(","):
        for host in hosts:
            found, version = measure(host, model, options, folder)
            print(f"\n{model} in {host} {version}, 1 thread, {options.rounds} rounds")
            text, short = table(model, host, found)
            print(text)
            if short:
                print(f"{short} below their targets")
            problems += agreement(found)
            every += rows(model, host, found)
    size = download_size(folder)
    print(f"\nJavaScript {size['javascript']} + WASM {size['wasm']} bytes gzipped = {size['total']} "
          f"({'ok' if size['total'] <= DOWNLOAD_LIMIT else 'SHORT'}, at most {DOWNLOAD_LIMIT})")  # fmt: skip
    for problem in problems:
        print(f"disagreement: {problem}", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(every, indent=1) + "\n")
    if options.plot and every:
        plot(every, options.plot)
    return 1 if problems or not every else 0


if __name__ == "__main__":
    sys.exit(main())
