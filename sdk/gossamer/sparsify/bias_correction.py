"""Bias correction after pruning: the mean output of every layer returns to the dense model's, at no run-time cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gossamer._errors import UnsupportedError
from gossamer.quantize._graph import constant
from gossamer.quantize.calibration import Sample
from gossamer.quantize.prepare import is_quantised
from gossamer.sparsify.layers import Layer, find_layers
from gossamer.sparsify.repair import counterparts
from gossamer.sparsify.taps import Taps, read_samples

TITLE = "bias correction after one-shot pruning: mean outputs return to the dense ones"
SOURCE = "Nagel et al., arXiv 1906.04721, there for quantised weights; measured on data as in its appendix D"
RULE = (
    "layer by layer in graph order, b += E[y_dense] - E[y_pruned] per output channel over calibration data, with the "
    "layers before it corrected already"
)
PATTERNS = ("blocks", "n:m")


@dataclass(frozen=True)
class LayerShift:
    """How far the mean output of a layer was from the dense one, as the length of the vector over its channels."""

    name: str
    before: float
    after: float


@dataclass(frozen=True)
class BiasReport:
    """Corrected layers in graph order; ``skipped`` says by name why a layer has no bias to correct."""

    layers: tuple[LayerShift, ...]
    skipped: dict[str, str]
    samples: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"samples": self.samples, "skipped": self.skipped, "layers": [asdict(layer) for layer in self.layers]}

    def lines(self) -> list[str]:
        """One line per layer."""
        rows = [f"{x.before:9.3g} -> {x.after:9.3g}  {x.name}" for x in self.layers]
        return rows + [f"left as it is: {name} ({why})" for name, why in self.skipped.items()]


def correct_biases(dense: ir.Model, pruned: ir.Model, samples: Iterable[Any], *, limit: int = 32) -> BiasReport:
    """Changes the biases of ``pruned`` in place; a Conv or Gemm without one gets one.

    Pruned and dense layers are corrected: what comes out of a pruned one shifts those after it. Goes well with mask
    repair, after it, and before quantisation. Runs the pruned model once per layer and sample.

    Args:
        dense: the model before pruning, float.
        pruned: the same graph after pruning.
        samples: calibration data: dicts by input name, or arrays for a model of one input.
        limit: at most this many samples are read.

    Raises:
        UnsupportedError: the models are quantised.
        InputError: the graphs have other layers.
        CalibrationError: no samples, or one that does not fit.
    """
    if is_quantised(dense) or is_quantised(pruned):
        raise UnsupportedError("biases are corrected in the float graph", hint="correct them first, then quantise")
    layers = find_layers(pruned)[0]
    originals = counterparts(dense, layers)
    taken = read_samples(dense, samples, limit)
    usable = [layer for layer in layers if _why_not(layer) is None]
    wanted = _means(dense, [originals[layer.name] for layer in usable], taken)
    rows = []
    for layer in usable:
        shift = wanted[layer.name] - _means(pruned, [layer], taken)[layer.name]
        _add(pruned, layer, shift)
        left = wanted[layer.name] - _means(pruned, [layer], taken)[layer.name]
        rows.append(LayerShift(layer.name, float(np.linalg.norm(shift)), float(np.linalg.norm(left))))
    skipped = {layer.name: reason for layer in layers if (reason := _why_not(layer)) is not None}
    return BiasReport(tuple(rows), skipped, len(taken))


def _why_not(layer: Layer) -> str | None:
    if layer.node.op_type == "MatMul":
        return "MatMul has no bias"
    bias = layer.node.inputs[2] if len(layer.node.inputs) > 2 else None
    if bias is None:
        return None
    if bias.const_value is None:
        return "its bias is no constant"
    return None if bias.const_value.size in (1, _width(layer)) else "its bias differs within a channel"


def _width(layer: Layer) -> int:
    return int(layer.weight.shape[1] if layer.transposed else layer.weight.shape[0])


def _means(model: ir.Model, layers: list[Layer], samples: list[Sample]) -> dict[str, npt.NDArray[np.float64]]:
    """E[y] per channel, by layer."""
    names = {layer.name: layer.node.outputs[0].name or "" for layer in layers}
    taps = Taps(model, list(names.values()))
    total = {layer.name: np.zeros(_width(layer)) for layer in layers}
    count = dict.fromkeys(total, 0)
    for sample in samples:
        values = taps.run(sample)
        for layer in layers:
            y = np.moveaxis(values[names[layer.name]], 1 if layer.node.op_type == "Conv" else -1, -1)
            flat = y.reshape(-1, y.shape[-1])
            total[layer.name] += flat.sum(axis=0, dtype=np.float64)
            count[layer.name] += flat.shape[0]
    return {name: total[name] / max(1, count[name]) for name in total}


def _add(model: ir.Model, layer: Layer, shift: npt.NDArray[np.float64]) -> None:
    node = layer.node
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    old = bias.const_value.numpy() if bias is not None and bias.const_value is not None else None
    beta = node.attributes.get("beta")
    scale = beta.as_float() if beta is not None and old is not None else 1.0
    if scale == 0.0:  # the old bias has no part in the result
        old, scale = None, 1.0
        node.attributes["beta"] = ir.AttrFloat32("beta", 1.0)
    base = 0.0 if old is None else old.astype(np.float64).reshape(-1)
    fresh = (base + shift / scale).astype(layer.weight.dtype)
    value = constant(model, f"{layer.value.name}.bias", fresh)  # its own: others may share the old one
    if len(node.inputs) > 2:
        node.replace_input_with(2, value)
    else:
        node.resize_inputs(3)
        node.replace_input_with(2, value)
