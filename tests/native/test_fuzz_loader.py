"""Mutated bundles in a subprocess: the loader says no or the model runs; a crash or a hang fails the test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.native.plans import PLANS

ROOT = Path(__file__).resolve().parents[2]


def _run(name: str, seed: int, count: int) -> tuple[int, int]:
    path = [str(ROOT), str(ROOT / "sdk"), str(ROOT / "device_runtime"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "tests.native.fuzz_child", name, str(seed), str(count)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr[-4000:]}"
    found = re.search(r"(\d+) ran, (\d+) refused", done.stdout)
    assert found is not None, done.stdout
    return int(found[1]), int(found[2])


@pytest.mark.parametrize("name", PLANS)
def test_mutations(name: str) -> None:
    ran, refused = _run(name, seed=1, count=400)
    assert ran > 0  # otherwise the mutations never reach an operator
    assert refused > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("seed", range(2, 6))
def test_many_mutations(name: str, seed: int) -> None:
    ran, refused = _run(name, seed, 4000)
    assert ran + refused == 4000
