"""Exact swaps: mask repair by the change that each exchange makes to the layer's expected squared output error."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from gossamer._errors import InputError
from gossamer.sparsify.moments import Doubles, Moments
from gossamer.sparsify.repair import RepairReport, repair_masks
from gossamer.sparsify.swap_units import Places, SwapUnits

if TYPE_CHECKING:
    import onnx_ir as ir

TITLE = "mask repair without training: swaps that lower the expected squared output error"
SOURCE = "Zimmer et al., SparseSwaps, arXiv 2512.10922 (abstract): 1-swaps by the Gram matrix of the inputs"
RULE = (
    "per output row, J = d S d with d the pruned weights and S = E[x x^T]: of the `candidates` pruned units that lower "
    "J most when grown, each with the kept unit that then raises it least when pruned, the pair that lowers J most is "
    "swapped; stop when none does or after max_cycles"
)
PATTERNS = ("blocks", "n:m")


def repair(
    dense: ir.Model,
    pruned: ir.Model,
    samples: Iterable[Any],
    *,
    max_cycles: int = 100,
    candidates: int = 4,
    limit: int = 100,
) -> RepairReport:
    """Changes which weights of ``pruned`` are zero, in place, to lower each layer's expected squared output error.

    Units and guarantees are those of :func:`gossamer.sparsify.dsnot.repair`: sparsity and pattern stay exactly as they
    are, and no layer's expected squared error rises. It costs ``8 K^2`` bytes a layer of K columns while it runs.

    Departure from the paper: the best pair among a few units to grow instead of among all, which costs K instead of K^2
    a swap; and blocks.

    Args:
        dense: the model before pruning; float, or int8 with DequantizeLinear.
        pruned: the same graph after :func:`gossamer.sparsify.prune`.
        samples: calibration data: dicts by input name, or arrays for a model of one input.
        max_cycles: at most this many swaps in each row.
        candidates: this many units to grow are paired with their best unit to prune, in each cycle.
        limit: at most this many samples are read.

    Returns:
        Expected errors before and after, by layer. Layers of more than 8192 columns are left as they are.

    Raises:
        InputError: the models differ in more than zeros, or an option is out of range.
        CalibrationError: no samples, or one that does not fit.
        ModelError: a weight is NaN or infinite.
    """
    if max_cycles < 1:
        raise InputError(f"max_cycles must be at least 1, not {max_cycles}", where="max_cycles")
    if candidates < 1:
        raise InputError(f"candidates must be at least 1, not {candidates}", where="candidates")

    def rule(weight: Doubles, units: SwapUnits, moments: Moments) -> int:
        return swap_units(weight, units, moments, max_cycles=max_cycles, candidates=candidates)

    return repair_masks(dense, pruned, samples, rule, limit=limit, second=True)


def swap_units(weight: Doubles, units: SwapUnits, moments: Moments, *, max_cycles: int, candidates: int) -> int:
    """The rule on one layer: changes ``units.kept``, returns the number of swaps.

    Args:
        weight: ``[R, K]`` dense weights.
        units: the layer's units and which of them are kept.
        moments: of its inputs, ``second`` included.
        max_cycles, candidates: see :func:`repair`.

    Raises:
        InputError: second moments are missing.
    """
    if moments.second is None:
        raise InputError("exact swaps need second moments", where="moments")
    br = units.block[0]
    rows, groups = weight.shape[0], moments.second.shape[0]
    height = -(-rows // br) * br
    group = np.minimum(np.arange(height) // (rows // groups), groups - 1)
    held = units.cut(weight)  # [block rows, block columns, br, bc]
    own = _own_cost(held, moments.second, group)
    gone = np.where(units.mask(), 0.0, weight)
    slope = np.zeros((height, weight.shape[1]))  # S d, kept up to date
    slope[:rows] = (gone.reshape(groups, rows // groups, -1) @ moments.second).reshape(rows, -1)
    live = np.arange(held.shape[0])
    swaps = 0
    for _ in range(max_cycles):
        lines = (live[:, None] * br + np.arange(br)).reshape(-1)
        kept = units.movable & units.kept
        lowers = own[live] - 2.0 * _along(held[live], slope[lines])
        lowers[~(units.movable & ~units.kept & units.partnered(kept))[live]] = np.inf
        tried = np.argsort(lowers, axis=1, kind="stable")[:, :candidates]
        best = np.full(live.size, np.inf)
        grown, pruned = np.zeros_like(live), np.zeros_like(live)
        at = np.arange(live.size)
        for choice in tried.T:
            change = _slope_change(held[live, choice], choice, moments.second, group[lines])
            raises = own[live] + 2.0 * _along(held[live], slope[lines] - change)
            raises[~units.partners(kept, choice, live)] = np.inf
            partner = raises.argmin(axis=1)
            total = lowers[at, choice] + raises[at, partner]
            better = total < best
            best[better], grown[better], pruned[better] = total[better], choice[better], partner[better]
        taken = best < -1e-9 * own[live].max(axis=1)
        live, grown, pruned = live[taken], grown[taken], pruned[taken]
        if not live.size:
            break
        lines = (live[:, None] * br + np.arange(br)).reshape(-1)
        slope[lines] -= _slope_change(held[live, grown], grown, moments.second, group[lines])
        slope[lines] += _slope_change(held[live, pruned], pruned, moments.second, group[lines])
        units.swap(live, grown, pruned)
        swaps += int(live.size)
    return swaps


def _along(held: Doubles, slope: Doubles) -> Doubles:
    """``w S d`` of every unit: held ``[block rows, block columns, br, bc]``, slope ``[rows, K]``."""
    rows, cols, br, bc = held.shape
    return np.asarray(np.einsum("ukij,uikj->uk", held, slope.reshape(rows, br, cols, bc)))


def _own_cost(held: Doubles, second: Doubles, group: Places) -> Doubles:
    """``w S w`` of every unit alone, ``[block rows, block columns]``."""
    rows, cols, br, bc = held.shape
    diagonal = second.reshape(-1, cols, bc, cols, bc)[:, np.arange(cols), :, np.arange(cols)]  # [cols, groups, bc, bc]
    total = np.zeros((rows, cols))
    for i in range(br):
        line = held[:, :, i]
        total += np.einsum("ukc,ukcd,ukd->uk", line, diagonal[:, group[i::br]].transpose(1, 0, 2, 3), line)
    return total


def _slope_change(unit: Doubles, place: Places, second: Doubles, group: Places) -> Doubles:
    """``S w`` of one unit a block row, ``[rows, K]``.

    Args:
        unit: ``[block rows, br, bc]``.
        place: block column of each.
        second: ``[groups, K, K]``.
        group: of each row.
    """
    rows, br, bc = unit.shape
    columns = np.repeat(place, br)[:, None] * bc + np.arange(bc)
    return np.asarray(np.einsum("rc,rcj->rj", unit.reshape(rows * br, bc), second[group[:, None], columns]))
