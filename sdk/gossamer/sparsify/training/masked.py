"""The parametrization of a sparse layer: the weight that the forward pass sees is the stored one times a mask.

Masks are buffers, changed in place: a compiled or captured graph goes on with the new ones. They are multiplied with
rather than selected by: on a CPU ``masked_fill`` and ``where`` take five to ten times as long.
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
        leaking: pruned weights are multiplied with ``leak``; with ``dense_gradient`` only.
        two_way: there is a mask for the backward pass, too; see :mod:`gossamer.sparsify.training.two_way`.

    Attributes:
        mask: bool, the shape of the weight, True where it is kept.
        leak: float32 scalar, what pruned weights are multiplied with; 0 but for methods that let them fade.
        backward_mask: bool, the shape of the weight, True where it passes gradients to the layer's input; None
            unless ``two_way``.
    """

    mask: Tensor
    leak: Tensor
    backward_mask: Tensor | None

    def __init__(self, shape_of: Tensor, *, dense_gradient: bool = False, leaking: bool = False, two_way: bool = False):
        super().__init__()
        self.dense_gradient, self.leaking = dense_gradient, leaking
        self.register_buffer("mask", torch.ones_like(shape_of, dtype=torch.bool))
        self.register_buffer("leak", torch.zeros((), device=shape_of.device))
        self.register_buffer("backward_mask", torch.ones_like(self.mask) if two_way else None)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that the layer computes with."""
        if self.dense_gradient:  # the weight less what is pruned: exact, and the gradient passes through the difference
            pruned = weight.detach() * ~self.mask
            return weight - (pruned * (1.0 - self.leak) if self.leaking else pruned)
        return weight * self.mask

    def right_inverse(self, weight: Tensor) -> Tensor:
        """What is stored for a weight that is assigned: itself."""
        return weight
