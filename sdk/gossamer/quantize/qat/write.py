"""Writes trained integers into a QDQ graph: weights, biases, scales and zero points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from gossamer.quantize.qat.activation import ActivationQuantizer
from gossamer.quantize.qat.weight import QuantizedWeight
from gossamer.trainable.step import Tie, same
from gossamer.trainable.write import set_constant

Keys = Mapping[tuple[str, str], ActivationQuantizer]
"""Quantisers by the names of scale and zero point."""


class LayerWriter:
    """Gives the DequantizeLinear nodes before the layers of one model their new constants.

    A DequantizeLinear that several layers read through (a bias of zeros, say) is copied for all but the first.
    """

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self._owner: dict[int, QuantizedWeight] = {}

    def write(self, node: ir.Node, layer: QuantizedWeight, tie: Tie) -> None:
        """Write the integers of ``layer``, which runs ``node``; ``tie`` is that of its weight."""
        made = layer.integers()
        axis = 0 if tie.turn is same else 1
        self._restore(node, 1, layer, tie.turn(made.weight), made.scale, axis)
        if layer.bias is None:
            return
        if made.bias is None or made.bias_scale is None:
            set_constant(self.model, node, 2, layer.bias.detach().cpu().numpy())
        else:
            self._restore(node, 2, layer, made.bias, made.bias_scale, 0)

    def _restore(self, node: ir.Node, index: int, layer: QuantizedWeight, numbers: Any, scale: Any, axis: int) -> None:
        value = node.inputs[index]
        restore = value.producer() if value is not None else None
        assert value is not None and restore is not None and restore.op_type == "DequantizeLinear"
        owner = self._owner.setdefault(id(restore), layer)
        if owner is not layer:
            restore = self._copy(restore, node, index)
            self._owner[id(restore)] = layer
        single = scale.size == 1
        old = _array(restore, 1)
        shape = old.shape if single and old.size == 1 else () if single else scale.shape
        set_constant(self.model, restore, 0, numbers)
        set_constant(self.model, restore, 1, np.asarray(scale, np.float32).reshape(shape))
        if len(restore.inputs) > 2 and restore.inputs[2] is not None:
            set_constant(self.model, restore, 2, np.zeros(shape, numbers.dtype))
        if not single:
            restore.attributes["axis"] = ir.AttrInt64("axis", axis)

    def _copy(self, restore: ir.Node, node: ir.Node, index: int) -> ir.Node:
        name = f"{node.name}.{restore.name}"
        made = ir.Node("", "DequantizeLinear", list(restore.inputs), list(restore.attributes.values()), name=name)
        made.metadata_props.update(restore.metadata_props)
        old, out = restore.outputs[0], made.outputs[0]
        out.name, out.type, out.shape = f"{name}.out", old.type, old.shape
        self.model.graph.insert_before(node, made)
        node.replace_input_with(index, out)
        return made


def write_activations(model: ir.Model, quantizers: Keys) -> None:
    """Scales and zero points of every QuantizeLinear and DequantizeLinear of an activation."""
    users: dict[str, set[int]] = {}
    for names, quantizer in quantizers.items():
        for name in names:
            users.setdefault(name, set()).add(id(quantizer))
    made: dict[tuple[int, str], ir.Value] = {}
    now = {id(q): q.parameters_now() for q in quantizers.values()}
    for node in model.graph:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        given = [(v.name or "") if v is not None else "" for v in node.inputs]
        key = (given[1], given[2] if len(given) > 2 else "")
        found = quantizers.get(key)
        x = node.inputs[0]
        if found is None or x is None or (node.op_type == "DequantizeLinear" and x.const_value is not None):
            continue
        for index, name in enumerate(key, 1):
            if not name:
                continue
            old = _array(node, index)
            value = now[id(found)][index - 1]
            done = made.get((id(found), name))
            if done is not None:
                node.replace_input_with(index, done)
            elif old.dtype.type(value) != old.reshape(-1)[0]:
                data = np.full(old.shape, value, old.dtype)
                made[(id(found), name)] = set_constant(model, node, index, data, alone=len(users[name]) > 1)


def _array(node: ir.Node, index: int) -> Any:
    value = node.inputs[index]
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    assert tensor is not None  # the graph was read with constant parameters
    return np.asarray(tensor.numpy())
