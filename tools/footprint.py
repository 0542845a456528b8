"""How small and how quick to start: bundle, cold start, peak memory, installed runtime, with the targets beside them.

``python -m tools.footprint [--json FILE]``. MobileNetV1 1.0/224 with seeded random weights (``tests/models.py``),
recipe ``1x4-75-small-int8``. Cold start is import + load + verify + first run in a fresh process, beyond the time that
Python and ``import numpy`` take in it; the signature is checked. Peak memory is the whole process's. Times are medians
over fresh processes. LiteRT with the dense int8 .tflite of the network stands beside them where it is installed.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from tools.bench.models import export, sample
from tools.bench.process import MissingEngineError, Worker
from tools.bench.table import SHORT, targets

ROOT = Path(__file__).resolve().parent.parent
TFLITE_BYTES = 4_500_000
"""The dense int8 MobileNetV1 1.0/224 .tflite that the size is held against."""


def _bundle(folder: Path, recipe: str) -> tuple[Path, str]:
    import gossamer
    from gossamer.bundle import keys
    from tests.models import build, example

    calibration = np.random.default_rng(0).standard_normal((4, 3, 224, 224), dtype=np.float32)
    key = keys.new_key(recipe, folder)
    bundle = folder / f"{recipe}.goss"
    gossamer.optimize(
        build("mobilenet_v1"),
        recipe=recipe,
        calibration=calibration,
        example_inputs=example("mobilenet_v1"),
        output=bundle,
        key=key.private,
    )
    return bundle, key.public.hex()


def _start(engine: str, model: Path, x: Path, runs: int, key: str = "") -> dict[str, Any]:
    """Cold starts and peak memory of an engine over fresh processes, a few more inferences in each for the memory."""
    colds, firsts, peaks = [], [], []
    for _ in range(runs):
        with Worker(engine, model, x, precision="int8", key=key) as worker:
            worker.burst(0, 5)
            colds.append(worker.cold_ms)
            firsts.append(worker.first_run_ms)
            peaks.append(worker.peak_rss_mb())
    return {
        "cold_start_ms_median": statistics.median(colds),
        "cold_start_ms_min": min(colds),
        "cold_start_ms_max": max(colds),
        "first_run_ms_median": statistics.median(firsts),
        "peak_rss_mb": statistics.median(peaks),
    }


def _import_ms(runs: int) -> float:
    code = "import time; s = time.perf_counter(); import gossamer; print((time.perf_counter() - s) * 1e3)"
    command = [sys.executable, "-c", code]
    return statistics.median(
        float(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout) for _ in range(runs)
    )


def _wheel(folder: Path) -> tuple[int, int]:
    """Bytes of the runtime's wheel, and of what it installs."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT / "device_runtime")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wheel = next(folder.glob("gossamer_runtime-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        return wheel.stat().st_size, sum(entry.file_size for entry in archive.infolist())


def _installed(package: str) -> int:
    """Bytes of an installed package's files, compiled Python left out."""
    files = importlib.metadata.files(package) or []
    paths = [Path(str(f.locate())) for f in files if f.suffix != ".pyc"]
    return sum(p.stat().st_size for p in paths if p.is_file())


def _line(engine: str, start: dict[str, Any], size: int) -> str:
    low, high = start["cold_start_ms_min"], start["cold_start_ms_max"]
    return (
        f"{engine:9s} cold start {start['cold_start_ms_median']:.1f} ms ({low:.1f} to {high:.1f}; of it the first run "
        f"{start['first_run_ms_median']:.1f}), peak memory {start['peak_rss_mb']:.1f} MB, installed {size / 1e6:.2f} MB"
    )


@click.command(help=__doc__)
@click.option("--runs", default=15, show_default=True, help="Fresh processes for the cold start.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures here.")
def main(runs: int, json_file: Path | None) -> None:
    figures: dict[str, Any] = {"machine": f"{os.cpu_count()} cores, Python {sys.version.split()[0]}"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for recipe in ("dense-int8", "1x4-75-int8", "1x4-75-small-int8"):
            bundle, key = _bundle(folder, recipe)
            size = bundle.stat().st_size
            figures[f"{recipe}_bundle_bytes"] = size
            click.echo(f"{recipe:20s} bundle {size:9,d} bytes, {size / TFLITE_BYTES:5.1%} of 4.5 MB")
        x = folder / "x.npy"
        np.save(x, sample("mobilenet_v1"))
        ours = _start("gossamer", bundle, x, runs, key)
        wheel, installed = _wheel(folder)
        figures |= ours | {"runtime_wheel_bytes": wheel, "runtime_installed_bytes": installed}
        figures["import_gossamer_ms_median"] = _import_ms(runs)
        click.echo(_line("gossamer", ours, installed))
        try:
            dense = export("mobilenet_v1", "int8", "dense", 0.0, folder, formats=["tflite"])["tflite"]
            peer, size = _start("litert", dense, x, runs), _installed("ai-edge-litert")
            figures |= {f"litert_{k}": v for k, v in peer.items()} | {"litert_installed_bytes": size}
            click.echo(_line("litert", peer, size))
        except MissingEngineError as error:
            click.echo(f"skipped: litert ({error} is not installed)")
    (goal,) = targets("footprint")
    for what, got, want in (
        ("cold start, ms", figures["cold_start_ms_median"], goal["cold_start_ms"]),
        ("peak memory, MB", figures["peak_rss_mb"], goal["peak_rss_mb"]),
        ("installed runtime, bytes", figures["runtime_installed_bytes"], goal["runtime_installed_bytes"]),
        ("import gossamer, ms", figures["import_gossamer_ms_median"], goal["import_ms"]),
    ):
        click.echo(f"{what:26s} {got:12,.1f}  target {want:12,d}  {'ok' if got <= want else SHORT}")
    if json_file:
        json_file.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
