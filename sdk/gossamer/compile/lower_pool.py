"""Pooling and reductions."""

from __future__ import annotations

import numpy as np

from gossamer.compile.graph import Node
from gossamer.compile.layout import Form, UnsupportedNodeError
from gossamer.compile.plan import F, OpKind, P, PadMode, Red, Rounding
from gossamer.compile.quantized import Match, between, in_quantized_region
from gossamer.compile.rewrite import ints
from gossamer.compile.rules import Context, require
from gossamer.compile.windows import Window, window_of

_RED = {"ReduceMean": Red.MEAN, "ReduceSum": Red.SUM, "ReduceMax": Red.MAX, "ReduceMin": Red.MIN}


def _rank4(c: Context, node: Node) -> tuple[int, ...]:
    shape = c.g.shape(node.inputs[0])
    require(len(shape) == 4, f"pooling over {len(shape) - 2} axes (the core has 1 and 2)")
    return shape


def _whole(shape: tuple[int, ...]) -> Window:
    return Window((shape[2], shape[3]), (1, 1), (1, 1), (0, 0), (0, 0))


def max_pool(c: Context, node: Node) -> None:
    shape = _rank4(c, node)
    require(len([o for o in node.outputs if o]) == 1, "its indices as a second output")
    if node.op_type == "GlobalMaxPool":
        window = _whole(shape)
    else:
        kh, kw = node.attrs["kernel_shape"]
        window = window_of(c.g, node, (int(kh), int(kw)))
    x, y = c.v.cb(node.inputs[0]), c.v.new(node.outputs[0], Form.CB)
    c.v.emit(OpKind.MAXPOOL, [x], [y], p=window.slots(0))
    c.v.hold(node.outputs[0], y)


def _integer(c: Context, node: Node) -> tuple[str, Match] | str:
    """(8-bit input, match) of a node with one activation and no clamp of its own, or the reason."""
    integer = between(c.v, node)
    if isinstance(integer, str):
        return integer
    q, found = integer
    if len(found.covered) > 1:
        return "an activation follows before it is quantised"
    if c.v.params(q) is None:
        return "its input has no quantisation parameters"
    return q, found


def average_pool(c: Context, node: Node) -> None:
    shape = _rank4(c, node)
    count_pad = False
    if node.op_type == "GlobalAveragePool":
        window = _whole(shape)
    else:
        kh, kw = node.attrs["kernel_shape"]
        window = window_of(c.g, node, (int(kh), int(kw)))
        count_pad = bool(int(node.attrs.get("count_include_pad", 0)))
    integer = _integer(c, node)
    if isinstance(integer, str):
        if in_quantized_region(c.g, node):
            c.fallback(node, integer)
        source, out, ratio = c.v.cb(node.inputs[0]), node.outputs[0], 1.0
    else:
        source, out = c.v.cb(integer[0]), integer[1].out
        ratio = float(np.float32(source.scale / integer[1].params.scale))
    if count_pad and any(window.extra) and (any(window.before) or any(window.after)):
        # The divisor counts the padding that the model asked for, but not what ceil_mode adds behind it.
        (top, left), (bottom, right) = window.before, window.after
        n, ch, h, w = source.shape
        padded = type(source)(
            f"{node.name}.padded", source.dtype, (n, ch, h + top + bottom, w + left + right), source.layout,
            source.scale, source.zero_point,
        )  # fmt: skip
        p = {0: int(PadMode.CONSTANT), 3: top, 4: left, 9: bottom, 10: right, 13: source.zero_point}
        c.v.emit(OpKind.PAD, [source], [padded], p=p, f={0: 0.0})
        source, count_pad = padded, False
        window = Window(window.kernel, window.stride, window.dilation, (0, 0), (0, 0), window.extra)
    y = c.v.new(out, Form.CB)
    p = window.slots(int(count_pad))
    if not isinstance(integer, str) and node.rounding == "integer" and ratio == 1.0:
        unsigned = c.g.dtype(integer[0]) == np.uint8
        if source.zero_point == y.zero_point:
            p[int(P.ROUND)] = int(Rounding.HALF_UP if unsigned else Rounding.HALF_AWAY)
    c.v.emit(OpKind.AVGPOOL, [source], [y], p=p, f={F.RA: ratio})
    c.v.hold(out, y)
    if not isinstance(integer, str):
        c.cover(node, integer[1].covered)


