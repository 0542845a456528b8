"""How a number changes over training: pure functions of the progress or the step."""

from __future__ import annotations

import math


def cubic(progress: float, start: float, end: float) -> float:
    """``end + (start - end) (1 - p)^3``: fast first, slow last (Zhu and Gupta, arXiv 1710.01878, equation 1).

    Args:
        progress: below 0 counts as 0, above 1 as 1.
        start, end: values at 0 and 1.
    """
    p = min(max(progress, 0.0), 1.0)
    return end + (start - end) * (1.0 - p) ** 3


def linear_decay(step: float, rate: float) -> float:
    """``max(0, 1 - rate * step)``."""
    return max(0.0, 1.0 - rate * step)


def exponential_decay(step: float, rate: float) -> float:
    """``exp(-rate * step)``."""
    return math.exp(-rate * step)


def cosine(progress: float, start: float, end: float) -> float:
    """Half a cosine from ``start`` to ``end``."""
    p = min(max(progress, 0.0), 1.0)
    return end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * p))


def window(progress: float, begin: float, end: float) -> float:
    """Where ``progress`` stands between ``begin`` and ``end``, clipped to 0..1; a step when both are equal."""
    if end <= begin:
        return 0.0 if progress < begin else 1.0
    return min(max((progress - begin) / (end - begin), 0.0), 1.0)
