"""Runs a model through lowering and the core, and through ONNX Runtime, and compares."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

import gossamer_runtime
from gossamer.bundle.container import build
from gossamer.compile.emit import emit
from gossamer.compile.encode import encode_weights
from gossamer.compile.lower import LowerReport, lower
from gossamer.compile.plan import Plan
from tests.ort import run as onnxruntime

Arrays = dict[str, np.ndarray]
_KIND = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(*shape: int, seed: int = 9) -> np.ndarray:
    """Seeded standard normal float32."""
    return rng(seed).standard_normal(shape).astype(np.float32)


def node(op: str, inputs: list[str], outputs: list[str], domain: str = "", **attrs: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, outputs, name=f"{op}_{outputs[0]}", domain=domain, **attrs)


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, ...]],
    outputs: list[str],
    consts: Arrays | None = None,
    *,
    opset: int = 18,
    dtypes: dict[str, int] | None = None,
) -> onnx.ModelProto:
    """An ONNX model; output types are inferred."""
    dtypes = dtypes or {}
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(n, dtypes.get(n, TensorProto.FLOAT), s) for n, s in inputs.items()],
        [helper.make_empty_tensor_value_info(o) for o in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (consts or {}).items()],
    )
    domains = {n.domain for n in nodes}
    imports = [helper.make_opsetid(d, opset if not d else 1) for d in {""} | domains]
    made = helper.make_model(graph, opset_imports=imports, ir_version=10)
    inferred = onnx.shape_inference.infer_shapes(made)
    del made.graph.output[:]
    made.graph.output.extend(inferred.graph.output)
    for o in made.graph.output:
        if o.name in dtypes:
            o.type.tensor_type.elem_type = dtypes[o.name]
    return made


def lowered(proto: onnx.ModelProto, policy: Any = None, **options: Any) -> tuple[Plan, LowerReport]:
    report = LowerReport()
    return lower(ir.from_proto(proto), policy, report=report, **options), report


def bundle(plan: Plan) -> bytes:
    encode_weights(plan)
    emitted = emit(plan)
    return build(emitted.plan, emitted.weights, b"{}", [(e.backend, e.payload) for e in plan.externs])


def session(plan: Plan, **options: Any) -> gossamer_runtime.Session:
    return gossamer_runtime.Session(bundle(plan), verify=False, **options)


def run(proto: onnx.ModelProto, feeds: Arrays, policy: Any = None) -> list[np.ndarray]:
    plan, _ = lowered(proto, policy)
    made = session(plan, allow_unverified_code=True).run(list(feeds.values()))
    return made if isinstance(made, list) else [made]


def feeds_of(proto: onnx.ModelProto, seed: int = 0, scale: float = 1.0) -> Arrays:
    made: Arrays = {}
    constants = {i.name for i in proto.graph.initializer}
    for k, i in enumerate(v for v in proto.graph.input if v.name not in constants):
        shape = [d.dim_value for d in i.type.tensor_type.shape.dim]
        kind = np.dtype(helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type))
        g = rng(seed + k)
        if kind.kind == "f":
            made[i.name] = (g.standard_normal(shape) * scale).astype(kind)
        elif kind == np.bool_:
            made[i.name] = g.integers(0, 2, shape).astype(bool)
        else:
            info = np.iinfo(kind)
            made[i.name] = g.integers(max(info.min, -128), min(info.max, 255) + 1, shape).astype(kind)
    return made


def params(values: np.ndarray, unsigned: bool) -> tuple[np.float32, np.ndarray]:
    """Asymmetric 8-bit scale and zero point that cover the values and zero."""
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    scale = np.float32(max(high - low, 1e-3) / 255)
    zero = round(-low / float(scale)) - (0 if unsigned else 128)
    kind = np.uint8 if unsigned else np.int8
    info = np.iinfo(kind)
    return scale, np.array(np.clip(zero, info.min, info.max), kind)


def quantized(
    proto: onnx.ModelProto,
    feeds: Arrays,
    *,
    unsigned: bool = False,
    weights: tuple[str, ...] = (),
    per_channel: dict[str, int] | None = None,
    after: tuple[str, ...] | None = None,
) -> onnx.ModelProto:
    """A QDQ copy: pairs on every float input and on the results ``after`` (default: outputs), and quantised constants
    ``weights`` (per channel along the given axis, else per tensor)."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    g = made.graph
    outputs = after if after is not None else tuple(o.name for o in g.output)
    probe = onnx.ModelProto()
    probe.CopyFrom(proto)
    known = {o.name for o in probe.graph.output}
    probe.graph.output.extend(helper.make_empty_tensor_value_info(o) for o in outputs if o not in known)
    values = dict(zip([o.name for o in probe.graph.output], onnxruntime(probe, feeds), strict=True))
    floats = [i.name for i in g.input if i.type.tensor_type.elem_type == TensorProto.FLOAT]
    body = list(g.node)
    head: list[onnx.NodeProto] = []
    tail: list[onnx.NodeProto] = []

    def pair(name: str, array: np.ndarray, to: list[onnx.NodeProto], x: str, y: str) -> None:
        scale, zero = params(array, unsigned)
        g.initializer.append(numpy_helper.from_array(np.asarray(scale), f"{name}_s"))
        g.initializer.append(numpy_helper.from_array(zero, f"{name}_z"))
        to.append(node("QuantizeLinear", [x, f"{name}_s", f"{name}_z"], [f"{name}_q"]))
        to.append(node("DequantizeLinear", [f"{name}_q", f"{name}_s", f"{name}_z"], [y]))

    def rename(old: str, new: str, nodes: list[onnx.NodeProto]) -> None:
        for n in nodes:
            for k, i in enumerate(n.input):
                if i == old:
                    n.input[k] = new

    for name in floats:
        rename(name, f"{name}_dq", body)
        pair(name, feeds[name], head, name, f"{name}_dq")
    for name in outputs:
        graph_output = any(o.name == name for o in g.output)
        inner = f"{name}_f"
        for n in body:
            for k, o in enumerate(n.output):
                if o == name:
                    n.output[k] = inner
        if not graph_output:
            rename(name, f"{name}_dq", body)
        spot: list[onnx.NodeProto] = []
        pair(name, values[name], spot, inner, name if graph_output else f"{name}_dq")
        maker = next(k for k, n in enumerate(body) if inner in n.output)
        body[maker + 1 : maker + 1] = spot
    constants = {i.name: numpy_helper.to_array(i) for i in g.initializer}
    for name in weights:
        w = constants[name]
        axis = (per_channel or {}).get(name)
        if axis is None:
            scale, zero = params(w, True)
            q = np.clip(np.rint(w / scale) + int(zero), 0, 255).astype(np.uint8)
            g.initializer.append(numpy_helper.from_array(np.asarray(scale), f"{name}_s"))
            extra = {}
        else:
            top = np.abs(w).max(axis=tuple(k for k in range(w.ndim) if k != axis))
            scales = (np.maximum(top, 1e-6) / 127).astype(np.float32)
            view = [-1 if k == axis else 1 for k in range(w.ndim)]
            q = np.clip(np.rint(w / scales.reshape(view)), -127, 127).astype(np.int8)
            zero = np.zeros(w.shape[axis], np.int8)
            g.initializer.append(numpy_helper.from_array(scales, f"{name}_s"))
            extra = {"axis": axis}
        g.initializer.append(numpy_helper.from_array(q, f"{name}_i"))
        g.initializer.append(numpy_helper.from_array(zero, f"{name}_z"))
        head.append(node("DequantizeLinear", [f"{name}_i", f"{name}_s", f"{name}_z"], [f"{name}_w"], **extra))
        rename(name, f"{name}_w", body)
    del g.node[:]
    g.node.extend([*head, *body, *tail])
    return made


