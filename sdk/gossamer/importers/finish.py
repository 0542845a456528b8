"""The checks that every importer ends with: names, numbers, ONNX validity, static shapes.

The model that leaves here is valid ONNX, has unique node and value names, a source on every node, finite weights, and
a type and shape on every value that ONNX's shape inference knows.
"""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.serde import SerdeError

from gossamer._errors import ModelError, UnsupportedError
from gossamer.importers.source import SOURCE, to_proto

MIN_OPSET = 13
INLINE_BYTES = 1 << 16
"""Initializers above this size are kept out of the copy that shape inference reads."""


def finish(model: ir.Model, where: str) -> ir.Model:
    """Check and complete an imported model in place.

    Raises:
        ModelError: invalid ONNX, operators that contradict their inputs, or weights that are not finite.
        UnsupportedError: a shape that stays dynamic.
    """
    name_nodes(model.graph)
    check_numbers(model.graph, where)
    infer_shapes(model, where)
    check_channels(model.graph, where)
    check_static(model.graph, where)
    return model


def name_nodes(graph: ir.Graph) -> None:
    """Give nodes unique names; a node's source keeps what the user called it."""
    taken: set[str] = set()
    for index, node in enumerate(graph):
        original = node.name or ""
        base = original or f"{node.op_type}_{index}"
        name, copy = base, 1
        while name in taken:
            name, copy = f"{base}#{copy}", copy + 1
        taken.add(name)
        node.name = name
        if not node.metadata_props.get(SOURCE):
            output = next((v.name for v in node.outputs if v.name), "")
            node.metadata_props[SOURCE] = original or f"{node.op_type} #{index} '{output}'"


def check_numbers(graph: ir.Graph, where: str) -> None:
    """``ModelError`` naming the first initializer that cannot be read, or that holds NaN or infinity."""
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.dtype == ir.DataType.STRING:
            continue
        try:
            array = np.asarray(tensor.numpy())
        except (ValueError, TypeError, AssertionError, OverflowError, MemoryError) as error:
            raise ModelError(
                f"initializer '{value.name}' does not hold what it declares: {error}",
                where=where,
                hint="the file is damaged: copy or export it again",
            ) from error
        if not tensor.dtype.is_floating_point():
            continue
        if array.dtype.kind != "f":
            array = array.astype(np.float32)
        bad = ~np.isfinite(array)
        # Infinite bounds are how exporters write "no bound" and attention masks; as a weight it is a mistake.
        if np.isnan(array).any() or (bad.any() and array.size > 1 and not _masks(value)):
            first = tuple(int(i) for i in np.argwhere(bad)[0])
            raise ModelError(
                f"initializer '{value.name}' holds {int(bad.sum())} values that are not finite, the first at {first}",
                where=where,
                hint="the weights are damaged, or training diverged: export the model from a good checkpoint",
            )


def _masks(value: ir.Value) -> bool:
    return all(node.op_type in ("Where", "Add", "Max", "Min", "Clip") for node, _ in value.uses())


def infer_shapes(model: ir.Model, where: str) -> None:
    """Run ONNX's checker and strict shape inference; store types and shapes on the values."""
    large = {
        name: value.const_value
        for name, value in model.graph.initializers.items()
        if value.const_value is not None and value.const_value.nbytes > INLINE_BYTES
    }
    try:
        proto = _light_copy(model, large)
        onnx.checker.check_model(proto)
        for output in proto.graph.output:
            if not output.type.tensor_type.shape.dim:
                output.type.tensor_type.ClearField("shape")
        inferred = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(
            f"the graph is not valid ONNX: {_first_lines(error)}",
            where=_blame(str(error), model, where),
            hint="check the model with onnx.checker.check_model(path, full_check=True) and export it again",
        ) from error
    except (SerdeError, ValueError, RuntimeError, TypeError) as error:
        raise ModelError(f"ONNX cannot read the graph: {_first_lines(error)}", where=where) from error
    infos = {info.name: info for info in [*inferred.graph.value_info, *inferred.graph.output]}
    for node in model.graph:
        for value in node.outputs:
            info = infos.get(value.name or "")
            if info is None:
                continue
            found = ir.from_proto(info)
            if value.shape is not None and found.shape is not None and not _agree(value.shape, found.shape):
                raise ModelError(
                    f"'{value.name}' is declared with shape {list(value.shape)} but computed with {list(found.shape)}",
                    where=f"{where}, {node.metadata_props[SOURCE]}",
                    hint="the file is damaged or its converter is at fault: export it again",
                )
            if found.shape is not None and (value.shape is None or not value.shape.is_static()):
                value.shape = found.shape
            value.type = found.type if value.type is None else value.type


