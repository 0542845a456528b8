"""What a training method is: frozen settings, a source, and the rule that moves the masks.

A method holds no state of its own: masks live in the layers, the rest in ``Sparsifier.memory``, so that a run can be
saved and resumed. Modules of methods import torch inside functions only: their settings are listed without it.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor

    from gossamer.sparsify.training.sparsifier import Sparsifier


class Method(BaseModel):
    """One way to become sparse while training; a subclass a file.

    Class attributes:
        name: what recipes and the command line call it, words joined by ``-``.
        title: one line.
        source: paper or code, and the section.
        rule: the rule as one formula or sentence.
        patterns: kinds of patterns that it takes: ``blocks`` (unstructured, 1x4, 4x1, 4x4) and ``n:m``.
        dense_gradient: the layers pass gradients to pruned weights: ``SparseLayer.gradient`` keeps them, the optimiser
            gets masked ones.
        straight_through: the optimiser itself gets the dense gradient, so that pruned weights go on moving.
        penalised: the method adds to the loss; a run that never asks for :meth:`Sparsifier.penalty` is an error.
        leaking: pruned weights are multiplied with ``layer.masked.leak`` instead of 0.
        two_way: gradients reach the inputs of layers through ``layer.masked.backward_mask``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    rule: ClassVar[str]
    patterns: ClassVar[tuple[str, ...]] = ("blocks", "n:m")
    dense_gradient: ClassVar[bool] = False
    straight_through: ClassVar[bool] = False
    penalised: ClassVar[bool] = False
    leaking: ClassVar[bool] = False
    two_way: ClassVar[bool] = False

    def start(self, run: Sparsifier) -> None:
        """Called once, when the layers have masks of ones; not when a run is resumed."""

    @abstractmethod
    def update(self, run: Sparsifier) -> None:
        """Called after every optimiser step; ``run.step_number`` counts them from 1."""

    def penalty(self, run: Sparsifier) -> Tensor | None:
        """A scalar to add to the loss, or None."""
        return None

    def finish(self, run: Sparsifier) -> None:
        """Called before the masks become plain zeros, maybe more than once, and maybe with updates to follow."""

    def settings(self) -> dict[str, Any]:
        """Name and settings as plain values: what a saved run is compared with."""
        return {"method": self.name, **self.model_dump(mode="json")}
