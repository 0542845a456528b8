"""Conv, Linear (Gemm and MatMul with constant weights) and MatMul."""

from __future__ import annotations

import numpy as np

from gossamer.compile.graph import Array, Node
from gossamer.compile.layout import Form, UnsupportedNodeError
from gossamer.compile.plan import DType, F, OpKind, Tensor, Weights
from gossamer.compile.quantized import (
    Match,
    QWeights,
    between,
    clamp_after,
    in_quantized_region,
    integer_input,
    match,
    quantized_bias,
    quantized_weights,
)
from gossamer.compile.rules import Context, f_clamp, q_clamp, require
from gossamer.compile.unary import real
from gossamer.compile.windows import window_of


def _narrow(w: Array) -> Array:
    """int8 when every weight is within +-127, else the exact int16."""
    return w.astype(np.int8) if w.size == 0 or int(np.abs(w).max()) <= 127 else w


def _integer_terms(
    c: Context, node: Node, name: str, weights: QWeights, rows: Array, found: Match
) -> tuple[Tensor, Tensor] | str:
    """Bias (S32) with the input's zero point folded in, and the requantisation scale (F32), per output row.

    ``rows`` are the integer weights as ``[rows, products]``.
    """
    source = c.v.params(name)
    if source is None:
        return "its input has no quantisation parameters"
    count = rows.shape[0]
    bias = quantized_bias(c.g, node.input(2), source.scale * weights.scale, count)
    if bias is None:
        return "its bias is not constant"
    bias = bias - source.zero_point * rows.astype(np.int64).sum(axis=1)
    if int(np.abs(bias).max(initial=0)) > 2**31 - 1:
        return "its bias does not fit int32"
    # In binary32 step by step, as XNNPACK and ONNX Runtime compute it: one ulp decides some roundings.
    scale = np.broadcast_to(
        np.float32(source.scale) * weights.scale.astype(np.float32) / np.float32(found.params.scale), (count,)
    ).astype(np.float32)
    if not bool(((scale >= 1e-30) & (scale <= 1e30)).all()):
        return "its requantisation scale is outside 1e-30..1e30"
    return (
        c.v.const(f"{node.name}.bias", bias.astype(np.int32), DType.S32),
        c.v.const(f"{node.name}.scale", scale, DType.F32),
    )


def _conv_int8(c: Context, node: Node) -> str:
    """Emits the int8 convolution; returns "" or the reason why it cannot."""
    integer = between(c.v, node)
    if isinstance(integer, str):
        return integer
    x, found = integer
    weights = quantized_weights(c.g, node.inputs[1], 0)
    if weights is None:
        return "its weights are not quantised to 8 bits per tensor or per output channel"
    w = weights.values
    terms = _integer_terms(c, node, x, weights, w.reshape(w.shape[0], -1), found)
    if isinstance(terms, str):
        return terms
    y = c.v.new(found.out, Form.CB)
    _emit_conv(c, node, c.v.cb(x), y, w, terms[0], terms[1], q_clamp(found), {})
    c.v.hold(found.out, y)
    c.cover(node, found.covered)
    return ""


