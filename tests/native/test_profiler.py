"""gossamer-profile, the static program for devices: same bits as the library, exact files, clear refusals."""

from __future__ import annotations

import importlib.util
import json
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.native.goss import OK, open_and_run
from tests.native.plans import sample

pytestmark = pytest.mark.slow  # the first build compiles musl as well
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def profiler() -> Path:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed: pip install ziglang==0.17.1")
    target = f"{platform.machine()}-profiler"
    if target not in ("x86_64-profiler", "aarch64-profiler"):
        pytest.skip(f"there is no {target} to build")
    command = [sys.executable, "-m", "tools.build_native", "--target", target]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return ROOT / "build" / "native" / target / "gossamer-profile"


def _run(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["network_s8", "network_f32", "shapes_s8"])
def test_same_bits_as_the_library(profiler: Path, tmp_path: Path, name: str) -> None:
    data = sample(name)
    (tmp_path / "m.goss").write_bytes(data)
    status, expected = open_and_run(data, seed=4)
    assert status == OK
    rng = np.random.default_rng(4)
    size = {"network_s8": 270, "network_f32": 1080, "shapes_s8": 210}[name]
    (tmp_path / "x.raw").write_bytes(rng.integers(0, 100, size, dtype=np.uint8).tobytes())
    outputs = [tmp_path / f"y{i}.raw" for i in range(len(expected))]
    options = [part for path in outputs for part in ("--output", path)]
    done = _run(profiler, tmp_path / "m.goss", "--input", tmp_path / "x.raw", "--runs", 2, *options)
    assert done.returncode == 0, done.stderr
    assert [path.read_bytes() for path in outputs] == expected
    assert "median [us]" in done.stdout


def test_json_has_a_unit_in_every_time(profiler: Path, tmp_path: Path) -> None:
    (tmp_path / "m.goss").write_bytes(sample("network_s8"))
    done = _run(profiler, tmp_path / "m.goss", "--json", "--runs", 5, "--isa", "scalar", "--threads", 2)
    report = json.loads(done.stdout)
    assert (report["runs"], report["isa"], report["threads"]) == (5, "scalar", 2)
    inference = report["inference"]
    assert 0 < inference["min_us"] <= inference["median_us"] <= inference["p90_us"]
    conv = [op for op in report["operators"] if op["kind"] == "Conv"]
    assert [op["pattern"] for op in conv] == ["dense", "1x4", "4x4", "4x1", "unstructured"]
    assert all(op["kernel"].endswith("__scalar") and op["macs"] >= op["macs_executed"] > 0 for op in conv)
    assert conv[0]["source"] == "model.py:2"
    assert "runs_ns" not in inference and "runs_ns" not in conv[0]


def test_each_run_adds_up_to_the_figures(profiler: Path, tmp_path: Path) -> None:
    (tmp_path / "m.goss").write_bytes(sample("network_s8"))
    report = json.loads(_run(profiler, tmp_path / "m.goss", "--json", "--each", "--runs", 5).stdout)
    whole = report["inference"]
    for figures in (whole, *report["operators"]):
        ns = figures["runs_ns"]
        assert len(ns) == 5 and min(ns) / 1000 == pytest.approx(figures["min_us"], abs=1e-3)
        assert np.median(ns) / 1000 == pytest.approx(figures["median_us"], abs=1e-3)
        assert np.mean(ns) / 1000 == pytest.approx(figures["mean_us"], abs=1e-3)
    sums = np.sum([op["runs_ns"] for op in report["operators"]], axis=0)
    assert (sums <= whole["runs_ns"]).all()
    assert len(whole["warmup_ns"]) == report["warmup"] == 5 and min(whole["warmup_ns"]) > 0


def test_seeded_pattern_is_reproducible(profiler: Path, tmp_path: Path) -> None:
    (tmp_path / "m.goss").write_bytes(sample("shapes_f32"))
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        done = _run(profiler, tmp_path / "m.goss", "--runs", 1, "--seed", seed, "--output", tmp_path / name)
        assert done.returncode == 0
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


def test_signature(profiler: Path, tmp_path: Path) -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes([9] * 32))
    key = private.public_key().public_bytes_raw()
    data = sample("network_s8")
    signed = data[:-96] + key + private.sign(data[:-96])
    (tmp_path / "m.goss").write_bytes(signed)
    assert _run(profiler, tmp_path / "m.goss", "--runs", 1, "--verify", key.hex()).returncode == 0
    wrong = _run(profiler, tmp_path / "m.goss", "--runs", 1, "--verify", "00" * 32)
    assert wrong.returncode == 1
    assert "not among the 1 trusted keys" in wrong.stderr
    (tmp_path / "m.goss").write_bytes(signed[:200] + bytes([signed[200] ^ 1]) + signed[201:])
    changed = _run(profiler, tmp_path / "m.goss", "--runs", 1, "--verify", key.hex())
    assert "was changed after it was signed" in changed.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "no model given"),
        (["m.goss", "n.goss"], 2, "more than one model"),
        (["m.goss", "--fast"], 2, "unknown option: --fast"),
        (["m.goss", "--runs"], 2, "a value is missing after: --runs"),
        (["m.goss", "--runs", "-3"], 2, "--runs does not take '-3'"),
        (["m.goss", "--isa", "mmx"], 2, "--isa does not take 'mmx'"),
        (["m.goss", "--each"], 2, "--each needs --json"),
        (["m.goss", "--verify", "12"], 2, "--verify does not take '12'"),
        (["missing.goss"], 1, "No such file"),
        (["empty.goss"], 1, "is empty"),
        (["."], 1, "not a file"),
        (["m.goss", "--input", "m.goss"], 1, "input 'input0' needs 270"),
        (["m.goss", "--input", "m.goss", "--input", "m.goss"], 2, "1 inputs and 1 outputs"),
        (["m.goss", "--runs", "1", "--output", "nowhere/y.raw"], 1, "nowhere/y.raw: No such file"),
        (["extern.goss"], 1, "no external backends"),
        (["short.goss"], 1, "truncated"),
    ],
)
def test_refusals(profiler: Path, tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    data = sample("network_s8")
    (tmp_path / "m.goss").write_bytes(data)
    (tmp_path / "short.goss").write_bytes(data[:-1])
    (tmp_path / "empty.goss").write_bytes(b"")
    (tmp_path / "extern.goss").write_bytes(sample("extern"))
    done = subprocess.run([str(profiler), *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert not list(tmp_path.glob("*.part"))


def test_help_documents_the_raw_format(profiler: Path) -> None:
    done = _run(profiler, "--help")
    assert done.returncode == 0
    for word in ("row-major", "little-endian", "--verify", "Exit codes", "example:"):
        assert word in done.stdout
