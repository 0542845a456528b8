"""The straight line of the scaling plots, and what is counted as work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from tools.bench import scaling
from tools.bench.models import export


def test_a_line_is_found_again_without_residuals() -> None:
    x = [1.0, 2.0, 5.0, 20.0]
    line = scaling.fit(x, [0.3 + 0.7 * v for v in x])
    assert line.constant == pytest.approx(0.3) and line.slope == pytest.approx(0.7)
    assert np.abs(line.residuals).max() < 1e-12


def test_residuals_are_shares_of_the_line() -> None:
    line = scaling.fit([1.0, 2.0, 3.0], [1.0, 2.2, 3.0])
    want = [y / (line.constant + line.slope * x) - 1 for x, y in ((1, 1.0), (2, 2.2), (3, 3.0))]
    assert line.residuals == pytest.approx(want) and line.residuals[1] > 0 > line.residuals[0]


def test_macs_count_weights_times_pixels(tmp_path: Path) -> None:
    w = np.ones((6, 4, 3, 3), np.float32)
    text = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[1, 4, 8, 8] x) => (float[1, 6, 4, 4] y) <float[6, 4, 3, 3] w>
    { y = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w) }"""
    model = ir.from_onnx_text(text)
    value = next(iter(model.graph))
    weight = value.inputs[1]
    weight.const_value = ir.tensor(w, name="w")
    model.graph.initializers["w"] = weight
    path = tmp_path / "m.onnx"
    ir.save(model, path)
    assert scaling.macs(path) == 6 * 4 * 9 * 16 / 1e6


def test_threads_are_held_against_their_target() -> None:
    def rows(engine: str, two: float) -> list[dict[str, object]]:
        return [{"engine": engine, "value": v, "x": v, "median_ms": ms} for v, ms in ((1, 1.8), (2, two))]

    lines = scaling.report("threads", rows("gossamer", 1.0) + rows("litert", 1.2))
    assert lines[0] == "gossamer by threads: 1: 1.800 ms, 2: 1.000 ms; 1.80x (target 1.7x) ok"
    assert lines[1] == "litert by threads: 1: 1.800 ms, 2: 1.200 ms; 1.50x"
    assert scaling.report("threads", rows("gossamer", 1.2))[0].endswith("1.50x (target 1.7x) SHORT")


def test_points_that_run_dense_are_kept_out_of_the_line() -> None:
    row = {"engine": "gossamer", "axis": "density", "noisy_rounds": 0}
    sparse = [row | {"value": x, "x": x, "median_ms": 1 + x, "sparse_share": 1.0} for x in (0.1, 0.2, 0.4)]
    level = [row | {"value": x, "x": x, "median_ms": 1.4, "sparse_share": 0.0} for x in (0.8, 1.0)]
    lines = scaling.report("density", sparse + level)
    assert lines[0] == "gossamer by density: 1.000 ms + 1.000 ms per unit of density; largest residual +0.0%"
    assert [line.endswith("dense kernels are faster") for line in lines[1:]] == [False] * 3 + [True] * 2
    assert scaling.on_line(level) == level


def test_the_share_that_runs_sparse_is_read_from_the_bundle(folder: Path) -> None:
    model = "mobilenet_v1_0.25"
    dense = export(model, "int8", "dense", 0.0, folder, formats=["goss"])["goss"]
    sparse = export(model, "int8", "1x4", 0.97, folder, formats=["goss"], target="aarch64")["goss"]
    assert scaling.sparse_share(dense) == 0.0
    assert scaling.sparse_share(sparse) > 0.9  # decided by a model of the cost: no measurement in this test
