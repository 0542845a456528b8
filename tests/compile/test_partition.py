"""Operators that the core lacks: external partitions through each backend, and the error when none is allowed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import gossamer_runtime
from gossamer._errors import BackendError, CompileError, SignatureError
from gossamer.compile import partition
from gossamer.compile.graph import Graph, Node, Type
from gossamer.compile.plan import Backend, OpKind
from gossamer_runtime.backends import open_backend
from tests.compile.support import (
    assert_close,
    bundle,
    feeds_of,
    lowered,
    model,
    node,
    onnxruntime,
    quantized,
    rng,
    run,
    session,
    step_of,
)

BACKENDS = ["onnxruntime", pytest.param("tvm", marks=pytest.mark.slow)]


def needs(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install 'gossamer[dev]'")


def weights(*shape: int, seed: int = 1) -> np.ndarray:
    return rng(seed).standard_normal(shape).astype(np.float32)


def mixed() -> onnx.ModelProto:
    """Core, ConvTranspose, core, TopK and Sin (one group), core."""
    nodes = [
        node("Conv", ["x", "u"], ["a"]),
        node("ConvTranspose", ["a", "w"], ["t"], strides=[2, 2]),
        node("Relu", ["t"], ["r"]),
        node("TopK", ["r", "k"], ["v", "i"], axis=3),
        node("Sin", ["v"], ["s"]),
        node("Conv", ["s", "u"], ["y"]),
    ]
    consts = {"w": weights(4, 4, 2, 2), "k": np.array([4], np.int64), "u": weights(4, 4, 1, 1, seed=2)}
    return model(nodes, {"x": (1, 4, 5, 6)}, ["y", "i"], consts)


@pytest.mark.parametrize("backend", BACKENDS)
def test_partitions_run_between_core_operators(backend: str) -> None:
    needs("tvm" if backend == "tvm" else backend)
    proto = mixed()
    plan, report = lowered(proto, [backend])
    assert [o.kind for o in plan.ops].count(OpKind.EXTERN) == 2
    assert [n.nodes for n in report.partitions] == [("ConvTranspose_t",), ("TopK_v", "Sin_s")]
    assert all(n.kind == backend for n in report.partitions)
    feeds = feeds_of(proto)
    made = session(plan, allow_unverified_code=True).run(list(feeds.values()))
    for a, b in zip(made, onnxruntime(proto, feeds), strict=True):
        assert_close(a, b, 1e-5)


@pytest.mark.slow
def test_tvm_code_is_not_run_unverified() -> None:
    needs("tvm")
    plan, _ = lowered(mixed(), ["tvm"])
    with pytest.raises(SignatureError, match="machine code"):
        gossamer_runtime.Session(bundle(plan), verify=False)


@pytest.mark.slow
def test_tvm_builds_for_another_machine() -> None:
    needs("tvm")
    plan, _ = lowered(mixed(), ["tvm"], target="aarch64")
    assert [e.payload[:4] for e in plan.externs] == [b"\x7fELF"] * 2
    assert {int.from_bytes(e.payload[18:20], "little") for e in plan.externs} == {183}  # EM_AARCH64
    with pytest.raises(CompileError, match="tvm: it cannot build for wasm32"):
        lowered(mixed(), ["tvm"], target="wasm32")


def test_first_backend_that_works_is_taken() -> None:
    needs("onnxruntime")
    plan, report = lowered(mixed(), ["litert", "onnxruntime"])
    assert {e.backend for e in plan.externs} == {Backend.ONNXRUNTIME}
    assert [n.kind for n in report.partitions] == ["onnxruntime"] * 2


def test_float_partition_inside_a_quantized_region() -> None:
    needs("onnxruntime")
    nodes = [
        node("Conv", ["x", "u"], ["a"]),
        node("ConvTranspose", ["a", "w"], ["t"], strides=[2, 2]),
        node("Conv", ["t", "u"], ["y"]),
    ]
    proto = model(nodes, {"x": (1, 4, 5, 6)}, ["y"], {"w": weights(4, 4, 2, 2), "u": weights(4, 4, 1, 1, seed=2)})
    feeds = feeds_of(proto)
    qdq = quantized(proto, feeds, weights=("w", "u"), after=("a", "t", "y"))
    plan, report = lowered(qdq, ["onnxruntime"])
    kinds = [o.kind for o in plan.ops]
    assert kinds.count(OpKind.CONV) == 2
    assert kinds.count(OpKind.EXTERN) == 1
    assert not report.fallbacks
    off = np.abs(session(plan).run(feeds["x"]) - onnxruntime(qdq, feeds)[0]) / step_of(qdq, "y")
    assert off.max() <= 2.001


def test_booleans_cross_a_border_as_bytes() -> None:
    needs("onnxruntime")
    nodes = [
        node("Greater", ["x", "z"], ["g"]),
        node("Where", ["g", "x", "z"], ["w"]),
        node("Tanh", ["w"], ["h"]),
        node("Where", ["g", "h", "x"], ["y"]),
    ]
    proto = model(nodes, {"x": (3, 4), "z": (3, 4)}, ["y"])
    feeds = feeds_of(proto)
    assert_close(run(proto, feeds, ["onnxruntime"])[0], onnxruntime(proto, feeds)[0], 1e-6)
    only = model([node("Greater", ["x", "z"], ["g"])], {"x": (3, 4), "z": (3, 4)}, ["g"])
    made = run(only, feeds, ["onnxruntime"])[0]
    assert made.dtype == np.uint8
    assert np.array_equal(made.astype(bool), onnxruntime(only, feeds)[0])


def test_integer_inputs_reach_a_partition() -> None:
    needs("onnxruntime")
    nodes = [node("Gather", ["table", "ids"], ["e"]), node("Tanh", ["e"], ["y"])]
    proto = model(nodes, {"ids": (2, 5)}, ["y"], {"table": weights(11, 6)}, dtypes={"ids": TensorProto.INT64})
    feeds = {"ids": rng(0).integers(0, 11, (2, 5))}
    assert_close(run(proto, feeds, ["onnxruntime"])[0], onnxruntime(proto, feeds)[0], 1e-6)


def test_control_flow_with_captured_values() -> None:
    needs("onnxruntime")
    from onnx import helper

    def branch(op: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info("o", TensorProto.FLOAT, (3,))
        return helper.make_graph([helper.make_node(op, ["t", "z"], ["o"])], op, [], [out])

    nodes = [
        node("Tanh", ["x"], ["t"]),
        node("ReduceSum", ["t"], ["s"], keepdims=0),
        node("Greater", ["s", "zero"], ["c"]),
        node("If", ["c"], ["y"], then_branch=branch("Add"), else_branch=branch("Sub")),
    ]
    proto = model(nodes, {"x": (3,), "z": (3,)}, ["y"], {"zero": np.float32(0)})
    feeds = feeds_of(proto)
    assert_close(run(proto, feeds, ["onnxruntime"])[0], onnxruntime(proto, feeds)[0], 1e-6)


def test_error_names_every_operator_node_and_source() -> None:
    proto = mixed()
    for n in proto.graph.node:
        entry = n.metadata_props.add()
        entry.key, entry.value = "gossamer.source", f"net.py:{len(n.name)} {n.op_type.lower()}"
    with pytest.raises(CompileError) as error:
        lowered(proto)
    text = str(error.value)
    for op, name in (("ConvTranspose", "ConvTranspose_t"), ("TopK", "TopK_v"), ("Sin", "Sin_s")):
        assert f"{op} '{name}' at net.py:{len(name)} {op.lower()}" in text
    assert "Relu" not in text
    assert "fallback: [onnxruntime]" in text


def test_error_says_why_an_allowed_backend_cannot() -> None:
    with pytest.raises(CompileError, match=r"litert: takes only what was imported from a \.tflite"):
        lowered(mixed(), ["litert"])


def test_unknown_backend_in_the_policy() -> None:
    with pytest.raises(CompileError, match="'tensorrt', which is no backend"):
        lowered(mixed(), ["tensorrt"])


# --- grouping


def chain(edges: dict[str, list[str]], unsupported: set[str]) -> list[list[str]]:
    """Groups of a graph given as node -> nodes it reads."""
    g = Graph()
    g.inputs = ["x"]
    g.types["x"] = Type(np.dtype(np.float32), (1,))
    g.nodes = [Node("Op", [f"v{i}" for i in reads] or ["x"], [f"v{n}"], name=n) for n, reads in edges.items()]
    chosen = {n for n in g.nodes if n.name in unsupported}
    return [[n.name for n in group] for group in partition.convex_groups(g, chosen)]


def test_groups_are_maximal_and_convex() -> None:
    # a feeds c directly and through the supported b: {a, c} would have a path that leaves and returns.
    assert chain({"a": [], "b": ["a"], "c": ["a", "b"]}, {"a", "c"}) == [["a"], ["c"]]
    assert chain({"a": [], "b": ["a"], "c": ["a", "b"]}, {"a", "b", "c"}) == [["a", "b", "c"]]
    diamond = {"a": [], "l": ["a"], "r": ["a"], "m": ["l", "r"], "z": ["m"]}
    assert chain(diamond, {"l", "m", "z"}) == [["l", "m", "z"]]
    assert chain(diamond, {"a", "l", "m"}) == [["a", "l"], ["m"]]
    assert chain(diamond, {"l", "r"}) == [["l"], ["r"]]


# --- backends of the runtime


def test_backend_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match=r"whose Python package is not installed") as error:
        open_backend("onnxruntime", b"", where="model.goss, partition 0")
    assert "gossamer-runtime[onnxruntime]" in str(error.value)
    assert "model.goss, partition 0" in str(error.value)


def test_backend_refuses_damaged_payloads_and_unknown_numbers() -> None:
    needs("onnxruntime")
    with pytest.raises(BackendError, match="onnxruntime cannot open"):
        open_backend("onnxruntime", b"not a model")
    with pytest.raises(BackendError, match="'7', which this runtime does not have"):
        open_backend(7, b"")


def test_tflite_operators_run_through_litert(data_dir: Path) -> None:
    needs("ai_edge_litert")
    from gossamer.compile.lower import lower
    from gossamer.importers import load_model
    from tests import litert

    path = data_dir / "models" / "tflite-micro" / "trained_lstm_int8.tflite"
    imported = load_model(path)
    plan = lower(imported, ["litert"])
    assert [e.backend for e in plan.externs] == [Backend.LITERT]
    opened = session(plan)
    batch = rng(0).integers(-128, 128, (5, *opened.inputs[0].shape)).astype(np.int8)
    for x, theirs in zip(batch, litert.run(path, batch), strict=True):
        assert np.abs(opened.run(x)[0].astype(int) - theirs.astype(int)).max() <= 1
    with pytest.raises(CompileError, match=r"add it to policy\.fallback"):
        lower(imported, None)
    with pytest.raises(CompileError, match="only litert runs it"):
        lower(imported, ["onnxruntime"])
