"""The model on the bench: quantised once, its prunable layers known, ready to be run with any of them pruned.

Masks are those that ``prune`` chooses on the float graph; they are put on the graph as it was quantised dense, so that
a candidate costs lowering and no calibration. The bundles of the last step are made by ``gossamer.optimize`` itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gossamer._errors import RecipeError
from gossamer._proto.v1 import manifest_pb2 as pb
from gossamer.recipe import LayerRule, Recipe, SparsifyStep
from gossamer.recipe.schema import nm_of

if TYPE_CHECKING:
    import onnx_ir

    from gossamer.compile.plan import Plan


@dataclass(frozen=True)
class Prunable:
    """A layer that the recipe may prune: its name in recipes, its name in plans, the pattern, and its weights."""

    name: str
    op: str
    pattern: str
    weights: int


@dataclass
class Bench:
    """A model ready for candidates.

    Attributes:
        recipe: as given; its sparsities are not used.
        inputs: the ports of a bundle of it; ``output``: the first output.
        layers: what may be pruned; ``dense``: name to reason for the other layers with weights.
        original: the float graph, nodes named; ``graph``: what is lowered, quantised where the recipe says so.
    """

    recipe: Recipe
    inputs: list[pb.Port]
    output: pb.Port
    layers: list[Prunable]
    dense: dict[str, str]
    original: onnx_ir.Model
    graph: onnx_ir.Model
    _masks: dict[float, dict[str, npt.NDArray[np.bool_]]] = field(default_factory=dict)

    @property
    def step(self) -> SparsifyStep:
        """The recipe's ``sparsify`` step."""
        assert self.recipe.sparsify is not None
        return self.recipe.sparsify

    def grid(self, layer: Prunable, sparsities: Sequence[float]) -> list[float]:
        """The sparsities to try on a layer: n:m makes one of its own."""
        pair = nm_of(layer.pattern)
        return list(sparsities) if pair is None else [1 - pair[0] / pair[1]]

    def plan(self, chosen: Mapping[str, float]) -> Plan:
        """The lowered plan with the layers of ``chosen`` (by name) at that sparsity and the others as they are."""
        import onnx_ir as ir

        from gossamer.compile.lower import lower
        from gossamer.sparsify.layers import PATTERN_KEY, find_layers

        found = {layer.node.name: layer for layer in find_layers(self.graph)[0]}
        before: list[tuple[Any, Any]] = []
        marked: list[Any] = []
        try:
            for layer in self.layers:
                share = chosen.get(layer.name)
                if share is None:
                    continue
                theirs = found[layer.op]
                before.append((theirs.value, theirs.value.const_value))
                theirs.apply(self._mask(layer, share))
                assert isinstance(theirs.value.const_value, ir.TensorProtocol)
                if PATTERN_KEY not in theirs.node.metadata_props:
                    theirs.node.metadata_props[PATTERN_KEY] = layer.pattern
                    marked.append(theirs.node)
            return lower(self.graph, self.recipe.policy, target=self.recipe.target.arch)
        finally:
            for value, tensor in before:
                value.const_value = tensor
            for node in marked:
                del node.metadata_props[PATTERN_KEY]

    def candidate(self, chosen: Mapping[str, float]) -> bytes:
        """An unsigned bundle of :meth:`plan`, all layers stored dense: for its outputs, which the form does not change
        in int8."""
        from gossamer.bundle.container import build
        from gossamer.compile.emit import emit
        from gossamer.compile.encode import encode_weights

        plan = self.plan(chosen)
        for op in plan.ops:
            if op.weights is not None:
                op.weights.pattern = "dense"
        encode_weights(plan)
        made = emit(plan)
        return build(made.plan, made.weights, b"{}", [(e.backend, e.payload) for e in plan.externs])

    def recipe_for(self, chosen: Mapping[str, float]) -> Recipe:
        """The recipe that prunes each layer of ``chosen`` to its sparsity and leaves the other layers dense; where
        nothing is chosen, it trains nothing either."""
        rules = [
            LayerRule(
                match=_exactly(layer.name),
                pattern=layer.pattern if layer.name in chosen else None,
                sparsity=chosen[layer.name] if layer.name in chosen and nm_of(layer.pattern) is None else None,
                dense=layer.name not in chosen,
            )
            for layer in self.layers
        ]
        changes: dict[str, Any] = {"layers": (*self.step.layers, *rules), "distribution": "uniform"}
        if nm_of(self.step.pattern) is None:
            changes["sparsity"] = 0.0  # every layer that it prunes has a rule of its own now
        train = self.recipe.train if chosen else None
        return self.recipe.model_copy(update={"sparsify": self.step.model_copy(update=changes), "train": train})

    def _mask(self, layer: Prunable, share: float) -> npt.NDArray[np.bool_]:
        """What is kept, ``[R, K]``, of a layer at a sparsity, as ``prune`` decides on the float graph."""
        if share not in self._masks:
            self._masks[share] = masks(self.original, self.step, share)
        return self._masks[share][layer.op]


