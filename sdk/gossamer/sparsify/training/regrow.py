"""Drop and grow: the units (weights or blocks) of a layer that leave and those that enter, with their number kept.

Shared by SET, RigL and GraNet, which differ in what they drop, when, and what they grow by.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from gossamer._errors import InputError
from gossamer.sparsify import arrays

if TYPE_CHECKING:
    from torch import Tensor

    from gossamer.sparsify.training.layer import SparseLayer
    from gossamer.sparsify.training.sparsifier import Sparsifier


def need_optimizer(run: Sparsifier) -> None:
    """Methods that move connections zero the moments of new ones.

    Raises:
        InputError: the run was given no optimiser, or one that trains none of the pruned weights.
    """
    if run.optimizer is None:
        raise InputError(
            f"method '{run.method.name}' moves connections and needs the optimizer: moments of new ones start at zero",
            where="optimizer",
            hint="pass Sparsifier(..., optimizer=optimizer)",
        )

    trained = {id(p) for group in run.optimizer.param_groups for p in group["params"]}
    if not any(id(layer.weight) in trained for layer in run.layers):
        raise InputError(
            "the optimizer trains none of the weights that are pruned",
            where="optimizer",
            hint="make it from the parameters of the model that is given to the Sparsifier",
        )


def need_gradients(run: Sparsifier) -> None:
    """Methods that grow by gradient need weights that get one.

    Raises:
        InputError: a pruned layer is frozen.
    """
    for layer in run.layers:
        if not layer.weight.requires_grad:
            raise InputError(
                f"method '{run.method.name}' grows by gradients, and layer '{layer.name}' is frozen",
                where=layer.name,
                hint="exclude it, or let it train (requires_grad)",
            )


def kept_weights(run: Sparsifier) -> list[int]:
    """Weights that each layer keeps now."""
    return [int(layer.mask.sum()) for layer in run.layers]


def by_gradient(layer: SparseLayer) -> Tensor:
    """Growth scores of units: the mean of the dense gradient's magnitude, ``[block rows, block columns]``.

    Gradients that are not finite (a step that mixed precision skips) count as 0: they tell nothing.
    """
    assert layer.gradient is not None
    return layer.units(layer.matrix(torch.nan_to_num(layer.gradient.abs(), nan=0.0, posinf=0.0)))


def drop_and_grow(
    run: Sparsifier, layer: SparseLayer, fraction: float, growth: Tensor, budget: int, *, round_up: bool = False
) -> None:
    """Drop the kept units of smallest mean magnitude, then grow those of largest ``growth`` until ``budget`` is met.

    Units dropped a moment ago may be grown again and then keep their weights, as in the code of RigL and GraNet; the
    others start with weights and optimiser moments of zero. Ties go in index order. Where all units hold as many
    weights, exactly as many are grown as were dropped when ``budget`` is what the layer keeps; blocks at the edge may
    hold fewer, then the nearest number of weights counts.

    Args:
        fraction: of the kept units that is dropped, in [0, 1].
        growth: score per unit, ``[block rows, block columns]``.
        budget: weights that the layer keeps afterwards.
        round_up: a fraction of a unit is one more dropped; else one less.

    Raises:
        RecipeError: the pattern has no units (n:m).
    """
    kept = layer.kept_units().reshape(-1)
    units = int(kept.sum())
    drop = min(units, math.ceil(fraction * units) if round_up else math.floor(fraction * units))
    sizes = arrays.like(layer.unit_counts.reshape(-1), kept)
    alive = kept.clone()
    alive[arrays.stable_order(torch.where(kept, layer.units(layer.matrix()).reshape(-1), torch.inf))[:drop]] = False
    free = ~alive & (sizes > 0)
    order = arrays.stable_order(torch.where(free, growth.reshape(-1), -torch.inf), descending=True)[: int(free.sum())]
    alive[order[: nearest_count(sizes[order], budget - int(sizes[alive].sum()))]] = True
    before = layer.mask.clone()
    layer.set_units(alive.reshape(layer.unit_counts.shape))
    start_at_zero(run, layer, layer.mask & ~before)


def start_at_zero(run: Sparsifier, layer: SparseLayer, where: Tensor) -> None:
    """Zero weights and optimiser moments where a mask of the weight's shape is True."""
    layer.weight.masked_fill_(where, 0.0)
    run.reset_moments(layer, where)


def nearest_count(sizes: Tensor, wanted: int) -> int:
    """How many of the first ``sizes`` (at least 1 each) add up nearest to ``wanted``; of two as near the fewer."""
    return int((2 * sizes.cumsum(0) - sizes < 2 * wanted).sum())
