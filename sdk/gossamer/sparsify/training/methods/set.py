"""SET: the smallest weights make room for random ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from gossamer.sparsify.training.method import Method

if TYPE_CHECKING:
    from gossamer.sparsify.training.sparsifier import Sparsifier


class SET(Method):
    """Training starts on a random mask of the final sparsity; every ``every`` steps each layer drops a share ``zeta``
    of its units, those of smallest magnitude, and grows as many at random places. New weights and their moments start
    at zero. Each layer keeps its number of weights.

    Units are weights or the pattern's blocks, judged by the mean magnitude in the block; the number dropped is rounded
    down. The source drops zeta of the positive and of the negative weights nearest zero; a block has no sign, so all
    are judged by magnitude. It rewires after every epoch but the last; a run here has no epochs, so it rewires every
    ``every`` steps that are followed by as many more. It starts new weights at random; here they start at zero, as in
    RigL's version of it (arXiv 1911.11134, section 3), which leaves the function unchanged. A place that was dropped a
    moment ago may be drawn and then keeps its weight.

    Source: Mocanu et al., "Scalable training of artificial neural networks with adaptive sparse connectivity" (arXiv
    1707.04780), algorithm 1. Defaults: zeta 0.3 as there, every 100 steps and layer densities by Erdos-Renyi-Kernel as
    in RigL.
    """

    name: ClassVar[str] = "set"
    title: ClassVar[str] = "drop the smallest weights, grow at random"
    source: ClassVar[str] = "Mocanu et al., arXiv 1707.04780, algorithm 1"
    rule: ClassVar[str] = "every `every` steps: drop the share zeta of smallest |w|, grow as many at random"
    patterns: ClassVar[tuple[str, ...]] = ("blocks",)

    zeta: float = Field(default=0.3, gt=0.0, lt=1.0, description="share of the kept units that moves")
    every: int = Field(default=100, ge=1, description="steps between two moves")
    distribution: Literal["erk", "uniform"] = Field(
        default="erk", description="layer densities: erk (Erdos-Renyi-Kernel), or uniform; whatever the target says"
    )

    def start(self, run: Sparsifier) -> None:
        from gossamer.sparsify.training.initial import random_masks
        from gossamer.sparsify.training.regrow import kept_weights, need_optimizer

        need_optimizer(run)
        random_masks(run, self.distribution)
        run.memory["kept"] = kept_weights(run)

    def update(self, run: Sparsifier) -> None:
        if run.step_number % self.every or run.progress + self.every / run.total_steps > 1.0 + 1e-9:
            return
        from gossamer.sparsify.training.initial import draw
        from gossamer.sparsify.training.regrow import drop_and_grow

        for layer, kept in zip(run.layers, run.memory["kept"], strict=True):
            drop_and_grow(run, layer, self.zeta, draw(run, layer, layer.unit_counts.shape), kept)
