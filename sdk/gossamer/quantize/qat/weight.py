"""Layers whose weights are int8 per output channel and whose bias is int32, as fake quantisation and as integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer.compile.graph import Array
from gossamer.quantize.bias import LIMIT
from gossamer.quantize.qat.activation import SMALLEST, ActivationQuantizer
from gossamer.quantize.qat.straight_through import learned_round, round_to

TOP = 127
"""Largest magnitude of an integer weight."""


@dataclass(frozen=True)
class Integers:
    """A layer as the QDQ graph stores it.

    Attributes:
        weight: int8, shaped as torch's weight.
        scale: float32, one number or one per output channel.
        bias: int32 steps of ``bias_scale``; None: no bias, or one that stays float.
        bias_scale: float32, input scale times weight scale, shaped as ``scale``.
    """

    weight: Array
    scale: Array
    bias: Array | None
    bias_scale: Array | None


class QuantizedWeight(nn.Module):
    """What quantised layers have in common; mixed in before ``nn.Conv2d`` and its like.

    Weights: ``clamp(rhe(w / s), -127, 127) * s`` with ``s = max|w| / 127``, computed anew in every step, or learned.
    A zero stays exactly zero. Bias: ``rhe(b / (sx * s)) * sx * s`` with the input's scale ``sx``. A channel whose
    weights are so small that its bias would pass 2^29 steps gets a wider ``s``, for sums of products need the room.

    Attributes:
        per_channel: one scale per output channel; else one for the layer.
        kept: bool mask of the weights that may change, where zeros are kept; else None.
        weight_scale: the learned scale, ``[channels]`` or ``[1]``; None: from the weights.
    """

    weight: Tensor
    bias: Any
    kept: Tensor | None
    weight_scale: nn.Parameter | None

    def start(
        self,
        source: ActivationQuantizer | None,
        *,
        per_channel: bool,
        integer_bias: bool,
        keep_zeros: bool = False,
        learned: bool = False,
    ) -> None:
        """Set up after weights and bias are filled.

        Args:
            source: quantiser of the input, which gives the bias its scale; None: the bias stays float.
            per_channel: see the class.
            integer_bias: the bias is stored as int32.
            keep_zeros: weights that are zero now stay zero.
            learned: the weights' scales are parameters (LSQ).
        """
        self.per_channel, self.integer_bias = per_channel, integer_bias and source is not None
        # In a list: the quantiser is a module of the graph, not of this layer.
        self._source = [] if source is None else [source]
        self.register_buffer("kept", self.weight.detach() != 0 if keep_zeros else None)
        self.weight_scale = None
        if learned:
            with torch.no_grad():
                self.weight_scale = nn.Parameter(self._from_largest(self.weight.detach()))

    def masked(self) -> Tensor:
        """The weight, masks of sparse training and kept zeros applied."""
        return self.weight if self.kept is None else self.weight * self.kept

    def _from_largest(self, w: Tensor) -> Tensor:
        largest = w.abs().flatten(1).amax(1) if self.per_channel else w.abs().amax().reshape(1)
        return (largest / TOP).clamp_min(SMALLEST)

    def scales(self, w: Tensor) -> Tensor:
        """Scales of a weight, ``[channels]`` or ``[1]``; differentiable where they are learned."""
        scale = self._from_largest(w.detach()) if self.weight_scale is None else self.weight_scale.clamp_min(SMALLEST)
        if self.bias is None or not self.integer_bias:
            return scale
        least = self.bias.detach().abs() / (self._input_scale() * float(LIMIT))
        return torch.maximum(scale, least if self.per_channel else least.amax().reshape(1))

    def _input_scale(self) -> Tensor:
        return self._source[0].scale.detach().clamp_min(SMALLEST)

    def fake(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias on their integer grids, float32, with gradients straight through."""
        w = self.masked()
        scale = self.scales(w)
        view = scale.reshape(-1, *[1] * (w.dim() - 1))
        if self.weight_scale is None:
            rounded = round_to(w, view, float(TOP))
        else:
            share = (w.numel() / scale.numel() * TOP) ** -0.5
            rounded = learned_round(w, view, w.new_zeros(()), -TOP, TOP, share)
        bias = self.bias
        if bias is not None and self.integer_bias:
            bias = round_to(bias, self._input_scale() * scale.detach())
        return rounded, bias

    @torch.no_grad()
    def integers(self) -> Integers:
        """The integers that :meth:`fake` stands for, on the CPU."""
        w = self.masked()
        scale = self.scales(w)
        steps = torch.round(w / scale.reshape(-1, *[1] * (w.dim() - 1))).clamp_(-TOP, TOP)
        bias = bias_scale = None
        if self.bias is not None and self.integer_bias:
            bias_scale = (self._input_scale() * scale).cpu().numpy()
            exact = self.bias.detach().double().cpu().numpy() / bias_scale.astype(np.float64)
            bias = np.rint(exact).astype(np.int32)
        return Integers(steps.to(torch.int8).cpu().numpy(), scale.detach().cpu().numpy(), bias, bias_scale)


class QuantizedConv2d(QuantizedWeight, nn.Conv2d):
    """``nn.Conv2d`` with quantised weights."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self._conv_forward(x, *self.fake())
        return out


class QuantizedConv1d(QuantizedWeight, nn.Conv1d):
    """``nn.Conv1d`` with quantised weights."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self._conv_forward(x, *self.fake())
        return out


class QuantizedLinear(QuantizedWeight, nn.Linear):
    """``nn.Linear`` with quantised weights."""

    def forward(self, x: Tensor) -> Tensor:
        w, b = self.fake()
        return functional.linear(x, w, b)


CLASSES: dict[type[nn.Module], type[Any]] = {
    nn.Conv1d: QuantizedConv1d,
    nn.Conv2d: QuantizedConv2d,
    nn.Linear: QuantizedLinear,
}
"""The quantised form of each of torch's layers."""
