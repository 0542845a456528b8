"""Elementwise operators, softmax, quantise and dequantise, casts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from gossamer.importers.tflite.activations import activation, fused
from gossamer.importers.tflite.builder import Builder
from gossamer.importers.tflite.forms import axis_in, choose

UNARY = {
    "ABS": "Abs",
    "CEIL": "Ceil",
    "COS": "Cos",
    "ELU": "Elu",
    "EXP": "Exp",
    "FLOOR": "Floor",
    "HARD_SWISH": "HardSwish",
    "LOG": "Log",
    "LOGICAL_NOT": "Not",
    "LOGISTIC": "Sigmoid",
    "NEG": "Neg",
    "ROUND": "Round",
    "SIGN": "Sign",
    "SIN": "Sin",
    "SQRT": "Sqrt",
    "TANH": "Tanh",
}
BINARY = {
    "ADD": "Add",
    "SUB": "Sub",
    "MUL": "Mul",
    "DIV": "Div",
    "MAXIMUM": "Max",
    "MINIMUM": "Min",
    "POW": "Pow",
    "EQUAL": "Equal",
    "GREATER": "Greater",
    "GREATER_EQUAL": "GreaterOrEqual",
    "LESS": "Less",
    "LESS_EQUAL": "LessOrEqual",
    "LOGICAL_AND": "And",
    "LOGICAL_OR": "Or",
}
FUSING = ("ADD", "SUB", "MUL", "DIV")


def _unary(op_type: str) -> Callable[[Builder], None]:
    def convert(b: Builder) -> None:
        source, out = b.need(0), b.output()
        form = choose(b, [source], out)
        b.put(out, b.one(op_type, [b.real(source, form)], out.name), form)

    return convert


def _activation(kind: str) -> Callable[[Builder], None]:
    def convert(b: Builder) -> None:
        source, out = b.need(0), b.output()
        form = choose(b, [source], out)
        b.put(out, activation(b, kind, b.real(source, form), out.name), form)

    return convert


def _binary(kind: str) -> Callable[[Builder], None]:
    def convert(b: Builder) -> None:
        left, right, out = b.need(0), b.need(1), b.output()
        form = choose(b, [left, right], out)
        value = b.one(BINARY[kind], [b.operand(left, form), b.operand(right, form)], out.name)
        b.put(out, fused(b, value, out.name) if kind in FUSING else value, form)

    return convert


def add_n(b: Builder) -> None:
    out = b.output()
    tensors = [b.need(i) for i in range(len(b.op.inputs))]
    form = choose(b, tensors, out)
    b.put(out, b.one("Sum", [b.operand(t, form) for t in tensors], out.name), form)


def gelu(b: Builder) -> None:
    source, out = b.need(0), b.output()
    form = choose(b, [source], out)
    mode = "tanh" if b.op.option("approximate") else "none"
    b.put(out, b.one("Gelu", [b.real(source, form)], out.name, approximate=mode), form)


def leaky_relu(b: Builder) -> None:
    source, out = b.need(0), b.output()
    form = choose(b, [source], out)
    alpha = float(b.op.option("alpha"))
    if not np.isfinite(alpha):
        raise b.broken(f"slope {alpha}")
    b.put(out, b.one("LeakyRelu", [b.real(source, form)], out.name, alpha=alpha), form)


def prelu(b: Builder) -> None:
    source, slope, out = b.need(0), b.need(1), b.output()
    form = choose(b, [source], out)
    b.put(out, b.one("PRelu", [b.real(source, form), b.operand(slope, form)], out.name), form)


def rsqrt(b: Builder) -> None:
    source, out = b.need(0), b.output()
    form = choose(b, [source], out)
    root = b.one("Sqrt", [b.real(source, form)], out.name)
    b.put(out, b.one("Reciprocal", [root], out.name), form)


def square(b: Builder) -> None:
    source, out = b.need(0), b.output()
    form = choose(b, [source], out)
    value = b.real(source, form)
    b.put(out, b.one("Mul", [value, value], out.name), form)


def squared_difference(b: Builder) -> None:
    left, right, out = b.need(0), b.need(1), b.output()
    form = choose(b, [left, right], out)
    difference = b.one("Sub", [b.operand(left, form), b.operand(right, form)], out.name)
    b.put(out, b.one("Mul", [difference, difference], out.name), form)


def select(b: Builder) -> None:
    tensors, out = [b.need(i) for i in range(3)], b.output()
    shapes = {t.shape for t in tensors}
    if len(shapes) > 1 and b.op.kind == "SELECT":
        raise b.unsupported("SELECT with a condition per row")
    form = choose(b, tensors, out)
    b.put(out, b.one("Where", [b.operand(t, form) for t in tensors], out.name), form)


def softmax(b: Builder) -> None:
    source, out = b.need(0), b.output()
    form = choose(b, [source], out)
    value: ir.Value = b.real(source, form)
    beta = float(b.op.option("beta", 1.0)) if b.op.kind == "SOFTMAX" else 1.0
    if not np.isfinite(beta):
        raise b.broken(f"softmax with beta {beta}")
    if beta not in (1.0, 0.0):
        value = b.one("Mul", [value, b.const(np.float32(beta), f"{out.name}/beta")], out.name)
    elif beta == 0.0 and b.op.options is not None:
        raise b.unsupported("softmax with beta 0")
    axis = axis_in(b, -1, max(len(source.shape), 1), form)
    op_type = "Softmax" if b.op.kind == "SOFTMAX" else "LogSoftmax"
    b.put(out, b.one(op_type, [value], out.name, axis=axis), form)


def l2_normalization(b: Builder) -> None:
    source, out = b.need(0), b.output()
    form = choose(b, [source], out)
    axis = axis_in(b, -1, len(source.shape), form)
    value = b.one("LpNormalization", [b.real(source, form)], out.name, axis=axis, p=2)
    b.put(out, fused(b, value, out.name), form)


def quantize(b: Builder) -> None:
    """QUANTIZE of real numbers, or of other quantised ones (requantise); DEQUANTIZE likewise: the tensors say it."""
    source, out = b.need(0), b.output()
    form = choose(b, [source], out)
    b.put(out, b.real(source, form), form)


def cast(b: Builder) -> None:
    source, out = b.need(0), b.output()
    if not out.dtype or not source.dtype:
        raise b.unsupported(f"a cast from {source.type_name} to {out.type_name}")
    form = choose(b, [source], out)
    to = int(ir.DataType.from_numpy(np.dtype(out.dtype)))
    b.set_stored(out, b.one("Cast", [b.stored(source, form)], out.name, b.name_of(out, form), to=to), form)


CONVERTERS: dict[str, Callable[[Builder], None]] = {
    **{kind: _unary(op_type) for kind, op_type in UNARY.items()},
    **{kind: _binary(kind) for kind in BINARY},
    **{kind: _activation(kind) for kind in ("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1")},
    "ADD_N": add_n,
    "CAST": cast,
    "DEQUANTIZE": quantize,
    "GELU": gelu,
    "L2_NORMALIZATION": l2_normalization,
    "LEAKY_RELU": leaky_relu,
    "LOG_SOFTMAX": softmax,
    "PRELU": prelu,
    "QUANTIZE": quantize,
    "RSQRT": rsqrt,
    "SELECT": select,
    "SELECT_V2": select,
    "SOFTMAX": softmax,
    "SQUARE": square,
    "SQUARED_DIFFERENCE": squared_difference,
}
