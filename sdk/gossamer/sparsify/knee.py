"""One-shot sweep and its knee: how far a model can be pruned before accuracy begins to fall fast."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gossamer._errors import InputError

if TYPE_CHECKING:
    import onnx_ir as ir

    from gossamer.recipe import SparsifyStep

TITLE = "one-shot sweep: the essential sparsity is the knee of accuracy over sparsity"
SOURCE = "Jaiswal et al., arXiv 2306.03805: the sharp point beyond which one-shot pruning costs much more"
RULE = (
    "prune one-shot at each sparsity of a grid and measure; with A_i = the best accuracy at sparsity s_i or more, the "
    "knee is the last point before (A_i - A_i+1) / (s_i+1 - s_i) first exceeds `slope`"
)
PATTERNS = ("blocks", "n:m")

GRID: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Sparsities that a sweep visits after the dense model."""


@dataclass(frozen=True)
class Point:
    """One model of a sweep.

    Attributes:
        pattern: of its pruned layers; "dense" for the model as it came.
        sparsity: asked of the pruned layers, 0..1.
        reached: share of zeros over all weights, the dense layers' included.
        accuracy: what ``evaluate`` returned; higher is better.
    """

    pattern: str
    sparsity: float
    reached: float
    accuracy: float


def sweep(
    model: ir.Model,
    step: SparsifyStep,
    evaluate: Callable[[Any], float],
    grid: Sequence[float | str] = GRID,
    *,
    prepare: Callable[[ir.Model], Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Point]:
    """Prunes copies of ``model`` by magnitude, each once, and measures them.

    Args:
        model: not changed.
        step: pattern, distribution and layers; its sparsity is replaced by the grid's.
        evaluate: accuracy, higher is better, of a pruned model (or of what ``prepare`` makes of it).
        grid: sparsities in (0, 1), or patterns n:m such as ``"2:4"``, which bring their own; the dense model is always
            measured first.
        prepare: makes what is measured of a pruned graph: quantises it, or compiles it into a bundle.
        progress: called after every model with (models measured, models in all).

    Returns:
        Points by rising sparsity, the dense model first.

    Raises:
        InputError: an empty grid, or ``evaluate`` returned no finite number.
        RecipeError: a sparsity out of range, or a step that names layers which are not there.
    """
    if not grid:
        raise InputError("the grid of a sweep is empty", where="grid", hint="give sparsities such as (0.5, 0.75, 0.9)")
    from gossamer.sparsify.oneshot import prune

    steps = sorted((_at(step, place) for place in grid), key=lambda s: s.wanted)

    def measured(candidate: ir.Model, where: str) -> float:
        found = float(evaluate(candidate if prepare is None else prepare(candidate)))
        if not math.isfinite(found):
            raise InputError(f"evaluate returned {found}", where=where, hint="it must return a finite number")
        return found

    points = [Point("dense", 0.0, 0.0, measured(model.clone(), "the dense model"))]
    for i, wanted in enumerate(steps):
        if progress is not None:
            progress(i + 1, len(steps) + 1)
        pruned = model.clone()
        report = prune(pruned, wanted)
        accuracy = measured(pruned, f"{wanted.pattern} at {wanted.wanted:g}")
        points.append(Point(wanted.pattern, wanted.wanted, report.sparsity, accuracy))
    if progress is not None:
        progress(len(steps) + 1, len(steps) + 1)
    return points


def knee(points: Sequence[Point], *, slope: float = 0.1, max_drop: float | None = None) -> Point:
    """The sparsest point before accuracy begins to fall faster than ``slope``.

    A dip that a sparser point makes good is noise, not a knee.

    Args:
        points: of a sweep, in any order.
        slope: accuracy lost per unit of sparsity that is still taken; 0.1 is one point in a hundred for every ten
            points of sparsity. The paper draws no line: this default is ours.
        max_drop: also stop where accuracy is this far below the least sparse point's; None: no such bound.

    Raises:
        InputError: no points, two of equal sparsity, or a slope that is not positive.
    """
    if not points:
        raise InputError("a knee needs points", where="points", hint="run sweep first")
    if not slope > 0.0:
        raise InputError(f"the slope must be above 0, not {slope:g}", where="slope")
    ordered = sorted(points, key=lambda p: p.sparsity)
    best = [max(p.accuracy for p in ordered[i:]) for i in range(len(ordered))]
    for i, (here, after) in enumerate(itertools.pairwise(ordered)):
        if after.sparsity == here.sparsity:
            raise InputError(f"two points of sparsity {here.sparsity:g}", where="points", hint="keep one of them")
        fall = best[i] - best[i + 1]
        too_far = max_drop is not None and ordered[0].accuracy - best[i + 1] > max_drop
        if too_far or fall > slope * (after.sparsity - here.sparsity):
            return here
    return ordered[-1]


def essential(
    model: ir.Model,
    step: SparsifyStep,
    evaluate: Callable[[Any], float],
    grid: Sequence[float | str] = GRID,
    *,
    slope: float = 0.1,
    max_drop: float | None = None,
    prepare: Callable[[ir.Model], Any] | None = None,
) -> tuple[SparsifyStep | None, list[Point]]:
    """A sweep, and ``step`` with the sparsity of its knee; None where even the least sparse point lies beyond it.

    Args and errors: see :func:`sweep` and :func:`knee`.
    """
    points = sweep(model, step, evaluate, grid, prepare=prepare)
    found = knee(points, slope=slope, max_drop=max_drop)
    if found.pattern == "dense":
        return None, points
    return _at(step, found.pattern if ":" in found.pattern else found.sparsity), points


def _at(step: SparsifyStep, place: float | str) -> SparsifyStep:
    """The step at another sparsity, or with a pattern n:m."""
    from gossamer.recipe import load_recipe
    from gossamer.recipe.schema import nm_of

    fields = step.model_dump(mode="json", exclude_none=True)
    fields.pop("sparsity", None)
    if isinstance(place, str):
        fields["pattern"] = place
    elif nm_of(step.pattern) is None:
        fields["sparsity"] = float(place)
    else:
        raise InputError(
            f"{step.pattern} brings its own sparsity: {place:g} cannot be asked of it",
            where="grid",
            hint="give patterns such as ('4:8', '2:4', '1:4')",
        )
    recipe = load_recipe({"version": 1, "sparsify": fields})
    assert recipe.sparsify is not None
    if recipe.sparsify.wanted <= 0.0:
        raise InputError("a sweep's sparsities are above 0: the dense model is measured anyway", where="grid")
    return recipe.sparsify
