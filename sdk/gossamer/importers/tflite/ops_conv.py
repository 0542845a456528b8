"""Convolution, depthwise convolution and fully connected layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gossamer.importers.tflite.activations import fused
from gossamer.importers.tflite.builder import Builder
from gossamer.importers.tflite.reader import Tensor

SAME, VALID = 0, 1
MAX_WINDOW = 1 << 15


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """TensorFlow's SAME: output ceil(size / stride), the odd pixel of padding goes behind."""
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def window(
    b: Builder, height: int, width: int, kernel: tuple[int, int], dilation: tuple[int, int] = (1, 1)
) -> dict[str, Any]:
    """Strides, dilations and explicit pads (top, left, bottom, right) of the current operator."""
    stride = (int(b.op.option("stride_h", 1)), int(b.op.option("stride_w", 1)))
    for label, values in (("window", kernel), ("stride", stride), ("dilation", dilation)):
        if not all(1 <= v <= MAX_WINDOW for v in values):
            raise b.broken(f"{label} {values[0]}x{values[1]}")
    padding = int(b.op.option("padding"))
    if padding == SAME:
        top, bottom = same_padding(height, kernel[0], stride[0], dilation[0])
        left, right = same_padding(width, kernel[1], stride[1], dilation[1])
    elif padding == VALID:
        top = left = bottom = right = 0
    else:
        raise b.broken(f"unknown padding {padding}")
    return {"strides": list(stride), "dilations": list(dilation), "pads": [top, left, bottom, right]}


