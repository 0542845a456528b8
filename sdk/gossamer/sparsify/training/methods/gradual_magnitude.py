"""Gradual magnitude pruning: sparsity rises along a cubic while the network trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from gossamer.sparsify import schedules
from gossamer.sparsify.training.method import Method

if TYPE_CHECKING:
    from gossamer.sparsify.training.sparsifier import Sparsifier


class GradualMagnitude(Method):
    """At step t the smallest magnitudes are masked up to ``s_t = s_f + (s_i - s_f)(1 - t/T)^3`` of the weights.

    Masks are chosen anew every ``every`` steps between ``begin`` and ``end``, layer by layer or over the network as the
    recipe's distribution says; after that the weights that are left have the rest of the run to recover. A masked
    weight keeps its value and gets no gradient.

    Source: Zhu and Gupta, "To prune, or not to prune" (arXiv 1710.01878), section 3. Defaults: from s_i = 0, over the
    first 60% of the run, refreshed every 32 steps; the last two are ours.
    """

    name: ClassVar[str] = "gradual-magnitude"
    title: ClassVar[str] = "sparsity rises along a cubic, smallest magnitudes first"
    source: ClassVar[str] = "Zhu and Gupta, arXiv 1710.01878, section 3"
    rule: ClassVar[str] = "s_t = s_f + (s_i - s_f)(1 - t/T)^3, masks refreshed every `every` steps"
    patterns: ClassVar[tuple[str, ...]] = ("blocks",)

    initial: float = Field(default=0.0, ge=0.0, lt=1.0, description="s_i as a share of the final sparsity")
    begin: float = Field(default=0.0, ge=0.0, lt=1.0, description="start of the ramp as a share of all steps")
    end: float = Field(default=0.6, gt=0.0, le=1.0, description="end of the ramp as a share of all steps")
    every: int = Field(default=32, ge=1, description="steps between two refreshes of the masks")

    @model_validator(mode="after")
    def _ordered(self) -> GradualMagnitude:
        if self.end <= self.begin:
            raise ValueError("the ramp must end after it begins")
        return self

    def share(self, progress: float) -> float:
        """How much of the final sparsity is due after ``progress`` (0..1) of the run."""
        if progress < self.begin:
            return 0.0
        return schedules.cubic(schedules.window(progress, self.begin, self.end), self.initial, 1.0)

    def update(self, run: Sparsifier) -> None:
        last = run.memory.get("share", 0.0)
        due = self.share(run.progress)
        refresh = run.step_number % self.every == 0 or (due >= 1.0 and last < 1.0)
        if refresh and due > last:
            self.prune(run, due)
            run.memory["share"] = due

    def finish(self, run: Sparsifier) -> None:
        if run.memory.get("share", 0.0) < 1.0:
            self.prune(run, 1.0)
            run.memory["share"] = 1.0

    def prune(self, run: Sparsifier, share: float) -> None:
        """Choose the masks for ``share`` of the final sparsity."""
        run.prune(share)
