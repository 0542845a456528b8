"""Puts what the core cannot run into external partitions: maximal convex groups of nodes, one payload each.

onnxruntime carries a standalone ONNX model, litert the .tflite that the importer cut out, tvm a library compiled here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gossamer._errors import CompileError
from gossamer.compile import partition_tvm
from gossamer.compile.graph import Array, Graph, Node, Type, to_node_proto
from gossamer.compile.plan import Backend, Extern
from gossamer.compile.report import LowerReport, Note
from gossamer.compile.unary import real

if TYPE_CHECKING:
    import onnx

BACKENDS = ("onnxruntime", "litert", "tvm")
TFLITE = "gossamer.tflite"
"""Domain of nodes that ONNX cannot express; attribute ``tflite`` holds a model of that operator alone."""
_NUMBER = {"onnxruntime": Backend.ONNXRUNTIME, "litert": Backend.LITERT, "tvm": Backend.TVM}


class RefusedError(Exception):
    """A backend cannot take a group."""


def split(
    g: Graph, failed: dict[Node, str], allowed: list[str], report: LowerReport, *, first: int, target: str
) -> list[Extern]:
    """Replaces the failed nodes by ``Extern`` nodes, in place, and returns their payloads (numbered from ``first``).

    Raises ``CompileError`` naming every node for which no allowed backend works.
    """
    externs: list[Extern] = []
    refused: dict[Node, str] = {}
    for group in convex_groups(g, set(failed)):
        inputs, outputs = _borders(g, group)
        reasons = []
        for backend in allowed:
            try:
                payload = _payload(g, backend, group, inputs, outputs, target)
            except RefusedError as reason:
                reasons.append(f"{backend}: {reason}")
                continue
            index = first + len(externs)
            _replace(g, group, inputs, outputs, index, _NUMBER[backend])
            names = tuple(n.name for n in group)
            why = "; ".join(dict.fromkeys(f"{n.op_type}: {failed[n]}" for n in group))
            externs.append(Extern(_NUMBER[backend], payload, list(names), why))
            report.partitions.append(Note(backend, names, why))
            break
        else:
            refused.update(dict.fromkeys(group, "; ".join(reasons)))
    if refused:
        raise unsupported_error({n: failed[n] for n in refused}, allowed, refused)
    g.sort()
    return externs


def unsupported_error(failed: dict[Node, str], allowed: list[str], refused: dict[Node, str]) -> CompileError:
    """The error that names every operator at fault."""
    lines = []
    for node, reason in failed.items():
        extra = f" [{refused[node]}]" if refused.get(node) else ""
        lines.append(f"  - {node}: {reason}{extra}")
    only_tflite = all(n.domain == TFLITE for n in failed)
    hint = (
        "these need litert: add it to policy.fallback in the recipe"
        if only_tflite and "litert" not in allowed
        else "allow a backend in the recipe, e.g. policy: {fallback: [onnxruntime]}, or change the model"
        if not allowed
        else "change the model, or allow another backend in policy.fallback"
    )
    return CompileError(f"{len(failed)} operator(s) cannot be compiled:\n" + "\n".join(lines), hint=hint)


def convex_groups(g: Graph, nodes: set[Node]) -> list[list[Node]]:
    """Groups of connected nodes, merged as long as no path leaves a group and comes back.

    Nodes of the TFLite domain stay alone. Groups and their nodes are in topological order.
    """
    number: dict[int, int] = {id(n): k for k, n in enumerate(g.nodes)}
    above: list[int] = []  # bit set of the nodes that each node depends on
    for n in g.nodes:
        bits = 0
        for name in n.reads:
            maker = g.producer(name)
            if maker is not None:
                k = number[id(maker)]
                bits |= above[k] | 1 << k
        above.append(bits)
    groups = [1 << number[id(n)] for n in g.nodes if n in nodes]
    alone = {number[id(n)] for n in nodes if n.domain == TFLITE}

    def depends(group: int) -> int:
        bits = 0
        for k in _members(group):
            bits |= above[k]
        return bits

    def convex(group: int) -> bool:
        outside = depends(group) & ~group
        return all(not above[k] & group for k in _members(outside))

    merged = True
    while merged:
        merged = False
        for i in range(len(groups)):
            if groups[i] == 0 or any(k in alone for k in _members(groups[i])):
                continue
            direct = 0
            for k in _members(groups[i]):
                for value in g.nodes[k].reads:
                    maker = g.producer(value)
                    if maker is not None:
                        direct |= 1 << number[id(maker)]
            for j in range(len(groups)):
                if i == j or not direct & groups[j] or any(k in alone for k in _members(groups[j])):
                    continue
                if convex(groups[i] | groups[j]):
                    groups[i], groups[j] = groups[i] | groups[j], 0
                    merged = True
    kept = sorted((b for b in groups if b), key=lambda b: b & -b)
    return [[g.nodes[k] for k in _members(b)] for b in kept]


def _members(bits: int) -> list[int]:
    found = []
    while bits:
        low = bits & -bits
        found.append(low.bit_length() - 1)
        bits ^= low
    return found


def _borders(g: Graph, group: list[Node]) -> tuple[list[str], list[str]]:
    """Values that a group reads from outside (constants excepted) and those that others read from it."""
    made = {o for n in group for o in n.outputs if o}
    inside = {id(n) for n in group}
    inputs = dict.fromkeys(
        i for n in group for i in n.reads if i not in made and i not in g.consts and _constant(g, i) is None
    )
    outputs = [
        o
        for n in group
        for o in n.outputs
        if o and (g.is_output(o) or any(id(u) not in inside for u in g.consumers(o)))
    ]
    return list(inputs), outputs


def _constant(g: Graph, name: str) -> Array | None:
    """A dequantised constant, which a partition carries as float."""
    maker = g.producer(name)
    if maker is None or maker.op_type != "DequantizeLinear" or maker.domain or maker.inputs[0] not in g.consts:
        return None
    value = real(g, name)
    return None if value is None else value.astype(np.float32)


def _replace(g: Graph, group: list[Node], inputs: list[str], outputs: list[str], index: int, backend: Backend) -> None:
    for name in [*inputs, *outputs]:
        if g.dtype(name) == np.bool_:
            g.types[name] = Type(np.dtype(np.uint8), g.shape(name))
    label = group[0].name if len(group) == 1 else f"{group[0].name}..{group[-1].name}"
    node = Node(
        "Extern",
        inputs,
        outputs,
        {"index": index, "backend": int(backend)},
        name=label,
        source="; ".join(dict.fromkeys(n.source for n in group if n.source)),
        domain="gossamer",
    )
    g.insert(group[-1], [node], after=True)
    g.remove(group)
    g.sort()


def _payload(g: Graph, backend: str, group: list[Node], inputs: list[str], outputs: list[str], target: str) -> bytes:
    tflite = [n for n in group if n.domain == TFLITE]
    if backend == "litert":
        if not tflite:
            raise RefusedError("takes only what was imported from a .tflite file")
        embedded = tflite[0].attrs.get("tflite")
        if not isinstance(embedded, bytes):
            raise RefusedError("the importer left no .tflite of this operator")
        return embedded
    if tflite:
        raise RefusedError("this TFLite operator has no ONNX form; only litert runs it")
    model = onnx_model(g, group, inputs, outputs)
    if backend == "tvm":
        try:
            return partition_tvm.build(model, target)
        except partition_tvm.CannotBuildError as error:
            raise RefusedError(str(error)) from error
    data: bytes = model.SerializeToString(deterministic=True)
    _check_onnxruntime(data)
    return data


def _check_onnxruntime(data: bytes) -> None:
    """Loads the partition here, so that what ONNX Runtime refuses fails now and not on the device."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise RefusedError((str(error) or type(error).__name__).splitlines()[0]) from error


