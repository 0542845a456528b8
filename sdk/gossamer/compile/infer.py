"""Constant folding and static shapes in one walk: each node is folded when its inputs are known, else typed.

Folding uses the reference implementation that comes with ONNX, so no runtime is needed. ``DequantizeLinear`` of a
constant is kept: it is how integer weights are recognised later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gossamer._errors import CompileError
from gossamer.compile.graph import Array, Graph, Node, Type, to_node_proto

if TYPE_CHECKING:
    import onnx

_KEEP = {"DequantizeLinear", "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial",
         "Bernoulli", "If", "Loop", "Scan"}  # fmt: skip
_SMALL = 4096
"""Elements up to which constants are shown to shape inference (Reshape's shape, Slice's starts, ...)."""
_SAME_SHAPE = {"Gelu", "FastGelu", "QuickGelu", "BiasGelu", "QuantizeLinear", "DequantizeLinear"}
"""com.microsoft operators whose first output has the shape of their first input."""
_LIKE_FIRST = {"GroupNormalization"}
"""ONNX operators without shape inference whose output is typed like their first input."""


def evaluate(node: Node, values: list[Array | None], opsets: dict[str, int]) -> list[Array]:
    """Runs one node on constants through ``onnx.reference``."""
    import onnx
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    proto = to_node_proto(node)
    feeds = {name: v for name, v in zip(node.inputs, values, strict=True) if name and v is not None}
    graph = helper.make_graph(
        [proto],
        "fold",
        [helper.make_value_info(n, onnx.TypeProto()) for n in feeds],
        [helper.make_value_info(o, onnx.TypeProto()) for o in node.outputs if o],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(d, v) for d, v in opsets.items()])
    made = ReferenceEvaluator(model).run(None, feeds)
    return [np.asarray(y) for y in made]


def _infer_types(g: Graph, node: Node) -> list[Type | None]:
    """Static types of a node's outputs; ``None`` where ONNX and the model leave them open."""
    import onnx
    from onnx import helper, numpy_helper, shape_inference

    found: dict[str, Type] = {}
    version = g.opsets.get(node.domain, 1)
    try:
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
    except onnx.defs.SchemaError:
        schema = None
    if schema is not None:
        types = {
            i: helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(g.dtype(i)), g.shape(i))
            for i in node.reads
        }
        data = {
            i: numpy_helper.from_array(g.consts[i], i)
            for i in node.reads
            if i in g.consts and g.consts[i].size <= _SMALL
        }
        try:
            made = shape_inference.infer_node_outputs(
                schema,
                to_node_proto(node),
                types,
                data,
                opset_imports=[helper.make_opsetid(d, v) for d, v in g.opsets.items()],
                ir_version=10,
            )
        except Exception as error:  # onnx raises InferenceError, RuntimeError and ValueError for bad models
            raise CompileError(
                f"{node} does not fit its inputs: {error}",
                where=node.source,
                hint="inputs are " + ", ".join(f"{i!r} {list(g.shape(i))}" for i in node.reads),
            ) from error
        if node.op_type in _LIKE_FIRST and not node.domain:
            made = {node.outputs[0]: types[node.inputs[0]]}
        elif schema.has_function and not any(  # type: ignore[attr-defined]  # missing in onnx's stubs
            t.tensor_type.HasField("shape") for t in made.values()
        ):
            made = _infer_function(g, node, types)
        for name, proto in made.items():
            tensor = proto.tensor_type
            if not tensor.HasField("shape") or not all(d.HasField("dim_value") for d in tensor.shape.dim):
                continue
            dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
            found[name] = Type(dtype, tuple(d.dim_value for d in tensor.shape.dim))
    elif node.domain == "com.microsoft" and node.op_type in _SAME_SHAPE:
        declared = g.declared.get(node.outputs[0], (None, None))[0]
        found[node.outputs[0]] = Type(declared or g.dtype(node.inputs[0]), g.shape(node.inputs[0]))
    result: list[Type | None] = []
    for o in node.outputs:
        if o and o not in found and o in g.declared:
            dtype_, shape = g.declared[o]
            if dtype_ is not None and shape is not None and all(d is not None for d in shape):
                found[o] = Type(dtype_, tuple(int(d or 0) for d in shape))
        result.append(found.get(o))
    return result


