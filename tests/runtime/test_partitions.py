"""Bundles with external partitions through Session: results, failures, trust of machine code."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import gossamer
from gossamer_runtime import BackendError, Session, SignatureError, backends


def network() -> onnx.ModelProto:
    """Conv, CumSum (which the core lacks), Relu."""
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array((0.2 * rng.standard_normal((8, 3, 3, 3))).astype(np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1] * 4),
        helper.make_node("CumSum", ["c", "axis"], ["s"], "cumsum"),
        helper.make_node("Relu", ["s"], ["y"], "relu"),
    ]
    graph = helper.make_graph(
        nodes,
        "partitioned",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 8, 8])],
        [weight, numpy_helper.from_array(np.array(1), "axis")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def recipe(*fallback: str) -> dict:
    return {"version": 1, "policy": {"fallback": list(fallback)}, "target": {"measure": False}}


def test_onnxruntime_partition(home):
    result = gossamer.optimize(network(), recipe("onnxruntime"))
    assert [p["backend"] for p in result.manifest["partitions"]] == ["onnxruntime"]
    assert any("cumsum" in note for note in result.notes)
    gossamer.verify_against(result.data, network(), samples=3).check()
    with Session(result.data) as session:
        assert session.partitions == 1
        kinds = [op.kind for op in session.profile(2).ops]
        assert "Extern" in kinds


def test_no_policy_no_fallback(home):
    with pytest.raises(gossamer.CompileError, match=r"CumSum.*cumsum"):
        gossamer.optimize(network(), recipe())


@pytest.mark.slow
def test_tvm_partition_is_code_and_needs_trust(home):
    pytest.importorskip("tvm", reason="apache-tvm is not installed: pip install 'gossamer[tvm]'")
    result = gossamer.optimize(network(), recipe("tvm"), key=False)
    with pytest.raises(SignatureError):
        Session(result.data)
    with pytest.raises(SignatureError, match="machine code"):
        Session(result.data, verify=False)
    x = np.random.default_rng(1).random((1, 3, 8, 8), np.float32)
    with Session(result.data, verify=False, allow_unverified_code=True) as session:
        y = session.run(x)
    with Session(gossamer.optimize(network(), recipe("onnxruntime")).data) as session:
        np.testing.assert_allclose(y, session.run(x), rtol=1e-5, atol=1e-5)


class _Broken:
    def __init__(self, make):
        self.make = make

    def run(self, inputs):
        assert not inputs[0].flags.writeable
        return self.make(inputs)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda i: (_ for _ in ()).throw(ZeroDivisionError("boom")), "boom"),
        (lambda i: [], "0 outputs"),
        (lambda i: [i[0].astype(np.float64)], "float64"),
        (lambda i: [i[0][0]], r"\[8, 8, 8\]"),
    ],
)
def test_failing_backend(home, monkeypatch, make, words):
    result = gossamer.optimize(network(), recipe("onnxruntime"))
    monkeypatch.setattr(backends, "open_backend", lambda *_, **__: _Broken(make))
    with Session(result.data) as session, pytest.raises(BackendError, match=words):
        session.run(np.zeros((1, 3, 8, 8), np.float32))


def test_interrupt_inside_a_backend_is_kept(home, monkeypatch):
    result = gossamer.optimize(network(), recipe("onnxruntime"))

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(backends, "open_backend", lambda *_, **__: _Broken(interrupt))
    with Session(result.data) as session, pytest.raises(KeyboardInterrupt):
        session.run(np.zeros((1, 3, 8, 8), np.float32))


def test_missing_backend_package_is_named(home, monkeypatch):
    import builtins
    import sys

    result = gossamer.optimize(network(), recipe("onnxruntime"))
    real = builtins.__import__

    def without(name, *rest, **options):
        if name.split(".")[0] == "onnxruntime":
            raise ImportError("No module named 'onnxruntime'")
        return real(name, *rest, **options)

    for name in [m for m in sys.modules if m.split(".")[0] == "onnxruntime"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "gossamer_runtime.backends.onnxruntime", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BackendError, match="onnxruntime"):
        Session(result.data)
