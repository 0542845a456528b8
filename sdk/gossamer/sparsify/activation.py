"""Activation thresholds on ONNX graphs: what a layer reads is set to zero where it is small."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gossamer._errors import InputError, RecipeError, UnsupportedError
from gossamer.quantize._graph import constant
from gossamer.quantize.narrow import lower_bound
from gossamer.quantize.prepare import is_quantised
from gossamer.sparsify.layers import PRUNABLE, SOURCE_KEY, Layer, find_layers
from gossamer.sparsify.taps import Taps, read_samples

TITLE = "activation thresholds: small inputs of a layer become zero"
SOURCE = "Lee et al., CATS, arXiv 2404.08763; there behind the gates of gated MLPs, here before any layer"
RULE = (
    "t = the smallest value with P(|x| <= t) >= sparsity on calibration data, per layer; x becomes 0 where |x| < t "
    "(in training also: the largest |x| of every sample, top-k)"
)
PATTERNS = ("activations",)

MAX_VALUES = 1 << 20
"""Values kept per layer for its quantile; of more, an even random share of every sample is taken."""


@dataclass(frozen=True)
class Threshold:
    """The cutoff of one value of the graph.

    Attributes:
        value: name of the activation.
        layers: names of the nodes that will read it thresholded; other readers keep it as it is.
        threshold: what is smaller in magnitude becomes 0, in the activation's own unit; 0 changes nothing.
        dtype: element type of the activation.
    """

    value: str
    layers: tuple[str, ...]
    threshold: float
    dtype: str = "float32"


@dataclass(frozen=True)
class LayerActivation:
    """How sparse the input of a layer is: shares of zeros over all calibration data, before and after."""

    name: str
    threshold: float
    before: float
    after: float


@dataclass(frozen=True)
class ActivationReport:
    """Every thresholded layer in graph order."""

    layers: tuple[LayerActivation, ...]
    thresholds: tuple[Threshold, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"layers": [asdict(layer) for layer in self.layers]}

    def lines(self) -> list[str]:
        """One line per layer."""
        return [f"{x.before:7.2%} -> {x.after:7.2%} zeros  |x| < {x.threshold:<10.4g} {x.name}" for x in self.layers]


def sparsify_activations(
    model: ir.Model,
    samples: Iterable[Any],
    sparsity: float | Mapping[str, float] = 0.5,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    form: Literal["float32", "int8"] = "float32",
    limit: int = 100,
) -> ActivationReport:
    """Calibrates thresholds, puts them into ``model`` in place, and measures what they do.

    The runtime does not skip zero activations yet: thresholds cost a little time there. They pay on hardware that does,
    and together with temporal sparsity.

    Args:
        model: float, before quantisation.
        samples: calibration data: dicts by input name, or arrays for a model of one input.
        sparsity: share of zeros wanted in the input of each layer, 0..1; or by node name or glob (the last match
            counts, layers without one are left alone).
        include: node names or globs; absent: every Conv, Gemm and MatMul with constant weights that comes after
            another and is not depthwise.
        exclude: node names or globs to leave alone.
        form: of the inserted operators, see :func:`insert_thresholds`.
        limit: at most this many samples are read.

    Raises:
        RecipeError: a name matches no layer.
        InputError: a sparsity out of range.
        UnsupportedError: the model is quantised.
        CalibrationError: no samples, or one that does not fit.
    """
    taken = read_samples(model, samples, limit)
    thresholds = calibrate_thresholds(model, taken, sparsity, include=include, exclude=exclude, limit=limit)
    names = [name for t in thresholds for name in t.layers]
    before = activation_sparsity(model, taken, names, limit=limit)
    insert_thresholds(model, thresholds, form=form)
    after = activation_sparsity(model, taken, names, limit=limit)
    cutoffs = {name: t.threshold for t in thresholds for name in t.layers}
    rows = [LayerActivation(n, cutoffs[n], before[n], after[n]) for n in before]
    return ActivationReport(tuple(rows), thresholds)


def calibrate_thresholds(
    model: ir.Model,
    samples: Iterable[Any],
    sparsity: float | Mapping[str, float],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    limit: int = 100,
) -> tuple[Threshold, ...]:
    """The cutoff of every chosen layer's input; args and errors as in :func:`sparsify_activations`."""
    if is_quantised(model):
        raise UnsupportedError(
            "activation thresholds go into the float graph", hint="insert them first, then quantise the model"
        )
    chosen = _choose(model, include, exclude)
    wanted: dict[str, tuple[list[str], float]] = {}
    for layer in chosen:
        share = _share(sparsity, layer.name)
        value = layer.node.inputs[0]
        if share is None or value is None or value.name is None:
            continue
        names, known = wanted.setdefault(value.name, ([], share))
        if known != share:
            raise InputError(
                f"layers '{names[0]}' and '{layer.name}' read the same activation, wanted at {known:g} and {share:g}",
                where=value.name,
                hint="give both the same sparsity",
            )
        names.append(layer.name)
    if isinstance(sparsity, Mapping):
        _check_names("sparsity", sparsity, [layer.name for layer in chosen])
    taken = read_samples(model, samples, limit)
    pools: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in wanted}
    taps = Taps(model, list(wanted))
    rng = np.random.default_rng(0)
    cap = max(1, MAX_VALUES // len(taken))
    for sample in taken if wanted else []:
        for name, found in taps.run(sample).items():
            flat = np.abs(found).reshape(-1)
            pools[name].append(rng.choice(flat, cap, replace=False) if flat.size > cap else flat)
    out = []
    for name, (layers, share) in wanted.items():
        pool = np.concatenate(pools.pop(name))
        cutoff = float(np.partition(pool, _rank(share, pool.size))[_rank(share, pool.size)]) if share else 0.0
        out.append(Threshold(name, tuple(layers), cutoff, str(pool.dtype)))
    return tuple(out)


def insert_thresholds(
    model: ir.Model, thresholds: Iterable[Threshold], *, form: Literal["float32", "int8"] = "float32"
) -> int:
    """Puts thresholds in front of their layers, in place; returns how many (those of 0 are left out).

    Args:
        model: the graph that they were calibrated on.
        thresholds: from :func:`calibrate_thresholds`.
        form: ``float32``: ``x * Clip(Floor(|x| / t), 0, 1)``, which ONNX Runtime and the core run as float operators.
            ``int8``: for a model that will be quantised. An activation that is never negative gets one ThresholdedRelu,
            which the core runs as an int8 table between DequantizeLinear and QuantizeLinear (it has no float32 form
            there); others get the float form, around which the core leaves int8.

    Raises:
        InputError: the graph has no such layer or activation.
    """
    layers = {layer.name: layer for layer in find_layers(model)[0]}
    count = 0
    for threshold in thresholds:
        readers = [layers.get(name) for name in threshold.layers]
        value = readers[0].node.inputs[0] if readers and readers[0] is not None else None
        same = [r is not None and r.node.inputs[0] is value for r in readers]
        if value is None or value.name != threshold.value or not all(same):
            raise InputError(
                f"no layer '{threshold.layers[0]}' of this graph reads '{threshold.value}'",
                where=threshold.value,
                hint="thresholds belong to the graph that they were calibrated on, and go in once",
            )
        if threshold.threshold <= 0.0:
            continue
        nodes = _operators(model, value, threshold, form)
        source = next((r.node.metadata_props.get(SOURCE_KEY) for r in readers if r is not None), None)
        for node in nodes:
            if source:
                node.metadata_props[SOURCE_KEY] = source
        producer = value.producer()
        if producer is not None:
            model.graph.insert_after(producer, nodes)
        else:
            model.graph.insert_before(next(iter(model.graph)), nodes)
        for reader in readers:
            if reader is not None:
                reader.node.replace_input_with(0, nodes[-1].outputs[0])
        count += 1
    return count


def activation_sparsity(
    model: ir.Model, samples: Iterable[Any], layers: Sequence[str] = (), *, limit: int = 100
) -> dict[str, float]:
    """Share of zeros in what layers read, over all samples, by node name in graph order.

    Args:
        layers: node names; absent: every layer with constant weights.

    Raises:
        CalibrationError: no samples, or one that does not fit.
    """
    inputs = {
        layer.name: layer.node.inputs[0].name or ""
        for layer in find_layers(model)[0]
        if layer.node.inputs[0] is not None and (not layers or layer.name in layers)
    }
    taken = read_samples(model, samples, limit)
    taps = Taps(model, list(dict.fromkeys(inputs.values())))
    zeros, total = dict.fromkeys(inputs, 0), dict.fromkeys(inputs, 0)
    for sample in taken:
        values = taps.run(sample)
        for name, read in inputs.items():
            zeros[name] += int(np.count_nonzero(values[read] == 0))
            total[name] += values[read].size
    return {name: zeros[name] / total[name] if total[name] else 0.0 for name in inputs}


def _operators(model: ir.Model, x: ir.Value, threshold: Threshold, form: str) -> list[ir.Node]:
    base = f"{x.name}.threshold"
    number = np.dtype(threshold.dtype).type
    never_negative = lower_bound(x) >= 0.0
    nodes: list[ir.Node] = []

    def add(op: str, inputs: list[ir.Value], attributes: list[ir.Attr] | None = None) -> ir.Value:
        node = ir.Node("", op, inputs, attributes or [], name=f"{base}.{op}")
        out = node.outputs[0]
        out.name, out.type, out.shape = f"{base}.{op}", x.type, x.shape
        nodes.append(node)
        return out

    if form == "int8" and never_negative and threshold.dtype == "float32":
        # ThresholdedRelu keeps what is above alpha, the rule what is at least t.
        alpha = float(np.nextafter(np.float32(threshold.threshold), np.float32(0)))
        add("ThresholdedRelu", [x], [ir.AttrFloat32("alpha", alpha)])
        return nodes
    cutoff = constant(model, f"{base}.t", np.asarray(threshold.threshold, number))
    low, high = (constant(model, f"{base}.{n}", np.asarray(v, number)) for n, v in (("low", 0), ("high", 1)))
    size = x if never_negative else add("Abs", [x])
    # x / t rounds to 1 only when x is at least t: the quotient of the next smaller number is below 1 - 2^-25.
    steps = add("Floor", [add("Div", [size, cutoff])])
    add("Mul", [x, add("Clip", [steps, low, high])])
    return nodes


def _choose(model: ir.Model, include: Sequence[str], exclude: Sequence[str]) -> list[Layer]:
    layers = find_layers(model)[0]
    names = [layer.name for layer in layers]
    _check_names("include", include, names)
    _check_names("exclude", exclude, names)
    made = _made_by_layers(model)
    chosen = []
    for layer in layers:
        if any(_glob(g, layer.name) for g in exclude):
            continue
        usual = id(layer.node.inputs[0]) in made and not layer.depthwise
        if any(_glob(g, layer.name) for g in include) if include else usual:
            chosen.append(layer)
    return chosen


def _made_by_layers(model: ir.Model) -> set[int]:
    """``id`` of every value that a Conv, Gemm or MatMul comes before: activations, not the model's inputs."""
    made: set[int] = set()
    for node in model.graph:
        if node.op_type in PRUNABLE or any(id(value) in made for value in node.inputs):
            made.update(id(value) for value in node.outputs)
    return made


def _share(sparsity: float | Mapping[str, float], name: str) -> float | None:
    share: float | None
    if isinstance(sparsity, Mapping):
        share = next((s for glob, s in reversed(list(sparsity.items())) if _glob(glob, name)), None)
    else:
        share = sparsity
    if share is not None and not 0.0 <= share < 1.0:
        raise InputError(f"an activation sparsity is at least 0 and below 1, not {share:g}", where=name)
    return share


def _rank(share: float, size: int) -> int:
    """Index of the smallest value with at least ``share`` of all values at or below it."""
    return min(size - 1, max(0, math.ceil(share * size - 1e-9) - 1))


def _check_names(field: str, globs: Iterable[str], names: list[str]) -> None:
    for glob in globs:
        if not any(_glob(glob, name) for name in names):
            raise RecipeError(
                f"{field} names no layer of this model: '{glob}'", hint=f"layers: {', '.join(names[:8])}", field=field
            )


def _glob(pattern: str, name: str) -> bool:
    return name == pattern or fnmatch.fnmatchcase(name, pattern)
