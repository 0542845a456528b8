"""A fixed random mask: the control that every other method has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from gossamer.sparsify.training.method import Method

if TYPE_CHECKING:
    from gossamer.sparsify.training.sparsifier import Sparsifier


class Random(Method):
    """Masks are drawn before the first step and stay: whole blocks, or n of every m inputs, each as likely.

    Each layer's density is proportional to ``sum(dims) / prod(dims)`` of its weight (Erdos-Renyi-Kernel), so that small
    layers stay denser, or the same everywhere. Masks come from the run's own generator: one seed, one set of masks.

    Source: the random control of public pruning benchmarks; layer densities, Evci et al., "Rigging the Lottery" (arXiv
    1911.11134), section 3. Default: ERK.
    """

    name: ClassVar[str] = "random"
    title: ClassVar[str] = "fixed random masks, the control"
    source: ClassVar[str] = "Evci et al., arXiv 1911.11134, section 3 (ERK densities)"
    rule: ClassVar[str] = "mask drawn once, layer density proportional to sum(dims) / prod(dims)"

    distribution: Literal["erk", "uniform"] = Field(
        default="erk", description="layer densities: erk (Erdos-Renyi-Kernel), or uniform; whatever the target says"
    )

    def start(self, run: Sparsifier) -> None:
        from gossamer.sparsify.training.initial import random_masks

        random_masks(run, self.distribution)

    def update(self, run: Sparsifier) -> None:
        """Nothing moves."""
