"""Layers whose output is computed with one mask and the gradient of whose input with another.

The weight's own gradient is that of the forward pass, dense. Forward masks have their groups along the inputs of a
weight, backward masks along its outputs: both products of training, ``W x`` and ``W^T g``, are n:m sparse along the
dimension that they sum over.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gossamer.sparsify.matrix import from_onnx, to_onnx
from gossamer.sparsify.patterns import Pattern
from gossamer.sparsify.training.masked import Masked

_CONVOLUTIONS: dict[int, Any] = {3: functional.conv1d, 4: functional.conv2d, 5: functional.conv3d}
"""By the dimensions of the weight."""


def backward_mask(pattern: Pattern, weight: Tensor, groups: int = 1) -> Tensor:
    """Where ``pattern`` keeps the largest magnitudes of a weight seen from its outputs.

    Args:
        pattern: n:m; its groups lie along the output channels of one tap and input channel.
        weight: ``[Cout, Cin / groups, ...]`` or ``[N, K]``.
        groups: of the convolution; output channels of different groups are not mixed.

    Returns:
        bool, the shape of the weight.
    """
    turned = _turn(weight.detach().abs(), groups)
    matrix, columns = from_onnx(turned)
    mask = to_onnx(pattern.project(matrix, columns=columns, scores=matrix), tuple(turned.shape))
    return _turn(mask, groups).reshape(weight.shape)


def install(module: nn.Module) -> None:
    """Let a parametrized layer (:class:`Masked` with ``two_way``) use its backward mask."""
    was = type(module)
    # A class instead of an attribute: a copied module then runs on its own weights.
    module.__class__ = type(f"TwoWay{was.__name__}", (was,), {"forward": _forward})


def remove(module: nn.Module) -> None:
    """Undo :func:`install`."""
    module.__class__ = type(module).__bases__[0]


def _turn(tensor: Tensor, groups: int) -> Tensor:
    """Inputs first: ``[groups * (Cin / groups), Cout / groups, ...]``; does its own inverse."""
    outputs, inputs = tensor.shape[0] // groups, tensor.shape[1]
    parts = tensor.reshape(groups, outputs, inputs, *tensor.shape[2:])
    return parts.transpose(1, 2).reshape(groups * inputs, outputs, *tensor.shape[2:])


def _forward(self: Any, input: Tensor) -> Tensor:
    masked: Masked = self.parametrizations.weight[0]
    assert masked.backward_mask is not None
    if isinstance(self, nn.Linear):
        out = functional.linear(input.detach(), self.weight, self.bias)
        geometry = None
    else:
        padding = self.padding
        if self.padding_mode != "zeros" or padding == "same":  # no plain number of zeros on both sides
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            input = functional.pad(input, self._reversed_padding_repeated_twice, mode=mode)
            padding = "valid"
        if padding == "valid":
            padding = (0,) * len(self.stride)
        geometry = (self.stride, padding, self.dilation, self.groups)
        out = _CONVOLUTIONS[self.weight.ndim](input.detach(), self.weight, self.bias, *geometry)
    if not (torch.is_grad_enabled() and input.requires_grad):
        return out
    stored = self.parametrizations.weight.original.detach()
    passed: Tensor = _Passed.apply(out, input, stored * masked.backward_mask, geometry)  # type: ignore[no-untyped-call]
    return passed


class _Passed(torch.autograd.Function):
    """The output as it is; its gradient goes on to the output and, through another weight, to the input."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, input: Tensor, weight: Tensor, geometry: Any) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.geometry, ctx.shape, ctx.type = geometry, input.shape, input.dtype
        return out.view_as(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        weight = weight.to(gradient.dtype)
        if ctx.geometry is None:
            back = gradient @ weight
        else:
            stride, padding, dilation, groups = ctx.geometry
            back, _, _ = torch.ops.aten.convolution_backward(
                gradient,
                gradient.new_empty(1).expand(ctx.shape),
                weight,
                None,
                stride,
                padding,
                dilation,
                False,
                [0] * len(stride),
                groups,
                (True, False, False),
            )
        return gradient, back.to(ctx.type), None, None
