"""How much of a whole network's sparsity each layer takes: global with a minimum, Erdos-Renyi-Kernel.

Sources: global magnitude with the minimum threshold as in public pruning benchmarks (one k-th value for all layers,
every layer keeps at least 0.05% of all parameters); ERK, Evci et al., "Rigging the Lottery" (arXiv 1911.11134), layer
density proportional to the sum of the weight's dimensions over their product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gossamer.sparsify import arrays
from gossamer.sparsify.arrays import Array


def round_half_up(value: float) -> int:
    """The nearest integer, halves upwards: counts do not depend on their parity."""
    return math.floor(value + 0.5)


def drop_smallest(scores: Array, counts: npt.NDArray[Any], target: float) -> Array:
    """Keeps all but the smallest scores, so that the dropped counts add up as near to ``target`` as they can.

    Ties go in index order (the earlier is dropped first); of two equally near sums the smaller is taken.

    Args:
        scores: one per unit (a weight or a block), any shape; numpy or torch.
        counts: weights in each unit, same shape, numpy.
        target: weights to drop.

    Returns:
        True where the unit is kept, same shape.
    """
    flat, size = scores.reshape(-1), counts.reshape(-1)
    keep = arrays.ones_mask(flat)
    if size.size == 0 or target <= 0:
        return keep.reshape(scores.shape)
    if size.min() == size.max() and size[0] > 0:
        k = min(size.size, max(0, math.ceil(target / int(size[0]) - 0.5)))
        if k == size.size:
            keep[:] = False
        elif k:
            bound = arrays.kth_smallest(flat, k)
            keep &= flat >= bound
            ties = arrays.true_places(flat == bound)
            keep[ties[: k - (size.size - int(keep.sum()))]] = False
        return keep.reshape(scores.shape)
    order = arrays.stable_order(flat)
    total = np.concatenate([[0], np.cumsum(size[arrays.to_numpy(order)], dtype=np.int64)])
    k = int(np.argmin(np.abs(total - target)))
    keep[order[:k]] = False
    return keep.reshape(scores.shape)


def erk(shapes: Sequence[tuple[int, ...]], sparsity: float) -> list[float]:
    """Sparsity per layer with density proportional to ``sum(dims) / prod(dims)``, capped at dense.

    A layer whose share passes 1 stays dense and the others share what is left, until none passes.

    Args:
        shapes: weight shapes, Conv ``(Cout, Cin, kh, kw)`` or Gemm ``(N, K)``.
        sparsity: of all these weights together, in [0, 1).

    Returns:
        one sparsity per layer, in [0, 1); weighted by size they give ``sparsity``.
    """
    sizes = [math.prod(s) for s in shapes]
    raw = [sum(s) / n for s, n in zip(shapes, sizes, strict=True)]
    dense: set[int] = set()
    while len(dense) < len(shapes):
        budget = (1.0 - sparsity) * sum(sizes) - sum(sizes[i] for i in dense)
        share = sum(raw[i] * sizes[i] for i in range(len(shapes)) if i not in dense)
        factor = budget / share
        over = [i for i in range(len(shapes)) if i not in dense and raw[i] * factor > 1.0]
        if not over:
            return [0.0 if i in dense else 1.0 - raw[i] * factor for i in range(len(shapes))]
        # Only the densest is fixed in each round: fixing all at once can leave a negative budget.
        top = max(raw[i] for i in over)
        dense.update(i for i in over if raw[i] == top)
    return [0.0] * len(shapes)


def global_threshold(
    scores: Sequence[Array],
    counts: Sequence[npt.NDArray[Any]],
    sparsity: float,
    min_fraction: float = 0.0005,
) -> list[Array]:
    """One threshold over all layers; every layer keeps at least ``min_fraction`` of all their weights.

    A layer with fewer weights than that minimum is left whole. Where the common threshold would leave a layer below
    the minimum, that layer keeps its best down to the minimum and the threshold for the others rises until the total
    is met.

    Args:
        scores: per layer, one score a unit (weight or block); comparable between layers; numpy or torch.
        counts: per layer, weights in each unit, numpy.
        sparsity: of all these weights together, in [0, 1).
        min_fraction: share of all weights that every layer keeps, 0.0005 in the source.

    Returns:
        per layer, True where the unit is kept. When the minima together exceed what may be kept, the minima win.
    """
    sizes = [int(c.sum(dtype=np.int64)) for c in counts]
    everything = sum(sizes)
    minimum = math.ceil(min_fraction * everything)
    target = round_half_up(sparsity * everything)
    keeps = [arrays.ones_mask(s) for s in scores]
    free = [i for i, size in enumerate(sizes) if size > minimum]
    dropped = 0
    while free:
        pool = arrays.concatenate([scores[i].reshape(-1) for i in free])
        weight = np.concatenate([counts[i].reshape(-1) for i in free])
        keep = drop_smallest(pool, weight, target - dropped)
        below, at = [], 0
        for i in free:
            keeps[i] = keep[at : at + counts[i].size].reshape(scores[i].shape)
            at += counts[i].size
            if _kept(counts[i], keeps[i]) < minimum:
                below.append(i)
        if not below:
            break
        for i in below:
            keeps[i] = _keep_at_least(scores[i], counts[i], minimum)
            dropped += sizes[i] - _kept(counts[i], keeps[i])
            free.remove(i)
    return keeps


def _kept(counts: npt.NDArray[Any], keep: Array) -> int:
    """Weights in the kept units."""
    return int(counts[arrays.to_numpy(keep)].sum(dtype=np.int64))


def _keep_at_least(scores: Array, counts: npt.NDArray[Any], minimum: int) -> Array:
    order = arrays.stable_order(scores.reshape(-1), descending=True)
    have = np.cumsum(counts.reshape(-1)[arrays.to_numpy(order)], dtype=np.int64)
    take = min(counts.size, int(np.searchsorted(have, minimum)) + 1)
    return arrays.scatter_true(scores.reshape(-1), order[:take]).reshape(scores.shape)
