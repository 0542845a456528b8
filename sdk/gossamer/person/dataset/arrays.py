"""Columns of records as arrays, and how often to draw each photo."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from gossamer._errors import InputError
from gossamer.person.dataset.photo import Photo


def labels(photos: Iterable[Photo]) -> npt.NDArray[np.int64]:
    """int64 [N]: 1 person, 0 no person."""
    return np.array([p.label for p in photos], dtype=np.int64)


def sources(photos: Iterable[Photo]) -> npt.NDArray[np.str_]:
    """str [N]: the source of each photo."""
    return np.array([p.source for p in photos], dtype=np.str_)


def areas(photos: Iterable[Photo]) -> npt.NDArray[np.float64]:
    """float64 [N]: largest person box of each photo as a fraction of it, NaN where unknown."""
    return np.array([p.largest_person_area for p in photos], dtype=np.float64)


def sampling_weights(photos: Iterable[Photo], *, one_label_factor: float = 0.25) -> npt.NDArray[np.float64]:
    """Probability of drawing each photo so that label and source say little about each other.

    Each label gets half of the draws. Inside a label a source gets a share proportional to the square root of its
    photos, times ``one_label_factor`` when the source has photos of one label only: there the source gives the
    label away, and a model that learns to tell sources apart would look right for the wrong reason.

    Returns:
        float64 [N], summing to 1.

    Raises:
        InputError: one of the two labels is missing.
    """
    rows = list(photos)
    label, source = labels(rows), sources(rows)
    if set(label.tolist()) != {0, 1}:
        raise InputError("balanced sampling needs photos of both labels", where="training photos")
    out = np.zeros(len(rows), dtype=np.float64)
    for wanted in (0, 1):
        share = {}
        for name in sorted(set(source[label == wanted].tolist())):
            count = int(np.sum((label == wanted) & (source == name)))
            both = len(set(label[source == name].tolist())) == 2
            share[name] = count**0.5 * (1.0 if both else one_label_factor), count
        total = sum(s for s, _ in share.values())
        for name, (weight, count) in share.items():
            out[(label == wanted) & (source == name)] = 0.5 * weight / total / count
    return out
