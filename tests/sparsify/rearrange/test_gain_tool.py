"""tools/rearrange_gain.py: the table's numbers, and what its control shuffles."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from click.testing import CliRunner

from gossamer.recipe import SparsifyStep
from gossamer.sparsify import prune
from gossamer.sparsify.layers import find_layers
from tests.sparsify.rearrange.graphs import graph
from tools.rearrange_gain import main, shuffled

NET = """<ir_version: 9, opset_import: ["" : 17]>
net (float[1,3,8,8] x) => (float[1,10] y) {
    a = Conv (x, w0)  b = Relu (a)  c = Conv (b, w1)  d = Relu (c)  e = Conv (d, w2)  f = Relu (e)
    p = GlobalAveragePool (f)  q = Flatten (p)  y = Gemm<transB=1> (q, w3) }"""
SHAPES = {"w0": (16, 3, 1, 1), "w1": (24, 16, 1, 1), "w2": (32, 24, 1, 1), "w3": (10, 32)}


def test_rows_agree_with_pruning(tmp_path: Path):
    path = tmp_path / "net.onnx"
    ir.save(graph(NET, SHAPES), path)
    ran = CliRunner().invoke(
        main,
        [
            str(path),
            "--pattern",
            "1x4",
            "--sparsity",
            "0.75",
            "--control",
            "--layers",
            "--json",
            str(tmp_path / "rows"),
        ],
    )
    assert ran.exit_code == 0, ran.output
    (row,) = json.loads((tmp_path / "rows").read_text())
    for key, pattern in (("plain", "1x4"), ("unstructured", "unstructured")):
        report = prune(graph(NET, SHAPES), SparsifyStep(pattern=pattern, sparsity=0.75))
        kept = {x.name: x.retained for x in report.layers if x.pattern == pattern}
        assert [x[key] for x in row["layers"]] == pytest.approx(list(kept.values()), rel=1e-5)
    assert row["plain"] < row["moved"] < row["unstructured"]
    assert row["gap"] == pytest.approx((row["moved"] - row["plain"]) / (row["unstructured"] - row["plain"]))
    assert 0 < row["control_gap"] < 1 and row["finished"]
    assert f"{row['gap']:.1%}" in ran.output.splitlines()[1] and len(ran.output.splitlines()) == 4


def test_the_control_shuffles_inputs_of_each_output_alone():
    plain, other = graph(NET, SHAPES), shuffled(graph(NET, SHAPES), 0)
    for a, b in zip(find_layers(plain)[0], find_layers(other)[0], strict=True):
        np.testing.assert_array_equal(np.sort(a.weight, axis=1), np.sort(b.weight, axis=1))
        came = {tuple(list(x.ravel()).index(v) for v in y.ravel()) for x, y in zip(a.weight, b.weight, strict=True)}
        assert len(came) > 1  # an order of its own for every output
