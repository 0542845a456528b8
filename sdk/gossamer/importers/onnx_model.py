"""ONNX files and protos to a checked onnx_ir model: opset 13 or later, static shapes, weights inside the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError, Message
from onnx_ir.passes.common import InlinePass, RemoveInitializersFromInputsPass

from gossamer._errors import ModelError, UnsupportedError
from gossamer.importers.finish import MIN_OPSET
from gossamer.importers.source import SOURCE, quiet

CONVERT_TO = 17
"""Models below opset 13 are raised to this one."""


def parse(data: bytes, where: str) -> onnx.ModelProto:
    """The proto in ``data``; ``ModelError`` when the bytes are not an ONNX model."""
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(
            "not an ONNX model, or a damaged one: the bytes do not parse",
            where=where,
            hint="check the file's size and copy or export it again",
        ) from error
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise ModelError("the ONNX model has no graph", where=where, hint="export the model again")
    return proto


def import_proto(
    proto: onnx.ModelProto, where: str, input_shapes: Mapping[str, Sequence[int]] | None = None
) -> ir.Model:
    """The model of a proto, before the checks that all importers share.

    Raises:
        ModelError: external data, a broken graph, or ``input_shapes`` that contradict it.
        UnsupportedError: an opset that cannot be converted, or subgraphs with their own scope as main content.
    """
    refuse_bytes(proto.graph, where)
    refuse_external(proto, where)
    check_dataflow(proto.graph, where)
    set_shapes(proto, where, input_shapes or {})
    proto = raise_opset(proto, where)
    forget_inferred(proto)
    try:
        with quiet():
            model = ir.from_proto(proto)
    except Exception as error:  # onnx_ir has no exception of its own for a graph that contradicts itself
        raise ModelError(f"the ONNX graph cannot be read: {error}", where=where) from error
    if model.functions:
        InlinePass()(model)
    RemoveInitializersFromInputsPass()(model)  # files before IR version 4 list their weights among the inputs
    for node in model.graph:
        node.metadata_props.setdefault(SOURCE, node.name or "")
    return model


def refuse_bytes(graph: onnx.GraphProto, where: str) -> None:
    """Names are text: protobuf hands out bytes where a damaged file has something else."""
    for node in graph.node:
        names = [node.op_type, node.domain, node.name, *node.input, *node.output, *(a.name for a in node.attribute)]
        if not all(isinstance(name, str) for name in names):
            raise ModelError(f"node {node.name!r} has a name that is not text", where=where)
    values = [*graph.input, *graph.output, *graph.value_info, *graph.initializer]
    for value in values:
        if not isinstance(value.name, str):
            raise ModelError(f"value {value.name!r} has a name that is not text", where=where)


def refuse_external(message: Message, where: str) -> None:
    """Weights must lie inside the file: a model never makes the SDK open other paths.

    Looks at every tensor wherever it hides: initializers, sparse ones, attributes, subgraphs, bodies of functions.
    """
    if isinstance(message, onnx.TensorProto):
        if message.data_location == onnx.TensorProto.EXTERNAL or message.external_data:
            path = next((e.value for e in message.external_data if e.key == "location"), "?")
            raise ModelError(
                f"tensor '{message.name}' lies in another file ('{path}'); external data is not read",
                where=where,
                hint="write one file: onnx.save_model(onnx.load(path), 'one_file.onnx', save_as_external_data=False)",
            )
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in value if field.is_repeated else (value,):
                refuse_external(item, where)


def check_dataflow(graph: onnx.GraphProto, where: str) -> None:
    """Every value is written once, and before it is read."""
    seen = {t.name for t in graph.initializer}
    if len(seen) != len(graph.initializer) or "" in seen:
        raise ModelError("two initializers share a name, or one has none", where=where)
    seen |= {t.values.name for t in graph.sparse_initializer} | {i.name for i in graph.input}
    for node in graph.node:
        spot = f"{where}, node '{node.name or node.op_type}'"
        for name in node.input:
            if name and name not in seen:
                raise ModelError(f"value '{name}' is read, but nothing before it writes it", where=spot)
        for name in node.output:
            if name and name in seen:
                raise ModelError(f"value '{name}' is written twice", where=spot)
            seen.add(name)
    for output in graph.output:
        if not output.name or output.name not in seen:
            raise ModelError(f"output '{output.name}' is written by no node", where=where)


def set_shapes(proto: onnx.ModelProto, where: str, shapes: Mapping[str, Sequence[int]]) -> None:
    """Fix the inputs' shapes in place; the shapes in between are dropped, since they follow."""
    inputs = {i.name: i for i in proto.graph.input}
    for name, shape in shapes.items():
        if name not in inputs:
            known = ", ".join(sorted(set(inputs) - {t.name for t in proto.graph.initializer}))
            raise ModelError(
                f"input_shapes names '{name}', which is not an input", where=where, hint=f"inputs: {known}"
            )
        dims = inputs[name].type.tensor_type.shape.dim
        if any(int(d) < 1 for d in shape) or (dims and len(dims) != len(shape)):
            raise ModelError(f"input_shapes gives {list(shape)} for '{name}' of rank {len(dims)}", where=where)
        for dim, wanted in zip(dims, shape, strict=False):
            if dim.HasField("dim_value") and dim.dim_value != wanted:
                raise ModelError(
                    f"input_shapes gives {list(shape)} for '{name}', whose dimension is fixed to {dim.dim_value}",
                    where=where,
                )
        del dims[:]
        for wanted in shape:
            dims.add().dim_value = int(wanted)
    if shapes:
        del proto.graph.value_info[:]
        for output in proto.graph.output:
            output.type.tensor_type.ClearField("shape")


def forget_inferred(proto: onnx.ModelProto) -> None:
    """Drop the stored shapes of standard operators' results: they follow from the inputs, and may be stale."""
    foreign = {name for node in proto.graph.node if node.domain not in ("", "ai.onnx") for name in node.output}
    kept = [info for info in proto.graph.value_info if info.name in foreign]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(kept)


def raise_opset(proto: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """Convert a model below opset 13; a newer one passes."""
    version = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if version == 0:
        raise ModelError("the model does not say which ONNX opset it uses", where=where)
    if version > onnx.defs.onnx_opset_version():
        raise UnsupportedError(
            f"opset {version} is newer than the installed onnx knows ({onnx.defs.onnx_opset_version()})",
            where=where,
            hint="export with a lower opset_version, or pip install --upgrade onnx",
        )
    if version >= MIN_OPSET:
        return proto
    try:
        return onnx.version_converter.convert_version(proto, CONVERT_TO)
    except Exception as error:  # the converter raises bare RuntimeError and its C++ relatives
        raise UnsupportedError(
            f"opset {version} is below {MIN_OPSET}, and converting it failed: {str(error).splitlines()[0]}",
            where=where,
            hint=f"export the model again with opset_version={CONVERT_TO}",
        ) from error