def check_channels(graph: ir.Graph, where: str) -> None:
    """Convolutions whose weights are for another number of channels: ONNX's inference lets them pass."""
    for node in graph:
        if node.op_type != "Conv" or node.domain not in ("", "ai.onnx") or len(node.inputs) < 2:
            continue
        x, w = node.inputs[0], node.inputs[1]
        if x is None or w is None or x.shape is None or w.shape is None or len(x.shape) < 3 or len(w.shape) < 3:
            continue
        group = node.attributes["group"].as_int() if "group" in node.attributes else 1
        channels, per_group, cout = x.shape[1], w.shape[1], w.shape[0]
        if not (isinstance(channels, int) and isinstance(per_group, int) and isinstance(cout, int)):
            continue
        if group < 1 or channels != per_group * group or cout % group:
            raise ModelError(
                f"weights '{w.name}' {list(w.shape)} in {group} groups do not fit {channels} input channels",
                where=f"{where}, {node.metadata_props[SOURCE]}",
                hint="the file is damaged or its exporter is at fault: export it again",
            )


def _agree(left: ir.Shape, right: ir.Shape) -> bool:
    if len(left) != len(right):
        return False
    return all(a == b for a, b in zip(left, right, strict=True) if isinstance(a, int) and isinstance(b, int))


def _light_copy(model: ir.Model, large: dict[str, ir.TensorProtocol]) -> onnx.ModelProto:
    """The model as a proto whose ``large`` initializers are typed graph inputs (the 2 GB limit of protobuf)."""
    for name in large:
        model.graph.initializers[name].const_value = None
    try:
        proto = to_proto(model)
    finally:
        for name, tensor in large.items():
            model.graph.initializers[name].const_value = tensor
    keep = [t for t in proto.graph.initializer if t.name not in large]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(keep)
    known = {i.name for i in proto.graph.input}
    for name, tensor in large.items():
        if name not in known:
            info = onnx.helper.make_tensor_value_info(name, int(tensor.dtype), list(tensor.shape.numpy()))
            proto.graph.input.append(info)
    # What is declared of standard operators' results is compared afterwards; inference starts without it.
    foreign = {name for node in proto.graph.node if node.domain not in ("", "ai.onnx") for name in node.output}
    infos = [v for v in proto.graph.value_info if v.name in foreign]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(infos)
    for output in proto.graph.output:
        if output.name not in foreign:
            output.type.tensor_type.shape.Clear()
            output.type.tensor_type.shape.SetInParent()  # the checker wants the field, whatever it says
    return proto


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("==>")]
    return "; ".join(lines[:2])[:400]


def _blame(message: str, model: ir.Model, where: str) -> str:
    """``where`` with the source of the node that the message of ONNX names."""
    found = re.search(r"node name: ([^)]*)\)", message)
    for node in model.graph:
        if found and node.name == found.group(1):
            return f"{where}, {node.metadata_props[SOURCE]}"
    return where


def check_static(graph: ir.Graph, where: str) -> None:
    """``UnsupportedError`` when an input or output has an unknown dimension or type."""
    if not graph.outputs:
        raise ModelError("the model has no outputs", where=where, hint="export it with what it computes as outputs")
    for value in graph.inputs:
        if value.shape is None or not value.shape.is_static():
            raise UnsupportedError(
                f"input '{value.name}' has a dynamic shape: {describe(value.shape)}",
                where=where,
                hint=f"give every dimension: input_shapes={{'{value.name}': {example_shape(value.shape)}}} in Python, "
                f"--shape {value.name}=1,3,224,224 on the command line, or export the model with fixed shapes",
            )
        if any(d < 1 for d in value.shape.numpy()):
            raise ModelError(f"input '{value.name}' has an empty shape: {describe(value.shape)}", where=where)
    for value in graph.outputs:
        if value.shape is None or not value.shape.is_static():
            producer = value.producer()
            source = producer.metadata_props.get(SOURCE, "") if producer is not None else ""
            raise UnsupportedError(
                f"the shape of output '{value.name}' depends on the data: {describe(value.shape)}",
                where=f"{where}, {source}" if source else where,
                hint="cut the model before the operator that makes the shape dynamic",
            )


def describe(shape: ir.Shape | None) -> str:
    """``[batch?, 3, 224, 224]``: unknown dimensions carry a question mark."""
    if shape is None:
        return "unknown rank"
    return "[" + ", ".join(str(d) if isinstance(d, int) else f"{d.value or ''}?" for d in shape) + "]"


def example_shape(shape: ir.Shape | None) -> tuple[object, ...]:
    """A shape to suggest: unknown dimensions are 1 in front and ... elsewhere."""
    if shape is None:
        return (1, ...)
    return tuple(d if isinstance(d, int) else 1 if i == 0 else ... for i, d in enumerate(shape))
