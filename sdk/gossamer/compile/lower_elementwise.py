"""Binary arithmetic, functions of one value, int8 tables, PRelu, Quantize and Dequantize."""

from __future__ import annotations

import numpy as np

from gossamer.compile.graph import Array, Node, QParams
from gossamer.compile.layout import Form, UnsupportedNodeError
from gossamer.compile.plan import Bin, DType, F, OpKind, Tensor
from gossamer.compile.quantized import clamp_after, in_quantized_region, integer_input, match
from gossamer.compile.rules import Context, f_clamp, q_clamp, require
from gossamer.compile.unary import Unary, real, unary_of

_BIN = {
    "Add": Bin.ADD,
    "Sub": Bin.SUB,
    "Mul": Bin.MUL,
    "Div": Bin.DIV,
    "Max": Bin.MAX,
    "Min": Bin.MIN,
    "Pow": Bin.POW,
}


def _out_form(c: Context, out: str, inputs: list[str]) -> Form:
    """Channel-blocked when the result has four axes and an operand of that rank is at hand so."""
    if len(c.g.shape(out)) != 4:
        return Form.ROW
    found = any(len(c.g.shape(i)) == 4 and i not in c.g.consts and c.v.blocked(i) for i in inputs)
    return Form.CB if found else Form.ROW


def _operand(c: Context, name: str, out: str, form: Form) -> Tensor:
    if name in c.g.consts:
        return c.v.get(name, Form.ROW)
    if len(c.g.shape(name)) == 4 and form is Form.CB:
        return c.v.get(name, Form.CB if c.g.shape(name) == c.g.shape(out) else c.v.form(name))
    return c.v.get(name, c.v.form(name) if len(c.g.shape(name)) == 4 else Form.ROW)


def _binary_int8(c: Context, node: Node) -> str:
    if node.op_type not in ("Add", "Sub", "Mul"):
        return f"{node.op_type} has no int8 rule"
    qa, qb = (integer_input(c.g, i) for i in node.inputs)
    if qa is None or qb is None:
        return "its inputs are not both quantised per tensor"
    found = match(c.v, node)
    if isinstance(found, str):
        return found
    pa, pb = c.v.params(qa), c.v.params(qb)
    if pa is None or pb is None:
        return "its inputs have no quantisation parameters"
    # In binary32 step by step, as XNNPACK computes them.
    sa, sb, sy = np.float32(pa.scale), np.float32(pb.scale), np.float32(found.params.scale)
    if node.op_type != "Mul" and max(sa, sb) / sy >= 2**18:
        return "the scales of its input and output are too far apart"
    form = _out_form(c, found.out, [qa, qb])
    a, b = _operand(c, qa, found.out, form), _operand(c, qb, found.out, form)
    y = c.v.new(found.out, form)
    if node.op_type == "Mul":
        ratios: dict[int, float] = {F.RA: float(sa * sb / sy), F.RB: 0.0}
    else:
        ratios = {F.RA: float(sa / sy), F.RB: float(sb / sy)}
    c.v.emit(OpKind.BINARY, [a, b], [y], p={0: _BIN[node.op_type], **q_clamp(found)}, f={**f_clamp(), **ratios})
    c.v.hold(found.out, y)
    c.cover(node, found.covered)
    return ""


def binary(c: Context, node: Node) -> None:
    require(len(node.inputs) == 2, f"{len(node.inputs)} inputs")
    require(c.g.dtype(node.outputs[0]) == np.float32, f"element type {c.g.dtype(node.outputs[0])}")
    reason = _binary_int8(c, node)
    if not reason:
        return
    if in_quantized_region(c.g, node):
        c.fallback(node, reason)
    clamp = clamp_after(c.g, node)
    # Dequantised constants are folded on the host so that they enter as float constants.
    for name in node.inputs:
        constant = real(c.g, name) if name not in c.g.consts and not c.v.known(name) else None
        if constant is not None:
            c.v.hold(name, c.v.const(name, constant, DType.F32))
    form = _out_form(c, clamp.out, node.inputs)
    a, b = (_operand(c, i, clamp.out, form) for i in node.inputs)
    require(a.dtype is DType.F32 and b.dtype is DType.F32, "operands that are not float32")
    y = c.v.new(clamp.out, form)
    c.v.emit(OpKind.BINARY, [a, b], [y], p={0: _BIN[node.op_type]}, f=f_clamp(clamp))
    c.v.hold(clamp.out, y)
    c.cover(node, clamp.covered)


def unary(c: Context, node: Node) -> None:
    found = unary_of(c.g, node)
    if found is None:
        raise UnsupportedNodeError("attributes or bounds that are not constant")
    name, function = found
    out = node.outputs[0]
    require(c.g.dtype(out) == np.float32, f"element type {c.g.dtype(out)}")
    if function.kind is None:
        raise UnsupportedNodeError("the core computes it on int8 only, between DequantizeLinear and QuantizeLinear")
    if in_quantized_region(c.g, node):
        c.fallback(node, "its result is not quantised right after it")
    form = c.v.form(name) if len(c.g.shape(name)) == 4 else Form.ROW
    x, y = c.v.get(name, form), c.v.new(out, form)
    params = {0: function.f0, 1: function.f1}
    c.v.emit(OpKind.UNARY, [x], [y], p={0: int(function.kind)}, f=params)
    c.v.hold(out, y)


