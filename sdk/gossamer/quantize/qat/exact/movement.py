"""Operators that only move data."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from gossamer.compile.plan import DType, Layout, Op, OpKind, PadMode
from gossamer.quantize.qat.exact.state import State


def reshape(s: State, op: Op) -> Tensor:
    x = s.get(op.inputs[0])
    return x.reshape(x.shape[0], *op.outputs[0].shape)


def transpose(s: State, op: Op) -> Tensor:
    x = s.get(op.inputs[0])
    rank = len(op.outputs[0].shape)
    return x.permute(0, *(int(op.p.get(i, 0)) + 1 for i in range(rank)))


def layout(s: State, op: Op) -> Tensor:
    """LAYOUT: only the order of axes matters here, and that where the row-major side is [N, H, W, C]."""
    x = s.get(op.inputs[0])
    if not op.p.get(0):
        return x
    return x.permute(0, 1, 3, 4, 2) if op.outputs[0].layout is Layout.ROW else x.permute(0, 1, 4, 2, 3)


def concat(s: State, op: Op) -> Tensor:
    tensors = [s.get(t) for t in op.inputs]
    samples = max(t.shape[0] for t in tensors)
    return torch.cat([t.expand(samples, *t.shape[1:]) for t in tensors], int(op.p.get(0, 0)) + 1)


def slice_(s: State, op: Op) -> Tensor:
    x = s.get(op.inputs[0])
    for i, count in enumerate(op.outputs[0].shape):
        start, step = int(op.p.get(i, 0)), int(op.p.get(6 + i, 0))
        if (start, step, count) != (0, 1, x.shape[i + 1]):
            x = x.index_select(i + 1, start + step * torch.arange(count, device=x.device))
    return x


def pad(s: State, op: Op) -> Tensor:
    x, out = s.get(op.inputs[0]), op.outputs[0]
    rank = len(out.shape)
    mode = PadMode(op.p.get(0, 0))
    sides = [(int(op.p.get(1 + i, 0)), int(op.p.get(7 + i, 0))) for i in range(rank)]
    if mode is PadMode.CONSTANT:
        value = float(op.f.get(0, 0.0)) if out.dtype is DType.F32 else int(op.p.get(13, 0))
        return functional.pad(x, [v for side in reversed(sides) for v in side], value=value)
    for axis, (before, after) in enumerate(sides):
        if before or after:
            at = torch.arange(-before, x.shape[axis + 1] + after, device=x.device)
            last = x.shape[axis + 1] - 1
            at = at.clamp(0, last) if mode is PadMode.EDGE else last - (last - at.abs()).abs()
            x = x.index_select(axis + 1, at)
    return x


RULES = {
    OpKind.RESHAPE: reshape,
    OpKind.TRANSPOSE: transpose,
    OpKind.LAYOUT: layout,
    OpKind.CONCAT: concat,
    OpKind.SLICE: slice_,
    OpKind.PAD: pad,
}
