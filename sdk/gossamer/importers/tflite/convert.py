"""A checked TFLite graph to ONNX: constants folded, converters run, what ONNX cannot express extracted."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from gossamer._errors import UnsupportedError
from gossamer.importers.tflite import ops_conv, ops_elementwise, ops_reduce, ops_shape, ops_window
from gossamer.importers.tflite.builder import Builder
from gossamer.importers.tflite.extract import DOMAIN, extract
from gossamer.importers.tflite.fold import fold
from gossamer.importers.tflite.reader import Graph, Operator

OPSET = 20
IR_VERSION = 10
CONVERTERS = {
    **ops_conv.CONVERTERS,
    **ops_window.CONVERTERS,
    **ops_elementwise.CONVERTERS,
    **ops_reduce.CONVERTERS,
    **ops_shape.CONVERTERS,
}


def convert(graph: Graph, name: str) -> ir.Model:
    """The ONNX model of a TFLite graph; inputs and outputs keep names, shapes and types.

    Raises:
        ModelError: operators and tensors of the file contradict each other.
        UnsupportedError: an operator can be neither expressed nor extracted; names it, its index and tensor.
    """
    b = Builder(graph)
    inputs = []
    for index in graph.inputs:
        tensor = b.tensor(index)
        if not tensor.dtype:
            raise b.unsupported(f"graph input '{tensor.name}' is of type {tensor.type_name}")
        value = ir.Value(
            name=b.unique(tensor.name),
            shape=ir.Shape(tensor.shape),
            type=ir.TensorType(ir.DataType.from_numpy(np.dtype(tensor.dtype))),
        )
        b.set_stored(tensor, value)
        inputs.append(value)
    absorb_padding(b)
    for op in graph.operators:
        b.current = op
        if op.outputs and op.outputs[0] in b.absorbed:
            continue
        _convert_one(b, op)
    b.current = None
    outputs = [_output(b, index) for index in graph.outputs]
    nodes = _reachable(b.nodes, outputs)
    used = {id(v) for node in nodes for v in node.inputs if v is not None} | {id(v) for v in outputs}
    domains = {node.domain for node in nodes}
    built = ir.Graph(
        inputs,
        outputs,
        nodes=nodes,
        initializers=[v for v in b.initializers.values() if id(v) in used],
        opset_imports={"": OPSET, **({DOMAIN: 1} if DOMAIN in domains else {})},
        name=name,
    )
    return ir.Model(built, ir_version=IR_VERSION, producer_name="gossamer")


def _convert_one(b: Builder, op: Operator) -> None:
    converter = CONVERTERS.get(op.kind)
    try:
        if fold(b):
            return
        if converter is None:
            extract(b)
            return
        try:
            converter(b)
        except UnsupportedError as error:
            extract(b, error)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        # Shapes, axes and types of a damaged file can contradict each other in more ways than are checked one by one.
        raise b.broken(f"the operator contradicts its tensors: {error}") from error


def _output(b: Builder, index: int) -> ir.Value:
    """The plain stored value of a graph output, under the tensor's own name."""
    tensor = b.tensor(index)
    b.current = b.graph.producer.get(index)
    value = b.stored(tensor)
    if index in b.graph.inputs or index in b.folded or b.graph.outputs.count(index) > 1:
        value = b.one("Identity", [value], tensor.name)
    value.shape = ir.Shape(tensor.shape)
    value.type = ir.TensorType(ir.DataType.from_numpy(np.dtype(tensor.dtype or "float32")))
    b.current = None
    return value


def _reachable(nodes: list[ir.Node], outputs: list[ir.Value]) -> list[ir.Node]:
    """The nodes that some output needs, in order."""
    wanted = {id(v) for v in outputs}
    kept: list[ir.Node] = []
    for node in reversed(nodes):
        if any(id(v) in wanted for v in node.outputs):
            kept.append(node)
            wanted.update(id(v) for v in node.inputs if v is not None)
        else:
            for i in range(len(node.inputs)):
                node.replace_input_with(i, None)
    return kept[::-1]


def absorb_padding(b: Builder) -> None:
    """Zero padding of height and width that only unpadded convolutions read becomes their own padding."""
    graph = b.graph
    for pad in graph.operators:
        if pad.kind != "PAD" or len(pad.inputs) < 2 or None in pad.inputs or len(pad.outputs) != 1:
            continue
        source, rows, out = graph.tensors[pad.inputs[0] or 0], b.folded.get(pad.inputs[1] or 0), pad.outputs[0]
        readers = graph.consumers.get(out, [])
        plain = (
            rows is not None
            and rows.shape == (4, 2)
            and rows.dtype.kind == "i"
            and not rows[[0, 3]].any()
            and (rows >= 0).all()
            and (rows <= ops_conv.MAX_WINDOW).all()
        )
        alone = bool(readers) and all(
            op.kind in ("CONV_2D", "DEPTHWISE_CONV_2D")
            and op.inputs[0] == out
            and out not in op.inputs[1:]
            and op.option("padding") == ops_conv.VALID
            for op in readers
        )
        quant = graph.tensors[out].quant
        same = quant.same_as(source.quant) if quant is not None else source.quant is None
        if rows is None or not (plain and alone and same) or out in graph.outputs or source.index in b.folded:
            continue
        top, bottom, left, right = (int(v) for v in (*rows[1], *rows[2]))
        b.absorbed[out] = (source, (top, left, bottom, right), pad)
