"""DSnoT, dynamic sparse no training: kept and pruned weights change places until the expected output error is gone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from gossamer._errors import InputError
from gossamer.sparsify.moments import Doubles, Moments
from gossamer.sparsify.repair import RepairReport, repair_masks
from gossamer.sparsify.swap_units import SwapUnits

if TYPE_CHECKING:
    import onnx_ir as ir

TITLE = "mask repair without training: grow and prune against the expected output error"
SOURCE = "Zhang et al., arXiv 2310.08915; max_cycles and power as in the authors' code"
RULE = (
    "per output row, e = E[(W - W') x]: grow the pruned unit with the largest sign(e) w E[x] / Var(x)^power, prune "
    "the kept unit with sign(e) w E[x] < 0 and the smallest |w| ||x||_2; take the swap when |e| falls and "
    "E[((W - W') x)^2] does not rise; stop at |e| <= tolerance |e_0| or after max_cycles"
)
PATTERNS = ("blocks", "n:m")


def repair(
    dense: ir.Model,
    pruned: ir.Model,
    samples: Iterable[Any],
    *,
    max_cycles: int = 50,
    tolerance: float = 0.01,
    power: float = 1.0,
    limit: int = 100,
) -> RepairReport:
    """Changes which weights of ``pruned`` are zero, in place: its layers' mean outputs return to the dense ones.

    In each cycle every output row grows one pruned unit and prunes one kept unit. Units are single weights
    (unstructured; within the group for n:m) or whole blocks; of a block that spans four rows the error is a vector and
    the sign becomes a projection on its direction. Sparsity and pattern stay exactly as they are, and no layer's
    expected error rises.

    Departures from the paper: the tolerance is a share of the row's first error (theirs is 0.1 in the unit of the
    activations, whose scale differs from model to model); a swap that does not lower ``|e|``, or raises the expected
    squared error (inputs taken for independent), is refused and the next best tried; inputs are those of the dense
    model for every layer.

    A smaller error in each layer need not be a smaller one at the network's end. Measured on MLPerf Tiny's visual wake
    words network (balanced accuracy on 800 photos of person128, dense 0.784): 30% single zeros 0.706, repaired 0.755;
    50% 0.572, repaired 0.556, and 0.750 with :func:`gossamer.sparsify.bias_correction.correct_biases` after it, which
    alone gives 0.735. Exact swaps (:func:`gossamer.sparsify.swaps.repair`) need second moments and lower the error of
    layers further.

    Args:
        dense: the model before pruning; float, or int8 with DequantizeLinear.
        pruned: the same graph after :func:`gossamer.sparsify.prune`.
        samples: calibration data: dicts by input name, or arrays for a model of one input.
        max_cycles: at most this many swaps in each row.
        tolerance: a row is done when its error is this share of what it was; 0..1.
        power: of the variance in the growing criterion; 0 leaves the variance out.
        limit: at most this many samples are read.

    Returns:
        Expected errors before and after, by layer.

    Raises:
        InputError: the models differ in more than zeros, or an option is out of range.
        CalibrationError: no samples, or one that does not fit.
        ModelError: a weight is NaN or infinite.
    """
    if max_cycles < 1:
        raise InputError(f"max_cycles must be at least 1, not {max_cycles}", where="max_cycles")
    if not 0.0 <= tolerance <= 1.0:
        raise InputError(f"tolerance must be within 0 and 1, not {tolerance:g}", where="tolerance")

    def rule(weight: Doubles, units: SwapUnits, moments: Moments) -> int:
        return swap_units(weight, units, moments, max_cycles=max_cycles, tolerance=tolerance, power=power)

    return repair_masks(dense, pruned, samples, rule, limit=limit, second=False)


def swap_units(
    weight: Doubles, units: SwapUnits, moments: Moments, *, max_cycles: int, tolerance: float, power: float
) -> int:
    """The rule on one layer: changes ``units.kept``, returns the number of swaps.

    Args:
        weight: ``[R, K]`` dense weights.
        units: the layer's units and which of them are kept.
        moments: mean and variance of its inputs.
        max_cycles, tolerance, power: see :func:`repair`.
    """
    rows = weight.shape[0]
    mean, variance = moments.by_row(moments.mean, rows), moments.by_row(moments.variance, rows)
    carried = units.cut(weight * mean).sum(axis=3)  # what a unit adds to E[y], [block rows, block columns, br]
    spread = units.cut(weight**2 * variance).sum(axis=(2, 3))  # and to the variance of y
    wanda = units.cut(np.abs(weight) * np.sqrt(mean**2 + variance)).sum(axis=(2, 3))
    real = units.cut(np.broadcast_to(units.columns.valid, weight.shape)).sum(axis=(2, 3))
    variability = units.cut(variance).sum(axis=(2, 3)) / np.maximum(real, 1)
    variability = (variability + 1e-9 * max(float(variability.max()), np.finfo(np.float64).tiny)) ** power
    gone = ~units.kept
    error = (carried * gone[:, :, None]).sum(axis=1)
    noise = (spread * gone).sum(axis=1)
    first = np.linalg.norm(error, axis=1)
    refused = np.zeros_like(units.kept)
    finished = first == 0.0
    swaps = 0
    for _ in range(max_cycles):
        size = np.linalg.norm(error, axis=1)
        finished |= size <= tolerance * first
        if finished.all():
            break
        direction = error / np.where(size > 0.0, size, 1.0)[:, None]
        along = np.einsum("ij,ikj->ik", direction, carried)  # sign(e) w E[x] where a block has one row
        open_ = units.movable & ~finished[:, None]
        prunable = open_ & units.kept & (along < 0.0)
        growable = open_ & ~units.kept & (along > 0.0) & ~refused & units.partnered(prunable)
        grown = np.where(growable, along / variability, -np.inf).argmax(axis=1)
        at = np.arange(grown.size)
        pruned = np.where(units.partners(prunable, grown), wanda, np.inf).argmin(axis=1)
        new_error = error - carried[at, grown] + carried[at, pruned]
        new_noise = noise - spread[at, grown] + spread[at, pruned]
        possible = growable[at, grown]
        squares, new_squares = (error**2).sum(axis=1), (new_error**2).sum(axis=1)
        better = possible & (new_squares < squares) & (new_squares + new_noise <= squares + noise)
        taken = np.flatnonzero(better)
        units.swap(taken, grown[taken], pruned[taken])
        error[taken], noise[taken] = new_error[taken], new_noise[taken]
        swaps += int(taken.size)
        other = np.flatnonzero(possible & ~better)
        refused[other, grown[other]] = True
        finished |= ~possible
    return swaps
