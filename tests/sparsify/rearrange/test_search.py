"""Grouping channels: exact gains, planted structure found, nothing worse than before, thresholds that follow."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from gossamer.sparsify.rearrange.grouping import Channels, Grouping
from gossamer.sparsify.rearrange.search import improve


def channels(magnitude, threshold, group=None, beside=None, counts=None):
    m = np.ascontiguousarray(magnitude, np.float32)
    group = np.arange(len(m)) // 4 if group is None else np.asarray(group)
    beside = np.zeros((group[-1] + 1, m.shape[1]), np.float32) if beside is None else np.asarray(beside, np.float32)
    thresholds = threshold if isinstance(threshold, tuple) else (threshold,)
    return Channels(m, beside, group, thresholds, counts or (m.shape[1],))


def worth(data, group):
    total = data.beside.copy()
    np.add.at(total, group, data.magnitude)
    return float(np.maximum(total - np.repeat(data.thresholds, data.counts), 0).sum())


def test_worth_is_what_blocks_hold_above_the_threshold():
    data = channels([[1, 0], [2, 1], [0, 1], [1, 1], [5, 0], [0, 0], [0, 0], [0, 2]], 2.5)
    found = Grouping(data)
    # blocks hold [4, 3] and [5, 2]: 1.5 + 0.5 and 2.5 + 0
    np.testing.assert_allclose(found.worth, [2.0, 2.5])
    found.swap(0, 7)
    # now [3, 5] and [6, 0]
    np.testing.assert_allclose(found.worth, [0.5 + 2.5, 3.5])
    np.testing.assert_array_equal(found.group, [1, 0, 0, 0, 1, 1, 1, 0])


def test_worth_stays_exact_through_a_thousand_swaps():
    rng = np.random.default_rng(3)
    data = channels(rng.random((24, 40)), (1.9, 2.1), counts=(15, 25))
    found = Grouping(data)
    for _ in range(1000):
        c, d = rng.choice(24, 2, replace=False)
        if found.group[c] != found.group[d]:
            found.swap(int(c), int(d))
    assert found.worth.sum() == pytest.approx(worth(data, found.group), rel=1e-5)


def test_descent_ends_where_no_swap_gains():
    rng = np.random.default_rng(4)
    data = channels(rng.random((16, 20)) ** 3, 1.6)
    found = Grouping(data)
    before = found.worth.sum()
    found.descend(range(16), lambda: False)
    after = worth(data, found.group)
    assert after > before
    for c, d in itertools.combinations(range(16), 2):
        other = found.group.copy()
        other[[c, d]] = other[[d, c]]
        assert worth(data, other) <= after + 1e-4


def test_planted_groups_are_found():
    rng = np.random.default_rng(5)
    hidden = rng.permutation(64)
    planted = np.repeat((rng.random((16, 100)) < 0.1).astype(np.float32), 4, axis=0)[np.argsort(hidden)]
    planted += 0.05 * rng.random(planted.shape, dtype=np.float32)
    order, ended = improve(channels(planted, 2.0), rng, kicks=64, deadline=time.monotonic() + 20)
    assert ended
    found = {tuple(sorted(block)) for block in order.reshape(16, 4)}
    assert found == {tuple(sorted(block)) for block in hidden.reshape(16, 4)}


@pytest.mark.parametrize("kicks", [0, 40])
def test_eight_channels_against_all_thirty_five_groupings(kicks):
    reached = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        m = (rng.random((8, 30)) ** 2).astype(np.float32)
        kept = 12

        def held(one, m=m, kept=kept):
            rest = [c for c in range(8) if c not in one]
            return np.sort(np.concatenate([m[list(one)].sum(0), m[rest].sum(0)]))[-kept:]

        best = max(held((0, *rest)).sum() for rest in itertools.combinations(range(1, 8), 3))
        first = held((0, 1, 2, 3))
        order, _ = improve(channels(m, float(first[0])), rng, kicks, time.monotonic() + 20)
        value = held(tuple(order[:4])).sum()
        assert value >= first.sum() - 1e-5
        reached += value >= best - 1e-4
    assert reached >= (7 if kicks else 5)


def test_groups_of_unequal_size_keep_their_sizes_and_their_neighbours():
    rng = np.random.default_rng(6)
    group = [0, 0, 1, 1, 1, 1, 2, 2, 2]
    beside = np.zeros((3, 12))
    beside[0, :4] = 3.0
    m = rng.random((9, 12)) * 0.1
    m[7:9, :4] = 2.0  # belongs beside what fills the first group at the same places
    order, _ = improve(channels(m, 4.0, group, beside), rng, 20, time.monotonic() + 20)
    assert sorted(order) == list(range(9))
    assert set(order[:2]) == {7, 8}


def test_the_same_seed_gives_the_same_order():
    m = np.random.default_rng(7).random((32, 50)) ** 2
    first, second, third = (
        improve(channels(m, 2.0), np.random.default_rng(seed), 32, time.monotonic() + 60)[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, third)


def test_a_deadline_in_the_past_changes_nothing():
    m = np.random.default_rng(8).random((32, 50))
    order, ended = improve(channels(m, 2.0), np.random.default_rng(0), 32, time.monotonic() - 1)
    assert not ended
    np.testing.assert_array_equal(order, np.arange(32))
