"""Softmax, LogSoftmax and LayerNormalization."""

from __future__ import annotations

import numpy as np

from gossamer.compile.graph import Array, Node
from gossamer.compile.layout import UnsupportedNodeError
from gossamer.compile.plan import DType, F, OpKind
from gossamer.compile.quantized import in_quantized_region, integer_input, match
from gossamer.compile.rules import Context, require
from gossamer.compile.unary import real

_ONE = 1 << 20
"""Value of exp(0) in the int8 softmax table."""


def softmax_table(scale: float) -> Array:
    """exp(-d * scale) for d in 0..255, in units of 2^-20, rounded half to even."""
    return np.asarray(np.rint(_ONE * np.exp(-np.arange(256) * scale)), np.uint32)


def softmax(c: Context, node: Node) -> None:
    x, out = node.inputs[0], node.outputs[0]
    rank = len(c.g.shape(x))
    axis = int(node.attrs.get("axis", -1)) % rank
    log = node.op_type == "LogSoftmax"
    q = integer_input(c.g, x)
    found = match(c.v, node) if q is not None and not log else "LogSoftmax has no int8 rule"
    if q is not None and not isinstance(found, str) and len(found.covered) == 1:
        source, y = c.v.row(q), c.v.new(found.out)
        table = c.v.const(f"{node.name}.table", softmax_table(source.scale), DType.U32)
        f: dict[int, float] = {F.RA: float(np.float32(1.0 / found.params.scale))}
        c.v.emit(OpKind.SOFTMAX, [source, table], [y], p={0: axis, 1: 0}, f=f)
        c.v.hold(found.out, y)
        c.cover(node, found.covered)
        return
    if in_quantized_region(c.g, node):
        c.fallback(node, found if isinstance(found, str) else "an activation follows before it is quantised")
    y = c.v.new(out)
    require(y.dtype is DType.F32, f"element type {y.dtype.name}")
    c.v.emit(OpKind.SOFTMAX, [c.v.real(x), None], [y], p={0: axis, 1: int(log)})
    c.v.hold(out, y)


def layer_norm(c: Context, node: Node) -> None:
    x, out = node.inputs[0], node.outputs[0]
    require(not any(node.outputs[1:]), "its mean or deviation as further outputs")
    shape = c.g.shape(x)
    axis = int(node.attrs.get("axis", -1)) % len(shape)
    if in_quantized_region(c.g, node):
        c.fallback(node, "LayerNormalization has no int8 rule")
    parts = []
    for k in (1, 2):
        name = node.input(k)
        value = real(c.g, name) if name else None
        if name and value is None:
            raise UnsupportedNodeError("scale or bias that are not constant")
        parts.append(
            None
            if value is None
            else c.v.const(f"{node.name}.{'gamma' if k == 1 else 'beta'}",
                           np.broadcast_to(value, shape[axis:]), DType.F32)
        )  # fmt: skip
    y = c.v.new(out)
    c.v.emit(OpKind.LAYERNORM, [c.v.real(x), *parts], [y], p={0: axis}, f={0: float(node.attrs.get("epsilon", 1e-5))})
    c.v.hold(out, y)


RULES = {
    ("", "Softmax"): softmax,
    ("", "LogSoftmax"): softmax,
    ("", "LayerNormalization"): layer_norm,
}
