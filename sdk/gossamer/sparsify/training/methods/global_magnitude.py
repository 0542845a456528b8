"""Global magnitude pruning: one threshold for all layers, with a minimum that every layer keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from gossamer.sparsify.training.methods.gradual_magnitude import GradualMagnitude

if TYPE_CHECKING:
    from gossamer.sparsify.training.sparsifier import Sparsifier


class GlobalMagnitude(GradualMagnitude):
    """One k-th smallest magnitude decides in all layers at once, whatever distribution the target names; k rises along
    the cubic of gradual magnitude pruning, ``s_t = s_f + (s_i - s_f)(1 - t/T)^3``.

    Every layer keeps at least ``min_fraction`` of all parameters (the target's, 0.0005 by default). Layers smaller than
    that are left whole; one that the threshold would take below it keeps its best down to it, and the others give more
    until the total is met. Layers with a sparsity of their own take no part. Units are weights or the pattern's blocks,
    by their mean magnitude, which compares between layers.

    Source: global magnitude pruning with a minimum threshold, n_min = 0.05% of all parameters, as in the code of public
    pruning benchmarks; schedule, Zhu and Gupta (arXiv 1710.01878), section 3. The source prunes in steps between
    retraining; here the ramp does, with the defaults of gradual magnitude: the first 60% of the run, every 32 steps.
    """

    name: ClassVar[str] = "global-magnitude"
    title: ClassVar[str] = "one magnitude threshold for all layers, rising along a cubic"
    source: ClassVar[str] = "global magnitude with minimum threshold (code); schedule of arXiv 1710.01878"
    rule: ClassVar[str] = "one global k-th |w|; every layer keeps at least min_fraction of all parameters"

    def prune(self, run: Sparsifier, share: float) -> None:
        run.prune(share, distribution="global")
