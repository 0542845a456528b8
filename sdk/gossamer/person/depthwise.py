"""Depthwise 3x3 convolution for training on a GPU: Triton kernels for channels-last tensors, forward and backward.

torch's own kernels leave most of a large GPU idle when channels are few: the weight gradient gives each weight to one
thread block, which walks through the whole batch alone. Each kernel here reads its tensors about once, the nine taps
of a pixel coming from the caches. Needs ``triton``, which comes with torch's CUDA builds.
"""

# No `from __future__ import annotations`: triton reads the kernels' annotations as objects. Its kernels are a language
# of their own, without types.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from gossamer.person.models import PersonNet

_TILE = 2048
_SPLITS = 128


@triton.jit
def _gather(
    source,
    weight,
    target,
    pixels,
    octets,
    height_in,
    width_in,
    height,
    width,
    STRIDE: tl.constexpr,  # noqa: N803 - compile-time constants are written so
    BACKWARD: tl.constexpr,  # noqa: N803
    P: tl.constexpr,  # noqa: N803
    C: tl.constexpr,  # noqa: N803
):
    """target[pixel, channel] = sum over taps of source at the tap times the tap's weight.

    Backward, ``source`` is the output's gradient: pixel p met tap t where (p + 1 - t) is a multiple of the stride.
    """
    channels = octets * 8  # channels are multiples of 8: tells the compiler that 16 bytes can be loaded at once
    pixel = tl.program_id(0) * P + tl.arange(0, P)
    channel = tl.program_id(1) * C + tl.arange(0, C)
    valid, inside = pixel < pixels, channel < channels
    column = pixel % width
    row = (pixel // width) % height
    image = pixel // (width * height)
    total = tl.zeros((P, C), dtype=tl.float32)
    for i in tl.static_range(3):
        for j in tl.static_range(3):
            if BACKWARD:
                r, c = row + 1 - i, column + 1 - j
                met = valid & (r >= 0) & (c >= 0) & (r % STRIDE == 0) & (c % STRIDE == 0)
                r, c = r // STRIDE, c // STRIDE
            else:
                r, c = row * STRIDE + i - 1, column * STRIDE + j - 1
                met = valid & (r >= 0) & (c >= 0)
            met = met & (r < height_in) & (c < width_in)
            place = ((image * height_in + r) * width_in + c)[:, None] * channels + channel[None, :]
            value = tl.load(source + place, mask=met[:, None] & inside[None, :], other=0.0).to(tl.float32)
            tap = tl.load(weight + (i * 3 + j) * channels + channel, mask=inside, other=0.0).to(tl.float32)
            total += value * tap[None, :]
    place = pixel[:, None] * channels + channel[None, :]
    tl.store(target + place, total.to(target.dtype.element_ty), mask=valid[:, None] & inside[None, :])


@triton.jit
def _weight_gradient(
    x,
    gradient,
    partial,
    pixels,
    octets,
    height_in,
    width_in,
    height,
    width,
    STRIDE: tl.constexpr,  # noqa: N803
    SPLITS: tl.constexpr,  # noqa: N803
    ROUNDS: tl.constexpr,  # noqa: N803
    P: tl.constexpr,  # noqa: N803
    C: tl.constexpr,  # noqa: N803
):
    """partial[split, tap, channel]: the sum over every SPLITS-th tile of pixels."""
    channels = octets * 8
    tap, split = tl.program_id(0), tl.program_id(1)
    channel = tl.program_id(2) * C + tl.arange(0, C)
    inside = channel < channels
    total = tl.zeros((P, C), dtype=tl.float32)
    for turn in range(ROUNDS):
        pixel = (turn * SPLITS + split) * P + tl.arange(0, P)
        valid = pixel < pixels
        column = pixel % width
        row = (pixel // width) % height
        r, c = row * STRIDE + tap // 3 - 1, column * STRIDE + tap % 3 - 1
        met = valid & (r >= 0) & (c >= 0) & (r < height_in) & (c < width_in)
        place = (((pixel // (width * height)) * height_in + r) * width_in + c)[:, None] * channels + channel[None, :]
        mask = met[:, None] & inside[None, :]
        value = tl.load(x + place, mask=mask, other=0.0).to(tl.float32)
        g = tl.load(gradient + pixel[:, None] * channels + channel[None, :], mask=mask, other=0.0).to(tl.float32)
        total += value * g
    tl.store(partial + (split * 9 + tap) * channels + channel, tl.sum(total, axis=0), mask=inside)


def _tile(channels: int) -> tuple[int, int]:
    block = min(64, triton.next_power_of_2(channels))
    return _TILE // block, block


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        count, channels, height_in, width_in = x.shape
        taps = weight.reshape(channels, 9).t().contiguous()
        height, width = ((n - 1) // stride + 1 for n in (height_in, width_in))
        y = torch.empty(
            (count, channels, height, width), dtype=x.dtype, device=x.device, memory_format=torch.channels_last
        )
        pixels, (p, c) = count * height * width, _tile(channels)
        grid = (triton.cdiv(pixels, p), triton.cdiv(channels, c))
        _gather[grid](
            x,
            taps,
            y,
            pixels,
            channels // 8,
            height_in,
            width_in,
            height,
            width,
            STRIDE=stride,
            BACKWARD=False,
            P=p,
            C=c,
        )
        ctx.save_for_backward(x, taps)
        ctx.stride, ctx.shape, ctx.kind = stride, weight.shape, weight.dtype
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        x, taps = ctx.saved_tensors
        g = gradients[0].contiguous(memory_format=torch.channels_last)
        count, channels, height_in, width_in = x.shape
        height, width = g.shape[2:]
        p, c = _tile(channels)
        grad_x = torch.empty_like(x)
        pixels = count * height_in * width_in
        grid = (triton.cdiv(pixels, p), triton.cdiv(channels, c))
        _gather[grid](
            g,
            taps,
            grad_x,
            pixels,
            channels // 8,
            height,
            width,
            height_in,
            width_in,
            STRIDE=ctx.stride,
            BACKWARD=True,
            P=p,
            C=c,
        )
        partial = torch.empty((_SPLITS, 9, channels), dtype=torch.float32, device=x.device)
        _weight_gradient[(9, _SPLITS, triton.cdiv(channels, c))](
            x,
            g,
            partial,
            count * height * width,
            channels // 8,
            height_in,
            width_in,
            height,
            width,
            STRIDE=ctx.stride,
            SPLITS=_SPLITS,
            ROUNDS=triton.cdiv(count * height * width, _SPLITS * p),
            P=p,
            C=c,
        )
        return grad_x, partial.sum(0).t().reshape(ctx.shape).to(ctx.kind), None


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise 3x3 :class:`torch.nn.Conv2d` with padding 1 and the same parameters, values and gradients.

    Channels are a multiple of 8; tensors are on a GPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if torch.is_autocast_enabled(x.device.type):
            kind = torch.get_autocast_dtype(x.device.type)
            x, weight = x.to(kind), weight.to(kind)
        out: Tensor = _Depthwise.apply(x, weight, self.stride[0])  # type: ignore[no-untyped-call]
        return out


def use_fast_depthwise(network: PersonNet) -> None:
    """Switch the depthwise 3x3 layers of a network, in place, to :class:`DepthwiseConv2d`."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1 and module.kernel_size == (3, 3):
            module.__class__ = DepthwiseConv2d
