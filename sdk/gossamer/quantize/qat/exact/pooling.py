"""Pooling, reductions and Resize."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from gossamer.compile.plan import F, Op, OpKind, P, Red, Rounding
from gossamer.quantize.qat.exact.state import State, is_int8, merged, requantised, split, window


def _taps(op: Op, x: Tensor, fill: float) -> list[Tensor]:
    """The padded input as each tap of the window sees it, ``[N, C, OH, OW]`` each."""
    kernel, stride, dilation, pad = window(op)
    x = functional.pad(x, pad, value=fill) if any(pad) else x
    height, width = op.outputs[0].shape[2:]
    found = []
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            rows = slice(i * dilation[0], i * dilation[0] + (height - 1) * stride[0] + 1, stride[0])
            columns = slice(j * dilation[1], j * dilation[1] + (width - 1) * stride[1] + 1, stride[1])
            found.append(x[:, :, rows, columns])
    return found


def max_pool(s: State, op: Op) -> Tensor:
    """MAXPOOL: padding never wins."""
    given = s.get(op.inputs[0])
    x = merged(given)
    taps = _taps(op, x, -128 if is_int8(op) else -math.inf)
    best = taps[0].clone()
    for tap in taps[1:]:
        torch.maximum(best, tap, out=best)
    return split(best, given)


def counts(op: Op, *, padded: bool) -> npt.NDArray[np.int64]:
    """Taps of each output position that lie inside the image, or inside the padded one: int64 ``[OH, OW]``."""
    kernel, stride, dilation, (left, right, top, bottom) = window(op)
    source = op.inputs[0]
    assert source is not None
    per_axis = []
    for axis, (before, after) in enumerate(((top, bottom), (left, right))):
        size = source.shape[2 + axis]
        low, high = (-before, size + after) if padded else (0, size)
        starts = np.arange(op.outputs[0].shape[2 + axis])[:, None] * stride[axis] - before
        at = starts + np.arange(kernel[axis])[None] * dilation[axis]
        per_axis.append(((at >= low) & (at < high)).sum(axis=1))
    return np.asarray(np.multiply.outer(per_axis[0], per_axis[1]), np.int64)


def average_pool(s: State, op: Op) -> Tensor:
    """AVGPOOL: the mean of the taps inside, by float32 or by TFLite's integer rules."""
    given = s.get(op.inputs[0])
    x = merged(given)
    inside = counts(op, padded=False)
    divisor = counts(op, padded=True) if op.p.get(P.GROUPS) else inside
    source, out = op.inputs[0], op.outputs[0]
    assert source is not None
    if not is_int8(op):
        total = torch.stack(_taps(op, x, 0.0)).sum(0) if x.shape[2:] != torch.Size(window(op)[0]) else _whole(x)
        return split(total / torch.from_numpy(divisor.astype(np.float32)).to(x.device), given)
    centred = x.to(torch.int32) - source.zero_point
    total = _whole(centred) if _covers(op) else sum(_taps(op, centred, 0))  # type: ignore[assignment]
    rounding = Rounding(op.p.get(P.ROUND, 0))
    if rounding is not Rounding.EVEN:
        n = torch.from_numpy(divisor.astype(np.int64)).to(x.device)
        stored = total.to(torch.int64) + n * source.zero_point
        half = n // 2
        if rounding is Rounding.HALF_UP:
            mean = torch.div(stored + 128 * n + half, n, rounding_mode="floor") - 128
        else:
            mean = torch.div(torch.where(stored > 0, stored + half, stored - half), n, rounding_mode="trunc")
        return split(mean.clamp(-128, 127).to(torch.int8), given)
    ratio = np.float32(op.f[F.RA]) / divisor.astype(np.float32)
    value = total.to(torch.float32).mul_(torch.from_numpy(ratio).to(x.device))
    return split(requantised(value, out.zero_point).to(torch.int8), given)


def _covers(op: Op) -> bool:
    source = op.inputs[0]
    assert source is not None
    kernel, _, dilation, pad = window(op)
    return kernel == tuple(source.shape[2:]) and dilation == (1, 1) and not any(pad)


def _whole(x: Tensor) -> Tensor:
    return x.sum((2, 3), keepdim=True, dtype=x.dtype)


def reduction(s: State, op: Op) -> Tensor:
    """REDUCE over a set of axes."""
    x, out = s.get(op.inputs[0]), op.outputs[0]
    source = op.inputs[0]
    assert source is not None
    kind = Red(op.p.get(0, 0))
    axes = [i + 1 for i in range(len(source.shape)) if int(op.p.get(1, 0)) >> i & 1]
    if kind in (Red.MAX, Red.MIN):
        y = (torch.amax if kind is Red.MAX else torch.amin)(x, axes)
    elif is_int8(op):
        total = (x.to(torch.int64) - source.zero_point).sum(axes)
        value = total.to(torch.float32).mul_(s.number(op.f[F.RA]))
        y = requantised(value, out.zero_point).to(torch.int8)
    else:
        y = x.sum(axes)
        if kind is Red.MEAN:
            y = y / math.prod(x.shape[a] for a in axes)
    return y.reshape(x.shape[0], *out.shape)


def resize(s: State, op: Op) -> Tensor:
    """RESIZE: taps by table."""
    given, out = s.get(op.inputs[0]), op.outputs[0]
    x = merged(given)
    rows, row_shares, columns, column_shares = (s.constant(t) for t in op.inputs[1:5])
    assert rows is not None and columns is not None and row_shares is not None and column_shares is not None
    ys, xs = rows.reshape(-1, 2).long(), columns.reshape(-1, 2).long()
    if not op.p.get(0, 0):
        return split(x[:, :, ys[:, 0]][:, :, :, xs[:, 0]], given)
    source = op.inputs[0]
    assert source is not None
    kind = torch.int64 if is_int8(op) else torch.float32
    wide = x.to(kind) - (source.zero_point if is_int8(op) else 0)
    wy, wx = row_shares.reshape(-1, 2).to(kind), column_shares.reshape(-1, 2).to(kind)
    tall = wide[:, :, ys[:, 0]] * wy[:, :1] + wide[:, :, ys[:, 1]] * wy[:, 1:]
    acc = tall[:, :, :, xs[:, 0]] * wx[:, 0] + tall[:, :, :, xs[:, 1]] * wx[:, 1]
    if not is_int8(op):
        return split(acc, given)
    value = acc.to(torch.float32).mul_(s.number(op.f[F.RA]))
    return split(requantised(value, out.zero_point).to(torch.int8), given)


RULES = {
    OpKind.MAXPOOL: max_pool,
    OpKind.AVGPOOL: average_pool,
    OpKind.REDUCE: reduction,
    OpKind.RESIZE: resize,
}
