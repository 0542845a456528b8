"""The rearrangement of one model: follow the channels, search, permute the constants, report."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import onnx_ir as ir

from gossamer._errors import InputError, ModelError
from gossamer.sparsify.arrays import is_tensor
from gossamer.sparsify.rearrange.apply import apply, permutations, permuted
from gossamer.sparsify.rearrange.axes import Axes
from gossamer.sparsify.rearrange.follow import follow
from gossamer.sparsify.rearrange.layout import Layout, Order
from gossamer.sparsify.rearrange.problem import Part, Problem
from gossamer.sparsify.rearrange.report import Held, LayerGain, RearrangeReport
from gossamer.sparsify.rearrange.search import improve

if TYPE_CHECKING:
    from gossamer.recipe import SparsifyStep
    from gossamer.sparsify.assign import Target
    from gossamer.sparsify.layers import Layer

SECONDS = 60.0
"""Default time limit of a search; MobileNets end by themselves long before."""
EFFORT = 4
"""Default number of perturbations per block of channels."""
MAX_ROUNDS = 6
MIN_ROUND_GAIN = 1e-4
"""A round that adds less than this share of what is retained is the last."""

Array = TypeVar("Array")


def rearrange(
    model: ir.Model, step: SparsifyStep, *, seed: int = 0, seconds: float = SECONDS, effort: int = EFFORT
) -> RearrangeReport:
    """Permutes the channels of ``model``, in place, so that what ``step`` is going to keep weighs as much as possible.

    Weights, biases, statistics, scales and constants of every layer that a set of channels passes through are permuted
    alike, so the dense function is the same: equal in integer arithmetic, and up to the order of sums in floats. Inputs
    and outputs of the graph keep their order, and so does everything whose channels cannot be followed. Two calls with
    the same arguments that end by themselves give the same order.

    Args:
        model: a graph with static shapes, as ``gossamer.load`` gives it; float or QDQ int8. Initializers are replaced.
        step: what is going to be pruned, how much, and in which patterns. ``unstructured`` and n:m layers gain nothing
            and are left out of the search.
        seed: of the order in which swaps are tried.
        seconds: time limit of the search, above 0; the best order found until then is taken.
        effort: perturbations tried per block of channels, at least 0, after swaps alone gain nothing more; 0 takes a
            tenth of the time for nine tenths of the gain.

    Returns:
        What every layer keeps before and after, and what could not move.

    Raises:
        RecipeError: ``step`` names layers that the model lacks.
        ModelError: a weight is NaN or infinite.
        InputError: ``seconds`` is no positive number, or ``effort`` is negative.

    Source: 1xN pattern, arXiv 2105.14713, abstract (output channels permuted so that like ones share a block, the next
    layer's inputs with them); whole-network rearrangement as named by SparseByteNN, arXiv 2310.19509, abstract. The
    search is our own.
    """
    from gossamer.sparsify.oneshot import planned

    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f"a time limit is a positive number of seconds, not {seconds}", where="seconds")
    if effort < 0:
        raise InputError(f"an effort is at least 0, not {effort}", where="effort")
    started = time.monotonic()
    plan = planned(model, step)
    axes = follow(model)
    parts = [_part(axes, layer, target) for layer, target in plan]
    problem = Problem(parts, step.wanted, step.distribution, step.min_fraction)
    first, _ = problem.retained()
    rounds, finished = _search(problem, np.random.default_rng(seed), effort, started + seconds)
    last, _ = problem.retained()
    found = permutations(model, axes, problem.orders)
    apply(model, found)
    return RearrangeReport(
        layers=tuple(_gain(part, a, b) for part, a, b in zip(parts, first, last, strict=True)),
        held=tuple(held for part in parts for held in _held(part)),
        groups=len(problem.orders),
        moved=sum(int((order != np.arange(len(order))).sum()) for order in problem.orders.values()),
        rounds=rounds,
        finished=finished,
        seconds=time.monotonic() - started,
        permutations=found,
    )


def permute_like(report: RearrangeReport, tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Tensors of the same network kept elsewhere, such as a checkpoint, in the order that a rearrangement found.

    Args:
        report: of :func:`rearrange`.
        tensors: numpy arrays or torch tensors by the name of the constant in the ONNX graph, in the same layout; names
            that the graph does not have are passed on as they are.

    Raises:
        ModelError: a tensor has another shape than the constant of its name.
    """
    found: dict[str, Array] = {}
    for name, tensor in tensors.items():
        by_axis = report.permutations.get(name, {})
        shape = tuple(getattr(tensor, "shape", ()))
        for axis, order in by_axis.items():
            if axis >= len(shape) or shape[axis] != len(order):
                raise ModelError(
                    f"'{name}' has the shape {list(shape)}; axis {axis} has {len(order)} channels in the graph",
                    hint="give the tensors of the network that was rearranged, in the layout of its ONNX graph",
                )
        found[name] = _permuted(tensor, by_axis)
    return found


def _permuted(tensor: Array, by_axis: Mapping[int, Order]) -> Array:
    if not by_axis or not is_tensor(tensor):
        return permuted(np.asarray(tensor), by_axis) if by_axis else tensor  # type: ignore[return-value]
    import torch

    out: torch.Tensor = tensor  # type: ignore[assignment]
    for axis, order in by_axis.items():
        out = out.index_select(axis, torch.from_numpy(order.astype(np.int64)).to(out.device))
    return out  # type: ignore[return-value]


def _part(axes: Axes, layer: Layer, target: Target) -> Part:
    """A layer as the search sees it."""
    scores, columns = target.matrix()
    layouts = axes.resolved(layer.value)
    rows, inputs = layouts[:2][::-1] if layer.transposed and len(layouts) == 2 else layouts[:2]
    assert rows is not None and inputs is not None  # weights have static shapes
    return Part(layer.name, target, rows, inputs, scores, columns, scores)


def _search(problem: Problem, rng: np.random.Generator, effort: int, deadline: float) -> tuple[int, bool]:
    """Rounds of descents over all variables until one gains next to nothing, then two with kicks; the best order stays.

    What a variable's order is worth depends on the others where a layer's rows and columns both move, where several
    variables share a layer, and under a global threshold: hence rounds.
    """
    kept, made = problem.retained()
    best, orders = sum(kept), dict(problem.orders)
    quick = [0] * MAX_ROUNDS
    plan = [*quick, effort - effort // 2, effort // 2]
    rounds, finished = 0, True
    while plan and time.monotonic() < deadline:
        kicks = plan.pop(0)
        problem.price(made)
        until = deadline if not kicks or len(plan) == 0 else (time.monotonic() + deadline) / 2
        finished &= _round(problem, rng, kicks, until)
        rounds += 1
        kept, made = problem.retained()
        gain = sum(kept) - best
        if gain > 0:
            best, orders = sum(kept), dict(problem.orders)
        else:
            problem.restore(orders)
            kept, made = problem.retained()
        if not kicks and gain <= MIN_ROUND_GAIN * best:
            plan = [kicks for kicks in plan if kicks]
    return rounds, finished and not plan


def _round(problem: Problem, rng: np.random.Generator, effort: int, deadline: float) -> bool:
    """Every variable once, each with its share of the time; whether none was cut short."""
    finished = True
    work = {variable: problem.work(variable) for variable in problem.variables}
    left = sum(work.values())
    for variable in (problem.variables[i] for i in rng.permutation(len(problem.variables))):
        now = time.monotonic()
        share = now + (deadline - now) * work[variable] / left if left else deadline
        left -= work[variable]
        channels = problem.channels(variable)
        if channels is None:
            continue
        order, ended = improve(channels, rng, effort * len(channels.beside), share)
        finished &= ended
        if not np.array_equal(order, np.arange(len(order))):
            problem.reorder(variable, order)
    return finished


def _gain(part: Part, before: float, after: float) -> LayerGain:
    whole = float(part.original.sum(dtype=np.float64))
    shares = (before / whole, after / whole) if whole else (1.0, 1.0)
    return LayerGain(part.name, part.target.pattern.name, whole, *shares)


def _held(part: Part) -> list[Held]:
    """Channels of the axes along which blocks lie that cannot move, by reason."""
    found: dict[tuple[str, str], int] = {}
    for layout, _, rows in part.blocked:
        for reason, channels in _reasons(layout):
            key = ("outputs" if rows else "inputs", reason)
            found[key] = found.get(key, 0) + channels
    return [Held(part.name, axis, channels, reason) for (axis, reason), channels in found.items()]


def _reasons(layout: Layout) -> list[tuple[str, int]]:
    found = []
    for segment in layout:
        if segment.fixed:
            found.append((segment.reason, segment.width))
        elif segment.inner % 4 == 0:
            found.append(("every channel fills whole blocks by itself", segment.width))
        elif segment.inner > 1:
            found.append((f"channels of {segment.inner} neighbours straddle blocks: not searched", segment.width))
    return found
