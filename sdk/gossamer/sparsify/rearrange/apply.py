"""Permutes the constants of a graph along their channels, all of them or, when anything is wrong, none."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gossamer.sparsify.rearrange.axes import Axes
from gossamer.sparsify.rearrange.layout import Order, positions

Permutations = dict[str, dict[int, Order]]
"""By name of a constant and axis: position ``i`` takes what position ``order[i]`` held."""


def permutations(model: ir.Model, axes: Axes, orders: Mapping[int, Order]) -> Permutations:
    """How every constant of the graph has to be permuted when channel variables are permuted as ``orders`` says."""
    moving = {v: order for v, order in orders.items() if not np.array_equal(order, np.arange(len(order)))}
    found: Permutations = {}
    for value, _ in _constants(model):
        by_axis: dict[int, Order] = {}
        for axis, layout in enumerate(axes.resolved(value)):
            if layout is not None and any(segment.variable in moving for segment in layout):
                by_axis[axis] = positions(layout, moving)
        if by_axis:
            assert value.name is not None
            found[value.name] = by_axis
    return found


def apply(model: ir.Model, found: Permutations) -> None:
    """Permutes the constants of ``model`` in place."""
    fresh: list[tuple[ir.Value, ir.Node | None, ir.TensorProtocol]] = []
    for value, node in _constants(model):
        by_axis = found.get(value.name or "")
        if by_axis is None:
            continue
        tensor = ir.convenience.get_const_tensor(value)
        assert tensor is not None
        fresh.append((value, node, ir.Tensor(permuted(tensor.numpy(), by_axis), dtype=tensor.dtype, name=tensor.name)))
    for value, node, tensor in fresh:
        if node is None:
            value.const_value = tensor
        else:
            node.attributes["value"] = ir.AttrTensor("value", tensor)
            value.const_value = None


def permuted(array: npt.NDArray[np.generic], by_axis: Mapping[int, Order]) -> npt.NDArray[np.generic]:
    """``array`` with its axes permuted."""
    for axis, order in by_axis.items():
        array = np.take(array, order, axis=axis)
    return np.ascontiguousarray(array)


def _constants(model: ir.Model) -> list[tuple[ir.Value, ir.Node | None]]:
    """Initializers, and outputs of Constant nodes with their node."""
    found: list[tuple[ir.Value, ir.Node | None]] = [(value, None) for value in model.graph.initializers.values()]
    found += [
        (node.outputs[0], node) for node in model.graph if node.op_type == "Constant" and "value" in node.attributes
    ]
    return found
