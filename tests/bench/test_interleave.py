"""Turn-taking, repeats of disturbed rounds, and the statistics over them, on clocks that the test owns."""

from __future__ import annotations

import numpy as np
import pytest

from tools.bench.interleave import BURST_MS, NOISY, WARM_MS, Timing, interleave


class Engine:
    """Takes ``ms`` a run, more in the bursts of ``slow``; writes down who was called with what."""

    def __init__(self, name: str, ms: float, log: list[str], slow: dict[int, float] | None = None) -> None:
        self.name, self.ms, self.log, self.slow = name, ms, log, slow or {}
        self.calls: list[tuple[int, int]] = []

    def __call__(self, warm: int, count: int) -> np.ndarray:
        self.log.append(self.name)
        self.calls.append((warm, count))
        return np.full(count, self.ms * self.slow.get(len(self.calls) - 1, 1.0))


def test_contenders_take_turns_and_the_order_turns_round() -> None:
    log: list[str] = []
    interleave([Engine("a", 5, log), Engine("b", 5, log), Engine("c", 5, log)], runs=12, rounds=4)
    assert "".join(log[3:]) == "abc" + "cba" + "abc" + "cba"  # after a first try of each


def test_at_least_the_runs_asked_for_and_more_of_the_short_ones() -> None:
    slow, fast = Engine("slow", 20.0, []), Engine("fast", 0.5, [])
    timings = interleave([slow, fast], runs=60, rounds=6)
    assert timings[0].runs == 60 and set(slow.calls[1:]) == {(2, 10)}
    assert set(fast.calls[1:]) == {(WARM_MS / 0.5, BURST_MS / 0.5)} and timings[1].runs == 300
    assert (timings[0].median, timings[1].median) == (20.0, 0.5)


def test_a_disturbed_round_is_run_again_and_replaced() -> None:
    engine = Engine("a", 10.0, [], slow={2: 2.0})  # call 0 is the first try: this is round 1
    (timing,) = interleave([engine], runs=50, rounds=5)
    assert len(engine.calls) == 1 + 5 + 1
    assert (timing.repeated, timing.noisy) == (1, 0)
    assert timing.runs == 50 and timing.times.max() == 10.0


def test_rounds_that_stay_disturbed_count_and_are_said() -> None:
    calm = dict.fromkeys(range(3), 1.0)
    engine = Engine("a", 10.0, [], slow=calm | dict.fromkeys(range(3, 40), 1.3))
    (timing,) = interleave([engine], runs=60, rounds=6, repeats=2)
    assert timing.noisy == 4 and timing.repeated == 8
    assert timing.runs == 60 and timing.median == 13.0 and timing.least == 10.0


def test_the_bound_of_noise_itself_is_calm() -> None:
    engine = Engine("a", 8.0, [], slow={3: NOISY})
    (timing,) = interleave([engine], runs=50, rounds=5)
    assert timing.repeated == 0


def test_statistics() -> None:
    timing = Timing(np.arange(1.0, 12.0))
    assert (timing.median, timing.least, timing.p90, timing.runs) == (6.0, 1.0, 10.0, 11)


def test_a_contender_that_dies_ends_the_run() -> None:
    def dead(warm: int, count: int) -> np.ndarray:
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError, match="gone"):
        interleave([Engine("a", 1.0, []), dead])
