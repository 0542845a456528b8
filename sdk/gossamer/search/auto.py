"""``gossamer.optimize_auto``: the sparsity of every layer chosen so that a bundle keeps within a goal, as measured."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gossamer._errors import InputError, RecipeError
from gossamer._optimize import Progress, _check_output, _private
from gossamer.finetune.stage import check as check_training
from gossamer.search import finish
from gossamer.search.bench import open_bench
from gossamer.search.decide import METRICS, Metric, classes_of
from gossamer.search.latency import check_target, layer_costs
from gossamer.search.read import read_examples
from gossamer.search.result import ConstraintError, Goal, SearchResult, Trial
from gossamer.search.steps import Clock, Search, judge_of

STAGES = ("load", "examples", "original", "times", "sensitivity", "trials", "compare", "sign")
"""Stages of a search in their order, for a progress bar."""
SPARSITIES = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Sparsities tried on each layer."""
SUBSET = 256
"""Examples that sensitivities are measured on."""
MOST_TRIALS = 16
MOST_TRAINED = 6
"""Trials at most, and where each of them is a training run."""


def optimize_auto(
    model: Any,
    recipe: Any = "1x4-75-int8",
    calibration: Any = None,
    output: str | os.PathLike[str] | None = None,
    *,
    eval_data: Any,
    max_accuracy_drop: float | None = None,
    latency_ms: float | None = None,
    eval_split: str | None = None,
    metric: Metric = "balanced_accuracy",
    sparsities: Sequence[float] = SPARSITIES,
    subset: int = SUBSET,
    most_trials: int | None = None,
    key: str | os.PathLike[str] | bool | None = None,
    name: str | None = None,
    version: str = "",
    license: str = "",
    labels: Sequence[str] | None = None,
    preprocess: Any = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    example_inputs: Any = None,
    train_data: Any = None,
    train_split: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """Choose how sparse each layer becomes, by what pruning it does to the outputs and by what it saves here.

    The recipe says the pattern and which layers may be pruned; its sparsities are not used. Each layer is timed at each
    of ``sparsities`` (cost table) and, where a sparse form is faster, pruned alone to see what that does to the
    outputs. From these a solver makes the front of sets that none beats; bundles along it are built as
    ``gossamer.optimize`` builds them (fine-tuned where the recipe has a ``train`` step) and measured until the goal's
    boundary is found. What is promised is what was measured on ``eval_data``: with few examples mind the interval, and
    judge the result on data that the search did not see.

    Args:
        model, recipe, calibration, output, key, name, version, license, labels, preprocess, input_shapes,
        example_inputs: as for :func:`gossamer.optimize`.
        eval_data: what accuracy is measured on; see :func:`gossamer.search.read.read_examples`. Without labels the
            agreement with the original's decisions stands for accuracy.
        max_accuracy_drop: the accuracy of the original minus that of the bundle, 0..1, may be this; the fastest such
            bundle is made. The quantisation's part counts.
        latency_ms: one inference may take this, milliseconds; the bundle that loses least is made. Give one of the two.
        eval_split: of a CSV with a column ``split``.
        metric: ``balanced_accuracy``, the mean over classes of the accuracy on each: equal to ``accuracy`` where
            classes have equally many examples; else a bundle that always says the largest class would look good there.
        sparsities: to try on each layer, each in (0, 1); n:m patterns have their own.
        subset: examples that sensitivities are measured on.
        most_trials: bundles built at most; by default 16, or 6 where each is trained.
        progress: called as stages (``gossamer.search.auto.STAGES``) start, advance and end.
        train_data, train_split: as for :func:`gossamer.optimize`; every bundle tried is trained.
        checkpoint: folder; each of these trainings has a folder below it.

    Returns:
        The chosen bundle, all trials, and what is known about each layer.

    Raises:
        ConstraintError: no bundle meets the goal; it has the trials. Nothing is written.
        RecipeError: no ``sparsify`` step, or the recipe turns measuring off.
        InputError: the goal or the examples are wrong, or the model is no classifier.
        CompileError: the target is another machine than this one.
        and those of :func:`gossamer.optimize`.
    """
    from gossamer.recipe import load_recipe, placed

    goal = _goal(max_accuracy_drop, latency_ms)
    _check(sparsities, subset, metric, most_trials)
    loaded = load_recipe(recipe)
    with placed(recipe):
        if loaded.sparsify is None:
            raise RecipeError(
                "automatic sparsity needs a recipe with a sparsify step",
                hint="its pattern and the layers that it names count, its sparsity is found: try 1x4-75-int8",
            )
        check_target(loaded.target)
    _check_output(model, output)
    private = _private(key)
    options: dict[str, Any] = {
        "name": name, "version": version, "license": license, "labels": labels, "preprocess": preprocess,
        "input_shapes": input_shapes, "example_inputs": example_inputs,
    }  # fmt: skip
    training = {"train_data": train_data, "train_split": train_split, "checkpoint": checkpoint}
    check_training(loaded, train_data, checkpoint)
    clock = Clock(progress)
    with clock.stage("load"), placed(recipe):
        bench, samples = open_bench(model, loaded, calibration, **options)
    with clock.stage("examples") as within:
        examples = read_examples(eval_data, bench.inputs, classes_of(bench.output), split=eval_split).prepare(within)
    with clock.stage("original") as within:
        shapes = {p.name: tuple(p.shape) for p in bench.inputs}
        judge = judge_of(model, bench, examples, metric, within, example_inputs=example_inputs, shapes=shapes)
        search = Search(model, bench, goal, examples, judge, samples, options, training, clock)
        dense = search.dense()
    with clock.stage("times") as within:
        costs = layer_costs(bench, sparsities, progress=within)
    with clock.stage("sensitivity") as within:
        known = search.sensitivities(costs, subset, within)
    with clock.stage("trials"):
        trained = loaded.train is not None
        walk = search.walk(costs, known, most_trials or (MOST_TRAINED if trained else MOST_TRIALS))
        walk.run()
    with clock.stage("compare") as within:
        dense = search.compare(dense, walk, within)
    result = search.result(dense, walk, costs, known)
    best = walk.best()
    if best is None:
        raise _missed(result, walk.nearest())
    with clock.stage("sign"):
        made = finish.finish(search.bundles[best.name], result, judge, examples, private, output)
    return replace(result, bundle=made)


def _goal(max_drop: float | None, latency_ms: float | None) -> Goal:
    if (max_drop is None) == (latency_ms is None):
        raise InputError(
            "give either a largest drop of accuracy or a latency", hint="max_accuracy_drop=0.01, or latency_ms=0.5"
        )
    if max_drop is not None and not 0.0 <= max_drop < 1.0:
        raise InputError(f"an accuracy drop is at least 0 and below 1, not {max_drop:g}", hint="0.01 is one point")
    if latency_ms is not None and not 0.0 < latency_ms < float("inf"):
        raise InputError(f"a latency is above 0 ms, not {latency_ms:g}", hint="in milliseconds, such as 0.5")
    return Goal(max_drop, None if latency_ms is None else latency_ms * 1e3)


def _check(sparsities: Sequence[float], subset: int, metric: str, most_trials: int | None) -> None:
    wrong = [s for s in sparsities if not 0.0 < s < 1.0]
    if wrong or not sparsities:
        raise InputError(f"sparsities to try lie between 0 and 1, not {wrong or 'none'}", hint="such as 0.5, 0.75, 0.9")
    if subset < 1 or (most_trials is not None and most_trials < 2):
        raise InputError(
            "a search takes at least 1 example and 2 trials", where=f"subset {subset}, trials {most_trials}"
        )
    if metric not in METRICS:
        raise InputError(f"no metric {metric!r}", hint=f"one of {', '.join(METRICS)}")


def _missed(result: SearchResult, nearest: Trial) -> ConstraintError:
    found = f"drop {nearest.drop:.4f} (+-{nearest.interval:.4f}), {nearest.latency_us:.1f} us"
    if result.goal.max_drop is not None:
        hint = f"allow a drop of {nearest.drop:.4f}"
        if nearest.drop > 0 and not nearest.sparsities:
            hint += "; with nothing pruned it is the quantisation that loses: calibrate with more typical samples"
        else:
            hint += ", exclude the first layers, or fine-tune (a recipe with `train`, --train-data)"
    else:
        hint = f"allow {nearest.latency_us / 1e3:.4f} ms, another pattern, or more threads"
    return ConstraintError(
        f"none of {len(result.trials) - 1} bundles tried has an {result.goal.told()}"
        if result.goal.max_drop is not None
        else f"none of {len(result.trials) - 1} bundles tried has a {result.goal.told()}",
        result,
        where=f"the best found: {found}",
        hint=hint,
    )
