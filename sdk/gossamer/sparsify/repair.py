"""Mask repair on ONNX graphs: other weights of the dense model take the place of kept ones, none is trained.

The rule that chooses them is one of :mod:`gossamer.sparsify.dsnot` and :mod:`gossamer.sparsify.swaps`; here are the
calibration inputs of every layer, the bookkeeping, and the report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gossamer._errors import InputError, ModelError
from gossamer.sparsify.layers import PATTERN_KEY, Layer, find_layers
from gossamer.sparsify.matrix import Columns, from_onnx, to_onnx
from gossamer.sparsify.moments import Collector, Doubles, Moments
from gossamer.sparsify.patterns import detect, get
from gossamer.sparsify.swap_units import Mask, SwapUnits
from gossamer.sparsify.taps import Taps, read_samples

MAX_COLUMNS = 8192
"""Widest layer of which second moments are kept: 512 MiB."""


@dataclass(frozen=True)
class LayerRepair:
    """What repair did to one layer.

    Attributes:
        name: node name.
        pattern: of its mask.
        swaps: units exchanged.
        mean_before, mean_after: length of the vector ``E[(W - W') x]`` over the layer's outputs, in their unit.
        square_before, square_after: ``E |(W - W') x|^2`` summed over the outputs, in their unit squared.
        exact: the squares come from second moments; else inputs were taken for independent.
    """

    name: str
    pattern: str
    swaps: int
    mean_before: float
    mean_after: float
    square_before: float
    square_after: float
    exact: bool


@dataclass(frozen=True)
class RepairReport:
    """Every sparse layer in graph order; ``skipped`` says by name why a sparse layer was left as it was."""

    layers: tuple[LayerRepair, ...]
    skipped: dict[str, str]
    samples: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"samples": self.samples, "skipped": self.skipped, "layers": [asdict(layer) for layer in self.layers]}

    def lines(self) -> list[str]:
        """One line per layer."""
        rows = [
            f"{x.swaps:6d} swaps  mean {x.mean_before:9.3g} -> {x.mean_after:9.3g}  "
            f"square {x.square_before:9.3g} -> {x.square_after:9.3g}  {x.pattern:<12} {x.name}"
            for x in self.layers
        ]
        return rows + [f"left as it is: {name} ({why})" for name, why in self.skipped.items()]


Rule = Callable[[Doubles, SwapUnits, Moments], int]
"""Swaps units of one layer (dense weights ``[R, K]``) in place; returns how many times it did."""


def repair_masks(
    dense: ir.Model, pruned: ir.Model, samples: Iterable[Any], rule: Rule, *, limit: int, second: bool
) -> RepairReport:
    """Repairs every sparse layer of ``pruned`` in place.

    The pattern of a layer is what its node carries (``gossamer.pattern``, as :func:`gossamer.sparsify.prune` leaves
    it), else the one its zeros show. Inputs of the layers are those of the dense model.

    Args:
        dense: before pruning; float, or int8 with DequantizeLinear.
        pruned: the same graph with zeros; weights that are not zero equal those of ``dense``.
        samples: dicts by input name, or arrays for a model of one input.
        rule: chooses the swaps.
        limit: at most this many samples are read.
        second: collect second moments.

    Raises:
        CalibrationError: no samples, or one that does not fit.
        InputError: the models differ in more than zeros.
        ModelError: a weight is NaN or infinite.
    """
    layers = find_layers(pruned)[0]
    found = counterparts(dense, layers)
    jobs, skipped = _jobs(found, layers, second)
    taken = read_samples(dense, samples, limit)
    collectors = {name: Collector(found[name], second=second) for name in jobs}
    inputs = {name: _input_name(found[name]) for name in jobs}
    taps = Taps(dense, list(dict.fromkeys(inputs.values())))
    for sample in taken if jobs else []:
        values = taps.run(sample)
        for name, collector in collectors.items():
            collector.add(values[inputs[name]])
    rows = []
    for name, (layer, pattern) in jobs.items():
        rows.append(_repair(found[name], layer, pattern, collectors.pop(name).finish(), rule))
    return RepairReport(tuple(rows), skipped, len(taken))


def counterparts(dense: ir.Model, layers: list[Layer]) -> dict[str, Layer]:
    """The layers of the dense model by name, of which every pruned one is there.

    Raises:
        InputError: one is missing or has another shape.
    """
    found = {layer.name: layer for layer in find_layers(dense)[0]}
    for layer in layers:
        if layer.name not in found or found[layer.name].weight.shape != layer.weight.shape:
            raise InputError(
                f"the dense model has no layer '{layer.name}' of {list(layer.weight.shape)} weights",
                where=layer.name,
                hint="give the very model that was pruned, loaded anew",
            )
    return found


def _jobs(
    dense: dict[str, Layer], pruned: list[Layer], second: bool
) -> tuple[dict[str, tuple[Layer, str]], dict[str, str]]:
    jobs: dict[str, tuple[Layer, str]] = {}
    skipped: dict[str, str] = {}
    for layer in pruned:
        original = dense[layer.name]
        zero = np.broadcast_to(layer.zero_point.astype(layer.weight.dtype), layer.weight.shape)
        kept = layer.weight != zero
        if not np.array_equal(layer.weight[kept], original.weight[kept]):
            raise InputError(
                f"the weights of '{layer.name}' are not those of the dense model with zeros in them",
                where=layer.name,
                hint="mask repair comes right after pruning; a fine-tuned model has grown out of its dense weights",
            )
        matrix, columns = from_onnx(np.where(kept, 1.0, 0.0), transposed=layer.transposed)
        pattern = layer.node.metadata_props.get(PATTERN_KEY) or detect(matrix, columns=columns)
        if pattern == "dense" or kept.all():
            continue
        if second and columns.count > MAX_COLUMNS:
            skipped[layer.name] = f"{columns.count} columns: second moments are kept of {MAX_COLUMNS} at most"
            continue
        jobs[layer.name] = (layer, pattern)
    return jobs, skipped


def _repair(dense: Layer, layer: Layer, pattern: str, moments: Moments, rule: Rule) -> LayerRepair:
    weight, columns = real_weights(dense)
    zero = np.broadcast_to(layer.zero_point.astype(layer.weight.dtype), layer.weight.shape)
    kept, _ = from_onnx(layer.weight != zero, transposed=layer.transposed)
    units = SwapUnits(weight, kept, get(pattern), columns)
    mean = moments.by_row(moments.mean, weight.shape[0])

    def errors(mask: Mask) -> tuple[float, float]:
        gone = np.where(mask, 0.0, weight)
        return float(np.linalg.norm((gone * mean).sum(axis=1))), float(moments.squared(gone).sum())

    before = errors(units.mask())
    swaps = rule(weight, units, moments)
    mask = units.mask()
    if swaps:
        keep = to_onnx(mask, layer.weight.shape, transposed=layer.transposed)
        layer.value.const_value = ir.tensor(np.where(keep, dense.weight, zero), name=layer.value.name)
    after = errors(mask)
    return LayerRepair(layer.name, pattern, swaps, before[0], after[0], before[1], after[1], moments.second is not None)


def real_weights(layer: Layer) -> tuple[Doubles, Columns]:
    """The weights that the layer computes with, dequantised, ``[R, K]`` in double.

    Raises:
        ModelError: one is NaN or infinite.
    """
    layer.matrix()  # refuses NaN and infinity, and names the place
    steps = layer.weight.astype(np.float64) - layer.zero_point.astype(np.float64)
    real: npt.NDArray[np.float64] = steps * layer.scale.astype(np.float64)
    return from_onnx(real, transposed=layer.transposed)


def _input_name(layer: Layer) -> str:
    value = layer.node.inputs[0]
    if value is None or value.name is None:
        raise ModelError(f"layer '{layer.name}' has no input", where=layer.name)
    return value.name