def onnx_model(g: Graph, group: list[Node], inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    """A standalone ONNX model of a group, with fixed shapes. Boolean borders are cast from and to uint8."""
    import onnx
    from onnx import helper, numpy_helper

    nodes: list[onnx.NodeProto] = []
    infos_in: list[onnx.ValueInfoProto] = []
    infos_out: list[onnx.ValueInfoProto] = []
    initializers: list[onnx.TensorProto] = []
    rename: dict[str, str] = {}
    for k, name in enumerate(inputs):
        dtype, boolean = g.dtype(name), _was_bool(g, name, group)
        outer = f"in{k}"
        rename[name] = f"v{k}"
        border = np.dtype(np.uint8) if boolean else dtype
        infos_in.append(helper.make_tensor_value_info(outer, helper.np_dtype_to_tensor_dtype(border), g.shape(name)))
        if boolean:
            nodes.append(helper.make_node("Cast", [outer], [rename[name]], to=onnx.TensorProto.BOOL))
        else:
            rename[name] = outer
    used = dict.fromkeys(i for n in group for i in n.reads)
    for name in used:
        value = g.consts.get(name)
        if value is None and name not in rename:
            value = _constant(g, name)
        if value is not None:
            rename[name] = f"c{len(initializers)}"
            initializers.append(numpy_helper.from_array(value, rename[name]))
    made = [o for n in group for o in n.outputs if o]
    for k, name in enumerate(made):
        rename[name] = f"t{k}"
    for node in group:
        nodes += _to_onnx(g, node, rename, initializers)
    for k, name in enumerate(outputs):
        boolean = g.dtype(name) == np.bool_ or (g.is_output(name) and name in _bool_outputs(g, group))
        border = np.dtype(np.uint8) if boolean else g.dtype(name)
        kind = helper.np_dtype_to_tensor_dtype(border)
        infos_out.append(helper.make_tensor_value_info(f"out{k}", kind, g.shape(name)))
        nodes.append(
            helper.make_node("Cast", [rename[name]], [f"out{k}"], to=onnx.TensorProto.UINT8)
            if boolean
            else helper.make_node("Identity", [rename[name]], [f"out{k}"])
        )
    graph = helper.make_graph(nodes, "partition", infos_in, infos_out, initializers)
    opsets = [helper.make_opsetid(d, v) for d, v in sorted(g.opsets.items()) if d not in (TFLITE, "gossamer")]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="gossamer")


