"""Two sides measured by turns, round after round, as one comparison: what drifts meanwhile then bends both alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

from gossamer._errors import InputError
from gossamer._profile_compare import Comparison, Op, Side, compare


def by_turns(a: Callable[[], Side], b: Callable[[], Side], rounds: int) -> Comparison:
    """Measure A and B in turn, ``rounds`` times each, and compare what came of it.

    Every other round begins with B, so that a clock that falls evenly favours neither.

    Raises:
        InputError: the operators of one side are not the same in every round.
    """
    pairs = []
    for i in range(rounds):
        if i % 2:
            second, first = b(), a()
        else:
            first, second = a(), b()
        pairs.append((first, second))
    found = compare(over_rounds([p[0] for p in pairs]), over_rounds([p[1] for p in pairs]))
    return replace(found, rounds=tuple(pairs))


def over_rounds(sides: Sequence[Side]) -> Side:
    """One side of several measurements of the same: medians over the rounds, the least of minima, the first first run.

    ``runs_until_steady`` is the most of all; with a round that never was steady there is no steady state.

    Raises:
        InputError: the operators differ between rounds.
    """
    first = sides[0]
    for other in sides[1:]:
        if [_same(op) for op in other.ops] != [_same(op) for op in first.ops]:
            raise InputError(
                "its operators are not the same in every round", where=first.label,
                hint="was another bundle flashed meanwhile?",
            )  # fmt: skip
    until = [s.runs_until_steady for s in sides if s.runs_until_steady is not None]
    steady = len(until) == len(sides)
    return replace(
        first,
        runs=sum(s.runs for s in sides),
        min_us=min(s.min_us for s in sides),
        median_us=median(s.median_us for s in sides),
        p90_us=median(s.p90_us for s in sides),
        ops=tuple(_op(ops) for ops in zip(*(s.ops for s in sides), strict=True)),
        runs_until_steady=max(until) if steady else None,
        steady_median_us=_median([s.steady_median_us for s in sides]) if steady else None,
        steady_p90_us=_median([s.steady_p90_us for s in sides]) if steady else None,
        notes=tuple(dict.fromkeys(note for s in sides for note in s.notes)),
    )


def _op(ops: Sequence[Op]) -> Op:
    return replace(
        ops[0],
        median_us=median(op.median_us for op in ops),
        min_us=min(op.min_us for op in ops),
        p90_us=median(op.p90_us for op in ops),
    )


def _same(op: Op) -> tuple[int, str, str, str]:
    return op.index, op.name, op.kind, op.kernel


def _median(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return median(known) if known else None