def step_of(proto: onnx.ModelProto, output: str) -> float:
    """Scale of a quantised output made by ``quantized``."""
    return next(float(numpy_helper.to_array(i)) for i in proto.graph.initializer if i.name == f"{output}_s")


def assert_close(made: np.ndarray, want: np.ndarray, tolerance: float = 1e-4) -> None:
    """Equal shape and type; difference at most ``tolerance`` times the largest absolute value."""
    assert made.shape == want.shape
    assert made.dtype == want.dtype
    bound = tolerance * max(float(np.abs(want).max(initial=0)), 1e-6)
    assert float(np.abs(made.astype(np.float64) - want.astype(np.float64)).max(initial=0)) <= bound


def check_f32(proto: onnx.ModelProto, seed: int = 0, tolerance: float = 2e-5, scale: float = 1.0) -> Plan:
    """The core's result equals ONNX Runtime's; returns the plan for looking into."""
    feeds = feeds_of(proto, seed, scale)
    plan, _ = lowered(proto)
    made = session(plan).run(list(feeds.values()))
    for a, b in zip(made if isinstance(made, list) else [made], onnxruntime(proto, feeds), strict=True):
        assert_close(a, b, tolerance)
    return plan


def check_int8(
    proto: onnx.ModelProto, *, seed: int = 0, steps: int = 1, scale: float = 1.0, fallback: bool = False, **how: Any
) -> Plan:
    """The QDQ copy of a float model runs in int8 (unless ``fallback``) within ``steps`` of ONNX Runtime, for int8 and
    uint8 activations. Most values must be equal."""
    feeds = feeds_of(proto, seed, scale)
    plan = None
    for unsigned in (False, True):
        qdq = quantized(proto, feeds, unsigned=unsigned, **how)
        plan, report = lowered(qdq)
        assert bool(report.fallbacks) == fallback, [str(f) for f in report.fallbacks]
        made = session(plan).run(list(feeds.values()))
        outputs = [o.name for o in qdq.graph.output]
        for name, a, b in zip(
            outputs, made if isinstance(made, list) else [made], onnxruntime(qdq, feeds), strict=True
        ):
            assert a.shape == b.shape
            off = np.abs(a.astype(np.float64) - b) / step_of(qdq, name)
            assert off.max() <= steps + 1e-3, f"{name}: {off.max()} steps"
            assert np.mean(off > 0.5) <= 0.02, f"{name}: {np.mean(off > 0.5):.3f} of the values differ"
    assert plan is not None
    return plan
