"""Activations that TFLite fuses into operators, and the same ones as operators."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from gossamer.importers.tflite import schema
from gossamer.importers.tflite.builder import Builder

BOUNDS = {"RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0), "RELU_0_TO_1": (0.0, 1.0)}


def activation(b: Builder, kind: str, value: ir.Value, name: str) -> ir.Value:
    """``value`` through RELU, RELU6, RELU_N1_TO_1, RELU_0_TO_1, TANH or NONE, as Relu, Clip or Tanh."""
    if kind == "NONE":
        return value
    if kind == "RELU":
        return b.one("Relu", [value], name)
    if kind == "TANH":
        return b.one("Tanh", [value], name)
    if kind in BOUNDS:
        low, high = (
            b.const(np.float32(v), f"{name}/{end}") for v, end in zip(BOUNDS[kind], ("min", "max"), strict=True)
        )
        return b.one("Clip", [value, low, high], name)
    raise b.unsupported(f"fused activation {kind}")


def fused(b: Builder, value: ir.Value, name: str) -> ir.Value:
    """``value`` through the fused activation of the current operator."""
    number = int(b.op.option("fused_activation_function"))
    kind = schema.enum("ActivationFunctionType").get(number)
    if kind is None:
        raise b.broken(f"unknown fused activation {number}")
    return activation(b, kind, value, name)