def prelu(c: Context, node: Node) -> None:
    slope = real(c.g, node.inputs[1])
    out = node.outputs[0]
    if slope is None:
        raise UnsupportedNodeError("its slope is not constant")
    shape = c.g.shape(out)
    if in_quantized_region(c.g, node):
        c.fallback(node, "its result is not quantised right after it")
    if slope.size == 1:
        flat = slope.reshape(1)
    else:
        full = (1,) * (len(shape) - slope.ndim) + slope.shape
        require(len(shape) >= 2 and slope.size == shape[1] == full[1], "a slope that differs within a channel")
        flat = slope.reshape(-1)
    form = c.v.form(node.inputs[0]) if len(shape) == 4 else Form.ROW
    x, y = c.v.get(node.inputs[0], form), c.v.new(out, form)
    c.v.emit(OpKind.PRELU, [x, c.v.const(f"{node.name}.slope", flat, DType.F32)], [y])
    c.v.hold(out, y)


def table_of(fns: list[Unary], source: QParams, target: QParams, *, source_u8: bool, target_u8: bool) -> Array:
    """Table ``[channels or 1, 256]``: entry ``(uint8) q`` is the quantised result, computed in double.

    Ties round to even; NaN gives the lower bound.
    """
    index = np.arange(256)
    q = index if source_u8 else np.where(index < 128, index, index - 256)
    values = ((q - source.zero_point) * source.scale)[None, :].astype(np.float64)
    with np.errstate(all="ignore"):
        for function in fns:
            values = np.asarray(function.fn(values), np.float64)
        t = np.rint(values / target.scale) + target.zero_point
    low, high = (0, 255) if target_u8 else (-128, 127)
    t = np.clip(np.where(np.isnan(t), low, t), low, high)
    return t.astype(np.uint8 if target_u8 else np.int8)


def lut(c: Context, node: Node) -> None:
    """A function of one quantised value, or a change of its quantisation."""
    x, out = node.inputs[0], node.outputs[0]
    fns: list[Unary] = node.attrs["fns"]
    source_raw = c.v.has(x, Form.RAW) and not c.v.has(x, Form.ROW) and not c.v.has(x, Form.CB)
    target_raw = c.g.dtype(out) == np.uint8 and c.g.is_output(out) and not c.g.consumers(out)
    row_or_blocked = c.v.form(x) if len(c.g.shape(x)) == 4 and not target_raw else Form.ROW
    form = Form.RAW if source_raw else row_or_blocked
    tx = c.v.get(x, form)
    ty = c.v.new(out, Form.RAW if target_raw else Form.ROW if form is Form.RAW else form)
    table = table_of(
        fns,
        QParams(tx.scale, tx.zero_point),
        QParams(ty.scale, ty.zero_point),
        source_u8=tx.dtype is DType.U8,
        target_u8=ty.dtype is DType.U8,
    )
    channels = table.shape[0]
    c.v.emit(OpKind.LUT, [tx, c.v.const(f"{node.name}.table", table.reshape(-1))], [ty], p={0: channels})
    c.v.hold(out, ty)


def quantize(c: Context, node: Node) -> None:
    c.v.quantize(node)


def dequantize(c: Context, node: Node) -> None:
    """Only where a graph output or a float operator asks for the value; see ``Values.get``."""
    out = node.outputs[0]
    if c.g.is_output(out) and not c.v.has(out, Form.ROW):
        c.v.dequantize(node)


def cast(c: Context, node: Node) -> None:
    source, target = c.g.dtype(node.inputs[0]), c.g.dtype(node.outputs[0])
    require(source == np.int32 and target == np.float32, f"a cast from {source} to {target}")
    x = c.v.row(node.inputs[0])
    require(x.scale in (0.0, 1.0) and x.zero_point == 0, "a cast of quantised int32")
    if x.is_const or x.scale == 0.0:
        x.scale = 1.0
    y = c.v.new(node.outputs[0])
    c.v.emit(OpKind.DEQUANTIZE, [x], [y])
    c.v.hold(node.outputs[0], y)


_UNARY = [
    "Relu", "Clip", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "Gelu", "Swish", "Exp", "Log",
    "Sqrt", "Reciprocal", "Abs", "Neg", "Erf", "Softplus", "Floor", "Ceil",
]  # fmt: skip

RULES = {
    **{("", op): binary for op in _BIN},
    **{("", op): unary for op in _UNARY},
    ("", "PRelu"): prelu,
    ("gossamer", "Lut"): lut,
    ("", "QuantizeLinear"): quantize,
    ("", "DequantizeLinear"): dequantize,
    ("", "Cast"): cast,
}
