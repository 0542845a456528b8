"""The stages of a search, each on what those before it found."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gossamer._optimize import OptimizeResult, Progress, optimize
from gossamer.search import evaluate, timing
from gossamer.search.decide import Judge, Metric, decisions
from gossamer.search.front import Point, front, spaced
from gossamer.search.result import Goal, SearchResult, Trial
from gossamer.search.sensitivity import Sensitivity, sensitivities
from gossamer.search.trials import Walk

if TYPE_CHECKING:
    from gossamer.recipe import Recipe
    from gossamer.search.bench import Bench
    from gossamer.search.examples import Examples
    from gossamer.search.latency import LayerCost

DENSE = "dense"
"""Name of the bundle of the model as given, with every layer stored and run dense."""
STEPS = 64
"""Points of the front that trials choose from."""


@dataclass
class Clock:
    """Times of stages, and the progress that a caller sees."""

    progress: Progress | None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """Runs a stage; gives a function to call with (done, total) inside it."""
        started = time.perf_counter()
        self.say(name, 0, 1)
        yield lambda done, total: self.say(name, done, total)
        self.seconds[name] = time.perf_counter() - started
        self.say(name, 1, 1)

    def say(self, name: str, done: int, total: int) -> None:
        """Tells the caller."""
        if self.progress:
            self.progress(name, done, total)


@dataclass
class Search:
    """A model on the bench with the examples that it is judged by.

    Attributes:
        model: as given to :func:`gossamer.optimize`, with ``options`` for it and ``samples`` for calibration.
        training: ``train_data``, ``train_split`` and ``checkpoint`` of :func:`gossamer.optimize`.
        judge: accuracy on ``examples``.
        bundles: what was built, by trial name.
    """

    model: Any
    bench: Bench
    goal: Goal
    examples: Examples
    judge: Judge
    samples: Any
    options: dict[str, Any]
    training: dict[str, Any]
    clock: Clock
    bundles: dict[str, OptimizeResult] = field(default_factory=dict)

    def build(self, name: str, recipe: Recipe, sparsities: dict[str, float], point: Point | None) -> Trial:
        """One bundle, its accuracy on all examples, and its latency beside the dense one's."""
        from gossamer_runtime import Session

        training = self._training(recipe)
        made = optimize(self.model, recipe, self.samples, key=False, **self.options, **training)
        self.bundles[name] = made
        with Session(made.data, verify=False, allow_unverified_code=True, threads=recipe.target.threads) as session:
            found = evaluate.of_bundle(session, self.examples, self.bench.output)
        loss = self.judge.loss(decisions(found, self.bench.output))
        us = timing.latencies({n: self.bundles[n].data for n in (DENSE, name)}, recipe.target)[name]
        return Trial(
            name,
            sparsities,
            None if point is None else point.us,
            None if point is None else point.loss,
            loss.accuracy,
            loss.drop,
            loss.interval,
            us,
            made.bundle_bytes,
            made.sparsity_percent,
            self.goal.meets(loss.drop, us),
        )

    def _training(self, recipe: Recipe) -> dict[str, Any]:
        """The options of a bundle's training; each recipe has checkpoints of its own below the folder."""
        from gossamer.recipe import canonical

        if recipe.train is None:
            return {}
        folder = self.training.get("checkpoint")
        if folder is None:
            return self.training
        own = hashlib.sha256(canonical(recipe).encode()).hexdigest()[:16]
        return {**self.training, "checkpoint": Path(folder) / own}

    def dense(self) -> Trial:
        """The model as given: nothing pruned, nothing trained, every layer stored and run dense."""
        recipe = self.bench.recipe
        target = recipe.target.model_copy(update={"kernels": "dense"})
        return self.build(
            DENSE, recipe.model_copy(update={"sparsify": None, "train": None, "target": target}), {}, None
        )

    def sensitivities(
        self, costs: Sequence[LayerCost], subset: int, within: Callable[[int, int], None]
    ) -> list[Sensitivity]:
        """Of the layers and sparsities that are faster than dense: no other could be chosen."""
        part = self.examples.subset(subset)
        places = {id(entry): i for i, entry in enumerate(self.examples.entries)}
        at = np.array([places[id(entry)] for entry in part.entries])
        labels = None if self.judge.labels is None else self.judge.labels[at]
        judge = Judge(labels, self.judge.original[at], self.judge.metric)
        wanted = {cost.name: sorted(cost.sparse_us) for cost in costs if cost.sparse_us}
        return sensitivities(self.bench, wanted, part, judge, within)

    def walk(self, costs: Sequence[LayerCost], known: Sequence[Sensitivity], most: int) -> Walk:
        """The trials to come, along the front of what is known about the layers."""
        shares: list[list[float | None]] = []
        options: list[list[tuple[float, float]]] = []
        losses = {(s.name, s.sparsity): s.divergence for s in known}
        for cost in costs:
            shares.append([None, *sorted(cost.sparse_us)])
            found = [(cost.sparse_us[s], losses[cost.name, s]) for s in sorted(cost.sparse_us)]
            options.append([(cost.dense_us or 0.0, 0.0), *found])
        points = front(options)
        if len(points) > STEPS:
            points = [points[i] for i in spaced(np.array([p.us for p in points]), STEPS)]

        def measure(point: Point, name: str) -> Trial:
            picked = {
                cost.name: share
                for cost, layer, i in zip(costs, shares, point.choice, strict=True)
                if (share := layer[i]) is not None
            }
            trial = self.build(name, self.bench.recipe_for(picked), picked, point)
            self.clock.say("trials", len(walk.found) + 1, max(walk.expected, len(walk.found) + 1))
            return trial

        walk = Walk(points, self.goal, measure, most)
        return walk

    def compare(self, dense: Trial, walk: Walk, within: Callable[[int, int], None]) -> Trial:
        """Times all bundles in turns and judges them by that; returns the dense one's record."""
        names = [DENSE, *(t.name for t in walk.found.values())]
        us = timing.latencies({n: self.bundles[n].data for n in names}, self.bench.recipe.target, within)
        walk.retime(lambda trials: [us[t.name] for t in trials])
        return replace(dense, latency_us=us[DENSE], meets=self.goal.meets(dense.drop, us[DENSE]))

    def result(
        self, dense: Trial, walk: Walk, costs: Sequence[LayerCost], known: Sequence[Sensitivity]
    ) -> SearchResult:
        """All that was found; the best trial is marked."""
        best = walk.best()
        trials = sorted(walk.found.values(), key=lambda t: -t.latency_us)
        if best is not None:
            trials = [replace(t, chosen=t.name == best.name) for t in trials]
        truth = self.judge.original if self.judge.labels is None else self.judge.labels
        return SearchResult(
            bundle=None,
            goal=self.goal,
            metric=self.judge.name,
            baseline=self.judge.loss(truth).baseline,
            examples=self.examples.told(),
            samples=len(self.examples),
            trials=[dense, *trials],
            costs=list(costs),
            sensitivities=list(known),
            dense_layers=dict(self.bench.dense),
            machine=timing.machine(self.bench.recipe.target),
            seconds=self.clock.seconds,
            notes=self._notes(dense, best, costs),
        )

    def _notes(self, dense: Trial, best: Trial | None, costs: Sequence[LayerCost]) -> list[str]:
        notes = []
        if self.judge.labels is None:
            notes.append("the examples have no labels: the agreement with the original's decisions stands for accuracy")
        if best is not None and best.latency_us >= dense.latency_us:
            slow = [c for c in costs if not c.sparse_us]
            if len(slow) == len(costs):
                notes.append(
                    f"no faster than dense: none of {len(costs)} layers is, such as {slow[0].name}: {slow[0].reason}"
                )
            else:
                notes.append("no faster than dense: what may be pruned within the goal saves less than times differ")
        if best is not None:
            notes += self._doubt(best)
        return notes

    def _doubt(self, best: Trial) -> list[str]:
        """Says where the examples are too few for the choice: what measured well on them was also taken for that."""
        told = f"{len(self.examples)} examples tell the drop to +-{best.interval:.4f}"
        most, end = self.goal.max_drop, best.drop + best.interval
        if most is not None and end > most:
            doubt = f": it may be {end:.4f}, more than asked"
        elif most is None and best.interval > abs(best.drop):
            doubt = " only"
        else:
            return []
        return [f"{told}{doubt}; judge it on more than these, which also chose it"]


def judge_of(
    model: Any,
    bench: Bench,
    examples: Examples,
    metric: Metric,
    within: Callable[[int, int], None],
    **reference: Any,
) -> Judge:
    """The judge of a set of examples: their labels, and what the original decides on them."""
    found = evaluate.of_original(model, examples, bench.inputs, bench.output, progress=within, **reference)
    return Judge(examples.labels, decisions(found, bench.output), metric)
