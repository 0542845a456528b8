"""What a float graph needs before it is quantised: unique node names, batch norm folded, a list of nodes to leave."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from gossamer._errors import ModelError, RecipeError, UnsupportedError
from gossamer.quantize._graph import constant, drop_unused

QUANTISED = (
    "Conv", "Gemm", "MatMul", "Add", "Sub", "Mul", "Relu", "Clip", "LeakyRelu", "PRelu", "HardSwish", "HardSigmoid",
    "Sigmoid", "Tanh", "Elu", "Gelu", "Softmax", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool",
    "ReduceMean", "Concat", "Split", "Slice", "Pad", "Resize", "Reshape", "Flatten", "Transpose", "Squeeze",
    "Unsqueeze",
)  # fmt: skip
"""Operators that the core runs in int8. Others, LayerNormalization among them, stay float32."""
_PRECISE = ("Pow", "Sqrt", "Div", "Reciprocal", "Exp", "Log", "Erf")
"""Operators that never take int8; arithmetic beside them is part of one formula (a decomposed norm or GELU)."""
_ARITHMETIC = ("Add", "Sub", "Mul", "ReduceMean")


def name_nodes(model: ir.Model) -> None:
    """Gives every node of the top-level graph a unique name, keeping those that are unique already."""
    used: set[str] = set()
    for i, node in enumerate(model.graph):
        name = node.name or f"{node.op_type}_{i}"
        while name in used:
            name = f"{name}_{i}"
        node.name = name
        used.add(name)


def fold_batch_norm(model: ir.Model) -> int:
    """Folds every BatchNormalization that alone reads a Conv into the Conv's weights, in place; returns how many.

    ``w' = w * gamma / sqrt(var + eps)`` per output channel and ``b' = (b - mean) * gamma / sqrt(var + eps) + beta``, in
    double. Zero weights stay zero. The Conv keeps its name and source.
    """
    folded = 0
    outputs = {id(v) for v in model.graph.outputs}
    for node in list(model.graph):
        if node.op_type != "BatchNormalization" or node.domain not in ("", "ai.onnx"):
            continue
        x = node.inputs[0]
        conv = x.producer() if x is not None else None
        training = node.attributes.get("training_mode")
        if (
            x is None
            or conv is None
            or conv.op_type != "Conv"
            or len(list(x.uses())) != 1
            or id(x) in outputs
            or (training is not None and training.as_int())
            or any(v is not None and any(True for _ in v.uses()) for v in node.outputs[1:])
        ):
            continue
        constants = [ir.convenience.get_const_tensor(v) if v is not None else None for v in node.inputs[1:5]]
        weight_value = conv.inputs[1]
        weight = ir.convenience.get_const_tensor(weight_value) if weight_value is not None else None
        bias_value = conv.inputs[2] if len(conv.inputs) > 2 else None
        bias = ir.convenience.get_const_tensor(bias_value) if bias_value is not None else None
        if weight is None or weight_value is None or (bias_value is not None and bias is None):
            continue
        if any(c is None for c in constants):
            continue
        gamma, beta, mean, var = (c.numpy().astype(np.float64) for c in constants if c is not None)
        attribute = node.attributes.get("epsilon")
        epsilon = attribute.as_float() if attribute is not None else 1e-5
        factor = gamma / np.sqrt(var + epsilon)
        if not (np.isfinite(factor).all() and np.isfinite(beta).all() and np.isfinite(mean).all()):
            raise ModelError("batch norm holds NaN, infinity or a negative variance", where=f"node '{node.name}'")
        w = weight.numpy()
        new_w = w.astype(np.float64) * factor.reshape(-1, *([1] * (w.ndim - 1)))
        old_b = bias.numpy().astype(np.float64) if bias is not None else 0.0
        new_b = (old_b - mean) * factor + beta
        conv.replace_input_with(1, constant(model, f"{conv.name}.weight.folded", new_w.astype(w.dtype)))
        b = constant(model, f"{conv.name}.bias.folded", new_b.astype(w.dtype))
        if len(conv.inputs) < 3:
            conv.resize_inputs(3)
        conv.replace_input_with(2, b)
        out = node.outputs[0]
        name, shape, kind = out.name, out.shape, out.type
        if id(out) in outputs:
            for i, value in enumerate(model.graph.outputs):
                if value is out:
                    model.graph.outputs[i] = x
        ir.convenience.replace_all_uses_with(out, x)
        model.graph.remove(node, safe=True)
        x.name, x.shape, x.type = name, shape or x.shape, kind or x.type
        folded += 1
    drop_unused(model)
    return folded


def left_in_float(model: ir.Model, exclude: Iterable[str]) -> list[str]:
    """Names of the nodes that stay float32: those the recipe excludes, and arithmetic inside decomposed formulas.

    Raises:
        RecipeError: a name of ``exclude`` matches no node.
    """
    names = [node.name or "" for node in model.graph]
    left: set[str] = set()
    for i, glob in enumerate(exclude):
        found = [n for n in names if n == glob or fnmatch.fnmatchcase(n, glob)]
        if not found:
            near = difflib.get_close_matches(glob, names, n=3, cutoff=0.3)
            raise RecipeError(
                f"field 'quantize.exclude[{i}]' names no node of this model: '{glob}'",
                hint=f"nearest nodes: {', '.join(near)}" if near else f"nodes: {', '.join(names[:8])}, ...",
                field=f"quantize.exclude[{i}]",
            )
        left.update(found)
    for node in model.graph:
        if node.op_type in _PRECISE:
            left.update(_formula(node))
    return sorted(left)


def _formula(node: ir.Node) -> set[str]:
    """Arithmetic next to a precise operator; for Erf also the sum and products behind it, which make up GELU."""
    found = {node.name or ""}
    steps = 3 if node.op_type == "Erf" else 1
    frontier = [node]
    for _ in range(steps):
        after = [use.node for n in frontier for out in n.outputs for use in out.uses()]
        frontier = [n for n in after if n.op_type in _ARITHMETIC]
        found.update(n.name or "" for n in frontier)
    for value in node.inputs:
        producer = value.producer() if value is not None else None
        if producer is not None and producer.op_type in _ARITHMETIC:
            found.add(producer.name or "")
    return found


def is_quantised(model: ir.Model) -> bool:
    """Whether activations already stand between QuantizeLinear and DequantizeLinear."""
    return any(node.op_type == "QuantizeLinear" for node in model.graph)


def check_runnable(model: ir.Model) -> None:
    """Refuses operators that ONNX Runtime, which calibration runs, does not know.

    Raises:
        UnsupportedError: naming every such node and its source.
    """
    foreign = [n for n in model.graph if n.domain not in ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")]
    if foreign:
        listed = "\n".join(
            f"  {n.domain}.{n.op_type} '{n.name}' at {n.metadata_props.get('gossamer.source', '?')}" for n in foreign
        )
        raise UnsupportedError(
            f"calibration runs the model in ONNX Runtime, which lacks these operators:\n{listed}",
            hint="leave `quantize` out of the recipe, or start from a model that is quantised already",
        )
