"""Arithmetic of two values, tables, functions of one value, softmax and layer norm."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gossamer.compile.plan import Bin, DType, F, Op, OpKind, Un
from gossamer.quantize.qat.exact.state import TORCH, State, clamps, is_int8, requantised


def fixed_point(ra: float, rb: float) -> tuple[int, int, int]:
    """The two multipliers and the shift of int8 addition (NUMERICS.md, Add), from binary32 ratios."""
    a, b = np.float32(ra), np.float32(rb)
    top, shift, power = max(a, b), 1, np.float32(2.0)
    while shift < 30 and top * power < np.float32(1048576.0):
        shift, power = shift + 1, power * np.float32(2.0)
    return int(np.rint(a * power)), int(np.rint(b * power)), shift


def _operands(s: State, op: Op) -> list[Tensor]:
    """Both operands with axes of 1 behind the sample axis where ranks differ."""
    rank = len(op.outputs[0].shape)
    out = []
    for t in op.inputs[:2]:
        v = s.get(t)
        out.append(v.reshape(v.shape[0], *[1] * (rank + 1 - v.dim()), *v.shape[1:]))
    return out


_FLOAT: dict[int, Callable[[Tensor, Tensor], Tensor]] = {
    Bin.ADD: torch.add,
    Bin.SUB: torch.sub,
    Bin.MUL: torch.mul,
    Bin.DIV: torch.div,
    Bin.MAX: torch.maximum,
    Bin.MIN: torch.minimum,
    Bin.POW: torch.pow,
}


def binary(s: State, op: Op) -> Tensor:
    """BINARY: fixed point for int8 Add and Sub."""
    a, b = _operands(s, op)
    kind = Bin(op.p.get(0, 0))
    if not is_int8(op):
        y = _FLOAT[kind](a, b)
        return y.clamp(op.f.get(F.LO, -math.inf), op.f.get(F.HI, math.inf))
    ta, tb = op.inputs[:2]
    assert ta is not None and tb is not None
    left, right = a.to(torch.int64) - ta.zero_point, b.to(torch.int64) - tb.zero_point
    zero = op.outputs[0].zero_point
    low, high = clamps(op)
    if kind is Bin.MUL:
        value = (left * right).to(torch.float32).mul_(s.number(op.f[F.RA]))
        return requantised(value, zero, low, high).to(torch.int8)
    ma, mb, shift = fixed_point(op.f[F.RA], op.f[F.RB])
    if kind is Bin.SUB:
        mb = -mb
    total = (left * ma + right * mb + (1 << (shift - 1))) >> shift
    return (total + zero).clamp(low, high).to(torch.int8)


def table(s: State, op: Op) -> Tensor:
    """LUT: entry by the byte, per channel (axis 1) where there are several tables."""
    x = s.get(op.inputs[0])
    entries = s.constant(op.inputs[1])
    assert entries is not None
    index = x.view(torch.uint8).long() if x.dtype is torch.int8 else x.long()
    channels = int(op.p.get(0, 0))
    if channels > 1:
        view = [1, 1, channels, *[1] * (x.dim() - 3)]
        index = index + torch.arange(channels, device=x.device).reshape(view) * 256
    made = entries.reshape(-1)[index]
    wanted = TORCH[op.outputs[0].dtype]
    return made if made.dtype is wanted else made.view(wanted)


def _gelu(x: Tensor) -> Tensor:
    return functional.gelu(x)


def _gelu_tanh(x: Tensor) -> Tensor:
    return functional.gelu(x, approximate="tanh")


_UNARY: dict[int, Callable[[Tensor], Tensor]] = {
    Un.HARDSWISH: functional.hardswish,
    Un.SIGMOID: torch.sigmoid,
    Un.TANH: torch.tanh,
    Un.GELU: _gelu,
    Un.GELU_TANH: _gelu_tanh,
    Un.SILU: functional.silu,
    Un.EXP: torch.exp,
    Un.LOG: torch.log,
    Un.SQRT: torch.sqrt,
    Un.RECIPROCAL: torch.reciprocal,
    Un.ABS: torch.abs,
    Un.NEG: torch.neg,
    Un.ERF: torch.erf,
    Un.SOFTPLUS: functional.softplus,
    Un.FLOOR: torch.floor,
    Un.CEIL: torch.ceil,
}


def unary(s: State, op: Op) -> Tensor:
    """UNARY of float32."""
    x, kind = s.get(op.inputs[0]), Un(op.p.get(0, 0))
    f0, f1 = float(op.f.get(0, 0.0)), float(op.f.get(1, 0.0))
    if kind is Un.CLIP:
        return x.clamp(f0, f1)
    if kind is Un.HARDSIGMOID:
        return (f0 * x + f1).clamp(0.0, 1.0)
    if kind is Un.LEAKYRELU:
        return torch.where(x < 0, f0 * x, x)
    if kind is Un.ELU:
        return torch.where(x < 0, f0 * torch.expm1(x), x)
    return _UNARY[kind](x)


def prelu(s: State, op: Op) -> Tensor:
    """PRELU of float32, slopes along axis 1."""
    x, slope = s.get(op.inputs[0]), s.constant(op.inputs[1])
    assert slope is not None
    if slope.numel() > 1:
        slope = slope.reshape(1, 1, -1, *[1] * (x.dim() - 3))
    return torch.where(x < 0, x * slope, x)


def quantize(s: State, op: Op) -> Tensor:
    """QUANTIZE: one float32 division."""
    out = op.outputs[0]
    low, high = (0, 255) if out.dtype is DType.U8 else (-128, 127)
    value = s.get(op.inputs[0]) / s.number(out.scale)
    value = torch.where(torch.isnan(value), float(low - out.zero_point), value)
    return requantised(value, out.zero_point, low, high).to(TORCH[out.dtype])


def dequantize(s: State, op: Op) -> Tensor:
    """DEQUANTIZE: one float32 multiplication."""
    source = op.inputs[0]
    assert source is not None
    x = s.get(source).to(torch.int64) - source.zero_point
    return x.to(torch.float32).mul_(s.number(source.scale))


def softmax(s: State, op: Op) -> Tensor:
    """SOFTMAX: by a table of exponentials for int8."""
    x, axis = s.get(op.inputs[0]), int(op.p.get(0, 0)) + 1
    if not is_int8(op):
        return torch.log_softmax(x, axis) if op.p.get(1) else torch.softmax(x, axis)
    entries = s.constant(op.inputs[1])
    assert entries is not None
    wide = x.long()
    e = entries[wide.amax(axis, keepdim=True) - wide]
    share = s.number(op.f[F.RA]) / e.sum(axis, keepdim=True).to(torch.float32)
    return requantised(e.to(torch.float32).mul_(share), op.outputs[0].zero_point).to(torch.int8)


def layer_norm(s: State, op: Op) -> Tensor:
    """LAYERNORM of float32."""
    x = s.get(op.inputs[0])
    gamma, beta = (s.constant(t) for t in op.inputs[1:3])
    return functional.layer_norm(x, x.shape[int(op.p.get(0, 0)) + 1 :], gamma, beta, float(op.f[0]))


RULES = {
    OpKind.BINARY: binary,
    OpKind.LUT: table,
    OpKind.UNARY: unary,
    OpKind.PRELU: prelu,
    OpKind.QUANTIZE: quantize,
    OpKind.DEQUANTIZE: dequantize,
    OpKind.SOFTMAX: softmax,
    OpKind.LAYERNORM: layer_norm,
}
