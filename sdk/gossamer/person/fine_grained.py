"""The five fine-grained sets of Wake Vision (arXiv 2405.00892): distance, lighting, gender, age, depiction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gossamer.person.dataset.photo import FINE_GRAINED
from gossamer.person.metrics import proportion


def fine_grained(
    label: npt.ArrayLike, called: npt.ArrayLike, membership: Mapping[str, Sequence[str] | npt.NDArray[np.str_]]
) -> dict[str, Any]:
    """Rates in every slice of the sets that the photos belong to.

    A slice of ``distance``, ``gender`` or ``age`` holds photos with a person: its TPR says how many are found. One of
    ``depiction`` holds photos without: its TNR says how many are not taken for a person. ``lighting`` cuts both.

    F1 is the one of Wake Vision's benchmark suite, from rates, so that class sizes do not matter: ``2a / (1 + a + b)``
    with ``a`` the share of the slice that is right and ``b`` the share of wrong calls on all photos of the other class,
    in ``lighting`` on those of the slice. (The suite takes, for near and medium, the misses of ``far``; here a slice
    answers for its own.) Its 95% interval moves ``a`` and ``b`` to their Wilson bounds one at a time and adds the
    squared changes, each side on its own (MOVER).

    Args:
        label: [N] of 0 and 1.
        called: [N], True where the photo was called "person".
        membership: by set, [N] slice names of ``FINE_GRAINED``, empty where a photo is in none.

    Returns:
        By set, in the order of ``FINE_GRAINED``, those with any photo: ``{"n": photos in a slice, "of": photos that
        could be in one, "slices": {name: {"n", "positives", "negatives", "tpr", "tnr", "f1"}}}``; ``tpr`` or ``tnr`` is
        None where the set has no such photos.

    Raises:
        ValueError: lengths differ, or an unknown set or slice.
    """
    y, call = np.asarray(label, dtype=np.int64), np.asarray(called, dtype=np.bool_)
    unknown = set(membership) - set(FINE_GRAINED)
    if unknown:
        raise ValueError(f"unknown set {sorted(unknown)[0]!r}")
    out: dict[str, Any] = {}
    for name, slices in FINE_GRAINED.items():
        if name not in membership:
            continue
        member = np.asarray(membership[name])
        if member.shape != y.shape or call.shape != y.shape:
            raise ValueError(f"{name} {member.shape} and called {call.shape} must be as long as label {y.shape}")
        if extra := set(member.tolist()) - {"", *slices}:
            raise ValueError(f"unknown slice {sorted(extra)[0]!r} of {name}")
        if not (member != "").any():
            continue
        wanted = {"lighting": (0, 1), "depiction": (0,)}.get(name, (1,))
        out[name] = {
            "n": int(((member != "") & np.isin(y, wanted)).sum()),
            "of": int(np.isin(y, wanted).sum()),
            "slices": {s: _slice(y, call, member == s, wanted) for s in slices},
        }
    return out


def _slice(
    y: npt.NDArray[np.int64], called: npt.NDArray[np.bool_], inside: npt.NDArray[np.bool_], wanted: tuple[int, ...]
) -> dict[str, Any]:
    person, none = y == 1, y == 0
    if wanted == (1,):
        hits, others = _share(called, inside & person), _share(called, none)
    elif wanted == (0,):
        hits, others = _share(~called, inside & none), _share(~called, person)
    else:
        hits, others = _share(called, inside & person), _share(called, inside & none)
    return {
        "n": int((inside & np.isin(y, wanted)).sum()),
        "positives": int((inside & person).sum()) if 1 in wanted else 0,
        "negatives": int((inside & none).sum()) if 0 in wanted else 0,
        "tpr": _share(called, inside & person) if 1 in wanted else None,
        "tnr": _share(~called, inside & none) if 0 in wanted else None,
        "f1": _f1(hits, others),
    }


def _share(right: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> dict[str, Any]:
    return proportion(int((right & among).sum()), int(among.sum()))


def _f1(hits: dict[str, Any], false: dict[str, Any]) -> dict[str, Any]:
    def value(a: float, b: float) -> float:
        return 2 * a / (1 + a + b)

    a, b = hits["value"], false["value"]
    if a is None or b is None:
        return {"value": None, "low": 0.0, "high": 1.0}
    middle = value(a, b)
    below = math.hypot(middle - value(hits["low"], b), middle - value(a, false["high"]))
    above = math.hypot(value(hits["high"], b) - middle, value(a, false["low"]) - middle)
    return {"value": middle, "low": max(middle - below, 0.0), "high": min(middle + above, 1.0)}
