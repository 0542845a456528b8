"""Keeping biases away from the ends of int32.

A bias is stored in steps of input scale times weight scale. A channel whose weights are nearly nothing (a filter that
died in training) has a tiny scale, and its bias becomes a huge number: ONNX Runtime stretches the scale just so far
that the bias fits int32, which leaves no room for the sum that is added to it. The core refuses such a channel, for
int8 is exact here only while no sum can overflow.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gossamer.quantize._graph import constant

LIMIT = 1 << 29
"""Largest bias left as it is. Sums of 2^30 fit beside it: 32767 products of int8 numbers and more."""


def widen_channels(model: ir.Model) -> int:
    """Give channels with a bias beyond ``LIMIT`` a wider weight scale, in place; returns how many.

    Their weights are rounded to that scale: at most half a step, 2^-29 of the bias they are added to.
    """
    widened = 0
    for node in list(model.graph):
        if node.op_type not in ("Conv", "Gemm", "ConvTranspose") or len(node.inputs) < 3:
            continue
        weight, bias = (_restore(node, i) for i in (1, 2))
        if weight is None or bias is None:
            continue
        steps, bias_scale = _array(bias, 0), _array(bias, 1)
        factor = np.maximum(1.0, np.abs(steps.astype(np.float64)) / LIMIT)
        if not (factor > 1.0).any():
            continue
        numbers, scale = _array(weight, 0), _array(weight, 1)
        axis = weight.attributes["axis"].as_int() if scale.size > 1 and "axis" in weight.attributes else None
        if axis is None:
            axis = 1 if node.op_type == "Gemm" and not _transposed(node) else 0
        if numbers.shape[axis] != steps.size:
            continue  # grouped in a way that channels do not follow this axis
        along = [1] * numbers.ndim
        along[axis] = -1
        narrow = np.rint(numbers.astype(np.float64) / factor.reshape(along)).astype(numbers.dtype)
        _replace(model, weight, 0, narrow)
        _replace(model, weight, 1, _wide(scale, factor))
        _replace(model, bias, 0, np.rint(steps / factor).astype(np.int32))
        _replace(model, bias, 1, _wide(bias_scale, factor))
        for restore, dtype, place in ((weight, numbers.dtype, axis), (bias, steps.dtype, 0)):
            if len(restore.inputs) > 2 and restore.inputs[2] is not None:
                _replace(model, restore, 2, np.zeros(steps.size, dtype))
            restore.attributes["axis"] = ir.AttrInt64("axis", place)
        widened += int((factor > 1.0).sum())
    return widened


def _restore(node: ir.Node, index: int) -> ir.Node | None:
    """The DequantizeLinear of constants that feeds this input alone, symmetric, else None."""
    value = node.inputs[index]
    made = value.producer() if value is not None else None
    if made is None or value is None or made.op_type != "DequantizeLinear" or len(list(value.uses())) != 1:
        return None
    if any(i is not None and i.const_value is None for i in made.inputs):
        return None
    if len(made.inputs) > 2 and made.inputs[2] is not None and _array(made, 2).any():
        return None
    return made


def _array(restore: ir.Node, index: int) -> npt.NDArray[np.generic]:
    value = restore.inputs[index]
    if value is None or value.const_value is None:
        raise ValueError("not a constant")
    return np.asarray(value.const_value.numpy())


def _wide(scale: npt.NDArray[np.generic], factor: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return np.asarray(scale.astype(np.float64).reshape(-1) * factor, np.float32)


def _replace(model: ir.Model, restore: ir.Node, index: int, data: npt.NDArray[np.generic]) -> None:
    old = restore.inputs[index]
    name = f"{old.name if old is not None else restore.name}.wide.{restore.name or restore.outputs[0].name}"
    restore.replace_input_with(index, constant(model, name, data))


def _transposed(node: ir.Node) -> bool:
    return "transB" in node.attributes and bool(node.attributes["transB"].as_int())
