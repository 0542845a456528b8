"""Depthwise convolution whose weight gradient is one batched product instead of torch's one slow block per weight.

On GPUs torch's own kernel for that gradient gives each weight to one thread block, which then walks through the whole
batch; for few channels and large batches nearly all of the device idles.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from gossamer.person.models import PersonNet


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return functional.conv2d(x, weight, None, stride, padding, groups=weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        (g,) = gradients
        stride, padding, channels = ctx.stride, ctx.padding, weight.shape[0]
        grad_x, _, _ = torch.ops.aten.convolution_backward(
            g, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], channels, [True, False, False]
        )
        kernel = weight.shape[2]
        height, width = g.shape[2:]
        padded = functional.pad(x, (padding,) * 4)
        taps = []
        for i in range(kernel):
            for j in range(kernel):
                window = padded[
                    :, :, i : i + (height - 1) * stride + 1 : stride, j : j + (width - 1) * stride + 1 : stride
                ]
                taps.append((window * g).sum(dim=(0, 2, 3), dtype=torch.float32))
        grad_weight = torch.stack(taps, dim=1).view_as(weight).to(weight.dtype)
        return grad_x, grad_weight, None, None


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise :class:`torch.nn.Conv2d` with the same parameters, values and gradients."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if torch.is_autocast_enabled(x.device.type):
            kind = torch.get_autocast_dtype(x.device.type)
            x, weight = x.to(kind), weight.to(kind)
        out: Tensor = _Depthwise.apply(x, weight, self.stride[0], int(self.padding[0]))  # type: ignore[no-untyped-call]
        return out


def use_fast_gradient(network: PersonNet, enabled: bool = True) -> PersonNet:
    """Switch all depthwise layers of a network, in place, to :class:`DepthwiseConv2d` or back."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.__class__ = DepthwiseConv2d if enabled else nn.Conv2d
    return network