def _infer_function(g: Graph, node: Node, types: dict[str, onnx.TypeProto]) -> dict[str, onnx.TypeProto]:
    """Types of an operator that ONNX defines by a body of other operators (GroupNormalization, ...)."""
    from onnx import helper, shape_inference

    graph = helper.make_graph(
        [to_node_proto(node)],
        "one",
        [helper.make_value_info(n, t) for n, t in types.items()],
        [helper.make_empty_tensor_value_info(o) for o in node.outputs if o],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(d, v) for d, v in g.opsets.items()])
    return {o.name: o.type for o in shape_inference.infer_shapes(model).graph.output}


def _known(g: Graph, node: Node) -> bool:
    import onnx

    try:
        onnx.defs.get_schema(node.op_type, g.opsets.get(node.domain, 1), node.domain)
    except onnx.defs.SchemaError:
        return False
    return True


def _static(g: Graph, node: Node) -> Array | None:
    """Results that follow from static shapes alone."""
    if node.domain:
        return None
    if node.op_type == "Shape":
        shape = g.shape(node.inputs[0])
        rank = len(shape)
        start = int(node.attrs.get("start", 0))
        end = int(node.attrs.get("end", rank))
        return np.asarray(shape[slice(start, end)], np.int64)
    if node.op_type == "Size":
        return np.asarray(int(np.prod(g.shape(node.inputs[0]), dtype=np.int64)), np.int64)
    return None


def infer(g: Graph) -> list[str]:
    """Folds constants and gives every value a type, in place. Returns the names of the folded nodes.

    Raises ``CompileError`` for a node whose output shape depends on data, or that does not fit its inputs.
    """
    kept: list[Node] = []
    folded: list[str] = []
    open_: list[str] = []
    foreign: list[str] = []
    for node in g.nodes:
        if any(i not in g.types for i in node.reads):
            kept.append(node)  # behind a node that is already reported
            continue
        value = _static(g, node)
        made: list[Array] | None = [value] if value is not None else None
        constant = all(i in g.consts for i in node.reads) and not node.captures
        if made is None and constant and not node.domain and node.op_type not in _KEEP and node.outputs:
            try:
                made = evaluate(node, [g.const(i) for i in node.inputs], g.opsets)
            except Exception:  # an operator or type that onnx's evaluator lacks: the node stays, for lowering to judge
                made = None
        if made is not None:
            for name, array in zip([o for o in node.outputs if o], made, strict=False):
                g.consts[name] = array
                g.types[name] = Type(array.dtype, array.shape)
            folded.append(node.name)
            continue
        kept.append(node)
        for name, kind in zip(node.outputs, _infer_types(g, node), strict=True):
            if not name:
                continue
            if kind is None and not _known(g, node):
                foreign.append(str(node))
            elif kind is None:
                open_.append(f"{node}, output {name!r}")
            else:
                g.types[name] = kind
    if foreign:
        raise CompileError(
            f"the model has operators that ONNX does not define: {'; '.join(dict.fromkeys(foreign))}",
            hint="replace them by standard ONNX operators, or export that part of the model separately",
        )
    if open_:
        raise CompileError(
            f"shapes that depend on data cannot be compiled: {open_[0]}",
            where="; ".join(open_[1:6]) or None,
            hint="export the model with fixed shapes; remove post-processing such as NonZero or NMS",
        )
    g.nodes = kept
    g.touch()
    _check_values(g)
    g.remove_dead()
    return folded


def _check_values(g: Graph) -> None:
    from gossamer._errors import ModelError

    for name, array in g.consts.items():
        if array.dtype.kind == "f" and bool(np.isnan(array).any()):
            raise ModelError(
                f"constant {name!r} holds NaN",
                where="; ".join(str(n) for n in g.consumers(name)[:3]) or None,
                hint="the training diverged or the file is damaged; export the model again",
            )


def scalar(array: Any) -> float | None:
    """The value of a one-element array, else ``None``."""
    a = np.asarray(array)
    return float(a.reshape(-1)[0]) if a.size == 1 else None
