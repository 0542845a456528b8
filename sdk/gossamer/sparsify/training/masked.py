"""The parametrization of a sparse layer: the weight that the forward pass sees is the stored one times a mask.

Masks are buffers, changed in place: a compiled or captured graph goes on with the new ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Masked(nn.Module):
    """``weight * (mask + (1 - mask) * leak)``.

    Args:
        shape_of: the weight.
        dense_gradient: the gradient of the stored weight is that of the masked one, at pruned places too (straight
            through), instead of being masked.

    Attributes:
        mask: bool, the shape of the weight, True where it is kept.
        leak: float32 scalar, what pruned weights are multiplied with; 0 but for methods that let them fade.
    """

    mask: Tensor
    leak: Tensor

    def __init__(self, shape_of: Tensor, *, dense_gradient: bool = False, leaking: bool = False):
        super().__init__()
        self.dense_gradient, self.leaking = dense_gradient, leaking
        self.register_buffer("mask", torch.ones_like(shape_of, dtype=torch.bool))
        self.register_buffer("leak", torch.zeros((), device=shape_of.device))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that the layer computes with."""
        masked = weight * (torch.where(self.mask, 1.0, self.leak) if self.leaking else self.mask)
        if self.dense_gradient:
            return weight + (masked - weight).detach()
        return masked

    def right_inverse(self, weight: Tensor) -> Tensor:
        """What is stored for a weight that is assigned: itself."""
        return weight
