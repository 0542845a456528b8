"""Operators with trainable tensors: convolutions, matrix products and norms, as torch's own layers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer.compile.graph import Array, Node
from gossamer.trainable.elementwise import binary
from gossamer.trainable.step import Builder, merged, require, split, transposed
from gossamer.trainable.windows import window_of

_BIASED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_CONV: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d}


def run_merged(layer: nn.Module, x: Tensor, pad: Sequence[int] = ()) -> Tensor:
    """A layer of torch over groups and batch as one axis; ``pad`` in torch's order, last axis first."""
    flat = merged(x)
    if pad:
        flat = functional.pad(flat, pad)
    return split(layer(flat), x)


def run_layer(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer of torch that takes any leading axes."""
    out: Tensor = layer(x)
    return out


def _reuse(b: Builder, key: tuple[object, ...], node: Node, inputs: Sequence[str], pad: tuple[int, ...]) -> bool:
    """One layer for nodes that share weights and settings."""
    layer = b.layers.get(key)
    if layer is None:
        return False
    b.tie_again(layer, node)
    b.step(node, partial(run_merged, pad=pad), inputs, layer=layer)
    return True


def conv(b: Builder, node: Node) -> None:
    """Conv over one or two axes as ``nn.Conv1d`` or ``nn.Conv2d``; uneven padding is applied before it."""
    axes = b.rank(node.inputs[0]) - 2
    require(axes in _CONV, f"a convolution over {axes} axes")
    w = b.weight(node, 1, "weight")
    bias = b.weight(node, 2, "bias") if node.input(2) else None
    window = window_of(b.g, node, w.shape[2:])
    groups = int(node.attrs.get("group", 1))
    require(w.shape[1] * groups == b.shape(node.inputs[0])[1], "weights that do not fit its input")
    even = window.before == window.after
    pad = () if even else window.torch_pad()
    key = ("Conv", node.inputs[1], node.input(2), window, groups)
    if _reuse(b, key, node, node.inputs[:1], pad):
        return
    layer = b.layer_class(_CONV[axes], node)(
        w.shape[1] * groups, w.shape[0], w.shape[2:], window.stride, window.before if even else 0, window.dilation,
        groups, bias is not None,
    )  # fmt: skip
    _fill(b, node, layer, w, bias)
    b.layers[key] = layer
    b.step(node, partial(run_merged, pad=pad), node.inputs[:1], layer=layer)


def _fill(b: Builder, node: Node, layer: nn.Module, w: Array, bias: Array | None) -> None:
    b.register(node, layer)
    b.tie(layer, "weight", node, 1, w)
    if bias is not None:
        b.tie(layer, "bias", node, 2, bias)
    b.ready(layer, node)


def _run_transposed(layer: nn.Module, x: Tensor, crop: tuple[int, int]) -> Tensor:
    y: Tensor = layer(merged(x))
    return split(y[:, :, : crop[0], : crop[1]], x)


def conv_transpose(b: Builder, node: Node) -> None:
    """ConvTranspose over two axes with symmetric padding as ``nn.ConvTranspose2d``."""
    require(b.rank(node.inputs[0]) == 4, "a transposed convolution over other than 2 axes")
    w = b.weight(node, 1, "weight")
    bias = b.weight(node, 2, "bias") if node.input(2) else None
    groups = int(node.attrs.get("group", 1))
    stride = [int(s) for s in node.attrs.get("strides", (1, 1))]
    dilation = [int(d) for d in node.attrs.get("dilations", (1, 1))]
    pads = [int(p) for p in node.attrs.get("pads", (0, 0, 0, 0))]
    require(str(node.attrs.get("auto_pad", "NOTSET")) in ("NOTSET", "b'NOTSET'"), "automatic padding")
    before, size, out = pads[:2], b.shape(node.inputs[0])[2:], b.shape(node.outputs[0])[2:]
    plain = [
        (n - 1) * s - 2 * p + d * (k - 1) + 1
        for n, s, p, d, k in zip(size, stride, before, dilation, w.shape[2:], strict=True)
    ]
    extra = [max(0, o - p) for o, p in zip(out, plain, strict=True)]
    require(all(e < max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)), "padding that torch lacks")
    layer = nn.ConvTranspose2d(
        w.shape[0], w.shape[1] * groups, (w.shape[2], w.shape[3]), (stride[0], stride[1]), (before[0], before[1]),
        (extra[0], extra[1]), groups, bias is not None, (dilation[0], dilation[1]),
    )  # fmt: skip
    _fill(b, node, layer, w, bias)
    b.step(node, partial(_run_transposed, crop=(out[0], out[1])), node.inputs[:1], layer=layer)


def _run_scaled(layer: nn.Module, x: Tensor, alpha: float, beta: float) -> Tensor:
    assert isinstance(layer, nn.Linear)
    y = alpha * functional.linear(x, layer.weight)
    return y if layer.bias is None else y + beta * layer.bias


def gemm(b: Builder, node: Node) -> None:
    """Gemm of an activation and a constant matrix as ``nn.Linear``."""
    require(not int(node.attrs.get("transA", 0)), "its first operand transposed")
    w = b.weight(node, 1, "weight")
    trans = bool(int(node.attrs.get("transB", 0)))
    alpha, beta = float(node.attrs.get("alpha", 1.0)), float(node.attrs.get("beta", 1.0))
    rows = w.shape[0] if trans else w.shape[1]
    bias = b.weight(node, 2, "bias") if node.input(2) and beta != 0.0 else None
    require(bias is None or bias.size == rows, "a bias that is no vector of one number per output")
    _linear(b, node, w, bias, trans=trans, scales=None if (alpha, beta) == (1.0, 1.0) else (alpha, beta))


def _linear(
    b: Builder, node: Node, w: Array, bias: Array | None, *, trans: bool, scales: tuple[float, float] | None = None
) -> None:
    key = ("Linear", node.inputs[1], node.input(2), trans, scales)
    run = run_layer if scales is None else partial(_run_scaled, alpha=scales[0], beta=scales[1])
    layer = b.layers.get(key)
    if layer is None:
        rows, columns = w.shape if trans else w.shape[::-1]
        plain: type[nn.Module] = nn.Linear
        cls = b.layer_class(plain, node) if scales is None else plain
        layer = cls(columns, rows, bias is not None)
        b.register(node, layer)
        b.tie(layer, "weight", node, 1, w, *(() if trans else (transposed,)))
        if bias is not None:
            b.tie(layer, "bias", node, 2, bias, partial(np.reshape, shape=bias.shape))
        b.ready(layer, node)
        b.layers[key] = layer
    else:
        b.tie_again(layer, node)
    b.step(node, run, node.inputs[:1], layer=layer)


def _run_matmul(x: Tensor, y: Tensor) -> Tensor:
    rank = max(x.dim(), y.dim())
    x, y = (t.reshape(t.shape[0], *[1] * (rank - t.dim()), *t.shape[1:]) for t in (x, y))
    return torch.matmul(x, y)


def matmul(b: Builder, node: Node) -> None:
    """MatMul with a constant matrix on the right as ``nn.Linear`` without bias; of two activations as it stands."""
    x, y = node.inputs
    if b.array(y) is not None and b.rank(y) == 2 and b.array(x) is None and b.rank(x) >= 2:
        _linear(b, node, b.weight(node, 1, "weight"), None, trans=False)
        return
    require(min(b.rank(x), b.rank(y)) >= 2, "a vector operand")
    b.step(node, _run_matmul, [x, y])


def batch_norm(b: Builder, node: Node) -> None:
    """BatchNormalization as ``nn.BatchNorm1d`` or ``nn.BatchNorm2d`` with running statistics."""
    rank = b.rank(node.inputs[0])
    require(rank in (2, 3, 4), f"rank {rank}")
    arrays = [b.weight(node, i, what) for i, what in enumerate(("scale", "bias", "mean", "variance"), 1)]
    cls = nn.BatchNorm2d if rank == 4 else nn.BatchNorm1d
    layer = cls(arrays[0].size, float(node.attrs.get("epsilon", 1e-5)), 1.0 - float(node.attrs.get("momentum", 0.9)))
    b.register(node, layer)
    for index, attribute in enumerate(("weight", "bias", "running_mean", "running_var"), 1):
        b.tie(layer, attribute, node, index, arrays[index - 1])
    b.step(node, run_merged, node.inputs[:1], layer=layer)


def layer_norm(b: Builder, node: Node) -> None:
    """LayerNormalization as ``nn.LayerNorm``."""
    shape = b.shape(node.inputs[0])
    axis = int(node.attrs.get("axis", -1)) % len(shape)
    require(not any(node.outputs[1:]), "its mean or deviation as further outputs")
    gamma = b.weight(node, 1, "scale")
    beta = b.weight(node, 2, "bias") if node.input(2) else None
    fits = gamma.shape == shape[axis:] and (beta is None or beta.shape == shape[axis:])
    require(fits, "a scale that does not cover the normalised axes")
    layer = nn.LayerNorm(shape[axis:], float(node.attrs.get("epsilon", 1e-5)), bias=beta is not None)
    b.register(node, layer)
    b.tie(layer, "weight", node, 1, gamma)
    if beta is not None:
        b.tie(layer, "bias", node, 2, beta)
    b.step(node, run_layer, node.inputs[:1], layer=layer)


def _run_instance_norm(layer: nn.Module, x: Tensor) -> Tensor:
    flat = merged(x)
    return split(functional.instance_norm(flat, weight=layer.weight, bias=layer.bias, eps=layer.eps), x)  # type: ignore[arg-type]


def instance_norm(b: Builder, node: Node) -> None:
    """InstanceNormalization with trainable scale and bias."""
    gamma, beta = b.weight(node, 1, "scale"), b.weight(node, 2, "bias")
    layer = nn.GroupNorm(gamma.size, gamma.size, float(node.attrs.get("epsilon", 1e-5)))
    b.register(node, layer)
    b.tie(layer, "weight", node, 1, gamma)
    b.tie(layer, "bias", node, 2, beta)
    b.step(node, _run_instance_norm, node.inputs[:1], layer=layer)


def _run_prelu(layer: nn.Module, x: Tensor, rank: int) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return torch.where(x < 0, x * weight.reshape(1, *[1] * (rank - weight.dim()), *weight.shape), x)


class Slope(nn.Module):
    """The slope of a PRelu, shaped as in ONNX."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))


def prelu(b: Builder, node: Node) -> None:
    """PRelu with a trainable slope."""
    slope = b.weight(node, 1, "slope")
    layer = Slope(slope.shape)
    b.register(node, layer)
    b.tie(layer, "weight", node, 1, slope)
    b.step(node, partial(_run_prelu, rank=b.rank(node.inputs[0])), node.inputs[:1], layer=layer)


class Offset(nn.Module):
    """A bias that the graph adds in a node of its own, shaped as in ONNX."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(shape))


def _run_offset(layer: nn.Module, x: Tensor, rank: int) -> Tensor:
    bias = layer.bias
    assert isinstance(bias, Tensor)
    return x + bias.reshape(1, *[1] * (rank - bias.dim()), *bias.shape)


def add(b: Builder, node: Node) -> None:
    """Add; a constant with one number per output of the convolution or matrix product before it trains as its bias."""
    for index in (0, 1):
        x, constant = node.inputs[1 - index], b.g.const(node.inputs[index])
        maker = b.g.producer(x)
        if constant is None or constant.dtype != np.float32 or maker is None or maker.op_type not in _BIASED:
            continue
        if b.array(maker.inputs[1]) is None:
            continue
        shape, axis = b.shape(x), 1 if maker.op_type.startswith("Conv") else b.rank(x) - 1
        full = (1,) * (len(shape) - constant.ndim) + constant.shape
        if len(full) != len(shape) or constant.size != shape[axis] or full[axis] != shape[axis]:
            continue
        layer = Offset(constant.shape)
        b.register(node, layer)
        b.tie(layer, "bias", node, index, constant)
        b.step(node, partial(_run_offset, rank=len(shape)), [x], layer=layer)
        return
    binary(b, node)


def dropout(b: Builder, node: Node) -> None:
    """Dropout, active in training with the ratio that the graph gives."""
    ratio = b.numbers(node, 1, "ratio") if node.input(1) else [node.attrs.get("ratio", 0.5)]
    require(not (len(node.outputs) > 1 and node.outputs[1]), "its mask as a second output")
    layer = nn.Dropout(float((ratio or [0.5])[0]))
    b.register(node, layer)
    b.step(node, run_layer, node.inputs[:1], layer=layer)


OPERATORS = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": batch_norm,
    "LayerNormalization": layer_norm,
    "InstanceNormalization": instance_norm,
    "PRelu": prelu,
    "Dropout": dropout,
    "Add": add,
}
