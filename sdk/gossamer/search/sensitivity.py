"""What pruning one layer alone does to the outputs: divergence and accuracy, run by the native core."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gossamer.search import evaluate
from gossamer.search.decide import Judge, decisions, divergence

if TYPE_CHECKING:
    from gossamer.search.bench import Bench
    from gossamer.search.examples import Examples


@dataclass(frozen=True)
class Sensitivity:
    """One layer at one sparsity, the other layers as they are.

    Attributes:
        name: of the layer in recipes.
        sparsity: of the layer.
        divergence: mean KL(unpruned || pruned) of the class probabilities, nats.
        drop: accuracy lost against the original on the same examples, 0..1 (below 0: gained).
    """

    name: str
    sparsity: float
    divergence: float
    drop: float


def sensitivities(
    bench: Bench,
    wanted: Mapping[str, Sequence[float]],
    examples: Examples,
    judge: Judge,
    progress: Callable[[int, int], None] | None = None,
) -> list[Sensitivity]:
    """One record per layer and sparsity of ``wanted``.

    Divergence is what the solver adds up: it is smooth where the accuracy of a few hundred examples moves in steps.

    Args:
        wanted: sparsities by layer.
        examples: a subset; ``judge`` has its labels and the original's decisions on it.
    """
    before = _run(bench, {}, examples)
    found = []
    pairs = [(name, share) for name, shares in wanted.items() for share in shares]
    for i, (name, share) in enumerate(pairs):
        after = _run(bench, {name: share}, examples)
        drop = judge.loss(decisions(after, bench.output)).drop
        found.append(Sensitivity(name, share, divergence(before, after), drop))
        if progress:
            progress(i + 1, len(pairs))
    return found


def _run(bench: Bench, chosen: Mapping[str, float], examples: Examples) -> npt.NDArray[np.float64]:
    from gossamer_runtime import Session

    data = bench.candidate(chosen)
    with Session(data, verify=False, allow_unverified_code=True, threads=bench.recipe.target.threads) as session:
        return evaluate.of_bundle(session, examples, bench.output)
