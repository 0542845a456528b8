"""Small edits of an onnx_ir graph that the quantisation passes share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir


def constant(model: ir.Model, name: str, data: npt.NDArray[Any]) -> ir.Value:
    """A new initializer of the model; underscores are added to a name that is taken."""
    while name in model.graph.initializers:
        name += "_"
    tensor = ir.tensor(data, name=name)
    shape = ir.Shape(data.shape)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor)
    model.graph.register_initializer(value)
    return value


def constant_input(node: ir.Node, index: int) -> npt.NDArray[Any] | None:
    """A constant input of a node as an array; ``None`` when it is absent or computed."""
    value = node.inputs[index] if index < len(node.inputs) else None
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else np.asarray(tensor.numpy())


def first_number(value: ir.Value | None) -> float | None:
    """The first element of a constant as a Python float; ``None`` when it is absent or no constant."""
    if value is None or value.const_value is None or value.const_value.size == 0:
        return None
    return float(np.asarray(value.const_value.numpy()).reshape(-1)[0])


def drop_unused(model: ir.Model) -> None:
    """Removes initializers that nothing reads any more."""
    outputs = {id(v) for v in model.graph.outputs}
    for name, value in list(model.graph.initializers.items()):
        if not any(True for _ in value.uses()) and id(value) not in outputs and not value.is_graph_input():
            del model.graph.initializers[name]
