"""prepare_qat: from a float model and calibration samples to a graph that trains as it will run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from gossamer._errors import CalibrationError, RecipeError
from gossamer.quantize._graph import constant_input, first_number
from gossamer.quantize.prepare import is_quantised, ready
from gossamer.quantize.static import quantize

if TYPE_CHECKING:
    from gossamer.compile.graph import Array
    from gossamer.quantize.qat.activation import Scales
    from gossamer.quantize.qat.graph import QuantizedGraph
    from gossamer.recipe import QuantizeStep


def prepare_qat(
    model: Any,
    calibration: Iterable[Any] | None = None,
    step: QuantizeStep | None = None,
    *,
    activation_scales: Scales = "fixed",
    learn_weight_scales: bool = False,
    keep_zeros: bool = False,
    momentum: float = 0.99,
) -> QuantizedGraph:
    """A torch module that trains a model under exactly the quantisation that it will have on the device.

    Batch norm and the factors of Gemm are folded, :func:`gossamer.quantize.quantize` calibrates and says where the
    graph quantises; the float weights stay the ones that train.

    Args:
        model: float32 ONNX as ``onnx_ir.Model``, or anything that ``gossamer.load`` takes. One that is quantised
            already (QDQ) trains on from its dequantised weights. Not changed.
        calibration: dicts by input name, or arrays for a model of one input, each shaped as the input; or one array
            ``[samples, ...]``. Not needed for a quantised model.
        step: calibration method, bits, nodes to leave in float; by default ``QuantizeStep()``.
        activation_scales: ``fixed`` as calibrated; ``learned`` (LSQ); ``observed``: they follow the batches.
        learn_weight_scales: weights' scales are parameters (LSQ), instead of ``max|w| / 127`` in every step.
        keep_zeros: weights that are zero now stay zero, as after pruning. (Zeros of a ``Sparsifier`` attached later
            are kept by its own masks.)
        momentum: of observed ranges, share of the old range in 0..1.

    Returns:
        In ``train()`` mode, on the CPU.

    Raises:
        CalibrationError: samples are missing or do not fit.
        RecipeError: scales that move together with 7-bit activations, whose clamps stand in the graph.
        UnsupportedError: operators that cannot be trained, each named with its source.
        ModelError: ONNX Runtime refuses the model, or a constant holds NaN.
    """
    from gossamer.quantize.qat.build import Options
    from gossamer.quantize.qat.graph import QuantizedGraph

    options = Options(activation_scales, learn_weight_scales, keep_zeros, momentum)
    source = _loaded(model)
    if is_quantised(source):
        return QuantizedGraph(source, None, options)
    if calibration is None:
        raise CalibrationError(
            "quantisation-aware training starts from calibration samples, and there are none",
            hint="give a hundred typical inputs: prepare_qat(model, samples)",
        )
    if step is None:
        from gossamer.recipe import QuantizeStep

        step = QuantizeStep()
    if step.activation_bits == 7 and activation_scales != "fixed":
        raise RecipeError(
            f"{activation_scales} activation scales need 8-bit activations",
            field="quantize.activation_bits",
            hint="7-bit activations are clamped at fixed bounds: use activation_scales='fixed'",
        )
    work = ir.serde.deserialize_model(ir.serde.serialize_model(source))
    ready(work)
    quantised = quantize(work, step, _samples(calibration, work))
    return QuantizedGraph(quantised, _floats(work), options, _limits(work))


def _loaded(model: Any) -> ir.Model:
    if isinstance(model, ir.Model):
        return model
    from gossamer._load import load

    return load(model)


def _samples(calibration: Iterable[Any], model: ir.Model) -> Iterator[Any]:
    """Arrays of one input that hold many samples are cut into single ones; tensors become arrays."""
    inputs = [v for v in model.graph.inputs if v.name not in model.graph.initializers]
    rank = len(inputs[0].shape) if len(inputs) == 1 and inputs[0].shape is not None else None
    whole = hasattr(calibration, "shape")
    for item in calibration:
        if isinstance(item, dict):
            yield {name: _numpy(value) for name, value in item.items()}
            continue
        array = _numpy(item)
        yield array[None] if whole and rank is not None and array.ndim == rank - 1 else array


def _numpy(value: Any) -> Array:
    return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)


def _floats(model: ir.Model) -> dict[tuple[str, int], Array]:
    """Weights and biases of Conv, Gemm and MatMul by node and input."""
    found = {}
    for node in model.graph:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        for index in (1, 2):
            array = constant_input(node, index)
            if array is not None:
                found[(node.name or "", index)] = np.array(array)
    return found


def _limits(model: ir.Model) -> dict[str, tuple[float, float]]:
    """Bounds of the values that Relu and Clip make."""
    found = {}
    for node in model.graph:
        if node.op_type == "Relu":
            found[node.outputs[0].name or ""] = (0.0, math.inf)
        elif node.op_type == "Clip":
            ends = [first_number(v) for v in (*node.inputs[1:3], None, None)][:2]
            low, high = -math.inf if ends[0] is None else ends[0], math.inf if ends[1] is None else ends[1]
            found[node.outputs[0].name or ""] = (low, high)
    return found
