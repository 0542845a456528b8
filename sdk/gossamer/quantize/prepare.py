"""What a float graph needs before it is quantised: unique names, batch norm and factors folded, what stays float."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from gossamer._errors import ModelError, RecipeError, UnsupportedError
from gossamer.quantize._graph import constant, constant_input, drop_unused

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


def ready(model: ir.Model) -> None:
    """All that changes the graph before it is quantised, in place; the function stays the same."""
    name_nodes(model)
    fold_batch_norm(model)
    vector_biases(model)
    fold_gemm_factors(model)


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


def vector_biases(model: ir.Model) -> None:
    """Gives every Gemm whose constant bias is one number, or a matrix of one row, a vector of one number per output.

    ONNX broadcasts all of these; ONNX Runtime's quantiser and ``nn.Linear`` take the vector alone.
    """
    for node in _gemms(model):
        size, bias = _outputs(node), constant_input(node, 2)
        if size is None or bias is None or bias.shape == (size,):
            continue
        if bias.size == 1 or (bias.size == size and bias.shape[-1] == size):
            vector = np.array(np.broadcast_to(bias.reshape(-1), size))
            node.replace_input_with(2, constant(model, f"{node.name}.bias", vector))
    drop_unused(model)


def fold_gemm_factors(model: ir.Model) -> None:
    """Multiplies ``alpha`` into the constant weights of each Gemm and ``beta`` into its constant bias, in place.

    ONNX Runtime's quantiser stores the bias in steps of input scale times weight scale and loses both factors on the
    way. Zero weights stay zero.
    """
    for node in _gemms(model):
        for factor, index, what in (("alpha", 1, "weight"), ("beta", 2, "bias")):
            attribute, array = node.attributes.get(factor), constant_input(node, index)
            value = attribute.as_float() if attribute is not None else 1.0
            if value == 1.0 or array is None:
                continue
            scaled = (array.astype(np.float64) * value).astype(array.dtype)
            node.replace_input_with(index, constant(model, f"{node.name}.{what}.scaled", scaled))
            node.attributes[factor] = ir.AttrFloat32(factor, 1.0)
    drop_unused(model)


def _gemms(model: ir.Model) -> list[ir.Node]:
    return [n for n in model.graph if n.op_type == "Gemm" and n.domain in ("", "ai.onnx")]


def _outputs(node: ir.Node) -> int | None:
    """How many numbers a Gemm makes of each row; None where its weights are computed."""
    weight, transposed = constant_input(node, 1), node.attributes.get("transB")
    if weight is None:
        return None
    return int(weight.shape[0 if transposed is not None and transposed.as_int() else 1])


def left_in_float(model: ir.Model, exclude: Iterable[str]) -> list[str]:
    """Names of the nodes that stay float32: those the recipe excludes, arithmetic inside decomposed formulas, and Gemms
    whose bias is no vector (a matrix, say), which int8 has no form for.

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
    for node in _gemms(model):
        bias, size = constant_input(node, 2), _outputs(node)
        if bias is not None and size is not None and bias.shape != (size,):
            left.add(node.name or "")
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
