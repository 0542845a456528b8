"""The group sparse envelope: the largest convex function below half the squared norm of vectors of at most k groups."""

from __future__ import annotations

import torch
from torch import Tensor


def force(norms: Tensor, k: int) -> Tensor:
    """The gradient of the envelope, ``max(z, tau)``; the envelope itself is ``1/2 <z, force>``.

    The envelope is the biconjugate of half the squared Euclidean norm where at most ``k`` entries are nonzero, infinity
    elsewhere; in other words half the squared k-support norm. Proposition 2.1 of Argyriou, Foygel and Srebro (arXiv
    1204.5043): with z falling and r the one of 0..k-1 for which ``z_(k-r-1) > tau >= z_(k-r)``, ``tau = (sum of z_i for
    i >= k - r) / (r + 1)``, it is ``1/2 sum of z_i^2 for i < k - r, plus 1/2 (r + 1) tau^2``.

    Args:
        norms: z, ``[groups]``, at least 0: norms of groups of weights that do not overlap.
        k: groups to keep, 1..groups.

    Returns:
        ``[groups]``, without a gradient of its own.

    Raises:
        ValueError: k out of range.
    """
    if not 1 <= k <= norms.numel():
        raise ValueError(f"k is 1..{norms.numel()} (the groups), not {k}")
    values = norms.detach()
    top = values.topk(k).values
    # Doubles: the sum of many small groups is what is left of the whole after the large ones.
    others = values.sum(dtype=torch.float64) - (top.cumsum(0, dtype=torch.float64) - top)
    # Of the r that meet the second inequality the largest meets the first, too.
    met = top <= others / torch.arange(k, 0, -1, device=top.device)
    met[-1:].fill_(True)  # it is, but for rounding
    large = values > top.gather(0, met.int().argmax(dim=0, keepdim=True))
    tau = (values * ~large).sum() / (k - large.sum())
    return torch.maximum(values, tau)
