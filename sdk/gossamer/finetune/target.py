"""A recipe's sparsify step in the names of a torch module's layers, chosen as pruning the graph would choose."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gossamer._errors import RecipeError
from gossamer.recipe import LayerRule, SparsifyStep
from gossamer.recipe.schema import nm_of

if TYPE_CHECKING:
    import onnx_ir


def step_for_modules(model: onnx_ir.Model, step: SparsifyStep, modules: Mapping[str, str]) -> SparsifyStep:
    """The step with one rule a layer: what a ``Sparsifier`` then prunes is what ``prune`` would.

    Which layers stay dense by default, and what names and sources the step's globs fit, is decided on the graph: a
    torch module does not know its last layers, nor the names that the user saw.

    Args:
        model: the graph, nodes named as :func:`gossamer.quantize.prepare.name_nodes` names them.
        modules: name of the torch module by node name, for all layers with weights.

    Raises:
        RecipeError: the step names layers that are not there, or prunes none.
    """
    from gossamer.sparsify.oneshot import planned

    rules = [LayerRule(match="*", dense=True)]
    for layer, target in planned(model, step):
        module = modules.get(str(layer.node.name))
        if module is None:
            continue
        exact = nm_of(target.pattern.name) is not None
        own = None if exact else target.own
        rules.append(LayerRule(match=glob.escape(module), pattern=target.pattern.name, sparsity=own))
    if len(rules) == 1:
        raise RecipeError("the recipe prunes no layer of this model", hint="name layers with `include`")
    changes = {"include": (), "exclude": (), "keep_dense": (), "layers": tuple(rules)}
    return step.model_copy(update=changes)
