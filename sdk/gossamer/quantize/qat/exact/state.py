"""What every operator of a plan works with here: its values so far, its constants on the right device.

Values are ``[samples, *shape in the plan]``: the plan's own batch (mostly 1) stays an axis. Constants have no sample
axis. Integers keep the plan's types; channel-blocked tensors are held as plain ``[N, C, H, W]``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.compile.plan import DType, Op, OpKind, P
from gossamer.compile.plan import Tensor as PlanTensor

TORCH = {
    DType.F32: torch.float32,
    DType.S8: torch.int8,
    DType.U8: torch.uint8,
    DType.S32: torch.int32,
    DType.S64: torch.int64,
    DType.S16: torch.int16,
    DType.U32: torch.int64,
}
"""Types that values are held in; uint32 tables as int64."""


WEIGHTED = (OpKind.CONV, OpKind.DWCONV, OpKind.GEMM)
"""Operators with a constant matrix."""


@dataclass
class State:
    """One run.

    Attributes:
        values: activations by plan tensor.
        constants: by plan tensor.
        weights: the matrix of each weighted operator.
        zero: a float32 scalar on the device, which numbers of the plan are made from without a copy from the host.
    """

    values: dict[int, Tensor]
    constants: dict[int, Tensor]
    weights: dict[int, Tensor]
    zero: Tensor

    def get(self, tensor: PlanTensor | None) -> Tensor:
        """An operand, constants with a sample axis of 1."""
        if tensor is None:
            raise ValueError("absent operand")
        found = self.values.get(id(tensor))
        return self.constants[id(tensor)][None] if found is None else found

    def constant(self, tensor: PlanTensor | None) -> Tensor | None:
        """A constant as it stands; None where absent."""
        return None if tensor is None else self.constants[id(tensor)]

    def number(self, value: float) -> Tensor:
        """A float32 scalar on the device. torch on CUDA divides by a Python number through its reciprocal, which
        rounds otherwise than a division."""
        return self.zero + value


Rule = Callable[[State, Op], Tensor]


def merged(x: Tensor) -> Tensor:
    """Samples and the plan's batch as one axis."""
    return x.flatten(0, 1)


def split(y: Tensor, like: Tensor) -> Tensor:
    """The opposite of :func:`merged`."""
    return y.reshape(like.shape[0], like.shape[1], *y.shape[1:])


def is_int8(op: Op) -> bool:
    """Whether an operator computes by an int8 rule: its result is int8."""
    return op.outputs[0].dtype is DType.S8 and op.kind is not OpKind.LUT


def requantised(value: Tensor, zero: int, low: int = -128, high: int = 127) -> Tensor:
    """``RQ`` of NUMERICS.md for float32: clamp, round half to even, shift; int8 (any integers: see the bounds)."""
    clamped = value.clamp(low - zero, high - zero)
    return clamped.round_().add_(zero)


def clamps(op: Op) -> tuple[int, int]:
    """Bounds of an int8 result."""
    return int(op.p.get(P.QLO, -128)), int(op.p.get(P.QHI, 127))


def window(op: Op) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
    """Kernel, stride, dilation, and padding in torch's order (left, right, top, bottom)."""
    p = op.p
    pad = (int(p.get(P.PL, 0)), int(p.get(P.PR, 0)), int(p.get(P.PT, 0)), int(p.get(P.PB, 0)))
    return (
        (int(p.get(P.KH, 0)), int(p.get(P.KW, 0))),
        (int(p.get(P.SH, 0)), int(p.get(P.SW, 0))),
        (int(p.get(P.DH, 0)), int(p.get(P.DW, 0))),
        pad,
    )
