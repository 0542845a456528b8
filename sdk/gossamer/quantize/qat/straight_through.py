"""Rounding that gradients pass through, for weights, biases and learned scales.

Straight-through estimator: Bengio et al., arXiv 1308.3432. Learned scales: LSQ, Esser et al., arXiv 1902.08153,
equations 3 and 4 and section 2.2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


class _RoundTo(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, limit: float | None) -> Tensor:
        steps = torch.round(x / scale)
        if limit is not None:
            steps = steps.clamp_(-limit, limit)
        return steps.mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0], None, None


class _FakeQuantize(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor, low: int, high: int) -> Tensor:
        steps = torch.round(x / scale).add_(zero)
        ctx.save_for_backward((steps >= low) & (steps <= high))
        return steps.clamp_(low, high).sub_(zero).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        (inside,) = ctx.saved_tensors
        return grads[0] * inside, None, None, None, None


class _LearnedRound(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor, low: int, high: int, share: float) -> Tensor:
        ctx.save_for_backward(x, scale, zero)
        ctx.low, ctx.high, ctx.share = low, high, share
        steps = torch.round(x / scale).add_(zero).clamp_(low, high).sub_(zero)
        return steps.mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        x, scale, zero = ctx.saved_tensors
        g = grads[0]
        exact = x / scale
        steps = torch.round(exact).add_(zero)
        inside = (steps >= ctx.low) & (steps <= ctx.high)
        towards = torch.where(inside, steps - zero - exact, steps.clamp(ctx.low, ctx.high) - zero)
        whole = (g * towards).mul_(ctx.share)
        if scale.numel() == 1:
            return g * inside, whole.sum().reshape(scale.shape), None, None, None, None
        axes = [i for i in range(x.dim()) if scale.shape[i] == 1]
        return g * inside, whole.sum(axes, keepdim=True), None, None, None, None


def fake_quantize(x: Tensor, scale: Tensor, zero: Tensor, low: int, high: int) -> Tensor:
    """``(clamp(round_half_even(x / scale) + zero, low, high) - zero) * scale``, per tensor; the gradient passes inside.

    Eager, one fused kernel of torch's, which the compilers of torch do not know; under ``torch.compile`` they fuse the
    plain formula instead.
    """
    if torch.compiler.is_compiling() or x.is_meta:
        made: Tensor = _FakeQuantize.apply(x, scale, zero, low, high)  # type: ignore[no-untyped-call]
        return made
    return torch.fake_quantize_per_tensor_affine(x, scale, zero, low, high)


def round_to(x: Tensor, scale: Tensor, limit: float | None = None) -> Tensor:
    """``clamp(round_half_even(x / scale), -limit, limit) * scale``; the gradient of ``x`` passes unchanged."""
    made: Tensor = _RoundTo.apply(x, scale, limit)  # type: ignore[no-untyped-call]
    return made


def learned_round(x: Tensor, scale: Tensor, zero: Tensor, low: int, high: int, share: float) -> Tensor:
    """Fake quantisation whose scale learns (LSQ): ``(clamp(rhe(x / scale) + zero, low, high) - zero) * scale``.

    ``scale`` has one number or one for each row of ``x`` (shaped to broadcast); ``share`` multiplies its gradient.
    Outside the range, ``x`` has no gradient.
    """
    made: Tensor = _LearnedRound.apply(x, scale, zero, low, high, share)  # type: ignore[no-untyped-call]
    return made
