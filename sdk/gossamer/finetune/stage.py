"""The ``train`` stage of ``gossamer.optimize``: reads the examples, trains, and says why layers stayed dense."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gossamer import _manifest
from gossamer._errors import InputError, RecipeError
from gossamer._proto.v1 import manifest_pb2 as pb

if TYPE_CHECKING:
    import onnx_ir

    from gossamer.finetune.run import Tuned
    from gossamer.recipe import Recipe


def check(recipe: Recipe, data: Any, checkpoint: Any = None) -> None:
    """Refuses a ``train`` step without data, and data or checkpoints without the step, before anything is loaded.

    Raises:
        InputError, RecipeError: one of them is missing.
        UnsupportedError: torch is not installed.
    """
    if recipe.train is None and (data is not None or checkpoint is not None):
        given = "are training data" if data is not None else "is a folder for checkpoints"
        raise RecipeError(
            f"there {given}, but the recipe has no train step",
            hint="add `train: {}` to the recipe, or try 1x4-75-gradual-int8",
        )
    if recipe.train is None:
        return
    if data is None:
        raise InputError(
            "the recipe trains, which needs data",
            hint="give a folder with one subfolder a class, a .csv or an .npz (--train-data photos/)",
        )
    _require_torch()


def train(
    graph: onnx_ir.Model,
    recipe: Recipe,
    ports: Sequence[pb.Port],
    data: Any,
    *,
    split: str | None = None,
    labels: Sequence[str] | None = None,
    calibration: Sequence[Mapping[str, Any]] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Tuned, dict[str, Any]]:
    """Trains the graph as the recipe says; returns the outcome and pruning's record of each layer by name.

    Args:
        graph: as loaded; node names are filled in, and channels rearranged where the recipe says so.
        ports: the inputs.
        data: examples; see :func:`gossamer.search.read.read_examples`.
        labels: names of the classes.

    Raises:
        as :func:`gossamer.finetune.fine_tune`.
    """
    from gossamer.finetune.run import fine_tune
    from gossamer.search.bench import copied
    from gossamer.search.decide import classes_of
    from gossamer.search.read import read_examples
    from gossamer.sparsify import prune
    from gossamer.sparsify.layers import PATTERN_KEY

    records = {}
    if recipe.sparsify is not None:
        step = recipe.sparsify
        if step.rearrange:
            from gossamer.sparsify.rearrange import rearrange

            rearrange(graph, step)
            step = step.model_copy(update={"rearrange": False})
            recipe = recipe.model_copy(update={"sparsify": step})
        records = {layer.name: layer for layer in prune(copied(graph), step).layers}
    inputs = _scaled(graph, recipe, ports)
    output = _output(graph, labels)
    examples = read_examples(data, inputs, classes_of(output), split=split).prepare()
    tuned = fine_tune(
        graph, recipe, examples, inputs, output, calibration=calibration, checkpoint=checkpoint, progress=progress
    )
    for node in tuned.model.graph:
        if node.name in tuned.patterns:
            node.metadata_props[PATTERN_KEY] = tuned.patterns[node.name]
    return tuned, records


def _output(graph: onnx_ir.Model, labels: Sequence[str] | None) -> pb.Port:
    """The first output with its meaning, as the bundle will have it."""
    port = _manifest.model_ports(graph.graph.outputs, "output")[0]
    _manifest.postprocessing(labels, _manifest.model_metadata(graph), port, _manifest.last_op(graph))
    return port


def _scaled(graph: onnx_ir.Model, recipe: Recipe, ports: Sequence[pb.Port]) -> list[pb.Port]:
    """The inputs; quantised ones with their scale, which pictures need to become values of such an input."""
    found = []
    for port in ports:
        copy = pb.Port()
        copy.CopyFrom(port)
        found.append(copy)
    if all(np.dtype(port.dtype).kind == "f" for port in found):
        return found
    from gossamer.compile.lower import lower

    plan = lower(graph, recipe.policy, target=recipe.target.arch)
    for port, tensor in zip(found, plan.inputs, strict=True):
        port.scale, port.zero_point = tensor.scale, tensor.zero_point
    return found


def _require_torch() -> None:
    from importlib.util import find_spec

    from gossamer._errors import UnsupportedError

    if find_spec("torch") is None:
        raise UnsupportedError("training needs torch", hint="pip install 'gossamer[torch]'")
