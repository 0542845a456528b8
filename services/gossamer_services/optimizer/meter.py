"""Progress of a whole job, in percent, from progress within its stages."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gossamer.recipe import Recipe

_WEIGHTS = {"train": 60.0, "choose": 8.0, "calibrate": 4.0, "quantize": 6.0, "prune": 4.0}
"""About how long stages take beside each other; one that is not listed has 1."""


class Meter:
    """Call it as the progress callback of ``gossamer.optimize``.

    Args:
        stages: that the job goes through, in their order.
        tell: called with (stage, percent); percent never falls, and is below 100 until :meth:`done`.
    """

    def __init__(self, stages: list[str], tell: Callable[[str, float], None]) -> None:
        self._tell, self._percent = tell, 0.0
        total = sum(_WEIGHTS.get(stage, 1.0) for stage in stages)
        self._spans: dict[str, tuple[float, float]] = {}
        at = 0.0
        for stage in stages:
            width = 99.0 * _WEIGHTS.get(stage, 1.0) / total
            self._spans[stage] = (at, width)
            at += width

    def __call__(self, stage: str, done: int, total: int) -> None:
        start, width = self._spans.get(stage, (self._percent, 0.0))
        self._percent = max(self._percent, start + width * min(done / max(total, 1), 1.0))
        self._tell(stage, round(self._percent, 2))


def planned(recipe: Recipe) -> list[str]:
    """The stages of ``gossamer.optimize`` that a recipe goes through."""
    from gossamer._optimize import STAGES

    trains = recipe.train is not None
    left_out = set()
    if trains or recipe.sparsify is None:
        left_out.add("prune")
    if not trains:
        left_out.add("train")
    if recipe.quantize is None:
        left_out |= {"calibrate", "quantize"}
    return [stage for stage in STAGES if stage not in left_out]
