"""Whole networks exported from torch, f32 and as ONNX Runtime's quantiser writes them, against ONNX Runtime."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from gossamer.compile.plan import DType, OpKind
from tests.compile.support import assert_close, lowered, onnxruntime, rng, session

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'gossamer[torch]'")

SMALL = ["mobilenet_v1_0.25", "mobilenet_v2_0.35", "resnet18_small", "tiny_vit", "ds_cnn"]
LARGE = ["mobilenet_v1", "mobilenet_v2", "resnet18"]
NAMES = [*SMALL, *(pytest.param(n, marks=pytest.mark.slow) for n in LARGE)]


@cache
def exported(name: str, batch: int = 1) -> onnx.ModelProto:
    from gossamer.importers import load_model
    from tests import models

    example = torch.cat([models.example(name, seed=k + 1) for k in range(batch)])
    return ir.to_proto(load_model(models.build(name), example_inputs=(example,), name=name))


def inputs_of(proto: onnx.ModelProto, seed: int) -> np.ndarray:
    shape = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    return rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_f32_equals_onnxruntime(name: str) -> None:
    proto = exported(name)
    plan, report = lowered(proto)
    opened = session(plan)
    for seed in range(3):
        x = inputs_of(proto, seed)
        want = onnxruntime(proto, {proto.graph.input[0].name: x})[0]
        made = opened.run(x)
        assert_close(made, want, 1e-4)
        assert np.array_equal(made.argmax(axis=-1), want.argmax(axis=-1))
    assert not report.fallbacks
    assert not report.partitions


@pytest.mark.parametrize("name", ["ds_cnn", "tiny_vit"])
def test_batch_of_three(name: str) -> None:
    proto = exported(name, 3)
    x = inputs_of(proto, 4)
    plan, _ = lowered(proto)
    assert_close(session(plan).run(x), onnxruntime(proto, {proto.graph.input[0].name: x})[0], 1e-4)


def test_batch_norms_and_activations_are_gone() -> None:
    plan, report = lowered(exported("mobilenet_v2_0.35"))
    kinds = [o.kind for o in plan.ops]
    assert {OpKind.CONV, OpKind.DWCONV, OpKind.BINARY, OpKind.GEMM} <= set(kinds)
    assert OpKind.UNARY not in kinds
    assert kinds.count(OpKind.BINARY) == 10  # the residual additions alone
    assert kinds.count(OpKind.LAYOUT) <= 2
    assert report.as_dict()["fallbacks"] == []


def test_every_operator_says_where_it_comes_from() -> None:
    plan, _ = lowered(exported("mobilenet_v2_0.35"))
    assert all(o.name and o.source for o in plan.ops)
    convolutions = [o for o in plan.ops if o.kind in (OpKind.CONV, OpKind.DWCONV)]
    assert len({o.name for o in convolutions}) == len(convolutions)
    assert any("features" in o.source or "models.py" in o.source for o in convolutions)


def test_attention_keeps_to_matrix_products() -> None:
    plan, _ = lowered(exported("tiny_vit"))
    kinds = [o.kind for o in plan.ops]
    assert kinds.count(OpKind.SOFTMAX) * 2 == kinds.count(OpKind.MATMUL)
    gelus = [o for o in plan.ops if o.kind is OpKind.UNARY]
    assert len(gelus) == kinds.count(OpKind.SOFTMAX)


# --- quantised by ONNX Runtime


@cache
def quantized(name: str, activation: str, per_channel: bool, form: str = "QDQ") -> onnx.ModelProto:
    import tempfile

    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    proto = exported(name)
    entry = proto.graph.input[0].name

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._items: Iterator[dict[str, np.ndarray]] = iter([{entry: inputs_of(proto, 50 + k)} for k in range(8)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._items, None)

    logging.disable(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "f32.onnx", Path(folder) / "int8.onnx"
            onnx.save(onnx.shape_inference.infer_shapes(proto), source)
            quantize_static(
                source,
                target,
                Reader(),
                quant_format=QuantFormat[form],
                activation_type=QuantType[activation],
                weight_type=QuantType[activation],
                per_channel=per_channel,
            )
            return onnx.load(target)
    finally:
        logging.disable(logging.NOTSET)


def last_step(proto: onnx.ModelProto) -> float:
    last = [n for n in proto.graph.node if n.op_type == "DequantizeLinear"][-1]
    return next(float(numpy_helper.to_array(i)) for i in proto.graph.initializer if i.name == last.input[1])


SCHEMES = [("QInt8", True), ("QInt8", False), ("QUInt8", False)]
SHALLOW = ["mobilenet_v1_0.25", "resnet18_small", "ds_cnn"]
IGNORE = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised inside ONNX Runtime's quantiser


@IGNORE
@pytest.mark.parametrize(("activation", "per_channel"), SCHEMES)
@pytest.mark.parametrize("name", SMALL)
def test_int8_networks_agree_with_onnxruntime(name: str, activation: str, per_channel: bool) -> None:
    proto = quantized(name, activation, per_channel)
    plan, report = lowered(proto)
    assert {n.kind for n in report.fallbacks} <= {"LayerNormalization"}
    heavy = [o for o in plan.ops if o.kind in (OpKind.CONV, OpKind.DWCONV, OpKind.GEMM, OpKind.MATMUL)]
    assert heavy
    assert all(o.outputs[0].dtype is DType.S8 for o in heavy)
    opened = session(plan)
    step, entry = last_step(proto), proto.graph.input[0].name
    ours, theirs, apart = [], [], []
    for seed in range(10):
        x = inputs_of(proto, seed)
        exact = onnxruntime(exported(name), {entry: x})[0]
        want = onnxruntime(proto, {entry: x})[0]
        made = opened.run(x)
        apart.append(float(np.abs(made - want).max()) / step)
        ours.append(float(np.abs(made - exact).mean()))
        theirs.append(float(np.abs(want - exact).mean()))
        if name in SHALLOW:
            top = np.sort(want.ravel())
            assert made.argmax() == want.argmax() or top[-1] - top[-2] <= 2.001 * step
    assert np.mean(ours) <= 1.1 * np.mean(theirs)
    # One value that rounds the other way early in a deep network of random weights grows without bound; the test of
    # single layers below says that they round alike.
    if name in SHALLOW:
        assert np.median(apart) <= 2.001


@IGNORE
@pytest.mark.parametrize("name", ["resnet18_small", "ds_cnn"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_quantized_operators_are_read_like_qdq(name: str, per_channel: bool) -> None:
    """QLinearConv and its family, which ONNX Runtime's other format uses."""
    proto = quantized(name, "QUInt8", per_channel, "QOperator")
    assert "QLinearConv" in {n.op_type for n in proto.graph.node}
    plan, report = lowered(proto)
    assert not report.fallbacks
    assert all(o.outputs[0].dtype is not DType.F32 for o in plan.ops[:-1])
    opened = session(plan)
    step, entry = last_step(proto), proto.graph.input[0].name
    apart = []
    for seed in range(5):
        x = inputs_of(proto, seed)
        apart.append(float(np.abs(opened.run(x) - onnxruntime(proto, {entry: x})[0]).max()) / step)
    assert np.median(apart) <= 2.001


