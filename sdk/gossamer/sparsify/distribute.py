"""How much of a whole network's sparsity each layer takes: uniform, global with a minimum, Erdos-Renyi-Kernel.

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


def round_half_up(value: float) -> int:
    """The nearest integer, halves upwards: counts do not depend on their parity."""
    return math.floor(value + 0.5)


def drop_smallest(scores: npt.NDArray[Any], counts: npt.NDArray[Any], target: float) -> npt.NDArray[np.bool_]:
    """Keeps all but the smallest scores, so that the dropped counts add up as near to ``target`` as they can.

    Ties go in index order (the earlier is dropped first); of two equally near sums the smaller is taken.

    Args:
        scores: one per unit (a weight or a block), any shape.
        counts: weights in each unit, same shape.
        target: weights to drop.

    Returns:
        True where the unit is kept, same shape.
    """
    flat, size = scores.reshape(-1), counts.reshape(-1)
    keep = np.ones(flat.shape, dtype=bool)
    if flat.size == 0 or target <= 0:
        return keep.reshape(scores.shape)
    if size.min() == size.max() and size[0] > 0:
        k = min(flat.size, max(0, math.ceil(target / int(size[0]) - 0.5)))
        if k == flat.size:
            keep[:] = False
        elif k:
            bound = np.partition(flat, k - 1)[k - 1]
            keep[flat < bound] = False
            ties = np.flatnonzero(flat == bound)
            keep[ties[: k - (flat.size - int(keep.sum()))]] = False
        return keep.reshape(scores.shape)
    order = np.argsort(flat, kind="stable")
    total = np.concatenate([[0], np.cumsum(size[order], dtype=np.int64)])
    k = int(np.argmin(np.abs(total - target)))
    keep[order[:k]] = False
    return keep.reshape(scores.shape)


def uniform(sizes: Sequence[int], sparsity: float) -> list[float]:
    """The same sparsity for every layer."""
    return [sparsity] * len(sizes)


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
    scores: Sequence[npt.NDArray[Any]],
    counts: Sequence[npt.NDArray[Any]],
    sparsity: float,
    min_fraction: float = 0.0005,
) -> list[npt.NDArray[np.bool_]]:
    """One threshold over all layers; every layer keeps at least ``min_fraction`` of all their weights.

    A layer with fewer weights than that minimum is left whole. Where the common threshold would leave a layer below
    the minimum, that layer keeps its best down to the minimum and the threshold for the others rises until the total
    is met.

    Args:
        scores: per layer, one score a unit (weight or block); comparable between layers.
        counts: per layer, weights in each unit.
        sparsity: of all these weights together, in [0, 1).
        min_fraction: share of all weights that every layer keeps, 0.0005 in the source.

    Returns:
        per layer, True where the unit is kept. When the minima together exceed what may be kept, the minima win.
    """
    sizes = [int(c.sum(dtype=np.int64)) for c in counts]
    everything = sum(sizes)
    minimum = math.ceil(min_fraction * everything)
    target = round_half_up(sparsity * everything)
    keeps: list[npt.NDArray[np.bool_]] = [np.ones(s.shape, dtype=bool) for s in scores]
    free = [i for i, size in enumerate(sizes) if size > minimum]
    dropped = 0
    while free:
        pool = np.concatenate([scores[i].reshape(-1) for i in free])
        weight = np.concatenate([counts[i].reshape(-1) for i in free])
        keep = drop_smallest(pool, weight, target - dropped)
        edges = np.cumsum([scores[i].size for i in free])[:-1]
        below = []
        for i, part in zip(free, np.split(keep, edges), strict=True):
            keeps[i] = part.reshape(scores[i].shape)
            if int(counts[i][keeps[i]].sum(dtype=np.int64)) < minimum:
                below.append(i)
        if not below:
            break
        for i in below:
            keeps[i] = _keep_at_least(scores[i], counts[i], minimum)
            dropped += int(counts[i][~keeps[i]].sum(dtype=np.int64))
            free.remove(i)
    return keeps


def _keep_at_least(scores: npt.NDArray[Any], counts: npt.NDArray[Any], minimum: int) -> npt.NDArray[np.bool_]:
    order = np.argsort(-scores.reshape(-1), kind="stable")
    have = np.cumsum(counts.reshape(-1)[order], dtype=np.int64)
    take = min(order.size, int(np.searchsorted(have, minimum)) + 1)
    keep = np.zeros(order.size, dtype=bool)
    keep[order[:take]] = True
    return keep.reshape(scores.shape)
