"""How small and how quick to start: bundle size, cold start, runtime wheel, with the targets beside them.

``python -m tools.footprint [--json FILE]``. MobileNetV1 1.0/224 with seeded random weights (``tests/models.py``),
recipe ``1x4-75-small-int8``. Cold start is import + load + verify + first run in a fresh process, beyond the time that
Python and ``import numpy`` take in it; the signature is checked. Times are medians over fresh processes.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
TFLITE_BYTES = 4_500_000
"""The dense int8 MobileNetV1 1.0/224 .tflite that the size is held against."""

COLD = """
import sys, time
import numpy as np
start = time.perf_counter()
from gossamer_runtime import Session
session = Session(sys.argv[1], threads=1, trusted_keys=[bytes.fromhex(sys.argv[2])])
x = np.zeros(session.inputs[0].shape, session.inputs[0].dtype)
opened = time.perf_counter()
session.run(x)
done = time.perf_counter()
print((opened - start) * 1e3, (done - opened) * 1e3)
"""


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


def _cold(bundle: Path, key: str, runs: int) -> list[tuple[float, float]]:
    times = []
    for _ in range(runs):
        out = subprocess.run(
            [sys.executable, "-c", COLD, str(bundle), key], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout.split()
        times.append((float(out[0]), float(out[1])))
    return times


def _import_ms(runs: int) -> float:
    code = "import time; s = time.perf_counter(); import gossamer; print((time.perf_counter() - s) * 1e3)"
    command = [sys.executable, "-c", code]
    return statistics.median(
        float(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout) for _ in range(runs)
    )


def _wheel(folder: Path) -> int:
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT / "device_runtime")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob("gossamer_runtime-*.whl")).stat().st_size


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
        cold = _cold(bundle, key, runs)
        total = [a + b for a, b in cold]
        figures |= {
            "cold_start_ms_median": statistics.median(total),
            "cold_start_ms_min": min(total),
            "cold_start_ms_max": max(total),
            "first_run_ms_median": statistics.median(b for _, b in cold),
            "import_gossamer_ms_median": _import_ms(runs),
            "runtime_wheel_bytes": _wheel(folder),
        }
    click.echo(
        f"cold start beyond Python and numpy: median {figures['cold_start_ms_median']:.1f} ms "
        f"(min {min(total):.1f}, max {max(total):.1f}, {runs} processes; target 50 ms), "
        f"of it first run {figures['first_run_ms_median']:.1f} ms"
    )
    click.echo(f"import gossamer: median {figures['import_gossamer_ms_median']:.1f} ms (target 300 ms)")
    click.echo(f"runtime wheel {figures['runtime_wheel_bytes']:,d} bytes (target 3,000,000)")
    if json_file:
        json_file.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
