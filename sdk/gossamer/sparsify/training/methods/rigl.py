"""RigL: the smallest weights make room for the connections with the largest gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from gossamer.sparsify import schedules
from gossamer.sparsify.training.method import Method

if TYPE_CHECKING:
    from gossamer.sparsify.training.sparsifier import Sparsifier


class RigL(Method):
    """Training starts on a random mask of the final sparsity; every ``every`` steps, until ``end`` of the run, each
    layer drops a share ``f_t = alpha/2 (1 + cos(pi t / T_end))`` of its units, those of smallest magnitude, and grows
    as many: those with the largest gradient of the dense weight. New weights and their moments start at zero.

    Units are weights or the pattern's blocks, judged by the mean magnitude in the block; the number dropped is rounded
    down. Units dropped a moment ago may be grown again and keep their weights, as in the authors' code. The gradient is
    the one of this step, summed where several backward passes are accumulated. Each layer keeps its number of weights.

    Source: Evci et al., "Rigging the Lottery" (arXiv 1911.11134), section 3, algorithm 1. Defaults as there: ERK
    densities, alpha 0.3, every 100 steps, until three quarters of the run.
    """

    name: ClassVar[str] = "rigl"
    title: ClassVar[str] = "drop the smallest weights, grow by the largest gradients"
    source: ClassVar[str] = "Evci et al., arXiv 1911.11134, section 3"
    rule: ClassVar[str] = (
        "every `every` steps: drop f_t smallest |w|, grow as many by |dL/dw|; f_t cosine from alpha to 0"
    )
    patterns: ClassVar[tuple[str, ...]] = ("blocks",)
    dense_gradient: ClassVar[bool] = True

    alpha: float = Field(default=0.3, gt=0.0, lt=1.0, description="share of the kept units that moves at first")
    every: int = Field(default=100, ge=1, description="steps between two moves")
    end: float = Field(default=0.75, gt=0.0, le=1.0, description="no moves after this share of all steps")
    distribution: Literal["erk", "uniform"] = Field(
        default="erk", description="layer densities: erk (Erdos-Renyi-Kernel), or uniform; whatever the target says"
    )

    def fraction(self, progress: float) -> float:
        """The share of units that moves after ``progress`` (0..1) of the run."""
        return schedules.cosine(progress / self.end, self.alpha, 0.0)

    def start(self, run: Sparsifier) -> None:
        from gossamer.sparsify.training.initial import random_masks
        from gossamer.sparsify.training.regrow import kept_weights, need_gradients, need_optimizer

        need_optimizer(run)
        need_gradients(run)
        random_masks(run, self.distribution)
        run.memory["kept"] = kept_weights(run)

    def update(self, run: Sparsifier) -> None:
        if run.step_number % self.every or run.progress >= self.end:
            return
        from gossamer.sparsify.training.regrow import by_gradient, drop_and_grow

        fraction = self.fraction(run.progress)
        for layer, kept in zip(run.layers, run.memory["kept"], strict=True):
            drop_and_grow(run, layer, fraction, by_gradient(layer), kept)
