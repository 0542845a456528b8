"""Masks for all layers of a network at once: what a layer asks for itself, and how the rest is shared out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gossamer.sparsify import distribute
from gossamer.sparsify.arrays import Array
from gossamer.sparsify.matrix import Columns
from gossamer.sparsify.patterns import NM, Blocks, Pattern

Distribution = Literal["uniform", "global", "erk"]


@dataclass(frozen=True, eq=False)
class Target:
    """A layer to be pruned.

    Attributes:
        pattern: what its mask looks like.
        shape: logical shape of its weights, Conv ``(Cout, Cin, kh, kw)`` or Gemm ``(N, K)``, for ERK.
        matrix: gives the scores ``[R, K]`` (at least 0, padding 0; numpy or torch) and what the columns are.
        own: its own sparsity in [0, 1); None: the distribution decides.
    """

    pattern: Pattern
    shape: tuple[int, ...]
    matrix: Callable[[], tuple[Array, Columns]]
    own: float | None = None


@dataclass(frozen=True, eq=False)
class Assigned:
    """A layer's mask ``[R, K]``, True where a weight is kept, or None with the reason why it stays dense; ``wanted`` is
    the sparsity asked of it, None where a global threshold decided."""

    mask: Array | None
    wanted: float | None
    reason: str = ""


def assign(
    targets: Sequence[Target],
    sparsity: float,
    distribution: Distribution = "uniform",
    min_fraction: float = 0.0005,
) -> list[Assigned]:
    """A mask per target.

    Args:
        targets: the layers.
        sparsity: share of zeros of the targets without their own, in [0, 1).
        distribution: how these share it; ``global`` needs block patterns.
        min_fraction: with ``global``, the share of all weights that each layer keeps.

    Raises:
        ValueError: a pattern of n:m in a global distribution, or a sparsity that a pattern cannot make.
    """
    asked = shares(targets, sparsity, distribution)
    together = iter(_global([t for t, s in zip(targets, asked, strict=True) if s is None], sparsity, min_fraction))
    return [
        next(together) if share is None else _project(target, share)
        for target, share in zip(targets, asked, strict=True)
    ]


def shares(targets: Sequence[Target], sparsity: float, distribution: Distribution = "uniform") -> list[float | None]:
    """The sparsity of every target: its own or its n:m pattern's, else by the distribution; None where a global
    threshold decides. Arguments as for :func:`assign`."""
    own = [t.pattern.sparsity if isinstance(t.pattern, NM) else t.own for t in targets]
    free = [t for t, share in zip(targets, own, strict=True) if share is None]
    spread: list[float | None] = [None if distribution == "global" else sparsity] * len(free)
    if distribution == "erk" and free:
        spread = list(distribute.erk([t.shape for t in free], sparsity))
    rest = iter(spread)
    return [next(rest) if share is None else share for share in own]


def _project(target: Target, share: float) -> Assigned:
    if share <= 0.0:
        return Assigned(None, 0.0, "its share of the sparsity is 0")
    scores, columns = target.matrix()
    return Assigned(target.pattern.project(scores, share, columns=columns, scores=scores), share)


def _global(targets: Sequence[Target], sparsity: float, min_fraction: float) -> list[Assigned]:
    if not targets:
        return []
    blocks, units, places = [], [], []
    for target in targets:
        if not isinstance(target.pattern, Blocks):
            raise ValueError(f"{target.pattern.name} is the same in every layer: a global threshold cannot apply")
        scores, columns = target.matrix()
        blocks.append(target.pattern)
        units.append(target.pattern.units(scores, columns))
        places.append((int(scores.shape[0]), columns))
    keeps = distribute.global_threshold([u[0] for u in units], [u[1] for u in units], sparsity, min_fraction)
    sizes = [int(count.sum(dtype=np.int64)) for _, count in units]
    minimum = min_fraction * sum(sizes)
    out = []
    for block, keep, size, (rows, columns) in zip(blocks, keeps, sizes, places, strict=True):
        if bool(keep.all()):
            small = "below the minimum that every layer keeps"
            out.append(Assigned(None, None, small if size <= minimum else "all of it is above the common threshold"))
        else:
            out.append(Assigned(block.expand(keep, rows, columns), None))
    return out
