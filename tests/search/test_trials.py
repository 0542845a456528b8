"""Walking the front: how few bundles are built, and which is taken."""

from __future__ import annotations

import pytest

from gossamer.search.front import Point
from gossamer.search.result import Goal, Trial
from gossamer.search.trials import Walk

POINTS = [Point(100.0 - i, i / 1000, (i,)) for i in range(64)]


def walk(goal, drop, latency=lambda i: 100.0 - i, most=16, points=POINTS):
    """A walk whose point ``i`` measures ``drop(i)`` and ``latency(i)``."""
    asked = []

    def measure(point, name):
        i = point.choice[0]
        asked.append(i)
        return Trial(name, {"a": i / 64}, point.us, point.loss, 0.9 - drop(i), drop(i), 0.01, latency(i), 1000, 50.0)

    made = Walk(points, goal, measure, most)
    made.run()
    return made, asked


@pytest.mark.parametrize("edge", [0, 1, 17, 40, 62])
def test_the_fastest_within_a_drop_is_found_by_bisection(edge):
    made, asked = walk(Goal(max_drop=0.01), lambda i: 0.0 if i <= edge else 0.02)
    assert made.best().latency_us == 100.0 - edge
    assert len(asked) == len(set(asked)) <= made.expected <= 10


def test_when_everything_or_nothing_meets_the_goal_two_or_one_bundles_tell():
    made, asked = walk(Goal(max_drop=0.01), lambda i: 0.0)
    assert asked == [0, 63] and made.best().latency_us == 37.0
    made, asked = walk(Goal(max_drop=0.01), lambda i: 0.05 + i)
    assert asked == [0] and made.best() is None and made.nearest().drop == 0.05


def test_the_least_drop_within_a_latency_is_found_from_the_other_end():
    made, asked = walk(Goal(latency_us=70.0), lambda i: i / 1000)
    assert made.best().latency_us == 70.0 and made.best().drop == 0.03
    assert asked[0] == 63
    made, asked = walk(Goal(latency_us=10.0), lambda i: i / 1000)
    assert asked == [63] and made.best() is None and made.nearest().latency_us == 37.0


def test_a_measured_drop_that_does_not_fall_evenly_is_looked_past():
    bad = {31, 20, 21}
    made, asked = walk(Goal(max_drop=0.01), lambda i: 0.02 if i in bad or i > 22 else 0.0)
    assert made.best().latency_us <= 100.0 - 19
    assert any(i in asked for i in (21, 22))


def test_trials_are_bounded():
    made, asked = walk(Goal(max_drop=0.01), lambda i: 0.0 if i <= 40 else 0.02, most=4)
    assert len(asked) == 4 and made.best() is not None


def test_latencies_measured_in_turns_decide_in_the_end():
    made, _ = walk(Goal(latency_us=70.0), lambda i: i / 1000)
    before = made.best()
    made.retime(lambda trials: [t.latency_us + (5.0 if t.latency_us == 70.0 else 0.0) for t in trials])
    assert made.best().latency_us < 70.0 < before.latency_us + 1
    assert all(t.meets == (t.latency_us <= 70.0) for t in made.found.values())


def test_a_front_of_one_point():
    made, asked = walk(Goal(max_drop=0.0), lambda i: 0.0, points=POINTS[:1])
    assert asked == [0] and made.best().name == "1"
