"""Recognises an arithmetic node between DequantizeLinear and QuantizeLinear, and reads quantised constants exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gossamer.compile.graph import Array, Graph, Node, QParams
from gossamer.compile.layout import Values
from gossamer.compile.passes_qdq import dequantized, params_of
from gossamer.compile.unary import clip_bounds


@dataclass(frozen=True)
class Match:
    """An int8 operator. ``out`` is the integer value that it makes, ``params`` its parameters as int8, ``lo`` and
    ``hi`` the clamp in int8, ``covered`` the activation and QuantizeLinear nodes that it replaces."""

    out: str
    params: QParams
    lo: int
    hi: int
    covered: tuple[Node, ...]


@dataclass(frozen=True)
class Clamp:
    """A float activation fused into the operator before it: the value it makes and its bounds."""

    out: str
    lo: float
    hi: float
    covered: tuple[Node, ...]


def clamp_after(g: Graph, node: Node) -> Clamp:
    """The Relu or Clip that alone reads a node's result, if any."""
    out = node.outputs[0]
    user = g.sole_consumer(out)
    bounds = clip_bounds(g, user) if user is not None else None
    if user is None or bounds is None or user.inputs[0] != out:
        return Clamp(out, -math.inf, math.inf, ())
    return Clamp(user.outputs[0], bounds[0], bounds[1], (user,))


def integer_input(g: Graph, name: str) -> str | None:
    """The 8-bit value behind a float value, activation or constant, when it is quantised per tensor."""
    node = g.producer(name)
    if node is None or node.domain or node.op_type != "DequantizeLinear":
        return None
    return node.inputs[0] if params_of(g, node) is not None else None


def between(v: Values, node: Node) -> tuple[str, Match] | str:
    """The 8-bit activation behind a node's first input and how its result is quantised again, or the reason why the
    node is not between the two."""
    q = integer_input(v.g, node.inputs[0])
    if q is None or q in v.g.consts:
        return "its input is not quantised per tensor"
    found = match(v, node)
    return found if isinstance(found, str) else (q, found)


def match(v: Values, node: Node) -> Match | str:
    """How a node's result is quantised again, or the reason why it is not."""
    g = v.g
    clamp = clamp_after(g, node)
    user = g.sole_consumer(clamp.out)
    if user is None or user.domain or user.op_type != "QuantizeLinear":
        return "its result is not quantised right after it"
    q = user.outputs[0]
    params = v.params(q)
    if params is None:
        return "its result is not quantised per tensor to 8 bits"
    return Match(
        q,
        params,
        quantized_bound(clamp.lo, params, -128),
        quantized_bound(clamp.hi, params, 127),
        (*clamp.covered, user),
    )


def quantized_bound(bound: float, params: QParams, limit: int) -> int:
    if not math.isfinite(bound):
        return limit if (bound < 0) == (limit < 0) else (127 if bound > 0 else -128)
    q = float(np.rint(np.float32(bound) / np.float32(params.scale))) + params.zero_point
    return int(min(127, max(-128, q)))


@dataclass(frozen=True)
class QWeights:
    """Exact integer weights ``w - zero_point`` (int16) and the scale of each output row (double, ``[1]`` or
    ``[rows]``)."""

    values: Array
    scale: Array


def quantized_weights(g: Graph, name: str, axis: int) -> QWeights | None:
    """Weights quantised per tensor or along ``axis``; ``None`` for anything else."""
    node = g.producer(name)
    if node is None or node.domain or node.op_type != "DequantizeLinear":
        return None
    q, scale = g.const(node.inputs[0]), g.const(node.inputs[1])
    if q is None or scale is None or q.dtype not in (np.int8, np.uint8) or int(node.attrs.get("block_size", 0)):
        return None
    zero = g.const(node.input(2)) if node.input(2) else np.zeros(1, np.int32)
    if zero is None:
        return None
    if scale.size > 1 and int(node.attrs.get("axis", 1)) % q.ndim != axis % q.ndim:
        return None
    view = [1] * q.ndim
    if zero.size > 1:
        view[axis] = zero.size
    values = q.astype(np.int16) - zero.astype(np.int16).reshape(view)
    return QWeights(values, scale.astype(np.float64).reshape(-1))


def quantized_bias(g: Graph, name: str, scale: Array, rows: int) -> Array | None:
    """Bias in units of ``scale`` (input scale times weight scale, double), as int64 ``[rows]``. An int32 bias is taken
    as it is when its own scale is that product; ``None`` when the bias is not constant."""
    from gossamer.compile.unary import real

    if not name:
        return np.zeros(rows, np.int64)
    node = g.producer(name)
    if node is not None and node.op_type == "DequantizeLinear" and not node.domain:
        q, s = g.const(node.inputs[0]), g.const(node.inputs[1])
        z = g.const(node.input(2)) if node.input(2) else np.zeros(1, np.int32)
        plain = q is not None and q.dtype == np.int32 and z is not None and not z.any()
        same = s is not None and np.allclose(s.astype(np.float64).reshape(-1), scale, rtol=1e-5, atol=0)
        if q is not None and plain and same:
            return np.broadcast_to(q.reshape(-1).astype(np.int64), (rows,)).copy()
    value = real(g, name)
    if value is None:
        return None
    return np.broadcast_to(np.rint(value.reshape(-1) / scale).astype(np.int64), (rows,)).copy()


def in_quantized_region(g: Graph, node: Node) -> bool:
    """Whether a float node reads a dequantised activation, so that staying float is worth a note."""
    return any(dequantized(g, i) is not None for i in node.inputs if i)
