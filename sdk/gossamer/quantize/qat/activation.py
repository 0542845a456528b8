"""Where a QDQ graph quantises an activation: fake quantisation by its parameters, fixed, learned or observed."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from gossamer.quantize.qat.straight_through import fake_quantize, learned_round

Scales = Literal["fixed", "learned", "observed"]
SMALLEST = 2.0**-60
"""Smallest scale: requantisation scales stay far from the 1e-30 that the core takes."""


class ActivationQuantizer(nn.Module):
    """``(clamp(round_half_even(x / scale) + zero_point, low, high) - zero_point) * scale``.

    The gradient passes where the value is inside the range and is 0 outside. Nothing here waits for a GPU, so a step
    can be captured as a CUDA graph.

    Args:
        scale, zero_point: of the QDQ graph.
        low, high: range of the integers: -128..127, 0..255 for uint8.
        scales: ``fixed``: as calibrated. ``learned``: the scale is a parameter (LSQ), the zero point stays.
            ``observed``: both follow an exponential average of the batches' minimum and maximum in training.
        momentum: of that average, share of the old value in 0..1.
        limits: what values are cut to before they are observed: those of a Relu or Clip that the range stands for.

    Attributes:
        scale: float32 scalar, a parameter when it learns.
        zero_point: int32 scalar.
    """

    scale: Tensor
    zero_point: Tensor
    bounds: Tensor

    def __init__(
        self,
        scale: float,
        zero_point: int,
        low: int,
        high: int,
        *,
        scales: Scales = "fixed",
        momentum: float = 0.99,
        limits: tuple[float, float] = (-math.inf, math.inf),
    ) -> None:
        super().__init__()
        self.low, self.high, self.scales, self.momentum, self.limits = low, high, scales, momentum, limits
        value = torch.tensor(scale, dtype=torch.float32)
        if scales == "learned":
            self.scale = nn.Parameter(value)
        else:
            self.register_buffer("scale", value)
        self.register_buffer("zero_point", torch.tensor(zero_point, dtype=torch.int32))
        if scales == "observed":
            ends = [(low - zero_point) * scale, (high - zero_point) * scale]
            self.register_buffer("bounds", torch.tensor(ends, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Float32 in, float32 on the integer grid out, same shape."""
        x = x.float()
        if self.scales == "learned":
            share = (x[0].numel() * max(abs(self.low), self.high)) ** -0.5
            scale = self.scale.clamp_min(SMALLEST)
            return learned_round(x, scale, self.zero_point, self.low, self.high, share)
        if self.scales == "observed" and self.training:
            self.observe(x)
        return fake_quantize(x, self.scale, self.zero_point, self.low, self.high)

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Move the range towards that of ``x``; it always holds 0. Calibration's rule (min and max) gives the scale."""
        seen = torch.stack(torch.aminmax(x.detach())).clamp_(*self.limits)
        self.bounds.lerp_(seen, 1.0 - self.momentum)
        least, most = self.bounds[0].clamp_max(0.0), self.bounds[1].clamp_min(0.0)
        scale = ((most - least) / (self.high - self.low)).clamp_min(SMALLEST)
        self.scale.copy_(scale)
        self.zero_point.copy_(torch.round(self.low - least / scale).clamp(self.low, self.high))

    def parameters_now(self) -> tuple[float, int]:
        """The float32 scale and the integer zero point, as they go into the QDQ graph."""
        return float(self.scale.detach().clamp_min(SMALLEST)), int(self.zero_point)

    def extra_repr(self) -> str:
        return f"low={self.low}, high={self.high}, scales={self.scales}"
