"""Accuracy of a person detector, honestly cut: per class, per source, per size of the person, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

AREA_SLICES = ((0.005, 0.025), (0.025, 0.10), (0.10, 0.30), (0.30, 0.60), (0.60, 1.0))
"""Largest-person-area slices as fractions of the photo; a slice holds its lower end, the last one both ends."""
Z_95 = 1.959963984540054
"""97.5th percentile of the standard normal distribution."""


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (1927); (0, 1) without trials.

    Raises:
        ValueError: a count is negative or there are more successes than trials.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"need 0 <= successes <= trials, got {successes} of {trials}")
    if trials == 0:
        return 0.0, 1.0
    p = successes / trials
    centre = p + z * z / (2 * trials)
    spread = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == trials else (centre + spread) / scale
    return low, high


def roc_auc(label: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half.

    Returns:
        0..1, or NaN when one of the classes is missing.

    Raises:
        ValueError: the shapes differ or a score is NaN.
    """
    y, s = _pair(label, score)
    positives = int(y.sum())
    negatives = y.size - positives
    if positives == 0 or negatives == 0:
        return math.nan
    _, position, count = np.unique(s, return_inverse=True, return_counts=True)
    last_rank = np.cumsum(count)
    mean_rank = last_rank - (count - 1) / 2.0
    rank_sum = float(mean_rank[position][y == 1].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def auc_interval(auc: float, positives: int, negatives: int, z: float = Z_95) -> tuple[float, float]:
    """Score interval of an area under the ROC curve; (0, 1) when a class is missing.

    Newcombe's method 5 (Statistics in Medicine 25, 2006): the areas ``t`` with ``|auc - t| <= z * sqrt(V(t))``, where V
    is the variance of Hanley and McNeil (Radiology 143, 1982) with both class sizes replaced by their mean. It holds at
    0 and 1, where intervals around the estimate shrink to nothing.

    Raises:
        ValueError: ``auc`` is not in 0..1.
    """
    if positives == 0 or negatives == 0:
        return 0.0, 1.0
    if not 0.0 <= auc <= 1.0:
        raise ValueError(f"an area under the ROC curve is in 0..1, got {auc}")
    others = (positives + negatives) / 2 - 1

    def outside(t: float) -> bool:
        variance = t * (1 - t) * (1 + others * ((1 - t) / (2 - t) + t / (1 + t))) / (positives * negatives)
        return abs(auc - t) > z * math.sqrt(max(variance, 0.0))

    def edge(inner: float, outer: float) -> float:
        for _ in range(60):
            middle = (inner + outer) / 2
            inner, outer = (inner, middle) if outside(middle) else (middle, outer)
        return inner

    return (edge(auc, 0.0) if auc > 0 else 0.0), (edge(auc, 1.0) if auc < 1 else 1.0)


def proportion(successes: int, trials: int) -> dict[str, Any]:
    """``{"value", "count", "of", "low", "high"}``: a proportion with its 95% interval; value None without trials."""
    low, high = wilson_interval(successes, trials)
    return {
        "value": successes / trials if trials else None,
        "count": successes,
        "of": trials,
        "low": low,
        "high": high,
    }


def binary_report(
    label: npt.ArrayLike,
    score: npt.ArrayLike,
    threshold: float = 0.5,
    *,
    ranking: npt.ArrayLike | None = None,
    called: npt.ArrayLike | None = None,
) -> dict[str, Any]:
    """Accuracy, TPR, TNR (each as :func:`proportion`), balanced accuracy and ROC AUC, each with its 95% interval.

    A photo is called "person" when its score is at least ``threshold``. The interval of the balanced accuracy is the
    mean of both classes plus or minus half the root of the summed squares of their Wilson half-widths (MOVER: the
    classes are independent), each side on its own. That of the AUC is :func:`auc_interval`.

    Args:
        label: [N] of 0 and 1.
        score: [N], higher means person.
        threshold: in units of the score.
        ranking: [N], what the AUC orders photos by, where the score saturates; by default the score.
        called: [N], True where a photo was called "person"; by default a score of at least ``threshold``.

    Raises:
        ValueError: shapes differ, a label is not 0 or 1, a score is NaN.
    """
    y, s = _pair(label, score)
    call = _called(s, threshold, called)
    tp, fn = int(np.sum(call & (y == 1))), int(np.sum(~call & (y == 1)))
    tn, fp = int(np.sum(~call & (y == 0))), int(np.sum(call & (y == 0)))
    tpr, tnr = proportion(tp, tp + fn), proportion(tn, tn + fp)
    auc = roc_auc(y, s if ranking is None else ranking)
    low, high = auc_interval(0.0 if math.isnan(auc) else auc, tp + fn, tn + fp)
    return {
        "n": int(y.size),
        "positives": tp + fn,
        "negatives": tn + fp,
        "threshold": threshold,
        "accuracy": proportion(tp + tn, int(y.size)),
        "tpr": tpr,
        "tnr": tnr,
        "balanced_accuracy": _balanced(tpr, tnr),
        "roc_auc": None if math.isnan(auc) else auc,
        "roc_auc_interval": {"low": low, "high": high},
    }


def sliced_report(
    label: npt.ArrayLike,
    score: npt.ArrayLike,
    source: Sequence[str] | npt.NDArray[np.str_],
    area: npt.ArrayLike,
    threshold: float = 0.5,
    *,
    ranking: npt.ArrayLike | None = None,
    called: npt.ArrayLike | None = None,
) -> dict[str, Any]:
    """:func:`binary_report` over everything and per source, and TPR per largest-person-area slice.

    Args:
        label, score, threshold, ranking, called: as in :func:`binary_report`.
        source: [N] names.
        area: [N] largest person box as a fraction of the photo; NaN where unknown, in no slice.

    Returns:
        ``{"all": ..., "sources": {name: ...}, "area_slices": [{"from", "to", "tpr"}]}``.
    """
    y, s = _pair(label, score)
    order = s if ranking is None else np.asarray(ranking, dtype=np.float64)
    call = _called(s, threshold, called)

    def report(among: npt.NDArray[np.bool_]) -> dict[str, Any]:
        return binary_report(y[among], s[among], threshold, ranking=order[among], called=call[among])

    names, size = np.asarray(source), np.asarray(area, dtype=np.float64)
    if names.shape != y.shape or size.shape != y.shape:
        raise ValueError(f"source {names.shape} and area {size.shape} must be as long as label {y.shape}")
    slices = []
    for low, high in AREA_SLICES:
        inside = (y == 1) & (size >= low) & ((size < high) | (high == AREA_SLICES[-1][1]))
        hits = int(np.sum(call[inside]))
        slices.append({"from": low, "to": high, "tpr": proportion(hits, int(inside.sum()))})
    return {
        "all": report(np.ones(y.shape, dtype=np.bool_)),
        "sources": {str(n): report(names == n) for n in sorted(set(names.tolist()))},
        "area_slices": slices,
    }


def _balanced(tpr: dict[str, Any], tnr: dict[str, Any]) -> dict[str, Any]:
    if tpr["value"] is None or tnr["value"] is None:
        return {"value": None, "low": 0.0, "high": 1.0}
    value = (tpr["value"] + tnr["value"]) / 2
    below = math.hypot(tpr["value"] - tpr["low"], tnr["value"] - tnr["low"]) / 2
    above = math.hypot(tpr["high"] - tpr["value"], tnr["high"] - tnr["value"]) / 2
    return {"value": value, "low": value - below, "high": value + above}


def _called(score: npt.NDArray[np.float64], threshold: float, called: npt.ArrayLike | None) -> npt.NDArray[np.bool_]:
    if called is None:
        return np.asarray(score >= threshold)
    out = np.asarray(called, dtype=np.bool_)
    if out.shape != score.shape:
        raise ValueError(f"called {out.shape} must be as long as score {score.shape}")
    return out


def _pair(label: npt.ArrayLike, score: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    y, s = np.asarray(label), np.asarray(score, dtype=np.float64)
    if y.ndim != 1 or y.shape != s.shape:
        raise ValueError(f"label and score must be one-dimensional and equally long, got {y.shape} and {s.shape}")
    if not np.isin(y, (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
    if np.isnan(s).any():
        raise ValueError(f"{int(np.isnan(s).sum())} scores are NaN")
    return y.astype(np.int64), s