def _emit_conv(
    c: Context, node: Node, x: Tensor, y: Tensor, w: Array,
    bias: Tensor | None, scale: Tensor | None, clamp_q: dict[int, int], clamp_f: dict[int, float],
) -> None:  # fmt: skip
    groups = int(node.attrs.get("group", 1))
    rows, each, kh, kw = w.shape
    require(each * groups == x.shape[1] and rows % groups == 0, "weights that do not fit the input's channels")
    window = window_of(c.g, node, (kh, kw))
    depthwise = groups > 1 and each == 1
    dense = np.ascontiguousarray(w[:, 0] if depthwise else w.transpose(0, 2, 3, 1))
    if dense.dtype == np.int16:
        dense = _narrow(dense)
    op = c.v.emit(
        OpKind.DWCONV if depthwise else OpKind.CONV,
        [x, None, bias, scale] if depthwise else [x, None, None, bias, scale],
        [y],
        p={**window.slots(rows // groups if depthwise else groups), **clamp_q},
        f=clamp_f or f_clamp(),
    )
    op.weights = Weights(dense)


def conv(c: Context, node: Node) -> None:
    rank = len(c.g.shape(node.inputs[0]))
    require(rank == 4, f"convolution over {rank - 2} axes (the core has 1 and 2)")
    reason = _conv_int8(c, node)
    if not reason:
        return
    if in_quantized_region(c.g, node):
        c.fallback(node, reason)
    w = real(c.g, node.inputs[1])
    if w is None:
        raise UnsupportedNodeError("its weights are not constant")
    bias = real(c.g, node.input(2)) if node.input(2) else None
    require(bias is not None or not node.input(2), "its bias is not constant")
    clamp = clamp_after(c.g, node)
    x, y = c.v.cb(node.inputs[0]), c.v.new(clamp.out, Form.CB)
    b = None if bias is None else c.v.const(f"{node.name}.bias", bias.reshape(-1), DType.F32)
    _emit_conv(c, node, x, y, w.astype(np.float32), b, None, {}, f_clamp(clamp))
    c.v.hold(clamp.out, y)
    c.cover(node, clamp.covered)


def _linear_int8(c: Context, node: Node) -> str:
    integer = between(c.v, node)
    if isinstance(integer, str):
        return integer
    x, found = integer
    trans = bool(node.attrs.get("transB"))
    weights = quantized_weights(c.g, node.inputs[1], 0 if trans else 1)
    if weights is None:
        return "its weights are not quantised to 8 bits per tensor or per output"
    w = weights.values if trans else weights.values.T
    terms = _integer_terms(c, node, x, weights, w, found)
    if isinstance(terms, str):
        return terms
    source, y = c.v.row(x), c.v.new(found.out)
    op = c.v.emit(OpKind.GEMM, [source, None, None, *terms], [y], p=q_clamp(found), f=f_clamp())
    op.weights = Weights(np.ascontiguousarray(_narrow(w)))
    c.v.hold(found.out, y)
    c.cover(node, found.covered)
    return ""


def linear(c: Context, node: Node) -> None:
    reason = _linear_int8(c, node)
    if not reason:
        return
    if in_quantized_region(c.g, node):
        c.fallback(node, reason)
    w, bias = real(c.g, node.inputs[1]), real(c.g, node.input(2)) if node.input(2) else None
    if w is None:
        raise UnsupportedNodeError("its weights are not constant")
    w = w if node.attrs.get("transB") else w.T
    clamp = clamp_after(c.g, node)
    x, y = c.v.real(node.inputs[0]), c.v.new(clamp.out)
    b = None
    if bias is not None:
        b = c.v.const(f"{node.name}.bias", np.broadcast_to(bias.reshape(-1), (w.shape[0],)), DType.F32)
    op = c.v.emit(OpKind.GEMM, [x, None, None, b, None], [y], f=f_clamp(clamp))
    op.weights = Weights(np.ascontiguousarray(w, dtype=np.float32))
    c.v.hold(clamp.out, y)
    c.cover(node, clamp.covered)


def _untransposed(c: Context, name: str) -> tuple[str, int]:
    """Looks through a Transpose of the last two axes: (value, 1) or (name, 0)."""
    maker = c.g.producer(name)
    if maker is None or maker.domain or maker.op_type != "Transpose":
        return name, 0
    rank = len(c.g.shape(name))
    if list(maker.attrs.get("perm") or []) != [*range(rank - 2), rank - 1, rank - 2]:
        return name, 0
    return maker.inputs[0], 1


def matmul(c: Context, node: Node) -> None:
    a, b = node.inputs
    require(min(len(c.g.shape(a)), len(c.g.shape(b))) >= 2, "a vector operand")
    reason = _matmul_int8(c, node, a, b)
    if not reason:
        return
    if in_quantized_region(c.g, node):
        c.fallback(node, reason)
    (a, ta), (b, tb) = _untransposed(c, a), _untransposed(c, b)
    left, right, y = c.v.real(a), c.v.real(b), c.v.new(node.outputs[0])
    require(left.dtype is DType.F32 and right.dtype is DType.F32, f"element type {left.dtype.name}")
    c.v.emit(OpKind.MATMUL, [left, right], [y], p={0: ta, 1: tb}, f={F.RA: 1.0})
    c.v.hold(node.outputs[0], y)


def _matmul_int8(c: Context, node: Node, a: str, b: str) -> str:
    qa, qb = integer_input(c.g, a), integer_input(c.g, b)
    if qa is None or qb is None:
        return "its inputs are not both quantised per tensor"
    found = match(c.v, node)
    if isinstance(found, str):
        return found
    if len(found.covered) > 1:
        return "an activation follows before it is quantised"
    (qa, ta), (qb, tb) = _untransposed(c, qa), _untransposed(c, qb)
    pa, pb = c.v.params(qa), c.v.params(qb)
    if pa is None or pb is None:
        return "its inputs have no quantisation parameters"
    left, right, y = c.v.row(qa), c.v.row(qb), c.v.new(found.out)
    ra = float(np.float32(pa.scale * pb.scale / found.params.scale))
    c.v.emit(OpKind.MATMUL, [left, right], [y], p={0: ta, 1: tb}, f={F.RA: ra})
    c.v.hold(found.out, y)
    c.cover(node, found.covered)
    return ""


RULES = {("", "Conv"): conv, ("gossamer", "Linear"): linear, ("", "MatMul"): matmul}
