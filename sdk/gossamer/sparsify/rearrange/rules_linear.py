"""How operators with weights tie channels: convolutions, matrix products, normalisations, quantisation."""

from __future__ import annotations

import onnx_ir as ir

from gossamer.sparsify.rearrange.axes import (
    Axes,
    NotFollowedError,
    integer,
    known,
    name_of,
    operand,
    optional,
    single_output,
)
from gossamer.sparsify.rearrange.layout import Layout, joined, repeated, scaled


def conv(axes: Axes, node: ir.Node) -> None:
    """Outputs follow the weight's first axis, inputs its second; of a grouped one, each group's own part of them."""
    reason = f"{name_of(node)} cuts the channels differently"
    x, w, y = axes.of(operand(node, 0)), axes.of(operand(node, 1)), axes.of(single_output(node))
    if not len(x) == len(w) == len(y) >= 3:
        raise NotFollowedError("its tensors differ in rank")
    groups, inputs, outputs = integer(node, "group", 1), known(x[1]), known(y[1])
    if inputs != known(w[1]) * groups or outputs % groups:
        raise NotFollowedError("its channels do not fit its weights")
    axes.tie(w[0], y[1], reason)
    _bias(axes, node, 2, y[1], reason)
    axes.tie(x[0], y[0], reason)
    assert x[1] is not None and w[1] is not None
    if groups == 1:
        axes.tie(x[1], w[1], reason)
    elif inputs == groups:
        axes.tie(scaled(axes.variables.resolve(x[1]), outputs // groups), y[1], reason)
    else:
        axes.tie(x[1], repeated(axes.variables.resolve(w[1]), groups), reason)
        axes.tie(y[1], joined([axes.variables.fresh(outputs // groups) for _ in range(groups)]), reason)
    for layout in (*x[2:], *w[2:], *y[2:]):
        axes.pin(layout, "a spatial axis")


def conv_transpose(axes: Axes, node: ir.Node) -> None:
    """As a convolution with the weight's axes swapped; grouped ones keep their order."""
    reason = f"{name_of(node)} cuts the channels differently"
    x, w, y = axes.of(operand(node, 0)), axes.of(operand(node, 1)), axes.of(single_output(node))
    if integer(node, "group", 1) != 1:
        raise NotFollowedError("it is grouped")
    axes.tie(x[1], w[0], reason)
    axes.tie(w[1], y[1], reason)
    _bias(axes, node, 2, y[1], reason)
    axes.tie(x[0], y[0], reason)
    for layout in (*x[2:], *w[2:], *y[2:]):
        axes.pin(layout, "a spatial axis")


def gemm(axes: Axes, node: ir.Node) -> None:
    """``[M, K] x [K, N]``, either transposed, and a constant broadcast to ``[M, N]``."""
    reason = f"{name_of(node)} cuts the channels differently"
    a, b, y = axes.of(operand(node, 0)), axes.of(operand(node, 1)), axes.of(single_output(node))
    if not len(a) == len(b) == len(y) == 2:
        raise NotFollowedError("its tensors are not matrices")
    if integer(node, "transA", 0):
        a = a[::-1]
    if integer(node, "transB", 0):
        b = b[::-1]
    axes.tie(a[1], b[0], reason)
    axes.tie(a[0], y[0], reason)
    axes.tie(b[1], y[1], reason)
    c = optional(node, 2)
    if c is not None:
        axes.broadcast(c, node.outputs[0], reason)


def matmul(axes: Axes, node: ir.Node) -> None:
    """The last two axes as in a matrix product, those before broadcast; vectors as numpy takes them."""
    reason = f"{name_of(node)} cuts the channels differently"
    a, b, y = list(axes.of(operand(node, 0))), list(axes.of(operand(node, 1))), list(axes.of(single_output(node)))
    axes.tie(a[-1], b[-2] if len(b) > 1 else b[-1], reason)
    if len(b) > 1:
        axes.tie(b[-1], y[-1], reason)
        y = y[:-1]
    if len(a) > 1:
        axes.tie(a[-2], y[-1], reason)
        y = y[:-1]
    for stack in (a[:-2], b[:-2]):
        for inner, outer in zip(reversed(stack), reversed(y), strict=False):
            if inner is None or known(inner) != 1:
                axes.tie(inner, outer, reason)


def per_channel(axes: Axes, node: ir.Node) -> None:
    """BatchNormalization, InstanceNormalization: every further input belongs to axis 1."""
    y = single_output(node)
    reason = f"{name_of(node)} cuts the channels differently"
    axes.tie_all(operand(node, 0), y, reason)
    for index in range(1, len(node.inputs)):
        _bias(axes, node, index, axes.of(y)[1], reason)
    if node.op_type == "InstanceNormalization":
        for layout in axes.of(y)[2:]:
            axes.pin(layout, "a spatial axis")


def layer_norm(axes: Axes, node: ir.Node) -> None:
    """Statistics over whole axes do not depend on their order; scale and bias are broadcast."""
    y = single_output(node)
    reason = f"{name_of(node)} cuts the channels differently"
    axes.tie_all(operand(node, 0), y, reason)
    for value in node.inputs[1:]:
        if value is not None:
            axes.broadcast(value, y, reason)


def quantize(axes: Axes, node: ir.Node) -> None:
    """QuantizeLinear, DequantizeLinear: one scale, or one per position of ``axis``."""
    y = single_output(node)
    reason = f"{name_of(node)} cuts the channels differently"
    axes.tie_all(operand(node, 0), y, reason)
    if integer(node, "block_size", 0):
        raise NotFollowedError("it has scales per block")
    rank = len(axes.of(y))
    for index in (1, 2):
        value = optional(node, index)
        layouts = [] if value is None else axes.of(value)
        if len(layouts) > 1:
            raise NotFollowedError("it has scales per block")
        if layouts and (layouts[0] is None or known(layouts[0]) > 1):
            axis = integer(node, "axis", 1)
            if not -rank <= axis < rank:
                raise NotFollowedError(f"it has no axis {axis}")
            axes.tie(layouts[0], axes.of(y)[axis], reason)


def _bias(axes: Axes, node: ir.Node, index: int, channels: Layout | None, reason: str) -> None:
    value = optional(node, index)
    if value is None:
        return
    layouts = axes.of(value)
    if len(layouts) != 1:
        raise NotFollowedError(f"'{value.name}' is not a vector")
    axes.tie(layouts[0], channels, reason)


RULES = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": per_channel,
    "InstanceNormalization": per_channel,
    "LayerNormalization": layer_norm,
    "RMSNormalization": layer_norm,
    "QuantizeLinear": quantize,
    "DequantizeLinear": quantize,
}
