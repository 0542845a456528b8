"""Convolutions and matrix products. Integer sums are taken in floating point that holds every partial sum exactly."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from gossamer.compile.plan import F, Op, OpKind, P
from gossamer.quantize.qat.exact.state import State, clamps, is_int8, merged, requantised, split, window

_EXACT_F32 = 1 << 24
"""Integers up to here are exact in binary32, and so are their sums in any order."""


def exact_type(w: Tensor) -> torch.dtype:
    """float32 where no partial sum of integers with these weights (rows first) can leave its exact range, else float64.

    On a GPU always float64: the accumulators of its tensor cores are not documented.
    """
    if w.device.type != "cpu":
        return torch.float64
    sums = w.to(torch.int64).abs().flatten(1).sum(1)
    return torch.float32 if int(sums.max()) * 128 < _EXACT_F32 else torch.float64


def _finish(s: State, op: Op, acc: Tensor, axis: int) -> Tensor:
    """Bias, scale and rounding of an int8 sum, or bias and clamp of a float one; channels along ``axis``."""
    *_, bias, scale = op.inputs
    view = [1] * acc.dim()
    view[axis] = -1
    b = s.constant(bias)
    if not is_int8(op):
        y = acc if b is None else acc + b.reshape(view)
        return y.clamp(op.f.get(F.LO, -math.inf), op.f.get(F.HI, math.inf))
    if b is not None:
        acc = acc.double().add_(b.reshape(view))
    multiplier = s.constant(scale)
    assert multiplier is not None
    value = acc.to(torch.float32).mul_(multiplier.reshape(view))
    return requantised(value, op.outputs[0].zero_point, *clamps(op)).to(torch.int8)


def _padded(x: Tensor, op: Op, pad: tuple[int, int, int, int]) -> Tensor:
    """Padding reads as the input's zero point."""
    source = op.inputs[0]
    assert source is not None
    return functional.pad(x, pad, value=float(source.zero_point)) if any(pad) else x


def conv(s: State, op: Op) -> Tensor:
    """CONV: int8 or float32, any groups."""
    given = s.get(op.inputs[0])
    w = s.weights[id(op)]
    kernel, stride, dilation, pad = window(op)
    groups = int(op.p.get(P.GROUPS, 0))
    kind = exact_type(w) if is_int8(op) else torch.float32
    x = _padded(merged(given).to(kind), op, pad)
    rows = w.permute(0, 3, 1, 2).reshape(groups, w.shape[0] // groups, -1).to(kind)
    n = x.shape[0]
    if kernel == (1, 1):
        x = x[:, :, :: stride[0], :: stride[1]]
        size = x.shape[2:]
        columns = x.reshape(n, groups, -1, size[0] * size[1])
    else:
        size = torch.Size(op.outputs[0].shape[2:])
        cut = [(o - 1) * st + d * (k - 1) + 1 for o, st, d, k in zip(size, stride, dilation, kernel, strict=True)]
        unfolded = functional.unfold(x[:, :, : cut[0], : cut[1]], kernel, dilation, 0, stride)
        columns = unfolded.reshape(n, groups, -1, size[0] * size[1])
    acc = torch.matmul(rows, columns).reshape(n, w.shape[0], *size)
    acc = acc[:, :, : op.outputs[0].shape[2], : op.outputs[0].shape[3]]
    return split(_finish(s, op, acc, 1), given)


def depthwise(s: State, op: Op) -> Tensor:
    """DWCONV: one tap after the other."""
    given = s.get(op.inputs[0])
    w = s.weights[id(op)]
    kernel, stride, dilation, pad = window(op)
    kind = exact_type(w) if is_int8(op) else torch.float32
    x = _padded(merged(given).to(kind), op, pad)
    multiplier = int(op.p.get(P.GROUPS, 0))
    if multiplier > 1:
        x = x.repeat_interleave(multiplier, 1)
    height, width = op.outputs[0].shape[2:]
    acc = x.new_zeros(x.shape[0], w.shape[0], height, width)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * dilation[0], j * dilation[1]
            rows = slice(top, top + (height - 1) * stride[0] + 1, stride[0])
            columns = slice(left, left + (width - 1) * stride[1] + 1, stride[1])
            acc.addcmul_(x[:, :, rows, columns], w[:, i, j].to(kind).reshape(1, -1, 1, 1))
    return split(_finish(s, op, acc, 1), given)


def gemm(s: State, op: Op) -> Tensor:
    """GEMM: ``[..., K]`` times ``[N, K]``."""
    x, w = s.get(op.inputs[0]), s.weights[id(op)]
    kind = exact_type(w) if is_int8(op) else torch.float32
    return _finish(s, op, torch.matmul(x.to(kind), w.to(kind).T), x.dim() - 1)


def matmul(s: State, op: Op) -> Tensor:
    """MATMUL of two activations or constants."""
    sides = []
    rank = max(len(t.shape) for t in op.inputs if t is not None)
    for k, t in enumerate(op.inputs[:2]):
        assert t is not None
        v = s.get(t)
        v = v.reshape(v.shape[0], *[1] * (rank - len(t.shape)), *v.shape[1:])
        if is_int8(op):
            v = v.double().sub_(t.zero_point)
        sides.append(v.transpose(-1, -2) if op.p.get(k) else v)
    acc = torch.matmul(*sides)
    if not is_int8(op):
        alpha = float(op.f.get(F.RA, 1.0))
        return acc if alpha == 1.0 else acc * alpha
    value = acc.to(torch.float32).mul_(s.number(op.f[F.RA]))
    return requantised(value, op.outputs[0].zero_point).to(torch.int8)


RULES = {OpKind.CONV: conv, OpKind.DWCONV: depthwise, OpKind.GEMM: gemm, OpKind.MATMUL: matmul}
