"""Sparse model soups: in every cycle several copies retrain on one mask and their average goes on."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from gossamer._errors import InputError
from gossamer.sparsify.training.method import Method

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gossamer.sparsify.training.sparsifier import Sparsifier

TITLE = "per cycle: prune, retrain several copies on one mask, average them"
SOURCE = "Zimmer, Spiegel and Pokutta, arXiv 2306.16788, figure 2; greedy mixing: Wortsman et al., arXiv 2203.05482"
RULE = (
    "cycle c of C prunes by magnitude to 1 - (1 - s)^(c/C); m copies retrain on that mask with other seeds and "
    "settings; their mean (uniform), or the mean of those that do not lower the score (greedy), starts the next cycle"
)
PATTERNS = ("blocks", "n:m")

Retrain = Callable[["nn.Module", int, Mapping[str, Any]], "nn.Module"]
"""``retrain(model, seed, settings)``: trains the model and returns it, with its masks left alone."""
State = dict[str, "Tensor"]


@dataclass(frozen=True)
class Cycle:
    """One prune-retrain-average cycle.

    Attributes:
        sparsity: share of zeros over the pruned layers.
        seeds: of the copies.
        scores: of the copies; empty without ``evaluate``.
        members: which copies are in the average, by index.
        score: of the average; None without ``evaluate``.
    """

    sparsity: float
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    members: tuple[int, ...]
    score: float | None


class _OnOneMask(Method):
    """Masks that only the cycles move."""

    name: ClassVar[str] = "soup"
    title: ClassVar[str] = TITLE
    source: ClassVar[str] = SOURCE
    rule: ClassVar[str] = RULE

    def update(self, run: Sparsifier) -> None:
        """Nothing: the mask of a cycle stays."""


def sparse_soup(
    model: nn.Module,
    target: Any,
    retrain: Retrain,
    *,
    cycles: int = 3,
    copies: int = 3,
    settings: Sequence[Mapping[str, Any]] = (),
    mixing: Literal["uniform", "greedy"] = "uniform",
    evaluate: Callable[[nn.Module], float] | None = None,
    recalibrate: Callable[[nn.Module], None] | None = None,
    seed: int = 0,
) -> list[Cycle]:
    """Prunes ``model`` in place, in cycles; it ends as the last average, with plain weights and plain zeros.

    Args:
        model: trained; what ``target`` prunes is pruned.
        target: a recipe's ``sparsify`` step, as :class:`gossamer.sparsify.training.Sparsifier` takes it.
        retrain: trains one copy, ``retrain(copy, seed, settings) -> copy``. The copy's masks are parametrizations of
            its weights: any loop keeps them, and copies that the caller keeps run on.
        cycles: prune-retrain-average cycles; an n:m pattern is whole from the first.
        copies: trained in each cycle, at least 1.
        settings: what copy i gets (``settings[i % len]``), such as other weight decays; empty: seeds alone differ.
        mixing: ``uniform`` averages all copies; ``greedy`` takes them by falling score, each if the average's score
            does not fall.
        evaluate: a score, higher is better; needed by ``greedy``.
        recalibrate: called with every average before it is scored or goes on, to measure its batch-norm statistics anew
            (:func:`recalibrate_batch_norm`); None: they are averaged like weights.
        seed: copy i of cycle c gets ``seed + c * copies + i``.

    Returns:
        What each cycle did.

    Raises:
        InputError: a number out of range, greedy mixing without ``evaluate``, or a copy that comes back with other
            parameters, other masks, or NaN.
        RecipeError: the target names layers that are not there, prunes none, or leaves one empty.

    After any error, one of the caller's functions included, the model has plain weights again, those of the last
    state that was loaded, with the zeros of the last mask.
    """
    if cycles < 1 or copies < 1:
        raise InputError(f"a soup needs at least 1 cycle and 1 copy, not {cycles} and {copies}", where="sparse_soup")
    if mixing not in ("uniform", "greedy"):
        raise InputError(f"mixing is 'uniform' or 'greedy', not {mixing!r}", where="mixing")
    if mixing == "greedy" and evaluate is None:
        raise InputError("greedy mixing compares scores", where="evaluate", hint="give evaluate, or mix uniformly")
    from gossamer.sparsify.training.sparsifier import Sparsifier

    run = Sparsifier(model, target, _OnOneMask(), total_steps=cycles, seed=seed)
    done = []
    try:
        for cycle in range(cycles):
            run.prune(_share(run.target.wanted, (cycle + 1) / cycles), only_kept=True)
            _zero_pruned(run)
            run.step()
            start = _state(model)
            seeds = [seed + cycle * copies + i for i in range(copies)]
            trained = []
            for i, number in enumerate(seeds):
                varied = dict(settings[i % len(settings)]) if settings else {}
                trained.append(_checked(retrain(copy.deepcopy(model), number, varied), start, i))
            scores = [] if evaluate is None else [_scored(model, s, evaluate) for s in trained]
            members = _mix(model, trained, scores, mixing, evaluate, recalibrate)
            score = _take(model, [trained[i] for i in members], evaluate, recalibrate)
            _zero_pruned(run)
            done.append(Cycle(run.sparsity, tuple(seeds), tuple(scores), tuple(members), score))
    finally:
        run.finish()
    return done


def average(states: Sequence[State]) -> State:
    """The mean of state dicts with equal keys: of floating-point tensors, in float64; the rest as in the first."""
    import torch

    mixed: State = {}
    for key, first in states[0].items():
        if first.is_floating_point():
            total = torch.zeros_like(first, dtype=torch.float64)
            for state in states:
                total += state[key].to(total.device, torch.float64)
            mixed[key] = (total / len(states)).to(first.dtype)
        else:
            mixed[key] = first.clone()
    return mixed


def recalibrate_batch_norm(model: nn.Module, batches: Iterable[Any]) -> int:
    """Measures batch-norm statistics anew as plain means over ``batches``; weights stay, the mode is restored.

    Args:
        batches: what ``model`` is called with; of a tuple or list, the first item.

    Returns:
        Batch norms that were measured.

    Raises:
        InputError: there are batch norms but no batches.
    """
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return 0
    modes = {m: m.training for m in model.modules()}
    momenta = {m: m.momentum for m in norms}
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    count = 0
    try:
        with torch.no_grad():
            for batch in batches:
                model(batch[0] if isinstance(batch, (tuple, list)) else batch)
                count += 1
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
    if not count:
        raise InputError("no batches to measure batch-norm statistics on", where="batches")
    return len(norms)


def _share(wanted: float, done: float) -> float:
    """How much of the final sparsity is due after ``done`` of the cycles; each prunes the same share of the rest."""
    return 1.0 if done >= 1.0 or wanted <= 0.0 else (1.0 - (1.0 - wanted) ** done) / wanted


def _zero_pruned(run: Sparsifier) -> None:
    import torch

    with torch.no_grad():
        for layer in run.layers:
            layer.weight.mul_(layer.mask)


def _state(model: nn.Module) -> State:
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def _checked(model: nn.Module, start: State, number: int) -> State:
    """The state of a retrained copy.

    Raises:
        InputError: other parameters, other masks, or a value that is not finite.
    """
    import torch

    state = _state(model)
    where = f"copy {number}"
    if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in start.items()}:
        raise InputError(
            "retrain returned a model with other parameters than it was given",
            where=where,
            hint="train the copy itself, without another Sparsifier, and return it",
        )
    for key, value in state.items():
        if value.dtype == torch.bool and not torch.equal(value, start[key].to(value.device)):
            raise InputError("retrain changed a mask", where=f"{where}, {key}", hint="masks move between cycles only")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InputError(
                "retraining ended with NaN or infinity", where=f"{where}, {key}", hint="lower the learning rate"
            )
    return state


def _take(
    model: nn.Module,
    states: Sequence[State],
    evaluate: Callable[[nn.Module], float] | None,
    recalibrate: Callable[[nn.Module], None] | None,
) -> float | None:
    """Loads the average into ``model``; its score."""
    model.load_state_dict(average(states))
    if recalibrate is not None:
        recalibrate(model)
    return None if evaluate is None else _finite(evaluate(model))


def _scored(model: nn.Module, state: State, evaluate: Callable[[nn.Module], float]) -> float:
    model.load_state_dict(state)
    return _finite(evaluate(model))


def _finite(score: float) -> float:
    found = float(score)
    if not math.isfinite(found):
        raise InputError(f"evaluate returned {found}", where="evaluate", hint="it must return a finite number")
    return found


def _mix(
    model: nn.Module,
    trained: Sequence[State],
    scores: Sequence[float],
    mixing: str,
    evaluate: Callable[[nn.Module], float] | None,
    recalibrate: Callable[[nn.Module], None] | None,
) -> list[int]:
    """Which copies to average."""
    if mixing == "uniform":
        return list(range(len(trained)))
    order = sorted(range(len(trained)), key=lambda i: -scores[i])
    members, best = [order[0]], scores[order[0]]
    for i in order[1:]:
        score = _take(model, [trained[j] for j in (*members, i)], evaluate, recalibrate)
        if score is not None and score >= best:
            members.append(i)
            best = score
    return members
