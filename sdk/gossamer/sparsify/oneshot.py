"""One-shot pruning by magnitude of a float or QDQ int8 model, and the report of what it did to every layer."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gossamer._errors import RecipeError
from gossamer.sparsify.assign import Assigned, Target, assign
from gossamer.sparsify.layers import PATTERN_KEY, SOURCE_KEY, Layer, Skipped, find_layers, heads
from gossamer.sparsify.patterns import NM, Pattern, get

if TYPE_CHECKING:
    from gossamer.recipe import LayerRule, SparsifyStep
    from gossamer.sparsify.rearrange.report import RearrangeReport


@dataclass(frozen=True)
class LayerReport:
    """What pruning did to one layer.

    Attributes:
        name: node name.
        op: ONNX operator.
        source: where the user wrote it, or "".
        shape: shape of the stored weights.
        pattern: pattern of its mask; "dense" when left alone.
        wanted: sparsity asked of this layer; ``None`` when dense or when a global threshold decides.
        reached: share of zeros now, exact.
        weights: number of weights.
        zeros: number of zeros.
        retained: share of the absolute sum of the weights that is left.
        reason: why it was left dense, or "".
        plain: what ``retained`` would be without rearrangement; None where nothing was rearranged.
    """

    name: str
    op: str
    source: str
    shape: tuple[int, ...]
    pattern: str
    wanted: float | None
    reached: float
    weights: int
    zeros: int
    retained: float
    reason: str
    plain: float | None = None


@dataclass(frozen=True)
class PruneReport:
    """Every layer with weights, in graph order, and what rearranging its channels gained, None where none was asked."""

    layers: tuple[LayerReport, ...]
    rearranged: RearrangeReport | None = None

    @property
    def weights(self) -> int:
        """Weights of all layers."""
        return sum(layer.weights for layer in self.layers)

    @property
    def zeros(self) -> int:
        """Zeros among them."""
        return sum(layer.zeros for layer in self.layers)

    @property
    def sparsity(self) -> float:
        """Share of zeros over all layers, the dense ones included."""
        return self.zeros / self.weights if self.weights else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "weights": self.weights,
            "zeros": self.zeros,
            "sparsity": self.sparsity,
            "layers": [asdict(layer) | {"shape": list(layer.shape)} for layer in self.layers],
            "rearranged": None if self.rearranged is None else self.rearranged.to_dict(),
        }

    def lines(self) -> list[str]:
        """One line per layer: sparsity, pattern, shape, name, what rearranging gained, and why a layer stayed dense."""
        rows = [] if self.rearranged is None else self.rearranged.lines()[:1]
        for layer in self.layers:
            shape = "x".join(map(str, layer.shape))
            tail = f"  ({layer.reason})" if layer.reason else ""
            if layer.plain is not None:
                tail = f"  retained {layer.plain:.2%} -> {layer.retained:.2%}{tail}"
            rows.append(f"{layer.reached:7.2%}  {layer.pattern:<12} {layer.op:<6} {shape:<16} {layer.name}{tail}")
        return rows


@dataclass(eq=False)
class _Job:
    layer: Layer
    pattern: Pattern | None
    sparsity: float | None
    """Its own sparsity; ``None``: the distribution decides."""
    reason: str = ""


def prune(model: ir.Model, step: SparsifyStep) -> PruneReport:
    """Zeroes the least important weights of ``model``, in place; with ``step.rearrange`` its channels are put in the
    order that suits the pattern first (:mod:`gossamer.sparsify.rearrange`).

    Works on float weights and on int8 or uint8 ones behind DequantizeLinear, where a pruned weight equals its zero
    point. Importance is the magnitude of the real weight. What ``keep_dense`` lists and grouped convolutions stay dense
    unless ``include`` or the ``match`` of a rule names them. Every pruned node carries its pattern in
    ``metadata_props["gossamer.pattern"]``.

    Args:
        model: the graph; initializers are replaced.
        step: pattern, sparsity, distribution and overrides.

    Returns:
        The exact sparsity of every layer with weights, and why the dense ones are dense.

    Raises:
        RecipeError: ``include``, ``exclude`` or ``layers`` name nothing in the model.
        ModelError: a weight is NaN or infinite.
    """
    gained = None
    if step.rearrange:
        from gossamer.sparsify.rearrange.run import rearrange

        gained = rearrange(model, step)
    jobs, skipped = _jobs(model, step)
    masks = _assigned(jobs, step)
    asked = [job for job in jobs if job.pattern is not None]
    plain = {} if gained is None else {id(j): g.before for j, g in zip(asked, gained.layers, strict=True)}
    reports: dict[int, LayerReport] = {}
    for job in jobs:
        made = masks.get(id(job), Assigned(None, None, job.reason))
        report = _apply(job, made.mask, made.wanted, made.reason)
        reports[id(job.layer.node)] = replace(report, plain=None if made.mask is None else plain.get(id(job)))
    for item in skipped:
        node, share = item.node, item.zeros / item.weights if item.weights else 0.0
        source = node.metadata_props.get(SOURCE_KEY, "")
        reports[id(node)] = LayerReport(
            node.name or "", node.op_type, source, item.shape, "dense", None, share, item.weights, item.zeros, 1.0,
            item.reason,
        )  # fmt: skip
    order = [id(node) for node in model.graph if id(node) in reports]
    return PruneReport(tuple(reports[i] for i in order), gained)


def planned(model: ir.Model, step: SparsifyStep) -> list[tuple[Layer, Target]]:
    """The layers that :func:`prune` would prune, in graph order, each with its pattern and own sparsity.

    Raises:
        RecipeError: ``include``, ``exclude`` or ``layers`` name nothing in the model.
    """
    jobs, _ = _jobs(model, step)
    return [(job.layer, _target(job, job.pattern)) for job in jobs if job.pattern is not None]


def _jobs(model: ir.Model, step: SparsifyStep) -> tuple[list[_Job], list[Skipped]]:
    layers, skipped = find_layers(model)
    _check_names(step, layers, skipped)
    last = heads(model, layers)
    first = next((layer for layer in layers if layer.node.op_type == "Conv"), None)
    return [_job(layer, step, is_first=layer is first, is_last=id(layer) in last) for layer in layers], skipped


def _target(job: _Job, pattern: Pattern) -> Target:
    return Target(pattern, _logical(job.layer), job.layer.matrix, job.sparsity)


def _job(layer: Layer, step: SparsifyStep, *, is_first: bool, is_last: bool) -> _Job:
    rule = next((r for r in reversed(step.layers) if _rule_matches(r, layer)), None)
    if any(_matches(glob, layer) for glob in step.exclude):
        return _Job(layer, None, None, "excluded by the recipe")
    if rule is not None and rule.dense:
        return _Job(layer, None, None, "dense by a rule of the recipe")
    named = any(_matches(glob, layer) for glob in step.include) or (rule is not None and rule.match is not None)
    if not named:
        if is_first and "first_conv" in step.keep_dense:
            return _Job(layer, None, None, "first convolution: dense by default")
        if layer.depthwise and "depthwise" in step.keep_dense:
            return _Job(layer, None, None, "depthwise convolution: dense by default")
        if layer.groups > 1 and not layer.depthwise:
            return _Job(layer, None, None, "grouped convolution: no sparse kernel")
        if is_last and "classifier" in step.keep_dense:
            return _Job(layer, None, None, "last classifier: dense by default")
    pattern = get(rule.pattern if rule is not None and rule.pattern else step.pattern)
    sparsity = rule.sparsity if rule is not None else None
    if isinstance(pattern, NM):
        return _Job(layer, pattern, pattern.sparsity)
    return _Job(layer, pattern, sparsity)


def _assigned(jobs: list[_Job], step: SparsifyStep) -> dict[int, Assigned]:
    """The mask of every job that has a pattern, with the sparsity asked of it and why it is dense if it is."""
    asked = [(job, job.pattern) for job in jobs if job.pattern is not None]
    targets = [_target(job, pattern) for job, pattern in asked]
    found = assign(targets, step.wanted, step.distribution, step.min_fraction)
    return {id(job): made for (job, _), made in zip(asked, found, strict=True)}


def _logical(layer: Layer) -> tuple[int, ...]:
    return tuple(int(d) for d in layer.weight.shape)


def _apply(job: _Job, mask: npt.NDArray[np.bool_] | None, wanted: float | None, reason: str) -> LayerReport:
    layer = job.layer
    scores, _ = layer.matrix()
    whole = float(scores.sum(dtype=np.float64))
    retained = 1.0
    pattern = "dense"
    if mask is not None and job.pattern is not None:
        retained = float(scores[mask].sum(dtype=np.float64)) / whole if whole else 1.0
        pattern = job.pattern.name
        layer.apply(mask)
        layer.node.metadata_props[PATTERN_KEY] = pattern
    weights, zeros = int(layer.weight.size), layer.zeros
    return LayerReport(
        layer.name, layer.node.op_type, layer.source, _logical(layer), pattern, wanted,
        zeros / weights, weights, zeros, retained, reason,
    )  # fmt: skip


def _names(node: ir.Node) -> list[str]:
    return [text for text in (node.name, node.metadata_props.get(SOURCE_KEY)) if text]


def _glob(pattern: str, names: Iterable[str]) -> bool:
    return any(name == pattern or fnmatch.fnmatchcase(name, pattern) for name in names)


def _matches(pattern: str, layer: Layer) -> bool:
    return _glob(pattern, [*_names(layer.node), layer.name])


def _rule_matches(rule: LayerRule, layer: Layer) -> bool:
    if rule.op is not None and rule.op != layer.node.op_type:
        return False
    return rule.match is None or _matches(rule.match, layer)


def _check_names(step: SparsifyStep, layers: list[Layer], skipped: list[Skipped]) -> None:
    """Refuses names that name no layer of this model."""
    names = [layer.name for layer in layers] + [s.node.name or "" for s in skipped]
    candidates = [n for layer in layers for n in [layer.name, *_names(layer.node)]]
    candidates += [n for s in skipped for n in _names(s.node)]
    ops = sorted({layer.node.op_type for layer in layers} | {s.node.op_type for s in skipped})
    asked = [("sparsify.include", i, glob) for i, glob in enumerate(step.include)]
    asked += [("sparsify.exclude", i, glob) for i, glob in enumerate(step.exclude)]
    asked += [("sparsify.layers", i, rule.match) for i, rule in enumerate(step.layers) if rule.match is not None]
    for field, i, glob in asked:
        if not _glob(glob, candidates):
            near = difflib.get_close_matches(glob, names, n=3, cutoff=0.3)
            hint = f"did you mean '{near[0]}'? Nearest layers: {', '.join(near)}" if near else _some(names)
            raise RecipeError(
                f"field '{field}[{i}]' names no layer of this model: '{glob}'", hint=hint, field=f"{field}[{i}]"
            )
    for i, rule in enumerate(step.layers):
        if rule.op is not None and rule.op not in ops:
            near = difflib.get_close_matches(rule.op, ops, n=1, cutoff=0.4)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise RecipeError(
                f"field 'sparsify.layers[{i}].op' names no operator with weights of this model: '{rule.op}'",
                hint=f"{hint}It has {', '.join(ops) or 'none'}",
                field=f"sparsify.layers[{i}].op",
            )
        if not any(_rule_matches(rule, layer) for layer in layers) and rule.match is not None and rule.op is not None:
            raise RecipeError(
                f"field 'sparsify.layers[{i}]' matches no layer: no {rule.op} is called '{rule.match}'",
                hint=_some([layer.name for layer in layers if layer.node.op_type == rule.op]),
                field=f"sparsify.layers[{i}]",
            )


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:8])
    return (
        f"layers: {shown}" + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "it has no layers"
    )
