"""Ratios, targets and marks from rows."""

from __future__ import annotations

from typing import Any

import pytest

from tools.bench import plots, table
from tools.bench.models import MODELS
from tools.bench.table import SHORT, ratios, targets


def row(engine: str, precision: str, sparsity: float, ms: float, **more: Any) -> dict[str, Any]:
    pattern = more.pop("pattern", "1x4" if sparsity else "dense")
    base = {"model": "mobilenet_v1", "engine": engine, "precision": precision, "pattern": pattern, "threads": 1}
    base |= {"sparsity": sparsity, "median_ms": ms, "min_ms": ms, "p90_ms": ms * 1.1, "noisy_rounds": 0}
    base |= {"cold_ms": 12.0, "rss_mb": 40.0, "file_bytes": 2_500_000, "runs": 60}
    return base | {"difference": 0.0, "difference_unit": "steps", "agrees": True} | more


ROWS = [
    row("gossamer", "int8", 0.0, 2.0),
    row("gossamer", "int8", 0.5, 1.5),
    row("gossamer", "int8", 0.9, 0.5),
    row("litert", "int8", 0.0, 2.1),
    row("openvino", "int8", 0.0, 1.95),
    row("openvino", "bf16", 0.0, 3.0),
    row("mnn", "f32", 0.9, 1.0, pattern="4x1"),
    row("litert", "f32", 0.0, 5.0),
]


def test_the_best_peer_counts_at_no_sparsity_or_the_same() -> None:
    found = {r.sparsity: r for r in ratios(ROWS, "native", "mobilenet_v1", "int8", "1x4")}
    assert set(found) == {0.0, 0.5, 0.9}
    assert found[0.0].value == 1.95 / 2.0 and found[0.0].mark == ""
    assert found[0.5].value == 1.95 / 1.5 and table.label(found[0.5].peer) == "openvino int8"
    assert found[0.9].value == 2.0 and table.label(found[0.9].peer) == "mnn sparse f32"


def test_marks_stand_beside_targets() -> None:
    found = {r.sparsity: r for r in ratios(ROWS, "native", "mobilenet_v1", "int8", "1x4")}
    assert (found[0.5].target, found[0.5].mark) == (1.3, "ok")  # 1.95 / 1.5 is the target itself
    assert (found[0.9].target, found[0.9].mark) == (3.0, SHORT)


def test_a_sparsity_without_a_target_has_no_mark() -> None:
    rows = [*ROWS, row("gossamer", "int8", 0.8, 1.0)]
    (found,) = [r for r in ratios(rows, "native", "mobilenet_v1", "int8", "1x4") if r.sparsity == 0.8]
    assert found.target is None and found.mark == "" and found.value == 1.95


def test_float_meets_float_peers_alone() -> None:
    rows = [*ROWS, row("gossamer", "f32", 0.9, 2.0, pattern="unstructured")]
    (found,) = ratios(rows, "native", "mobilenet_v1", "f32", "unstructured")
    assert table.label(found.peer) == "mnn sparse f32" and found.value == 0.5 and found.mark == SHORT
    assert found.target == 2.8


def test_peers_with_other_threads_do_not_count() -> None:
    rows = [row("gossamer", "int8", 0.5, 1.0, threads=2), row("litert", "int8", 0.0, 2.1)]
    assert ratios(rows, "native", "mobilenet_v1", "int8", "1x4") == []


def test_a_target_that_names_its_peer() -> None:
    rows = [row("gossamer", "int8", 0.75, 2.0), row("litert.js", "int8", 0.0, 5.0), row("litert.js", "f32", 0.0, 1.0)]
    (found,) = ratios(rows, "chromium", "mobilenet_v1", "int8", "1x4")
    assert table.label(found.peer) == "litert.js int8" and found.value == 2.5 and found.mark == "ok"


def test_lines_say_what_is_short_noisy_and_wrong() -> None:
    rows = [dict(r) for r in ROWS]
    rows[3] |= {"difference": 40.0, "agrees": False}
    rows[4] |= {"noisy_rounds": 2}
    text = table.lines(rows, ratios(rows, "native", "mobilenet_v1", "int8", "1x4"))
    by = {line[:22].strip(): line for line in text}
    assert by["litert int8"].endswith("40 steps  DISAGREES")
    assert "~1.950" in by["openvino int8"] and "~" not in by["gossamer int8"]
    assert by["times as fast"].split() == ["times", "as", "fast", "0.97x", "1.30x", "2.00x"]
    assert by["target"].split() == ["target", "1.3x", "ok", "3.0x", "SHORT"]
    assert text[-1] == "against openvino int8 at 50%, mnn sparse f32 at 90%"


def test_a_ratio_that_falls_short_by_a_hair_does_not_read_as_reached() -> None:
    rows = [row("gossamer", "int8", 0.5, 1.0), row("litert", "int8", 0.0, 1.2999)]
    text = table.lines(rows, ratios(rows, "native", "mobilenet_v1", "int8", "1x4"))
    assert text[-3].split()[-1] == "1.29x" and text[-2].split()[-1] == "SHORT"


def test_an_output_that_nothing_was_compared_with_is_said() -> None:
    rows = [row("gossamer", "int8", 0.5, 1.0, difference=None, agrees=None, difference_unit="not compared: no litert")]
    assert table.lines(rows, [])[-1].endswith("not compared: no litert")


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_its_targets(model: str) -> None:
    (found,) = [t for t in targets("native") if (t["model"], t["precision"]) == (model, "int8")]
    assert sorted(found["ratio"]) == ["0.5", "0.75", "0.9"] and found["pattern"] == "1x4"


def test_the_plot_is_a_png(tmp_path: Any) -> None:
    path = tmp_path / "plot.png"
    plots.latency(ROWS, path, "test")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
