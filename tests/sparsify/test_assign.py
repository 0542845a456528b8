"""How layers share a sparsity: their own, the pattern's, the distribution's, and why one stays dense."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.sparsify import patterns
from gossamer.sparsify.assign import Target, assign, shares
from gossamer.sparsify.matrix import from_onnx


def _target(weight, pattern="unstructured", own=None):
    return Target(patterns.get(pattern), weight.shape, lambda: from_onnx(np.abs(weight)), own)


def _weight(shape, scale, seed=0):
    return (scale * (1.0 + np.random.default_rng(seed).random(shape))).astype(np.float32)


def test_shares_are_ones_own_then_the_patterns_then_the_distributions():
    targets = [
        _target(_weight((8, 16), 1.0)),
        _target(_weight((4, 8), 1.0), own=0.25),
        _target(_weight((4, 8), 1.0), "1:4", own=0.1),
        _target(_weight((16, 32), 1.0)),
    ]
    assert shares(targets, 0.5, "uniform") == [0.5, 0.25, 0.75, 0.5]
    assert shares(targets, 0.5, "global") == [None, 0.25, 0.75, None]
    # Densities go as (8 + 16) / 128 and (16 + 32) / 512, 2 to 1; together a fifth of 640 weights stays.
    assert shares(targets, 0.8, "erk") == [pytest.approx(2 / 3), 0.25, 0.75, pytest.approx(5 / 6)]


def test_a_layer_without_small_weights_is_not_said_to_be_small():
    large, small, tiny = _weight((16, 16), 10.0), _weight((16, 16), 1.0), _weight((1, 2), 1.0)
    found = assign([_target(large), _target(small), _target(tiny)], 0.25, "global", 0.01)
    assert [x.mask is None for x in found] == [True, False, True]
    assert [x.reason for x in found] == [
        "all of it is above the common threshold",
        "",
        "below the minimum that every layer keeps",
    ]
    assert int((~found[1].mask).sum()) == 129  # of 514 a quarter, halves upwards


def test_nothing_to_share_is_nothing():
    assert assign([], 0.5, "global") == assign([], 0.5, "erk") == []
