"""Progressive gradient flow: pruned weights fade out, or the pattern tightens rung by rung; gradients stay dense."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from gossamer._errors import RecipeError
from gossamer.sparsify import schedules
from gossamer.sparsify.patterns import NM
from gossamer.sparsify.training.method import Method

if TYPE_CHECKING:
    from gossamer.sparsify.training.sparsifier import Sparsifier

_RATES = {"linear": 1.0, "exponential": 10.0}


def ladder(n: int, m: int) -> tuple[int, ...]:
    """Weights kept of every ``m``, rung by rung: ``m - 1``, then halves of ``m``, at last ``n``; for 1:16 these are
    15, 8, 4, 2, 1."""
    halves = [m >> i for i in range(1, m.bit_length()) if n < m >> i < m - 1]
    return tuple(dict.fromkeys((m - 1, *halves, n)))


class ProgressiveFlow(Method):
    """The forward pass sees ``W (m + (1 - m) beta_t)``; the stored ``W`` gets the dense gradient at every place.

    ``decay`` says how: ``linear``, ``beta = max(0, 1 - a t)``; ``exponential``, ``beta = exp(-a t)``; ``ladder``, beta
    is 0 and the mask takes 15:16, 8:16, 4:16, ... down to the recipe's n:m, each for an equal slot. t runs from 0 to 1
    between ``begin`` (until then the network is dense) and ``end`` (from there the mask is the final pattern and
    binary). Masks keep the largest magnitudes of the stored weights and are chosen anew after every optimiser step.

    Source: Bambhaniya et al., "Progressive gradient flow for robust N:M sparsity training in transformers" (arXiv
    2402.04744), MdGf-linear, MdGf-exponential and SdGf-stepwise, and the authors' code. There t counts steps and a
    is set by hand (1e-4 a step for ViT); here it is the share of the window, so that the defaults (1 for linear, 10 for
    exponential; ours) do not depend on the length of the run. Exponential is the default, over the first 80% of the
    run, with masks chosen anew in every step; the window is ours. The ladder takes n:m patterns only; fading takes
    blocks, too (ours).
    """

    name: ClassVar[str] = "progressive-flow"
    title: ClassVar[str] = "pruned weights fade out, or n:m tightens rung by rung, under dense gradients"
    source: ClassVar[str] = "Bambhaniya et al., arXiv 2402.04744, MdGf and SdGf"
    rule: ClassVar[str] = "W (m + (1 - m) beta), beta = max(0, 1 - a t) or exp(-a t); or 15:16 -> 8:16 -> ... -> n:m"
    patterns: ClassVar[tuple[str, ...]] = ("n:m", "blocks")
    straight_through: ClassVar[bool] = True
    leaking: ClassVar[bool] = True

    decay: Literal["linear", "exponential", "ladder"] = Field(
        default="exponential", description="how the mask closes: linear, exponential, or a ladder of n:m patterns"
    )
    rate: float | None = Field(
        default=None, gt=0.0, description="a, over the window from begin to end; absent: 1 (linear) or 10 (exponential)"
    )
    begin: float = Field(default=0.0, ge=0.0, lt=1.0, description="dense until this share of all steps")
    end: float = Field(default=0.8, gt=0.0, le=1.0, description="final, binary masks from this share of all steps")
    every: int = Field(default=1, ge=1, description="steps between two choices of the masks; 1 in the source")

    @model_validator(mode="after")
    def _possible(self) -> ProgressiveFlow:
        if self.end <= self.begin:
            raise ValueError("the window must end after it begins")
        if self.decay == "ladder" and self.rate is not None:
            raise ValueError("a ladder has equal slots and no rate")
        return self

    def leak(self, progress: float) -> float:
        """beta after ``progress`` (0..1) of the run."""
        if progress < self.begin:
            return 1.0
        if progress >= self.end or self.decay == "ladder":
            return 0.0
        t = schedules.window(progress, self.begin, self.end)
        rate = self.rate or _RATES[self.decay]
        return schedules.linear_decay(t, rate) if self.decay == "linear" else schedules.exponential_decay(t, rate)

    def kept(self, progress: float, n: int, m: int) -> int:
        """Weights that the ladder to n:m keeps of every m after ``progress`` (0..1) of the run."""
        rungs = ladder(n, m)
        slot = int(schedules.window(progress, self.begin, self.end) * len(rungs) + 1e-9)
        return rungs[min(slot, len(rungs) - 1)]

    def start(self, run: Sparsifier) -> None:
        for layer in run.layers:
            if self.decay == "ladder" and not isinstance(layer.pattern, NM):
                raise RecipeError(
                    f"a ladder ends in an n:m pattern, not in {layer.pattern.name}",
                    where=layer.name,
                    hint="give an n:m pattern, or let pruned weights fade: decay linear or exponential",
                )
        self._choose(run)

    def update(self, run: Sparsifier) -> None:
        self._choose(run, masks=run.step_number % self.every == 0)

    def finish(self, run: Sparsifier) -> None:
        run.memory["settled"] = True
        self._choose(run)

    def _choose(self, run: Sparsifier, *, masks: bool = True) -> None:
        progress = 1.0 if run.memory.get("settled") else run.progress
        leak = self.leak(progress)
        for layer in run.layers:
            layer.masked.leak.fill_(leak)
        if not masks:
            return
        if self.decay != "ladder":
            run.prune()
            return
        for layer in run.layers:
            assert isinstance(layer.pattern, NM)
            n, m = layer.pattern.n, layer.pattern.m
            rung = NM(self.kept(progress, n, m), m)
            scores = layer.matrix()
            layer.set_mask(rung.project(scores, columns=layer.columns, scores=scores))
