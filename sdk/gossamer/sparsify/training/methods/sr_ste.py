"""SR-STE: sparse from the first step, masks chosen anew in every step, dense gradients straight through the mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from gossamer.sparsify.training.method import Method

if TYPE_CHECKING:
    from torch import Tensor

    from gossamer.sparsify.training.sparsifier import Sparsifier


class SparseRefinedSTE(Method):
    """The forward pass sees ``m W``; the stored ``W`` moves by ``g + decay (1 - m) W``, g the gradient of ``m W``.

    The mask keeps the largest magnitudes of the stored weights (n of every m, or as many blocks as the sparsity asks
    for) and follows them: it is chosen anew after every optimiser step. The gradient reaches pruned weights too; the
    refinement pulls these towards zero, so that masks settle instead of flickering. It enters as
    :meth:`Sparsifier.penalty`, ``decay / 2 * sum (1 - m) W^2``, whose gradient it is: so it stays in proportion when a
    loss is scaled (AMP). ``decay`` 0 is the plain straight-through estimator.

    Source: Zhou et al., "Learning N:M fine-grained structured sparse neural networks from scratch" (arXiv 2102.04010);
    by default decay is 2e-4, as in the authors' code, and masks change in every step. Block patterns by the same rule
    are ours.
    """

    name: ClassVar[str] = "sr-ste"
    title: ClassVar[str] = "n:m from the first step, straight-through gradients, pruned weights decay"
    source: ClassVar[str] = "Zhou et al., arXiv 2102.04010"
    rule: ClassVar[str] = "m = top n of m of |W| in every step; W -= lr (g + decay (1 - m) W)"
    patterns: ClassVar[tuple[str, ...]] = ("n:m", "blocks")
    straight_through: ClassVar[bool] = True
    penalised: ClassVar[bool] = True

    decay: float = Field(default=2e-4, ge=0.0, description="lambda: extra weight decay of pruned weights")
    every: int = Field(default=1, ge=1, description="steps between two choices of the masks; 1 in the source")

    def start(self, run: Sparsifier) -> None:
        run.prune()

    def update(self, run: Sparsifier) -> None:
        if run.step_number % self.every == 0:
            run.prune()

    def penalty(self, run: Sparsifier) -> Tensor | None:
        if self.decay == 0.0:
            return None
        pruned = [(layer.weight * ~layer.mask).square().sum() for layer in run.layers]
        return sum(pruned[1:], pruned[0]) * (0.5 * self.decay)

    def finish(self, run: Sparsifier) -> None:
        run.prune()
