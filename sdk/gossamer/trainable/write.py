"""Putting a new constant where a node reads an old one, keeping its name where nobody else reads it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gossamer.quantize._graph import constant


def set_constant(model: ir.Model, node: ir.Node, index: int, data: npt.NDArray[Any], *, alone: bool = True) -> ir.Value:
    """Make input ``index`` of ``node`` the constant ``data``; returns the value that holds it.

    Args:
        model: changed in place.
        node: of the model.
        index: of an input that it has.
        data: of the type that the initializer shall have.
        alone: give the node a constant of its own where others read the old one, too. False: they get it as well.
    """
    old = node.inputs[index]
    if old is not None and old.const_value is not None and old.name in model.graph.initializers:
        before = np.asarray(old.const_value.numpy())
        if before.dtype == data.dtype and before.shape == data.shape and before.tobytes() == data.tobytes():
            return old
        if not old.is_graph_input() and (not alone or len(list(old.uses())) == 1):
            tensor = ir.tensor(np.array(data, order="C"), name=old.name)
            old.const_value = tensor
            old.type, old.shape = ir.TensorType(tensor.dtype), ir.Shape(data.shape)
            return old
    name = f"{old.name}.trained" if old is not None and old.name else f"{node.name}.{index}"
    made = constant(model, name, np.array(data, order="C"))
    if old is not None and not alone:
        for use in list(old.uses()):
            use.node.replace_input_with(use.idx, made)
    else:
        node.replace_input_with(index, made)
    return made
