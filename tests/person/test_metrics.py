"""Metrics against cases worked out by hand and against plain definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from gossamer.person import metrics


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe 1998, table I, method 3 (Wilson's score without continuity correction)
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_equals_published_values(successes: int, trials: int, low: float, high: float) -> None:
    assert metrics.wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_solves_its_equation_and_is_symmetric() -> None:
    n, z = 37, metrics.Z_95
    for k in range(n + 1):
        low, high = metrics.wilson_interval(k, n)
        mirrored = metrics.wilson_interval(n - k, n)
        assert (low, high) == pytest.approx((1 - mirrored[1], 1 - mirrored[0]))
        for bound in {low, high} - {0.0, 1.0}:
            assert abs(k / n - bound) == pytest.approx(z * math.sqrt(bound * (1 - bound) / n))


def test_wilson_interval_of_nothing_and_of_nonsense() -> None:
    assert metrics.wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="3 of 2"):
        metrics.wilson_interval(3, 2)
    with pytest.raises(ValueError, match="-1 of 2"):
        metrics.wilson_interval(-1, 2)


def test_roc_auc_equals_the_count_of_ordered_pairs() -> None:
    rng = np.random.default_rng(3)
    for n in (2, 3, 17, 64):
        label = rng.integers(0, 2, n)
        label[:2] = (0, 1)
        score = rng.integers(0, 6, n) / 5.0  # many ties
        pairs = [(p > q) + 0.5 * (p == q) for p, q in itertools.product(score[label == 1], score[label == 0])]
        assert metrics.roc_auc(label, score) == pytest.approx(np.mean(pairs))


def test_roc_auc_by_hand() -> None:
    assert metrics.roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75
    assert metrics.roc_auc([0, 1], [0.5, 0.5]) == 0.5
    assert metrics.roc_auc([1, 0], [0.0, 1.0]) == 0.0
    assert math.isnan(metrics.roc_auc([1, 1], [0.0, 1.0]))


def test_binary_report_by_hand() -> None:
    # called: 1 1 0 0 1; truth: 1 0 1 0 1; a score equal to the threshold counts as "person"
    r = metrics.binary_report([1, 0, 1, 0, 1], [0.9, 0.5, 0.4, 0.1, 0.7])
    assert (r["n"], r["positives"], r["negatives"]) == (5, 3, 2)
    assert (r["accuracy"]["count"], r["accuracy"]["of"]) == (3, 5)
    assert (r["tpr"]["count"], r["tpr"]["of"]) == (2, 3)
    assert (r["tnr"]["count"], r["tnr"]["of"]) == (1, 2)
    assert r["balanced_accuracy"]["value"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert r["roc_auc"] == pytest.approx(5 / 6)
    tpr, tnr = metrics.wilson_interval(2, 3), metrics.wilson_interval(1, 2)
    below = math.sqrt((2 / 3 - tpr[0]) ** 2 + (1 / 2 - tnr[0]) ** 2) / 2
    above = math.sqrt((2 / 3 - tpr[1]) ** 2 + (1 / 2 - tnr[1]) ** 2) / 2
    value = r["balanced_accuracy"]["value"]
    assert r["balanced_accuracy"]["low"] == pytest.approx(value - below)
    assert r["balanced_accuracy"]["high"] == pytest.approx(value + above)


def test_binary_report_of_one_class_has_no_balanced_accuracy() -> None:
    r = metrics.binary_report([1, 1], [0.9, 0.2])
    assert r["tnr"] == {"value": None, "count": 0, "of": 0, "low": 0.0, "high": 1.0}
    assert r["balanced_accuracy"]["value"] is None
    assert r["roc_auc"] is None


def test_sliced_report_puts_every_positive_into_one_slice() -> None:
    area = [0.005, 0.0249, 0.025, 0.1, 0.3, 0.6, 1.0, 0.0]
    label = [1, 1, 1, 1, 1, 1, 1, 0]
    score = [0.6, 0.4, 0.6, 0.6, 0.4, 0.6, 0.6, 0.9]
    report = metrics.sliced_report(label, score, list("aaaabbbb"), area)
    counts = [(s["tpr"]["count"], s["tpr"]["of"]) for s in report["area_slices"]]
    assert counts == [(1, 2), (1, 1), (1, 1), (0, 1), (2, 2)]
    assert report["sources"]["a"]["n"] == 4
    assert report["sources"]["b"]["tnr"]["count"] == 0
    assert report["all"]["tpr"]["count"] == 5


@pytest.mark.parametrize(
    ("label", "score", "message"),
    [
        ([0, 1], [0.5], "equally long"),
        ([0, 2], [0.5, 0.5], "0 or 1"),
        ([0, 1], [0.5, math.nan], "1 scores are NaN"),
        ([[0, 1]], [[0.5, 0.5]], "one-dimensional"),
    ],
)
def test_bad_input_is_refused(label: list[int], score: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.binary_report(label, score)
    with pytest.raises(ValueError, match="as long as label"):
        metrics.sliced_report([0, 1], [0.1, 0.2], ["a"], [0.0, 0.0])