def real_weights(tensor: Tensor, array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Weights as float32: dequantised when stored as integers."""
    if tensor.quant is None:
        return array.astype(np.float32)
    axis = tensor.quant.axis
    shape = [1] * array.ndim
    if axis is not None:
        shape[axis] = -1
    zero = tensor.quant.zero_point.reshape(shape)
    return np.asarray(
        (array.astype(np.int64) - zero) * tensor.quant.scale.reshape(shape).astype(np.float64), np.float32
    )


def weights(
    b: Builder, tensor: Tensor, source: Tensor, perm: tuple[int, ...], shape: tuple[int, ...], out_axis: int
) -> ir.Value:
    """Constant weights, transposed by ``perm`` and reshaped; output channels (axis ``out_axis``) come first after that.

    Weight-only quantisation (float activations) is undone here: the numbers are the same.
    """
    array = b.folded.get(tensor.index)
    if array is None:
        raise b.unsupported(f"weights '{tensor.name}' are computed at run time")
    if source.quant is None or tensor.quant is None:
        if tensor.dtype in ("int8", "uint8") and tensor.quant is None:
            raise b.broken(f"weights '{tensor.name}' are {tensor.type_name} without a scale")
        values = real_weights(tensor, array)
        return b.const(np.transpose(values, perm).reshape(shape), tensor.name)
    if tensor.dtype not in ("int8", "uint8"):
        raise b.unsupported(f"weights '{tensor.name}' are {tensor.type_name}")
    quant = tensor.quant
    if quant.axis not in (None, out_axis):
        raise b.unsupported(f"weights '{tensor.name}' have their scales along dimension {quant.axis}")
    array = np.transpose(array, perm).reshape(shape)
    if quant.axis is None:
        return b.dequantized(array, quant.scale[0], quant.zero_point[0], None, tensor.name)
    return b.dequantized(array, quant.scale, quant.zero_point, 0, tensor.name)


def bias(b: Builder, tensor: Tensor | None, weight: Tensor, source: Tensor, channels: int) -> ir.Value | None:
    """The bias; a quantised one has scale (input scale x weight scale), whatever the file says, as TFLite computes."""
    if tensor is None:
        return None
    array = b.folded.get(tensor.index)
    if array is None:
        raise b.unsupported(f"bias '{tensor.name}' is computed at run time")
    if array.size != channels:
        raise b.broken(f"bias '{tensor.name}' has {array.size} values for {channels} output channels")
    array = array.reshape(channels)
    if array.dtype.kind == "f":
        return b.const(array.astype(np.float32), tensor.name)
    if array.dtype != np.int32 or source.quant is None or weight.quant is None:
        raise b.unsupported(f"bias '{tensor.name}' is {tensor.type_name}")
    scale = (source.quant.scale[0].astype(np.float64) * weight.quant.scale.astype(np.float64)).astype(np.float32)
    if scale.size == 1:
        return b.dequantized(array, scale[0], 0, None, tensor.name)
    return b.dequantized(array, scale, np.zeros(channels), 0, tensor.name)


def _input(b: Builder, what: str) -> tuple[Tensor, tuple[int, int, int, int]]:
    """The spatial input of the current operator and the padding taken over from a PAD before it."""
    source = b.need(0)
    pads = (0, 0, 0, 0)
    if source.index in b.absorbed:
        source, pads, pad = b.absorbed[source.index]
        b.op.source += f" with {pad.source}"
    if len(source.shape) != 4 or min(source.shape) < 1:
        raise b.broken(f"{what} of an input of shape {list(source.shape)}")
    return source, pads


def _conv(b: Builder, depthwise: bool) -> None:
    source, extra = _input(b, "a convolution")
    weight = b.need(1)
    if len(weight.shape) != 4 or min(weight.shape) < 1:
        raise b.broken(f"a convolution with weights of shape {list(weight.shape)}")
    _, height, width, channels = source.shape
    if depthwise:
        one, kh, kw, cout = weight.shape
        if one != 1 or cout % channels:
            raise b.broken(f"depthwise weights {list(weight.shape)} for {channels} input channels")
        groups, perm, out_axis = channels, (3, 0, 1, 2), 3
        shape = (cout, 1, kh, kw)
    else:
        cout, kh, kw, cin = weight.shape
        if channels % cin or cout % (channels // cin):
            raise b.broken(f"convolution weights {list(weight.shape)} for {channels} input channels")
        groups, perm, out_axis = channels // cin, (0, 3, 1, 2), 0
        shape = (cout, cin, kh, kw)
    dilation = (int(b.op.option("dilation_h_factor", 1)), int(b.op.option("dilation_w_factor", 1)))
    attributes = window(b, height, width, (kh, kw), dilation)
    attributes["pads"] = [p + e for p, e in zip(attributes["pads"], extra, strict=True)]
    attributes |= {"kernel_shape": [kh, kw], "group": groups}
    out = b.output()
    inputs = [b.real(source, "nchw"), weights(b, weight, source, perm, shape, out_axis)]
    third = bias(b, b.input(2), weight, source, cout)
    inputs += [third] if third is not None else []
    (value,) = b.emit("Conv", inputs, attributes, name=out.name)
    b.put(out, fused(b, value, out.name), "nchw")


def conv_2d(b: Builder) -> None:
    _conv(b, depthwise=False)


def depthwise_conv_2d(b: Builder) -> None:
    _conv(b, depthwise=True)


def fully_connected(b: Builder) -> None:
    """Gemm on the input flattened to [M, K]; the result is reshaped when the output keeps more dimensions."""
    source, weight, out = b.need(0), b.need(1), b.output()
    if b.op.option("weights_format"):
        raise b.unsupported("fully connected weights in shuffled order")
    if len(weight.shape) != 2 or min(weight.shape) < 1:
        raise b.broken(f"fully connected weights of shape {list(weight.shape)}")
    n, k = weight.shape
    elements = int(np.prod(source.shape))
    if elements % k:
        raise b.broken(f"an input of {elements} elements for weights {list(weight.shape)}")
    inputs = [b.reshaped(source, (elements // k, k)), weights(b, weight, source, (0, 1), (n, k), 0)]
    third = bias(b, b.input(2), weight, source, n)
    inputs += [third] if third is not None else []
    (value,) = b.emit("Gemm", inputs, {"transB": 1}, name=out.name)
    shape = None if out.shape == (elements // k, n) else out.shape
    if int(np.prod(out.shape)) != elements // k * n:
        raise b.broken(f"output '{out.name}' is declared as {list(out.shape)}")
    b.put(out, fused(b, value, out.name), reshape=shape)


CONVERTERS = {
    "CONV_2D": conv_2d,
    "DEPTHWISE_CONV_2D": depthwise_conv_2d,
    "FULLY_CONNECTED": fully_connected,
}