def _bool_outputs(g: Graph, group: list[Node]) -> set[str]:
    """Graph outputs of these nodes that are boolean inside (their border type was already changed to uint8)."""
    boolean = {"Not", "And", "Or", "Xor", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "IsNaN", "IsInf"}
    return {
        n.outputs[0]
        for n in group
        if n.op_type in boolean or g.declared.get(n.outputs[0], (None, None))[0] == np.dtype(np.bool_)
    }


def _was_bool(g: Graph, name: str, group: list[Node]) -> bool:
    if g.dtype(name) == np.bool_:
        return True
    if g.dtype(name) != np.uint8:
        return False
    wants = {"Where": (0,), "Not": (0,), "And": (0, 1), "Or": (0, 1), "Xor": (0, 1), "If": (0,), "Loop": (1,)}
    return any(
        name == n.inputs[k] for n in group for k in wants.get(n.op_type, ()) if not n.domain and k < len(n.inputs)
    )


def _to_onnx(
    g: Graph, node: Node, rename: dict[str, str], initializers: list[onnx.TensorProto]
) -> list[onnx.NodeProto]:
    """A node with partition-local names; canonical nodes are written in ONNX again."""
    from onnx import helper, numpy_helper

    def local(value: str) -> str:
        return rename.get(value, value) if value else ""

    def const(value: object, dtype: type) -> str:
        made = f"c{len(initializers)}"
        initializers.append(numpy_helper.from_array(np.asarray(value, dtype), made))
        return made

    if node.domain != "gossamer":
        proto = to_node_proto(node)
        for k, i in enumerate(node.inputs):
            proto.input[k] = local(i)
        for k, o in enumerate(node.outputs):
            proto.output[k] = local(o)
        return [*_capture_aliases(node, rename), proto]
    x, y = local(node.inputs[0]), [local(node.outputs[0])]
    if node.op_type == "Reshape":
        return [helper.make_node("Reshape", [x, const(g.shape(node.outputs[0]), np.int64)], y)]
    if node.op_type == "Slice":
        start, step = node.attrs["start"], node.attrs["step"]
        out = g.shape(node.outputs[0])
        ends = [s + p * n for s, p, n in zip(start, step, out, strict=True)]
        ends = [e if e >= 0 else -(1 << 31) for e in ends]
        axes = list(range(len(start)))
        return [helper.make_node("Slice", [x, *(const(v, np.int64) for v in (start, ends, axes, step))], y)]
    if node.op_type == "Pad":
        pads = const([*node.attrs["before"], *node.attrs["after"]], np.int64)
        value = const(node.attrs["value"], g.dtype(node.inputs[0]).type)
        return [helper.make_node("Pad", [x, pads, value], y, mode=node.attrs["mode"])]
    if node.op_type == "Linear":
        made = []
        w = local(node.inputs[1])
        if node.attrs.get("transB"):
            w = f"{y[0]}.w"
            made.append(helper.make_node("Transpose", [local(node.inputs[1])], [w], perm=[1, 0]))
        if not node.input(2):
            return [*made, helper.make_node("MatMul", [x, w], y)]
        return [
            *made,
            helper.make_node("MatMul", [x, w], [f"{y[0]}.m"]),
            helper.make_node("Add", [f"{y[0]}.m", local(node.inputs[2])], y),
        ]
    raise RefusedError(f"{node} has no ONNX form")


def _capture_aliases(node: Node, rename: dict[str, str]) -> list[onnx.NodeProto]:
    """Subgraphs read outer values by their first names: give those names back inside the partition."""
    from onnx import helper

    return [helper.make_node("Identity", [rename[n]], [n]) for n in node.captures if rename.get(n, n) != n]
