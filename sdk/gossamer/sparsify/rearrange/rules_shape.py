"""How operators that move axes about tie channels: Transpose, Concat, Split, Slice, Pad, and all kinds of reshaping."""

from __future__ import annotations

import math

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
    stay,
)
from gossamer.sparsify.rearrange.layout import MAX_SEGMENTS, Layout, is_fixed, repeated, scaled, width


def transpose(axes: Axes, node: ir.Node) -> None:
    """Axis ``i`` of the output is axis ``perm[i]`` of the input."""
    x, y = axes.of(operand(node, 0)), axes.of(single_output(node))
    perm = integers(node, "perm") or list(range(len(x)))[::-1]
    for a, b in zip((x[i] for i in perm), y, strict=True):
        axes.tie(a, b, f"{name_of(node)} cuts the channels differently")


def concat(axes: Axes, node: ir.Node) -> None:
    """The inputs' channels lie behind each other."""
    y = single_output(node)
    reason = f"{name_of(node)} joins channels that are cut differently"
    parts = [axes.of(value) for value in node.inputs]
    rank = len(axes.of(y))
    at = integer(node, "axis", 0) % rank
    axes.concatenated(axes.of(y)[at], [part[at] for part in parts], reason)
    for part in parts:
        for i in set(range(rank)) - {at}:
            axes.tie(part[i], axes.of(y)[i], reason)


def split(axes: Axes, node: ir.Node) -> None:
    """The outputs' channels lie behind each other in the input."""
    x = axes.of(operand(node, 0))
    reason = f"{name_of(node)} cuts the channels differently"
    at = integer(node, "axis", 0) % len(x)
    parts = [axes.of(value) for value in node.outputs]
    axes.concatenated(x[at], [part[at] for part in parts], reason)
    for part in parts:
        for i in set(range(len(x))) - {at}:
            axes.tie(part[i], x[i], reason)


def cut(axes: Axes, node: ir.Node) -> None:
    """Slice: what is cut away in front and behind is free; steps other than 1 fix the axis."""
    x, y = axes.of(operand(node, 0)), axes.of(single_output(node))
    reason = f"{name_of(node)} cuts the channels differently"
    starts, ends = constant(optional(node, 1)), constant(optional(node, 2))
    if starts is None or ends is None:
        raise NotFollowedError("its bounds are attributes")
    which = constant(optional(node, 3)) or list(range(len(starts)))
    steps = constant(optional(node, 4)) or [1] * len(starts)
    asked = {axis % len(x): bounds for axis, *bounds in zip(which, starts, ends, steps, strict=True)}
    for i, (a, b) in enumerate(zip(x, y, strict=True)):
        if i not in asked:
            axes.tie(a, b, reason)
            continue
        start, end, step = asked[i]
        if step != 1:
            axes.pin(a, f"{name_of(node)} takes every {step}th")
            axes.pin(b, f"{name_of(node)} takes every {step}th")
            continue
        first, last, _ = slice(start, end).indices(known(a))
        fresh = axes.variables.fresh
        axes.concatenated(a, [fresh(first), b, fresh(known(a) - max(first, last))], reason)


def pad(axes: Axes, node: ir.Node) -> None:
    """Constants around an axis stay; other modes fix what they extend."""
    x, y = axes.of(operand(node, 0)), axes.of(single_output(node))
    reason = f"{name_of(node)} cuts the channels differently"
    pads = constant(optional(node, 1))
    which = constant(optional(node, 3)) or list(range(len(x)))
    if pads is None or len(pads) != 2 * len(which):
        raise NotFollowedError("its pads are attributes")
    mode = node.attributes.get("mode")
    plain = mode is None or mode.as_string() == "constant"
    amounts = {axis % len(x): (pads[i], pads[i + len(which)]) for i, axis in enumerate(which)}
    for i, (a, b) in enumerate(zip(x, y, strict=True)):
        before, after = amounts.get(i, (0, 0))
        if before == after == 0:
            axes.tie(a, b, reason)
        elif plain and before >= 0 and after >= 0 and a is not None:
            axes.concatenated(b, [stay(before, "padding"), a, stay(after, "padding")], reason)
        else:
            axes.pin(a, f"{name_of(node)} extends it")
            axes.pin(b, f"{name_of(node)} extends it")


def expand(axes: Axes, node: ir.Node) -> None:
    """An axis of 1 is spread out, the others pass."""
    axes.broadcast(operand(node, 0), single_output(node), f"{name_of(node)} cuts the channels differently")


def reshape(axes: Axes, node: ir.Node) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze: axes that merge or come apart, found from the two shapes."""
    x, y = list(axes.of(operand(node, 0))), list(axes.of(single_output(node)))
    reason = f"{name_of(node)} cuts the channels differently"
    if x and y and (x[0] is None or y[0] is None):  # a dynamic batch in front of everything else
        axes.tie(x[0], y[0], reason)
        x, y = x[1:], y[1:]
    left = [a for a in x if known(a) != 1]
    right = [b for b in y if known(b) != 1]
    while left or right:
        some, other = _matching(left, right)
        _regroup(axes, some, other, reason)
        left, right = left[len(some) :], right[len(other) :]


def _matching(left: list[Layout | None], right: list[Layout | None]) -> tuple[list[Layout], list[Layout]]:
    """The shortest beginnings that hold the same number of elements."""
    some: list[Layout] = []
    other: list[Layout] = []
    while not some or _size(some) != _size(other):
        source, into = (left, some) if _size(some) <= _size(other) else (right, other)
        if len(into) == len(source):
            raise NotFollowedError("its shapes do not hold the same number of elements")
        layout = source[len(into)]
        assert layout is not None
        into.append(layout)
    return some, other


def _size(layouts: list[Layout]) -> int:
    return math.prod(width(layout) for layout in layouts)


def _regroup(axes: Axes, some: list[Layout], other: list[Layout], reason: str) -> None:
    if len(some) == 1:
        axes.tie(some[0], _merged(axes, other, reason), reason)
    elif len(other) == 1:
        axes.tie(other[0], _merged(axes, some, reason), reason)
    else:
        for layout in (*some, *other):
            axes.pin(layout, reason)


def _merged(axes: Axes, parts: list[Layout], reason: str) -> Layout:
    """Several axes as one: the outer one permutes in runs, or, where it is fixed, the inner ones in every run alike."""
    head, rest = axes.variables.resolve(parts[0]), parts[1:]
    if not rest:
        return head
    tail = _merged(axes, rest, reason)
    if is_fixed(head) and not is_fixed(tail) and len(tail) * width(head) <= MAX_SEGMENTS:
        return repeated(tail, width(head))
    if not is_fixed(tail):
        for layout in rest:
            axes.pin(layout, reason)
    return scaled(axes.variables.resolve(head), width(tail))


def flatten(axes: Axes, node: ir.Node) -> None:
    """As a reshape; a dynamic batch has to be the first axis alone."""
    x = axes.of(operand(node, 0))
    if any(layout is None for layout in x) and integer(node, "axis", 1) != 1:
        raise NotFollowedError("a dimension is dynamic")
    reshape(axes, node)


def unused(axes: Axes, node: ir.Node) -> None:
    """ConstantOfShape: equal everywhere, whatever the order."""
    axes.of(single_output(node))


RULES = {
    "Transpose": transpose,
    "Concat": concat,
    "Split": split,
    "Slice": cut,
    "Pad": pad,
    "Expand": expand,
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": reshape,
    "Unsqueeze": reshape,
    "ConstantOfShape": unused,
}
