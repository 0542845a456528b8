"""Functions of one value and arithmetic of several, elementwise."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial, reduce

import torch
from torch import Tensor
from torch.nn import functional

from gossamer.compile.graph import Node
from gossamer.compile.unary import clip_bounds
from gossamer.trainable.step import Builder, align, require, text


def _hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.clamp(alpha * x + beta, 0.0, 1.0)


def _thresholded(x: Tensor, alpha: float) -> Tensor:
    return torch.where(x > alpha, x, torch.zeros_like(x))


def _swish(x: Tensor, alpha: float) -> Tensor:
    return x * torch.sigmoid(alpha * x)


def _selu(x: Tensor, alpha: float, gamma: float) -> Tensor:
    return gamma * functional.elu(x, alpha)


def _clip(x: Tensor, low: float, high: float) -> Tensor:
    if low == 0.0 and high == math.inf:
        return torch.relu(x)
    return torch.clamp(x, low, high)


def _cast(x: Tensor) -> Tensor:
    return x.float()


_PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "HardSwish": functional.hardswish,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal,
    "Abs": torch.abs,
    "Neg": torch.neg,
    "Erf": torch.erf,
    "Softplus": functional.softplus,
    "Softsign": functional.softsign,
    "Mish": functional.mish,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Tan": torch.tan,
    "Atan": torch.atan,
}


def unary(b: Builder, node: Node) -> None:
    """A function without parameters."""
    b.step(node, _PLAIN[node.op_type], node.inputs[:1])


def clip(b: Builder, node: Node) -> None:
    """Relu and Clip with constant bounds."""
    bounds = clip_bounds(b.g, node)
    if bounds is None:
        require(False, "its bounds are computed")
        return
    b.step(node, partial(_clip, low=bounds[0], high=bounds[1]), node.inputs[:1])


def shaped(b: Builder, node: Node) -> None:
    """A function with numbers as attributes."""
    attrs, op = node.attrs, node.op_type
    run: Callable[[Tensor], Tensor]
    if op == "LeakyRelu":
        run = partial(functional.leaky_relu, negative_slope=float(attrs.get("alpha", 0.01)))
    elif op == "HardSigmoid":
        run = partial(_hard_sigmoid, alpha=float(attrs.get("alpha", 0.2)), beta=float(attrs.get("beta", 0.5)))
    elif op == "Elu":
        run = partial(functional.elu, alpha=float(attrs.get("alpha", 1.0)))
    elif op == "Celu":
        run = partial(functional.celu, alpha=float(attrs.get("alpha", 1.0)))
    elif op == "Selu":
        run = partial(_selu, alpha=float(attrs.get("alpha", 1.6732632)), gamma=float(attrs.get("gamma", 1.0507010)))
    elif op == "ThresholdedRelu":
        run = partial(_thresholded, alpha=float(attrs.get("alpha", 1.0)))
    elif op == "Swish":
        run = partial(_swish, alpha=float(attrs.get("alpha", 1.0)))
    else:
        run = partial(functional.gelu, approximate=text(attrs.get("approximate", "none")))
    b.step(node, run, node.inputs[:1])


def softmax(b: Builder, node: Node) -> None:
    """Softmax and LogSoftmax along one axis (opset 13 and later)."""
    axis = int(node.attrs.get("axis", -1)) % b.rank(node.inputs[0]) + 1
    run = torch.softmax if node.op_type == "Softmax" else torch.log_softmax
    b.step(node, partial(run, dim=axis), node.inputs[:1])


def cast(b: Builder, node: Node) -> None:
    """Cast to float32; other targets are not trained through."""
    require(b.g.dtype(node.outputs[0]) == "float32", f"a cast to {b.g.dtype(node.outputs[0])}")
    b.step(node, _cast, node.inputs[:1])


def _two(x: Tensor, y: Tensor, function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    return function(*align(x, y))


def _many(*tensors: Tensor, function: Callable[[Tensor, Tensor], Tensor], share: float = 1.0) -> Tensor:
    total = reduce(function, align(*tensors))
    return total if share == 1.0 else total * share


_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": torch.div,
    "Pow": torch.pow,
}
_NARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Sum": torch.add,
    "Mean": torch.add,
    "Max": torch.maximum,
    "Min": torch.minimum,
}


def binary(b: Builder, node: Node) -> None:
    """Arithmetic of two values with numpy broadcasting."""
    require(b.g.dtype(node.outputs[0]) == "float32", f"element type {b.g.dtype(node.outputs[0])}")
    b.step(node, partial(_two, function=_BINARY[node.op_type]), node.inputs)


def nary(b: Builder, node: Node) -> None:
    """Sum, Mean, Max and Min of any number of values."""
    require(b.g.dtype(node.outputs[0]) == "float32", f"element type {b.g.dtype(node.outputs[0])}")
    share = 1.0 / len(node.inputs) if node.op_type == "Mean" else 1.0
    b.step(node, partial(_many, function=_NARY[node.op_type], share=share), node.inputs)


OPERATORS = {
    **dict.fromkeys(_PLAIN, unary),
    **dict.fromkeys(("Relu", "Clip"), clip),
    **dict.fromkeys(("LeakyRelu", "HardSigmoid", "Elu", "Celu", "Selu", "ThresholdedRelu", "Swish", "Gelu"), shaped),
    **dict.fromkeys(("Softmax", "LogSoftmax"), softmax),
    "Cast": cast,
    **dict.fromkeys(_BINARY, binary),
    **dict.fromkeys(_NARY, nary),
}
