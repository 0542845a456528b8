"""The .tflite files of the benchmark: LiteRT computes from them what ONNX Runtime and Gossamer do from the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import gossamer
from gossamer.importers.tflite import flatbuf
from gossamer_runtime import Session
from tests import litert, ort
from tools.bench import tflite_writer
from tools.bench.models import export, sample
from tools.bench.tflite_writer import tflite

SMALL = ("mobilenet_v1_0.25", "mobilenet_v1_0.25_33")
"""33 pixels: odd planes, where the pads of a stride of two are those of TensorFlow's SAME."""


def onnx_output(path: Path, x: np.ndarray) -> np.ndarray:
    session = ort.session(path)
    return session.run(None, {session.get_inputs()[0].name: x})[0][0]


def litert_output(path: Path, x: np.ndarray) -> np.ndarray:
    return litert.run(path, x.transpose(0, 2, 3, 1))[0]


def last_scale(path: Path) -> float:
    graph = gossamer.load(path).graph
    node = [n for n in graph if n.op_type == "QuantizeLinear"][-1]
    return float(ir.convenience.get_const_tensor(node.inputs[1]).numpy())


@pytest.mark.parametrize("model", SMALL)
def test_float_output_is_that_of_the_graph_dense_and_sparse(model: str, folder: Path) -> None:
    files = export(model, "f32", "unstructured", 0.8, folder, formats=["onnx", "tflite", "sparse.tflite"])
    x = sample(model)
    want = onnx_output(files["onnx"], x)
    for kind in ("tflite", "sparse.tflite"):
        assert np.abs(litert_output(files[kind], x) - want).max() <= 1e-5 * np.abs(want).max()


@pytest.mark.parametrize("model", SMALL)
def test_int8_output_is_that_of_the_graph_and_of_gossamer(model: str, folder: Path) -> None:
    files = export(model, "int8", "1x4", 0.75, folder)
    x, scale = sample(model), last_scale(files["onnx"])
    peer = np.rint(litert_output(files["tflite"], x) / scale)
    with Session(files["goss"], verify=False) as session:
        ours = np.rint(session.run(x)[0] / scale)
    reference = np.rint(onnx_output(files["onnx"], x) / scale)
    assert np.ptp(peer) > 20  # steps: the outputs differ, so equality says something
    assert np.abs(peer - reference).max() <= 1
    assert np.abs(ours - peer).max() <= 1


def test_sparse_file_holds_rows_of_nonzeros_behind_densify(folder: Path) -> None:
    files = export(SMALL[0], "f32", "unstructured", 0.8, folder, formats=["onnx", "sparse.tflite"])
    record = flatbuf.read(files["sparse.tflite"].read_bytes(), "Model", "test")
    tensors = [t for t in record.subgraphs[0].tensors if t.sparsity is not None]
    graph = gossamer.load(files["onnx"]).graph
    pruned = [n for n in graph if n.op_type == "Conv" and (weights(n) == 0).mean() > 0.5]
    assert len(tensors) == len(pruned) == 13
    for tensor, node in zip(tensors, pruned, strict=True):
        assert len(record.buffers[tensor.buffer].data) == 4 * np.count_nonzero(weights(node))


def weights(node: ir.Node) -> np.ndarray:
    return ir.convenience.get_const_tensor(node.inputs[1]).numpy()


def test_csr_of_an_array_with_an_empty_row_and_a_full_one() -> None:
    record = tflite_writer._csr(np.array([[0, 2, 0], [0, 0, 0], [3, 4, 5]], np.float32))
    last = record.dim_metadata[-1]
    assert [d.format for d in record.dim_metadata] == [0, 1]
    assert last.array_segments.values.tolist() == [0, 1, 1, 4]
    assert last.array_indices.values.tolist() == [1, 0, 1, 2]


def test_csr_counts_past_a_byte_in_two_bytes() -> None:
    record = tflite_writer._csr(np.ones((2, 200), np.float32))
    last = record.dim_metadata[-1]
    assert last.array_segments.table == "Uint16Vector" and last.array_segments.values.tolist() == [0, 200, 400]
    assert last.array_indices.table == "Uint8Vector" and last.array_indices.values.max() == 199


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [((224, 224), 3, 2, [0, 0, 1, 1]), ((33, 33), 3, 2, [1, 1, 1, 1]), ((7, 9), 3, 1, [1, 1, 1, 1])],
)
def test_pads_of_tensorflows_same(size: tuple[int, int], kernel: int, stride: int, pads: list[int]) -> None:
    assert tflite_writer._same_pads(size, [kernel] * 2, [stride] * 2) == pads


def graph_of(text: str) -> ir.Model:
    return ir.from_onnx_text(f'<ir_version: 8, opset_import: ["" : 18]>\n{text}')


def test_max_pool_pads_what_may_be_negative_only_by_refusal() -> None:
    pool = "MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>"
    with pytest.raises(ValueError, match="pads an input that may be negative"):
        tflite(graph_of(f"g (float[1, 4, 8, 8] x) => (float[1, 4, 4, 4] y) {{ y = {pool} (x) }}"))


def test_clip_of_another_range_is_refused() -> None:
    low_high = "float low = {-1}, float high = {1}"
    text = f"g (float[1, 4] x) => (float[1, 4] y) <{low_high}> {{ t = Add (x, x)\n y = Clip (t, low, high) }}"
    model = graph_of(text)
    next(iter(model.graph)).outputs[0].shape = ir.Shape((1, 4))
    with pytest.raises(ValueError, match=r"clips to neither \[0, inf\) nor \[0, 6\]"):
        tflite(model)


def test_an_unknown_operator_is_named() -> None:
    with pytest.raises(ValueError, match=r"no \.tflite form of Sigmoid"):
        tflite(graph_of("g (float[1, 4] x) => (float[1, 4] y) { y = Sigmoid (x) }"))


def test_a_second_export_makes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = export(SMALL[0], "int8", "1x4", 0.75, folder)
    stamps = {k: p.stat().st_mtime_ns for k, p in first.items()}
    monkeypatch.setattr(gossamer, "optimize", None)
    again = export(SMALL[0], "int8", "1x4", 0.75, folder)
    assert again == first and {k: p.stat().st_mtime_ns for k, p in again.items()} == stamps
    with pytest.raises(ValueError, match=r"has no sparse\.tflite"):
        export(SMALL[0], "int8", "1x4", 0.75, folder, formats=["sparse.tflite"])