def pieces(proto: onnx.ModelProto) -> Iterator[tuple[onnx.ModelProto, list[str], str]]:
    """Cuts a QDQ network at every QuantizeLinear: (model, its quantised inputs, its quantised output)."""
    from onnx import TensorProto, helper

    maker = {o: n for n in proto.graph.node for o in n.output}
    typed = {v.name: v for v in onnx.shape_inference.infer_shapes(proto).graph.value_info}
    constants = {i.name: i for i in proto.graph.initializer}
    for last in proto.graph.node:
        target = last.output[0]
        if last.op_type != "QuantizeLinear" or last.input[0] in {i.name for i in proto.graph.input}:
            continue
        inner: list[onnx.NodeProto] = []
        borders: dict[str, None] = {}
        stack = [last]
        while stack:
            n = stack.pop()
            if any(n is m for m in inner):
                continue
            inner.append(n)
            for i in n.input:
                if i in maker and maker[i].op_type == "QuantizeLinear":
                    borders[i] = None
                elif i in maker:
                    stack.append(maker[i])
        order = [n for n in proto.graph.node if any(n is m for m in inner)]
        used = [constants[i] for i in dict.fromkeys(i for n in order for i in n.input) if i in constants]
        graph = helper.make_graph(order, "piece", [typed[b] for b in borders], [typed[target]], used)
        assert typed[target].type.tensor_type.elem_type in (TensorProto.INT8, TensorProto.UINT8)
        yield helper.make_model(graph, opset_imports=proto.opset_import, ir_version=10), list(borders), target


@IGNORE
@pytest.mark.parametrize(("activation", "per_channel"), [("QInt8", True), ("QUInt8", False)])
@pytest.mark.parametrize("name", ["mobilenet_v2_0.35", "resnet18_small", "tiny_vit"])
def test_every_layer_rounds_like_onnxruntime(name: str, activation: str, per_channel: bool) -> None:
    """Given the same 8-bit inputs, each layer is within one step of ONNX Runtime and nearly always equal."""
    proto = quantized(name, activation, per_channel)
    whole = onnx.ModelProto()
    whole.CopyFrom(proto)
    typed = {v.name: v for v in onnx.shape_inference.infer_shapes(proto).graph.value_info}
    values = [n.output[0] for n in proto.graph.node if n.op_type == "QuantizeLinear" and n.output[0] in typed]
    del whole.graph.output[:]
    whole.graph.output.extend(typed[v] for v in values)
    made = onnxruntime(whole, {proto.graph.input[0].name: inputs_of(proto, 3)})
    known = dict(zip(values, made, strict=True))
    count = 0
    for piece, inputs, target in pieces(proto):
        mine = session(lowered(piece)[0]).run([known[i] for i in inputs])
        off = np.abs((mine[0] if isinstance(mine, list) else mine).astype(int) - known[target].astype(int))
        assert off.max() <= 1, target
        assert np.mean(off > 0) < 0.005, target
        count += 1
    assert count >= 20
