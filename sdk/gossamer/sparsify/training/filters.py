"""Whole filters (output channels) as the units that are kept or dropped, and the batch norm behind each layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gossamer._errors import RecipeError
from gossamer.sparsify import arrays
from gossamer.sparsify.arrays import Array
from gossamer.sparsify.assign import Target, assign
from gossamer.sparsify.blocks import cut
from gossamer.sparsify.matrix import Columns
from gossamer.sparsify.patterns import Blocks, unit_counts

if TYPE_CHECKING:
    from gossamer.sparsify.training.layer import SparseLayer
    from gossamer.sparsify.training.sparsifier import Sparsifier


class Filters(Blocks):
    """Rows of the matrix, as many at a time as the blocks that they are stored in are high.

    A unit's score is the mean importance of its weights, so that layers compare.
    """

    def __init__(self, stored: Blocks) -> None:
        super().__init__(stored.name, *stored.block)

    def units(self, scores: Array, columns: Columns) -> tuple[Array, npt.NDArray[np.int32]]:
        """Score and real weights of every unit, both ``[units, 1]``."""
        height = self.block[0]
        count = unit_counts(scores.shape[0], columns, (height, columns.count))
        total = arrays.as_float32(arrays.sum_axes(cut(scores, height, columns.count), (2, 3)))
        return total / arrays.like(count, total), count

    def expand(self, keep: Array, rows: int, columns: Columns) -> Array:
        """A mask of units as a mask of weights, ``[rows, K]``."""
        mask = arrays.repeat(arrays.repeat(keep, self.block[0], 0)[:rows], columns.count, 1)
        return mask & arrays.like(columns.valid, mask)


def filters_of(layer: SparseLayer) -> Filters:
    """The filters of a layer as a pattern.

    Raises:
        RecipeError: its pattern has no blocks (n:m).
    """
    if not isinstance(layer.pattern, Blocks):
        raise RecipeError(f"{layer.pattern.name} has no whole filters to drop", where=layer.name)
    return Filters(layer.pattern)


def choose_filters(run: Sparsifier, scores: Callable[[SparseLayer], Tensor]) -> list[Tensor | None]:
    """Masks ``[R, K]`` of whole filters that reach the target's sparsity, layer by layer; None keeps all.

    Args:
        run: whose target says how far, and how layers share it.
        scores: importance ``[R, K]`` of a layer's weights, at least 0.
    """

    def matrix_of(layer: SparseLayer) -> Callable[[], tuple[Tensor, Columns]]:
        return lambda: (scores(layer), layer.columns)

    targets = [Target(filters_of(x), tuple(x.weight.shape), matrix_of(x), x.own) for x in run.layers]
    made = assign(targets, run.target.wanted, run.target.distribution, run.target.min_fraction)
    return [found.mask for found in made]


def norm_behind(model: nn.Module, layer: SparseLayer, names: Mapping[str, str]) -> _BatchNorm:
    """The batch norm that a layer's output goes to: by ``names`` (layer to norm), else the next module in the order
    in which modules are registered.

    Raises:
        RecipeError: there is none, or it has another number of channels, or no scale.
    """
    wanted = names.get(layer.name)
    modules = dict(model.named_modules())
    found = modules.get(wanted) if wanted is not None else _next(modules, layer.name)
    channels = int(layer.weight.shape[0])
    if not isinstance(found, _BatchNorm) or found.num_features != channels or not found.affine:
        what = "none" if found is None else f"'{_name_of(modules, found)}', a {type(found).__name__}"
        raise RecipeError(
            f"no batch norm with a scale for the {channels} outputs of layer '{layer.name}': behind it is {what}",
            where=layer.name,
            hint="name it in the option `norms` (layer: batch norm), or exclude the layer",
            field="options.norms",
        )
    return found


def _next(modules: Mapping[str, nn.Module], name: str) -> nn.Module | None:
    """The next module without children that is no identity."""
    seen = False
    for key, module in modules.items():
        if seen and ".parametrizations" not in key and not key.startswith("parametrizations"):
            leaf = all(child == "parametrizations" for child, _ in module.named_children())
            if leaf and not isinstance(module, nn.Identity):
                return module
        seen = seen or key == name
    return None


def _name_of(modules: Mapping[str, nn.Module], wanted: nn.Module) -> str:
    return next(name for name, module in modules.items() if module is wanted)
