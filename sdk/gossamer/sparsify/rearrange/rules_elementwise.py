"""How operators without weights tie channels when the shape stays: elementwise, softmax, pools, reductions."""

from __future__ import annotations

import onnx_ir as ir

from gossamer.sparsify.rearrange.axes import (
    Axes,
    NotFollowedError,
    constant,
    integer,
    integers,
    known,
    name_of,
    operand,
    optional,
    single_output,
)

ELEMENTWISE = [
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift", "BitwiseAnd", "BitwiseNot",
    "BitwiseOr", "BitwiseXor", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh", "Div", "Dropout", "Elu",
    "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity",
    "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg",
    "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus",
    "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Where", "Xor",
]  # fmt: skip


def elementwise(axes: Axes, node: ir.Node) -> None:
    """Every input is broadcast to the output."""
    y = single_output(node)
    reason = f"{name_of(node)} joins channels that are cut differently"
    for value in node.inputs:
        if value is not None:
            axes.broadcast(value, y, reason)


def softmax(axes: Axes, node: ir.Node) -> None:
    """Sums over a whole axis do not depend on its order."""
    axes.tie_all(operand(node, 0), single_output(node), f"{name_of(node)} cuts the channels differently")


def pool(axes: Axes, node: ir.Node) -> None:
    """Batch and channels pass; spatial axes stay."""
    x, y = axes.of(operand(node, 0)), axes.of(single_output(node))
    if len(x) != len(y) or len(x) < 3:
        raise NotFollowedError("its tensors differ in rank")
    for a, b in zip(x[:2], y[:2], strict=True):
        axes.tie(a, b, f"{name_of(node)} cuts the channels differently")
    if not node.op_type.startswith("Global"):
        for layout in (*x[2:], *y[2:]):
            axes.pin(layout, "a spatial axis")


def resize(axes: Axes, node: ir.Node) -> None:
    """Axes 0 and 1 pass where they keep their extent; the others stay."""
    x, y = axes.of(operand(node, 0)), axes.of(single_output(node))
    if len(x) != len(y) or len(x) < 3 or any(known(a) != known(b) for a, b in zip(x[:2], y[:2], strict=True)):
        raise NotFollowedError("it resizes channels")
    if integers(node, "axes") is not None or _text(node, "coordinate_transformation_mode") == "tf_crop_and_resize":
        raise NotFollowedError("it resizes chosen axes or crops")
    for a, b in zip(x[:2], y[:2], strict=True):
        axes.tie(a, b, f"{name_of(node)} cuts the channels differently")
    for layout in (*x[2:], *y[2:]):
        axes.pin(layout, "a spatial axis")


def reduction(axes: Axes, node: ir.Node) -> None:
    """The axes that are summed up are free; the others pass."""
    x, y = axes.of(operand(node, 0)), axes.of(single_output(node))
    given = integers(node, "axes")
    if given is None:
        given = constant(optional(node, 1))
    rank = len(x)
    if not given:
        if integer(node, "noop_with_empty_axes", 0):
            raise NotFollowedError("it reduces nothing")
        given = list(range(rank))
    reduced = {axis % rank for axis in given}
    if integer(node, "keepdims", 1):
        pairs = [(x[i], y[i]) for i in range(rank) if i not in reduced]
    else:
        left = [x[i] for i in range(rank) if i not in reduced]
        pairs = list(zip(left, y, strict=True))
    for a, b in pairs:
        axes.tie(a, b, f"{name_of(node)} cuts the channels differently")


def _text(node: ir.Node, name: str) -> str:
    attribute = node.attributes.get(name)
    return "" if attribute is None else attribute.as_string()


def shape_only(axes: Axes, node: ir.Node) -> None:
    """Shape, Size: read no values, so the input's order does not matter to them."""
    for value in node.outputs:
        axes.pin_value(value, f"{name_of(node)} gives a shape")


def made(axes: Axes, node: ir.Node) -> None:
    """Constant: its tensor is permuted as its users ask."""
    if "value" not in node.attributes:
        raise NotFollowedError("it is no tensor")
    axes.of(node.outputs[0])


RULES = (
    dict.fromkeys(ELEMENTWISE, elementwise)
    | dict.fromkeys(("Softmax", "LogSoftmax"), softmax)
    | dict.fromkeys(("AveragePool", "MaxPool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), pool)
    | dict.fromkeys(
        ("ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
         "ReduceSumSquare"),
        reduction,
    )
    | {"Resize": resize, "Shape": shape_only, "Size": shape_only, "Constant": made}
)  # fmt: skip
