"""The WASM benchmark's own parts: what it asks of a run, what it says is missing, what TensorFlow.js is given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.native import runners
from tools.bench import table, tfjs_model, wasm, web_hosts


def _network(path: Path, last: str = "Gemm") -> tuple[Path, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    w = rng.standard_normal((4, 2, 3, 3)).astype(np.float32)
    dense = rng.standard_normal((5, 4)).astype(np.float32)
    bias = {"b": np.arange(4, dtype=np.float32), "c": np.arange(5, dtype=np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], strides=[2, 2], pads=[1, 0, 1, 2], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["m"]),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("Gemm", ["f", "dense", "c"], ["y"], transB=1)
        if last == "Gemm"
        else helper.make_node(last, ["f"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in {"w": w, "dense": dense, **bias}.items()],
    )
    onnx.save(helper.make_model(graph), str(path))
    return path, w, dense


def test_the_tensorflow_js_graph_holds_the_weights_channels_last(tmp_path: Path) -> None:
    source, w, dense = _network(tmp_path / "small.onnx")
    written = tfjs_model.write(source, tmp_path)
    document = json.loads(written.read_text())
    data = np.fromfile(tmp_path / document["weights"], np.float32)
    conv, mean, gemm = document["nodes"]
    assert [n["op"] for n in document["nodes"]] == ["conv", "mean", "gemm"]
    assert (conv["activation"], conv["strides"]) == ("relu", [2, 2])
    assert conv["pad"] == [[0, 0], [1, 1], [0, 2], [0, 0]]
    assert (mean["inputs"], gemm["inputs"], document["output"]) == ([conv["output"]], [mean["output"]], gemm["output"])
    for node, expected in ((conv, w.transpose(2, 3, 1, 0)), (gemm, dense.T)):
        at, shape = node["filter"]["at"], node["filter"]["shape"]
        np.testing.assert_array_equal(data[at : at + expected.size].reshape(shape), expected)


def test_an_operator_without_counterpart_is_named(tmp_path: Path) -> None:
    source, _, _ = _network(tmp_path / "odd.onnx", last="Softmax")
    with pytest.raises(ValueError, match="Softmax"):
        tfjs_model.write(source, tmp_path)


def test_missing_peers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_npm() -> None:
        raise web_hosts.HostError("npm is missing, which installs them")

    monkeypatch.setattr(wasm, "set_up", no_npm)
    monkeypatch.setattr(wasm, "installed", lambda package: package == "onnxruntime-web")
    report = wasm.Report()
    assert wasm.available(list(wasm.ENGINES), report) == ["gossamer", "onnxruntime-web"]
    assert report.missing["litert.js"] == "@litertjs/core is not installed"
    assert "npm is missing" in report.missing["the peers"]


def test_every_peer_is_pinned_to_one_version() -> None:
    assert set(wasm.PACKAGES.values()) <= set(web_hosts.PINNED)
    assert all(v[0].isdigit() for v in web_hosts.PINNED.values())


def test_targets_name_peers_that_run() -> None:
    for host in web_hosts.HOSTS:
        targets = table.targets(host)
        assert {t["precision"] for t in targets} == {"int8", "f32"}
        assert {t["against"].split()[0] for t in targets} <= set(wasm.ENGINES)


def test_a_page_loads_little() -> None:
    runners.artefact("wasm")  # skips without the build compiler
    sizes = web_hosts.download_bytes(web_hosts.wasm_folder())
    assert 5_000 < sizes["javascript"] < 20_000
    assert sum(sizes.values()) <= table.targets("footprint")[0]["js_wasm_gzip_bytes"]
