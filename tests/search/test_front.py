"""The solver: against all sets of choices of small networks, and its rules."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gossamer.search import front as solver
from gossamer.search.front import front, spaced


def every_choice(options):
    """(us, loss, choice) of all sets."""
    for choice in itertools.product(*(range(len(layer)) for layer in options)):
        us = sum(layer[i][0] for layer, i in zip(options, choice, strict=True))
        loss = sum(layer[i][1] for layer, i in zip(options, choice, strict=True))
        yield us, loss, choice


@pytest.mark.parametrize("seed", range(5))
def test_front_is_that_of_all_choices(seed):
    rng = np.random.default_rng(seed)
    options = [
        [(10.0, 0.0), *zip(rng.integers(1, 10, 3) * 1.0, rng.integers(0, 9, 3) / 8, strict=True)] for _ in range(5)
    ]
    everything = list(every_choice(options))
    best = sorted(
        {
            (u, v)
            for u, v, _ in everything
            if not any((a <= u and b < v) or (a < u and b <= v) for a, b, _ in everything)
        },
        key=lambda p: p[1],
    )
    points = front(options)
    assert [p.us for p in points] == pytest.approx([u for u, _ in best])
    assert [p.loss for p in points] == pytest.approx([v for _, v in best])
    for p in points:
        assert sum(layer[i][0] for layer, i in zip(options, p.choice, strict=True)) == pytest.approx(p.us)
        assert sum(layer[i][1] for layer, i in zip(options, p.choice, strict=True)) == pytest.approx(p.loss)


def test_ends_are_the_least_loss_and_the_least_time():
    points = front([[(5.0, 0.0), (2.0, 0.3)], [(4.0, 0.0), (4.0, 0.1), (1.0, 0.9)]])
    assert (points[0].us, points[0].loss, points[0].choice) == (9.0, 0.0, (0, 0))
    assert (points[-1].us, points[-1].loss, points[-1].choice) == (3.0, pytest.approx(1.2), (1, 2))
    assert all(a.us > b.us and a.loss < b.loss for a, b in itertools.pairwise(points))


def test_what_costs_nothing_is_taken_at_once():
    points = front([[(5.0, 0.0), (3.0, 0.0)]])
    assert [(p.us, p.loss, p.choice) for p in points] == [(3.0, 0.0, (1,))]
    assert [p.choice for p in front([[(5.0, 0.0)], [(7.0, 0.0)]])] == [(0, 0)]


def test_long_fronts_are_thinned_between_their_ends(monkeypatch):
    rng = np.random.default_rng(0)
    options = []
    for _ in range(10):
        us, loss = np.sort(rng.uniform(1, 9, 4))[::-1], np.sort(rng.uniform(0.1, 1, 4))
        options.append([(10.0, 0.0), *zip(us.tolist(), loss.tolist(), strict=True)])
    whole = front(options)
    monkeypatch.setattr(solver, "MOST", 40)
    thin = front(options)
    assert len(whole) > 150 and 20 <= len(thin) <= 41
    assert (thin[0].us, thin[-1].us) == pytest.approx((whole[0].us, whole[-1].us))
    for p in thin:  # little is lost: at the time of each thinned point the exact front is less than 5% better
        exact = min(q.loss for q in whole if q.us <= p.us + 1e-9)
        assert p.loss <= exact * 1.05 + 1e-9


def test_spaced_takes_the_nearest_to_even_steps():
    us = np.array([100.0, 99.0, 98.0, 52.0, 51.0, 3.0, 0.0])
    assert spaced(us, 3).tolist() == [0, 4, 6]
    assert spaced(us, 5).tolist() == [0, 2, 4, 5, 6]
    assert spaced(us, 100).tolist() == list(range(7))
