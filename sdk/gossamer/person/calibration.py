"""Do probabilities mean what they say: the expected calibration error of a detector."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 15
"""Bins of equal width over the probability of a person, 0..1 (the number of arXiv 1706.04599)."""
RESAMPLES = 1000
"""Bootstrap resamples for the interval."""


def calibration(
    label: npt.ArrayLike, probability: npt.ArrayLike, bins: int = BINS, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Expected calibration error (arXiv 1706.04599, section 2) of the probability of a person.

    In bins of equal width, the distance between the mean probability and the share of photos with a person, weighted by
    the photos of the bin. A bin holds its lower end, the last one both ends. The 95% interval is the percentile
    interval of a bootstrap over photos (seed 0). With few photos a bin the error is too large rather than too small,
    and resamples' errors more so: the interval may lie above the error itself.

    Args:
        label: [N] of 0 and 1.
        probability: [N], 0..1.
        bins: how many.
        resamples: of the bootstrap.

    Returns:
        ``{"ece", "low", "high", "bins": [{"from", "to", "n", "positives", "mean_probability"}]}``; empty bins are left
        out, ``ece`` is None without photos.

    Raises:
        ValueError: shapes differ, a label is not 0 or 1, or a probability is not in 0..1.
    """
    y, p = np.asarray(label), np.asarray(probability, dtype=np.float64)
    if y.ndim != 1 or y.shape != p.shape:
        raise ValueError(f"label and probability must be one-dimensional and equally long, got {y.shape} and {p.shape}")
    if not np.isin(y, (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("a probability is not in 0..1")
    if y.size == 0:
        return {"ece": None, "low": 0.0, "high": 1.0, "bins": []}
    where = np.minimum((p * bins).astype(np.int64), bins - 1)
    gap = y - p
    random = np.random.default_rng(0)
    drawn = np.empty(resamples)
    for i in range(resamples):
        pick = random.integers(0, y.size, y.size)
        drawn[i] = np.abs(np.bincount(where[pick], gap[pick], bins)).sum() / y.size
    low, high = np.quantile(drawn, (0.025, 0.975)) if resamples else (0.0, 1.0)
    count = np.bincount(where, minlength=bins)
    positives, mass = np.bincount(where, y, bins), np.bincount(where, p, bins)
    return {
        "ece": float(np.abs(positives - mass).sum() / y.size),
        "low": float(low),
        "high": float(high),
        "bins": [
            {
                "from": i / bins,
                "to": (i + 1) / bins,
                "n": int(count[i]),
                "positives": int(positives[i]),
                "mean_probability": float(mass[i] / count[i]),
            }
            for i in range(bins)
            if count[i]
        ],
    }
