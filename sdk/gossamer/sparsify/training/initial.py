"""The masks that sparse-to-sparse training begins with: drawn at random, layer densities by Erdos-Renyi-Kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from gossamer.sparsify.assign import shares
from gossamer.sparsify.distribute import drop_smallest
from gossamer.sparsify.patterns import NM

if TYPE_CHECKING:
    from torch import Tensor

    from gossamer.sparsify.training.layer import SparseLayer
    from gossamer.sparsify.training.sparsifier import Sparsifier

Spread = Literal["erk", "uniform"]


def layer_sparsities(run: Sparsifier, spread: Spread, share: float = 1.0) -> list[float]:
    """The sparsity of every layer at ``share`` of the target: its own where it has one (n:m: the pattern's, whole),
    else by Erdos-Renyi-Kernel (arXiv 1911.11134, section 3: density proportional to ``sum(dims) / prod(dims)``, capped
    at dense) over the others, or the same for all."""
    found = shares(run.targets(share), run.target.wanted * share, spread)
    return [x for x in found if x is not None]  # neither spread leaves a share open


def random_masks(run: Sparsifier, spread: Spread, share: float = 1.0) -> None:
    """Give every layer a random mask of its pattern, drawn from ``run.generator``.

    Block patterns: whole blocks, dropped until the weights dropped are nearest to the layer's share; n:m: n of every
    m inputs.

    Args:
        spread: how the sparsity is shared between layers.
        share: 0..1 of the target's sparsity.

    Raises:
        RecipeError: a layer would be left empty.
    """
    for layer, sparsity in zip(run.layers, layer_sparsities(run, spread, share), strict=True):
        if isinstance(layer.pattern, NM):
            scores = draw(run, layer, tuple(layer.matrix().shape))
            layer.set_mask(layer.pattern.project(scores, columns=layer.columns))
        elif sparsity <= 0.0:
            layer.set_mask(None)
        else:
            scores = draw(run, layer, layer.unit_counts.shape)
            layer.set_units(drop_smallest(scores, layer.unit_counts, sparsity * layer.size))


def draw(run: Sparsifier, layer: SparseLayer, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in [0, 1) from the run's own generator, float32, where the layer lives."""
    return torch.rand(shape, generator=run.generator, device=run.generator.device).to(layer.weight.device)
