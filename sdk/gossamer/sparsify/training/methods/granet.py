"""GraNet: gradual global pruning, and after every pruning the network regenerates by gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from gossamer.sparsify import schedules
from gossamer.sparsify.training.method import Method

if TYPE_CHECKING:
    from gossamer.sparsify.training.sparsifier import Sparsifier


class GraNet(Method):
    """Every ``every`` steps two things happen. First, between ``begin`` and ``end``, kept weights are pruned by one
    global magnitude up to ``s_t = s_f + (s_i - s_f)(1 - t/T)^3``. Then each layer drops the smallest of what it keeps,
    a share that falls along a cosine over the whole run from ``drop`` to ``least_drop``, and grows as many by the
    largest gradient of the dense weight. New weights and their moments start at zero.

    What is pruned comes back by regrowth only. Units are weights or the pattern's blocks, judged by the mean magnitude
    in the block; the number dropped is rounded up, as in the authors' code. With ``initial`` above 0 training starts on
    a random mask with Erdos-Renyi-Kernel densities (sparse to sparse). Regrowth goes on after pruning has ended, but
    not at the very last step, after which nothing trains.

    Source: Liu et al., "Sparse Training via Boosting Pruning Plasticity with Neuroregeneration" (arXiv 2106.10404),
    section 4, and its code. Defaults: dense at the start (the code's ImageNet runs begin at 0 and at 0.5), drop 50% to
    0.5%. The code prunes from the first epoch to the 110th of 160, every 1000 of some 60,000 steps (CIFAR), or to the
    30th of 100, every 4000 of a million (ImageNet); runs here are of any length, so the interval is by default the
    CIFAR one as a share, a sixtieth of the run. The code has no minimum for a layer; here ``min_fraction`` of the
    target holds.
    """

    name: ClassVar[str] = "granet"
    title: ClassVar[str] = "gradual global pruning with regrowth by gradient"
    source: ClassVar[str] = "Liu et al., arXiv 2106.10404, section 4, and its code"
    rule: ClassVar[str] = (
        "every `every` steps: global prune to s_t (cubic), then drop a share (cosine .5 to .005), regrow by |dL/dw|"
    )
    patterns: ClassVar[tuple[str, ...]] = ("blocks",)
    dense_gradient: ClassVar[bool] = True

    initial: float = Field(default=0.0, ge=0.0, lt=1.0, description="s_i, sparsity at the start; below the final one")
    begin: float = Field(default=0.0, ge=0.0, lt=1.0, description="start of pruning as a share of all steps")
    end: float = Field(default=0.6875, gt=0.0, le=1.0, description="end of pruning as a share of all steps")
    every: int | None = Field(default=None, ge=1, description="steps between two moves; none: a sixtieth of the run")
    drop: float = Field(default=0.5, ge=0.0, lt=1.0, description="share of the kept units that regenerates at first")
    least_drop: float = Field(default=0.005, ge=0.0, lt=1.0, description="the same at the end of the run")
    distribution: Literal["global", "uniform"] = Field(
        default="global", description="one magnitude for all layers, or each layer alone; whatever the target says"
    )

    @model_validator(mode="after")
    def _ordered(self) -> GraNet:
        if self.end <= self.begin:
            raise ValueError("pruning must end after it begins")
        if self.least_drop > self.drop:
            raise ValueError("least_drop is at most drop")
        return self

    def interval(self, total_steps: int) -> int:
        """Steps between two moves in a run of ``total_steps``."""
        return self.every or max(1, total_steps // 60)

    def sparsity(self, progress: float, final: float) -> float:
        """``s_t`` after ``progress`` (0..1) of the run, for a final sparsity."""
        return schedules.cubic(schedules.window(progress, self.begin, self.end), self.initial, final)

    def fraction(self, progress: float) -> float:
        """The share of kept units that regenerates after ``progress`` (0..1) of the run."""
        return schedules.cosine(progress, self.drop, self.least_drop)

    def start(self, run: Sparsifier) -> None:
        from gossamer._errors import RecipeError
        from gossamer.sparsify.training.initial import random_masks
        from gossamer.sparsify.training.regrow import need_gradients, need_optimizer

        need_optimizer(run)
        need_gradients(run)
        final = run.target.wanted
        if self.initial > 0.0 and self.initial >= final:
            raise RecipeError(
                f"method 'granet' starts at a sparsity of {self.initial:g} and cannot fall to {final:g}",
                hint="lower its option `initial`",
                field="options.initial",
            )
        run.memory["share"] = self.initial / final if self.initial else 0.0
        if self.initial:
            random_masks(run, "erk", run.memory["share"])

    def update(self, run: Sparsifier) -> None:
        move = run.step_number % self.interval(run.total_steps) == 0
        last, due = run.memory["share"], self._share(run)
        if due > last and (move or due >= 1.0):
            run.prune(due, only_kept=True, distribution=self.distribution)
            run.memory["share"] = due
        if move and run.progress < 1.0:
            self._regenerate(run)

    def finish(self, run: Sparsifier) -> None:
        if run.memory["share"] < 1.0:
            run.prune(1.0, only_kept=True, distribution=self.distribution)
            run.memory["share"] = 1.0

    def _share(self, run: Sparsifier) -> float:
        final = run.target.wanted
        return self.sparsity(run.progress, final) / final if final else 1.0

    def _regenerate(self, run: Sparsifier) -> None:
        from gossamer.sparsify.training.regrow import by_gradient, drop_and_grow, kept_weights

        fraction = self.fraction(run.progress)
        for layer, kept in zip(run.layers, kept_weights(run), strict=True):
            drop_and_grow(run, layer, fraction, by_gradient(layer), kept, round_up=True)
