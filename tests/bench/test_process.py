"""Engines in processes of their own: right outputs and times, and a missing, refusing or dying one is told by name."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from gossamer_runtime import Session
from tools.bench import native
from tools.bench.agree import TOLERANCE, Difference
from tools.bench.contenders import Contender, contenders
from tools.bench.models import Variant, export, sample
from tools.bench.native import Report
from tools.bench.process import EngineFailedError, MissingEngineError, Worker, cores

MODEL = "mobilenet_v1_0.25"


@pytest.fixture(scope="module")
def x(folder: Path) -> Path:
    path = folder / "x.npy"
    np.save(path, sample(MODEL))
    return path


def test_a_worker_computes_what_a_session_does(folder: Path, x: Path) -> None:
    bundle = export(MODEL, "int8", "1x4", 0.75, folder, formats=["goss"])["goss"]
    with Session(bundle, verify=False) as session:
        want = np.asarray(session.run(sample(MODEL))).reshape(-1)
    with Worker("gossamer", bundle, x) as worker:
        assert np.array_equal(worker.output(), want)
        times = worker.burst(1, 3000)  # the clock of threads ticks every few milliseconds
        assert times.shape == (3000,) and (times > 0).all()
        assert worker.busy_threads == 1
        assert worker.cold_ms > worker.first_run_ms > 0
        assert 10 < worker.peak_rss_mb() < 200


def test_a_worker_stays_on_its_cores(folder: Path, x: Path) -> None:
    bundle = export(MODEL, "int8", "1x4", 0.75, folder, formats=["goss"])["goss"]
    with Worker("gossamer", bundle, x, cores=cores(1)) as worker:
        assert os.sched_getaffinity(worker.process.pid) == {max(os.sched_getaffinity(0))}


def test_more_threads_than_cores_are_refused() -> None:
    count = len(os.sched_getaffinity(0))
    with pytest.raises(ValueError, match=f"{count + 1} threads want {count + 1} cores"):
        cores(count + 1)


def test_a_missing_engine_is_named(folder: Path, x: Path, without) -> None:
    without("ai_edge_litert")
    with pytest.raises(MissingEngineError, match="ai_edge_litert"):
        Worker("litert", folder / "none.tflite", x)


def test_a_refused_model_ends_with_the_engines_last_line(folder: Path, x: Path) -> None:
    bad = folder / "bad.goss"
    bad.write_bytes(b"no bundle")
    with pytest.raises(EngineFailedError, match=r"ended with 1: .*BundleError"):
        Worker("gossamer", bad, x)


def test_a_crash_is_told_and_the_others_go_on(folder: Path, x: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Contender("gossamer", "int8", Variant(MODEL, "int8", "1x4", 0.75))
    other = Contender("gossamer", "int8", Variant(MODEL, "int8", "dense", 0.0))
    with Worker("gossamer", other.file(1, folder), x) as survivor, Worker("gossamer", ours.file(1, folder), x) as dead:
        dead.process.kill()
        report = Report()
        timings = native._time({ours: dead, other: survivor}, report, 50, 2)
    assert list(timings) == [other] and timings[other].runs >= 50
    assert report.failed == [f"{MODEL} gossamer int8 1x4 75%: ended with -9: without a word"]


def test_rows_of_a_run_and_a_peer_that_is_missing(folder: Path, without) -> None:
    without("openvino")
    wanted = {("gossamer", "int8"), ("onnxruntime", "int8"), ("openvino", "int8")}
    found = [c for c in contenders(MODEL, ["int8"], "1x4", [0.75]) if (c.engine, c.precision) in wanted]
    report = Report()
    native.measure(found, report, runs=50, rounds=2, cold_starts=0, folder=folder)
    assert report.missing == {"openvino"} and report.failed == [] and report.disagree == []
    labels = [(r["engine"], r["pattern"], r["sparsity"]) for r in report.rows]
    assert labels == [("gossamer", "dense", 0.0), ("gossamer", "1x4", 0.75), ("onnxruntime", "dense", 0.0)]
    for row in report.rows:
        assert row["model"] == MODEL and row["threads"] == 1 and row["busy_threads"] == 1
        assert row["runs"] >= 50 and 0 < row["min_ms"] <= row["median_ms"] <= row["p90_ms"]
        assert row["file_bytes"] > 50_000 and row["rss_mb"] > 10 and row["cold_ms"] > 0
        assert "core" not in row["host"] and row["host"].count(",") >= 1
    ours = report.rows[1]
    assert ours["difference_unit"] == "steps" and ours["difference"] <= 1.0


def test_skipped_peers_are_printed_by_name(without, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(found, report, **_: object) -> None:
        report.missing.add("openvino")

    monkeypatch.setattr(native, "measure", measure)
    result = CliRunner().invoke(native.main, ["--models", MODEL])
    assert result.exit_code == 0
    assert "skipped: openvino (openvino is not installed)" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--models", "lenet"], "no lenet: use mobilenet_v1"),
        (["--precisions", "int4"], "no int4: use f32, int8"),
        (["--sparsity", "0.5,1"], "a sparsity lies above 0 and below 1"),
        (["--sparsity", "half"], "no list of numbers"),
        (["--pattern", "2:4", "--sparsity", "0.9"], "2:4 makes a sparsity of 0.5, not 0.9"),
        (["--pattern", "3x5"], "pattern"),
    ],
)
def test_bad_options_are_named(options: list[str], message: str) -> None:
    result = CliRunner().invoke(native.main, options)
    assert result.exit_code == 2 and message in result.output


def test_disagreement_ends_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(found, report, **_: object) -> None:
        base = {"model": MODEL, "engine": "gossamer", "precision": "int8", "pattern": "1x4", "threads": 1}
        base |= {"sparsity": 0.5, "median_ms": 1.0, "p90_ms": 1.0, "noisy_rounds": 0, "busy_threads": 2}
        base |= {"cold_ms": 1.0, "rss_mb": 1.0, "file_bytes": 1}
        report.rows.append(base | {"difference": 9.0, "difference_unit": "steps", "agrees": False})

    monkeypatch.setattr(native, "measure", measure)
    result = CliRunner().invoke(native.main, ["--models", MODEL])
    assert result.exit_code == 1
    assert f"outputs disagree: {MODEL} gossamer int8 50%" in result.output
    assert f"{MODEL} gossamer int8: 2 threads worked, 1 asked" in result.output


@pytest.mark.parametrize("unit", list(TOLERANCE))
def test_a_difference_agrees_up_to_its_bound_and_nan_never(unit: str) -> None:
    bound = TOLERANCE[unit]
    assert Difference(bound, unit).agrees is True
    assert Difference(bound * 1.01, unit).agrees is False
    assert Difference(float("nan"), unit).agrees is False
    assert Difference(None, "not compared: no litert").agrees is None
