"""Seven-bit activations: every quantised activation is moved into 0..127.

The dot product of relaxed WASM SIMD is exact only when one operand stays within seven bits. QuantizeLinear followed by
DequantizeLinear with scale s and zero point z covers [(-128-z)s, (127-z)s]; the same range over 0..127 has scale
``s * 255/127``. QuantizeLinear itself would still round values below the range to negative numbers. Where the operator
before it can go there, a clamp in front keeps them out; the compiler folds it into that operator.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from gossamer.quantize._graph import constant, drop_unused, first_number

TOP = 127
_NOT_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid", "Softmax")
_WITHIN_INPUTS = (
    "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "Reshape", "Flatten", "Transpose",
    "Squeeze", "Unsqueeze", "Split", "Slice", "Identity",
)  # fmt: skip
"""Operators whose result never leaves the range of their first input."""


def narrow_activations(model: ir.Model) -> int:
    """Rewrites the parameters of every int8 activation, in place; returns how many QuantizeLinear nodes changed.

    int32 biases are restated in their new scale (input scale times weight scale).
    """
    moved: dict[tuple[int, int], tuple[ir.Value, ir.Value, float, int]] = {}
    ratios: dict[int, float] = {}
    changed = 0
    for node in list(model.graph):
        if node.op_type != "QuantizeLinear" or len(node.inputs) < 3:
            continue
        x, scale, zero = node.inputs[0], node.inputs[1], node.inputs[2]
        old_s, old_z = first_number(scale), first_number(zero)
        if x is None or scale is None or zero is None or old_s is None or old_z is None or zero.const_value is None:
            continue
        if zero.const_value.dtype != ir.DataType.INT8:
            continue
        key = (id(scale), id(zero))
        if key not in moved:
            s = float(np.float32(old_s * 255.0 / TOP))
            z = int(np.clip(np.rint((old_z + 128) * TOP / 255.0), 0, TOP))
            moved[key] = (
                constant(model, f"{scale.name}.7bit", np.array(s, dtype=np.float32)),
                constant(model, f"{zero.name}.7bit", np.array(z, dtype=np.int8)),
                s,
                z,
            )
        new_scale, new_zero, s, z = moved[key]
        node.replace_input_with(1, new_scale)
        node.replace_input_with(2, new_zero)
        if lower_bound(x) < -z * s:
            _clamp(model, node, x, -z * s, (TOP - z) * s)
        for use in list(node.outputs[0].uses()):
            if use.node.op_type == "DequantizeLinear" and use.idx == 0:
                use.node.replace_input_with(1, new_scale)
                use.node.replace_input_with(2, new_zero)
                ratios[id(use.node.outputs[0])] = s / old_s
        changed += 1
    _restate_biases(model, ratios)
    drop_unused(model)
    return changed


def lower_bound(value: ir.Value | None) -> float:
    """A number that ``value`` never goes below, as far as the operators before it tell."""
    producer = value.producer() if value is not None else None
    if producer is None:
        return -math.inf
    kind, inputs = producer.op_type, producer.inputs
    if kind in _NOT_NEGATIVE:
        return 0.0
    if kind == "DequantizeLinear":
        quantise = inputs[0].producer() if inputs[0] is not None else None
        s, z = first_number(inputs[1]), first_number(inputs[2]) if len(inputs) > 2 else None
        if quantise is None or quantise.op_type != "QuantizeLinear" or s is None or z is None:
            return -math.inf
        return -z * s
    if kind == "Clip" and len(inputs) > 1:
        low = first_number(inputs[1])
        return -math.inf if low is None else low
    if kind in _WITHIN_INPUTS:
        return lower_bound(inputs[0])
    if kind == "Concat":
        return min(lower_bound(v) for v in inputs)
    if kind == "Add" and len(inputs) == 2:
        return lower_bound(inputs[0]) + lower_bound(inputs[1])
    return -math.inf


def _clamp(model: ir.Model, node: ir.Node, x: ir.Value, low: float, high: float) -> None:
    base = f"{node.name}.7bit"
    if low == 0.0:
        clamp = ir.Node("", "Relu", [x], name=base)
    else:
        bounds = [constant(model, f"{base}.{i}", np.array(v, np.float32)) for i, v in (("low", low), ("high", high))]
        clamp = ir.Node("", "Clip", [x, *bounds], name=base)
    out = clamp.outputs[0]
    out.name, out.type, out.shape = base, x.type, x.shape
    clamp.metadata_props.update(node.metadata_props)
    model.graph.insert_before(node, clamp)
    node.replace_input_with(0, out)


def _restate_biases(model: ir.Model, ratios: dict[int, float]) -> None:
    """A bias is int32 in steps of input scale times weight scale: both its number and its scale follow the input's."""
    limits = np.iinfo(np.int32)
    for node in list(model.graph):
        if node.op_type not in ("Conv", "Gemm") or len(node.inputs) < 3:
            continue
        x, bias = node.inputs[0], node.inputs[2]
        restore = bias.producer() if bias is not None else None
        if x is None or id(x) not in ratios or restore is None or restore.op_type != "DequantizeLinear":
            continue
        stored, scale = restore.inputs[0], restore.inputs[1]
        if stored is None or scale is None or stored.const_value is None or scale.const_value is None:
            continue
        ratio = ratios[id(x)]
        steps = np.rint(stored.const_value.numpy().astype(np.float64) / ratio)
        number = np.clip(steps, limits.min, limits.max).astype(np.int32)
        wide = np.asarray(scale.const_value.numpy() * np.float32(ratio), dtype=np.float32)
        restore.replace_input_with(0, constant(model, f"{stored.name}.7bit.{node.name}", number))
        restore.replace_input_with(1, constant(model, f"{scale.name}.7bit.{node.name}", wide))
