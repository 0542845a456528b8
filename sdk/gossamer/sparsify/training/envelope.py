"""The group sparse envelope: the largest convex function below half the squared norm of vectors of at most k groups."""

from __future__ import annotations

import torch
from torch import Tensor


def group_envelope(norms: Tensor, k: int) -> Tensor:
    """Half the squared k-support norm of ``norms``: the convex envelope (biconjugate) of half the squared Euclidean
    norm where at most ``k`` entries are nonzero, infinity elsewhere. Equal to it there.

    Its gradient is ``max(z, tau)``, see :func:`pull`.

    Args:
        norms: ``[groups]``, at least 0; of groups of weights that do not overlap.
        k: groups to keep, 1..groups.

    Returns:
        scalar, differentiable.

    Raises:
        ValueError: k out of range.
    """
    large, small, places = _parts(norms, k)
    return 0.5 * (large.square().sum() + small.sum().square() / places)


def pull(norms: Tensor, k: int) -> Tensor:
    """The threshold ``tau`` of the envelope: groups above it shrink by their own norm, those below by ``tau``.

    It solves ``sum_i min(1, z_i / tau) = k`` where more than k groups are nonzero.

    Args, raises: as :func:`group_envelope`.
    """
    _, small, places = _parts(norms, k)
    return small.sum() / places


def _parts(norms: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The largest ``k - r - 1`` groups, the others (zeros elsewhere), and the ``r + 1`` places that these share.

    r is that of proposition 2.1 of Argyriou, Foygel and Srebro (arXiv 1204.5043), ``z_(k-r-1) > sum of the others /
    (r + 1) >= z_(k-r)``: the first to meet the second inequality when r falls from k - 1.
    """
    if not 1 <= k <= norms.numel():
        raise ValueError(f"k is 1..{norms.numel()} (the groups), not {k}")
    # Doubles: the sum of many small groups is what is left of the whole after the large ones.
    values = norms.detach().double()
    top = values.topk(k).values
    others = values.sum() - torch.cat([top.new_zeros(1), top.cumsum(0)[:-1]])
    met = top <= others / torch.arange(k, 0, -1, device=top.device)
    met[-1] = True  # it is, but for rounding
    first_of_the_others = top.gather(0, met.int().argmax(dim=0, keepdim=True))
    large = norms > first_of_the_others.to(norms.dtype)
    return norms.masked_fill(~large, 0.0), norms.masked_fill(large, 0.0), k - large.sum()
