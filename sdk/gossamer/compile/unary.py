"""Functions of one value: how the core computes them in f32, and the double-precision function behind int8 tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gossamer.compile.graph import Graph, Node
from gossamer.compile.infer import scalar
from gossamer.compile.plan import Un

Double = npt.NDArray[np.float64]
Function = Callable[[Double], Double]
"""Maps a ``[channels or 1, values]`` array of doubles elementwise."""

_vector_erf = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True)
class Unary:
    """``kind`` is the core's f32 operator with parameters ``f0``, ``f1``; ``None`` where only a table can do it.
    ``channels`` > 0: the function differs per channel (axis 1)."""

    fn: Function
    kind: Un | None = None
    f0: float = 0.0
    f1: float = 0.0
    channels: int = 0


def _erf(x: Double) -> Double:
    return np.asarray(_vector_erf(x), np.float64)


def _sigmoid(x: Double) -> Double:
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + small), small / (1 + small)))


def _softplus(x: Double) -> Double:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), np.float64)


def _elu(alpha: float) -> Function:
    return lambda x: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)


def _gelu(x: Double) -> Double:
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


def _gelu_tanh(x: Double) -> Double:
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))), np.float64)


def _selu(alpha: float, gamma: float) -> Function:
    return lambda x: gamma * np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)


def _celu(alpha: float) -> Function:
    return lambda x: np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(np.minimum(x, 0) / alpha))


_PLAIN: dict[str, tuple[Un | None, Function]] = {
    "HardSwish": (Un.HARDSWISH, lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    "Sigmoid": (Un.SIGMOID, _sigmoid),
    "Tanh": (Un.TANH, np.tanh),
    "Exp": (Un.EXP, np.exp),
    "Log": (Un.LOG, np.log),
    "Sqrt": (Un.SQRT, np.sqrt),
    "Reciprocal": (Un.RECIPROCAL, np.reciprocal),
    "Abs": (Un.ABS, np.abs),
    "Neg": (Un.NEG, np.negative),
    "Erf": (Un.ERF, _erf),
    "Softplus": (Un.SOFTPLUS, _softplus),
    "Floor": (Un.FLOOR, np.floor),
    "Ceil": (Un.CEIL, np.ceil),
    "Mish": (None, lambda x: x * np.tanh(_softplus(x))),
    "Softsign": (None, lambda x: x / (1 + np.abs(x))),
    "Round": (None, np.rint),
    "Sign": (None, np.sign),
    "Sin": (None, np.sin),
    "Cos": (None, np.cos),
    "Tan": (None, np.tan),
    "Atan": (None, np.arctan),
}

BINARY: dict[str, Callable[[Double, Double], Double]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Max": np.maximum,
    "Min": np.minimum,
}


def clip_bounds(g: Graph, node: Node) -> tuple[float, float] | None:
    """Bounds of Relu or Clip when they are constant, else ``None``."""
    if node.domain:
        return None
    if node.op_type == "Relu":
        return 0.0, math.inf
    if node.op_type != "Clip":
        return None
    bounds = [-math.inf, math.inf]
    for k in (0, 1):
        name = node.input(k + 1)
        if name:
            value = real(g, name)
            if value is None or value.size != 1:
                return None
            bounds[k] = float(value.reshape(-1)[0])
    if "min" in node.attrs or "max" in node.attrs:
        bounds = [float(node.attrs.get("min", bounds[0])), float(node.attrs.get("max", bounds[1]))]
    return bounds[0], bounds[1]


def real(g: Graph, name: str) -> Double | None:
    """A constant as doubles: float constants as they are, DequantizeLinear of constants dequantised; else ``None``."""
    value = g.const(name)
    if value is not None:
        return value.astype(np.float64) if value.dtype.kind in "fiu" else None
    node = g.producer(name)
    if node is None or node.op_type != "DequantizeLinear" or node.domain:
        return None
    q = g.const(node.inputs[0])
    s = g.const(node.inputs[1])
    z = g.const(node.input(2)) if node.input(2) else np.zeros((), np.int32)
    if q is None or s is None or z is None or int(node.attrs.get("block_size", 0)):
        return None
    if s.size > 1:
        axis = int(node.attrs.get("axis", 1)) % q.ndim
        view = [1] * q.ndim
        view[axis] = s.size
        s = s.reshape(view)
        z = z.reshape(view) if z.size > 1 else z.reshape(())
    else:
        s, z = s.reshape(()), z.reshape(())
    return (q.astype(np.float64) - z.astype(np.float64)) * s.astype(np.float64)


def per_channel(value: Double, shape: tuple[int, ...]) -> Double | None:
    """A constant that broadcasts over ``shape`` along axis 1 alone, as ``[C]`` or ``[1]``; else ``None``."""
    if value.size == 1:
        return value.reshape(1)
    rank = len(shape)
    if value.ndim > rank or rank < 2:
        return None
    full = (1,) * (rank - value.ndim) + value.shape
    if full[1] != shape[1] or any(d != 1 for i, d in enumerate(full) if i != 1):
        return None
    return value.reshape(-1)


def unary_of(g: Graph, node: Node) -> tuple[str, Unary] | None:
    """The activation that a node reads and the function it applies, when it is a function of one value (constants
    aside); else ``None``. Binary operators with a scalar or per-channel constant count."""
    if node.domain or len(node.outputs) != 1:
        return None
    op, x, attrs = node.op_type, node.input(0), node.attrs
    bounds = clip_bounds(g, node)
    if bounds is not None:
        lo, hi = bounds
        return x, Unary(lambda v: np.minimum(np.maximum(v, lo), hi), Un.CLIP, lo, hi)
    if op in _PLAIN:
        kind, fn = _PLAIN[op]
        return x, Unary(fn, kind)
    if op == "HardSigmoid":
        a, b = float(attrs.get("alpha", 0.2)), float(attrs.get("beta", 0.5))
        return x, Unary(lambda v: np.clip(a * v + b, 0, 1), Un.HARDSIGMOID, a, b)
    if op == "LeakyRelu":
        a = float(attrs.get("alpha", 0.01))
        return x, Unary(lambda v: np.where(v < 0, a * v, v), Un.LEAKYRELU, a)
    if op == "Elu":
        a = float(attrs.get("alpha", 1.0))
        return x, Unary(_elu(a), Un.ELU, a)
    if op == "Gelu":
        tanh = attrs.get("approximate", "none") in ("tanh", b"tanh")
        return x, Unary(_gelu_tanh, Un.GELU_TANH) if tanh else Unary(_gelu, Un.GELU)
    if op == "Swish":
        a = float(attrs.get("alpha", 1.0))
        return x, Unary(lambda v: v * _sigmoid(a * v), Un.SILU if a == 1.0 else None)
    if op == "Selu":
        return x, Unary(_selu(float(attrs.get("alpha", 1.6732632)), float(attrs.get("gamma", 1.0507010))))
    if op == "Celu":
        return x, Unary(_celu(float(attrs.get("alpha", 1.0))))
    if op == "ThresholdedRelu":
        a = float(attrs.get("alpha", 1.0))
        return x, Unary(lambda v: np.where(v > a, v, 0.0))
    if op == "PRelu":
        slope = real(g, node.inputs[1])
        return _prelu(g, node, slope) if slope is not None else None
    if op in BINARY and len(node.inputs) == 2:
        return _binary(g, node)
    return None


def _prelu(g: Graph, node: Node, slope: Double) -> tuple[str, Unary] | None:
    flat = per_channel(slope, g.shape(node.outputs[0]))
    if flat is None:
        return None
    column = flat[:, None]
    return node.inputs[0], Unary(lambda v: np.where(v < 0, v * column, v), channels=flat.size if flat.size > 1 else 0)


def _binary(g: Graph, node: Node) -> tuple[str, Unary] | None:
    left, right = real(g, node.inputs[0]), real(g, node.inputs[1])
    constant = right if left is None else left
    if constant is None or (left is not None and right is not None):
        return None
    x = node.inputs[1] if right is None else node.inputs[0]
    shape = g.shape(node.outputs[0])
    if g.shape(x) != shape or g.dtype(x) != np.float32:
        return None
    flat = per_channel(constant, shape)
    if flat is None:
        return None
    column, fn, first = flat[:, None], BINARY[node.op_type], left is not None
    apply: Function = (lambda v: fn(column, v)) if first else (lambda v: fn(v, column))
    return x, Unary(apply, channels=flat.size if flat.size > 1 else 0)


def scalar_of(g: Graph, name: str) -> float | None:
    """The value of a one-element constant (quantised ones dequantised), else ``None``."""
    value = real(g, name) if name else None
    return None if value is None else scalar(value)