def reduce(c: Context, node: Node) -> None:
    x, out = node.inputs[0], node.outputs[0]
    shape = c.g.shape(x)
    axes = ints(c.g, node, 1, "axes")
    if axes is None and node.input(1):
        raise UnsupportedNodeError("axes that are not constant")
    if not axes:
        require(not int(node.attrs.get("noop_with_empty_axes", 0)), "noop_with_empty_axes")
        axes = list(range(len(shape)))
    reduced = sorted({a % len(shape) for a in axes})
    op = _RED[node.op_type]
    require(c.g.dtype(out) == np.float32, f"element type {c.g.dtype(out)}")
    integer = _integer(c, node) if op in (Red.MEAN, Red.SUM) else f"{node.op_type} has no int8 rule of its own"
    if isinstance(integer, str):
        if in_quantized_region(c.g, node):
            c.fallback(node, integer)
        name, target = x, out
    else:
        name, target = integer[0], integer[1].out
    count = int(np.prod([shape[a] for a in reduced]))
    ratio = 1.0
    if not isinstance(integer, str):
        source_params = c.v.params(name)
        if source_params is None:
            raise UnsupportedNodeError("no quantisation parameters")
        ratio = source_params.scale / integer[1].params.scale
    plane = _plane(c, name, reduced) if op is Red.MEAN else ""
    if plane:
        _mean_as_pool(c, plane, target, ratio)
    else:
        source, y = c.v.row(name), c.v.new(target)
        f: dict[int, float] = {F.RA: float(np.float32(ratio / count if op is Red.MEAN else ratio))}
        c.v.emit(OpKind.REDUCE, [source], [y], p={0: int(op), 1: sum(1 << a for a in reduced)}, f=f)
        c.v.hold(target, y)
    if not isinstance(integer, str):
        c.cover(node, integer[1].covered)


def _plane(c: Context, name: str, reduced: list[int]) -> str:
    """The channel-blocked value whose height and width a mean covers, ``""`` when it is none. A value of three axes
    counts when it is the view of a plane of one row."""
    shape = c.g.shape(name)
    if len(shape) == 3 and reduced == [2]:
        view = c.g.producer(name)
        if view is not None and (view.op_type, view.domain) == ("Reshape", "gossamer"):
            name, reduced = view.inputs[0], [2, 3]
            if c.g.shape(name) != (shape[0], shape[1], 1, shape[2]):
                return ""
    return name if len(c.g.shape(name)) == 4 and reduced == [2, 3] and c.v.blocked(name) else ""


def _mean_as_pool(c: Context, name: str, target: str, ratio: float) -> None:
    """The mean over height and width of a channel-blocked value needs no conversion of the large side."""
    source, shape = c.v.cb(name), c.g.shape(name)
    y = c.v.new(target)
    pooled = type(y)(target, y.dtype, (shape[0], shape[1], 1, 1), source.layout, y.scale, y.zero_point)
    p = _whole(shape).slots(0)
    c.v.emit(OpKind.AVGPOOL, [source], [pooled], p=p, f={F.RA: float(np.float32(ratio))})
    if c.g.shape(target) == pooled.shape:
        c.v.hold(target, pooled)
        return
    row = type(y)(target, y.dtype, pooled.shape, y.layout, y.scale, y.zero_point)
    c.v.emit(OpKind.LAYOUT, [pooled], [row], p={0: 0})
    c.v.emit(OpKind.RESHAPE, [row], [y])
    c.v.hold(target, y)


RULES = {
    **dict.fromkeys((("", "MaxPool"), ("", "GlobalMaxPool")), max_pool),
    **dict.fromkeys((("", "AveragePool"), ("", "GlobalAveragePool")), average_pool),
    **{("", op): reduce for op in _RED},
}