def uniform(step: SparsifyStep, share: float) -> SparsifyStep:
    """The step with every layer that it prunes at one sparsity, channels in the order they have; n:m keeps its own."""
    rules = tuple(
        rule.model_copy(update={"sparsity": share if rule.pattern and nm_of(rule.pattern) is None else None})
        for rule in step.layers
    )
    changes: dict[str, Any] = {"layers": rules, "distribution": "uniform", "rearrange": False}
    if nm_of(step.pattern) is None:
        changes["sparsity"] = share
    return step.model_copy(update=changes)


def masks(model: onnx_ir.Model, step: SparsifyStep, share: float) -> dict[str, npt.NDArray[np.bool_]]:
    """What ``prune`` keeps of each layer, ``[R, K]`` by node name, with every layer at one sparsity."""
    from gossamer.sparsify.layers import find_layers
    from gossamer.sparsify.matrix import from_onnx
    from gossamer.sparsify.oneshot import prune

    work = copied(model)
    prune(work, uniform(step, share))
    found = {}
    for layer in find_layers(work)[0]:
        kept = layer.weight != np.broadcast_to(layer.zero_point.astype(layer.weight.dtype), layer.weight.shape)
        found[str(layer.node.name)] = from_onnx(kept, transposed=layer.transposed)[0]
    return found


def prunable(model: onnx_ir.Model, step: SparsifyStep) -> tuple[list[Prunable], dict[str, str]]:
    """What the step prunes of the model, and name to reason for the layers that it leaves dense.

    ``model`` has unique node names afterwards, those that quantising gives; names for recipes are from before.

    Raises:
        RecipeError: the step names what is not there, or prunes nothing.
    """
    from gossamer.quantize.prepare import name_nodes
    from gossamer.sparsify.layers import find_layers
    from gossamer.sparsify.oneshot import prune

    report = prune(copied(model), uniform(step, 0.5))
    patterns = {layer.name: layer for layer in report.layers}
    named = [(layer.name, layer) for layer in find_layers(model)[0]]
    name_nodes(model)
    layers, dense = [], {}
    for name, layer in named:
        made = patterns[name]
        if made.pattern == "dense":
            dense[name] = made.reason
        else:
            layers.append(Prunable(name, str(layer.node.name), made.pattern, made.weights))
    dense |= {r.name: r.reason for r in report.layers if r.pattern == "dense" and r.name not in dense}
    if not layers:
        listed = "; ".join(f"{n}: {r}" for n, r in dense.items()) or "it has no layers with weights"
        raise RecipeError("the recipe prunes no layer of this model", where=listed, hint="name layers with `include`")
    return layers, dense


def copied(model: onnx_ir.Model) -> onnx_ir.Model:
    """A copy that shares nothing; weights in files beside the model are read into memory first, in ``model`` too."""
    import onnx_ir as ir

    for value in model.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):  # a copy would lose the file's folder
            value.const_value = ir.tensor(value.const_value.numpy().copy(), name=value.name)
    return ir.serde.deserialize_model(ir.serde.serialize_model(model))


def _exactly(name: str) -> str:
    """A glob that matches this name alone."""
    import glob

    return glob.escape(name)


def open_bench(
    model: Any, recipe: Recipe, calibration: Any, *, labels: Sequence[str] | None = None, **options: Any
) -> tuple[Bench, Any]:
    """Loads and quantises the model, nothing pruned; returns the bench and the calibration samples that were read.

    Args:
        model, recipe, calibration, labels, options: as for :func:`gossamer.optimize`.

    Raises:
        as ``gossamer.optimize`` does.
    """
    from gossamer import _optimize
    from gossamer.compile.lower import lower
    from gossamer.sparsify.layers import find_layers

    job = _optimize._Job(recipe, pb.Manifest(), None)
    named = {key: options.get(key) for key in ("name", "version", "license", "preprocess")}
    graph = _optimize._load(model, options.get("example_inputs"), named["name"], options.get("input_shapes"))
    ports, _ = _optimize._describe(
        job, graph, model, named["name"], named["version"] or "", named["license"] or "", named["preprocess"]
    )
    assert recipe.sparsify is not None
    layers, dense = prunable(graph, recipe.sparsify)
    if recipe.sparsify.rearrange:
        # Once, for a middling sparsity: what each bundle's own order adds to that is seen when it is measured.
        from gossamer.sparsify.rearrange import rearrange

        rearrange(graph, uniform(recipe.sparsify, 0.75))
    samples = _optimize._calibrate(job, graph, ports, calibration)
    original = copied(graph)
    graph = _optimize._quantize(job, graph, samples)
    _optimize._outputs(job, lower(graph, recipe.policy, target=recipe.target.arch), graph, labels)
    known = {str(layer.node.name) for layer in find_layers(graph)[0]}
    dense |= {layer.name: "its quantised weights cannot be pruned" for layer in layers if layer.op not in known}
    layers = [layer for layer in layers if layer.op in known]
    return Bench(recipe, list(job.manifest.inputs), job.manifest.outputs[0], layers, dense, original, graph), samples
