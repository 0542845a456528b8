"""Two profiles side by side: operators matched in their order, times and the ratio of the second to the first."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from typing import Any

from gossamer._errors import InputError
from gossamer._tables import columns


@dataclass(frozen=True)
class Op:
    """One operator of one side; times in microseconds."""

    index: int
    name: str
    kind: str
    source: str
    kernel: str
    median_us: float
    min_us: float
    p90_us: float


@dataclass(frozen=True)
class Side:
    """One profile: what ran where (``label``), whole inferences in microseconds, and its operators."""

    label: str
    model: str
    isa: str
    threads: int
    runs: int
    min_us: float
    median_us: float
    p90_us: float
    ops: tuple[Op, ...]
    first_run_us: float | None
    runs_until_steady: int | None
    steady_median_us: float | None
    steady_p90_us: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """Operators that are the same one; ``None``: only the other side has it."""

    a: Op | None
    b: Op | None

    @property
    def ratio(self) -> float | None:
        """Median of B over median of A; ``None`` when one is missing or A's is 0."""
        return None if self.a is None or self.b is None else _ratio(self.a.median_us, self.b.median_us)


@dataclass(frozen=True)
class Comparison:
    """Two profiles and their pairs of operators, in execution order.

    ``rounds``: when they were measured by turns, both sides of each turn; ``a`` and ``b`` are then over all of them.
    """

    a: Side
    b: Side
    pairs: tuple[Pair, ...]
    rounds: tuple[tuple[Side, Side], ...] = ()

    @property
    def round_ratios(self) -> list[float | None]:
        """B/A of the medians of whole inferences, by round."""
        return [_ratio(a.median_us, b.median_us) for a, b in self.rounds]

    def table(self) -> str:
        """Operators, their sum, and whole inferences; times in microseconds, ratios B/A (below 1: B is faster)."""
        head = ["A #", "B #", "op", "A median us", "B median us", "B/A", "A kernel", "B kernel", "source"]
        rows = []
        for pair in self.pairs:
            a, b = pair.a, pair.b
            either = a or b
            assert either is not None  # a pair has one side at least
            rows.append(
                [
                    "-" if a is None else str(a.index),
                    "-" if b is None else str(b.index),
                    either.kind,
                    "-" if a is None else f"{a.median_us:.1f}",
                    "-" if b is None else f"{b.median_us:.1f}",
                    _text(pair.ratio),
                    "-" if a is None else a.kernel or "-",
                    "-" if b is None else b.kernel or "-",
                    either.source or either.name,
                ]
            )
        sums = [sum(op.median_us for op in side.ops) for side in (self.a, self.b)]
        rows.append(
            [
                "",
                "",
                "all",
                f"{sums[0]:.1f}",
                f"{sums[1]:.1f}",
                _text(_ratio(sums[0], sums[1])),
                "",
                "",
                "sum of medians",
            ]
        )
        return columns(head, rows, left={2, 6, 7, 8}, widest={6: 40, 7: 40, 8: 50})

    def summary(self) -> str:
        """Whole inferences: first run, minimum, median, 90th percentile, steady state; who A and B are; notes."""
        rows = []
        for what, key in _WHOLE:
            a, b = getattr(self.a, key), getattr(self.b, key)
            ratio = _ratio(a, b) if a is not None and b is not None else None
            rows.append([what, _text(a, 1), _text(b, 1), _text(ratio)])
        steady = [self.a.runs_until_steady, self.b.runs_until_steady]
        rows.append(["runs until steady", *("-" if n is None else str(n) for n in steady), ""])
        lines = [columns(["whole inferences", "A", "B", "B/A"], rows, left={0}), ""]
        for letter, side in (("A", self.a), ("B", self.b)):
            lines.append(
                f"{letter}: {side.label}: {side.model}, isa={side.isa} threads={side.threads} runs={side.runs}"
            )
            lines += [f"   note: {note}" for note in side.notes]
        if self.rounds:
            lines += [
                f"{len(self.rounds)} rounds, A and B by turns, every other one B first; times are medians over the "
                "rounds (min us: the least, first run us: the first)",
                f"B/A of the medians by round: {' '.join(map(_text, self.round_ratios))}",
            ]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data; every time's key names its unit, ratios are B/A."""
        sides = {}
        for letter, side in (("a", self.a), ("b", self.b)):
            sides[letter] = {k: v for k, v in asdict(side).items() if k != "ops"}
            sides[letter]["ops_median_us"] = sum(op.median_us for op in side.ops)
        whole = {
            key.removesuffix("_us") + "_ratio": _ratio(getattr(self.a, key), getattr(self.b, key))
            for _, key in _WHOLE
            if getattr(self.a, key) is not None and getattr(self.b, key) is not None
        }
        whole["ops_median_ratio"] = _ratio(sides["a"]["ops_median_us"], sides["b"]["ops_median_us"])
        ops = [
            {
                "a": None if pair.a is None else asdict(pair.a),
                "b": None if pair.b is None else asdict(pair.b),
                "median_ratio": pair.ratio,
            }
            for pair in self.pairs
        ]
        found: dict[str, Any] = {**sides, "ratios": whole, "ops": ops}
        if self.rounds:
            found["rounds"] = {
                "count": len(self.rounds),
                "a_median_us": [a.median_us for a, _ in self.rounds],
                "b_median_us": [b.median_us for _, b in self.rounds],
                "median_ratio": self.round_ratios,
            }
        return found


_WHOLE = (
    ("first run us", "first_run_us"),
    ("min us", "min_us"),
    ("median us", "median_us"),
    ("p90 us", "p90_us"),
    ("steady median us", "steady_median_us"),
    ("steady p90 us", "steady_p90_us"),
)


def compare(a: Side, b: Side) -> Comparison:
    """Pair the operators of two profiles.

    Same kind and same source (the name where there is none), longest common runs in execution order first; kinds
    alone decide between them. The same model at another sparsity, on another machine or with another kernel thus
    pairs up whole; operators that one side lacks stand alone.
    """
    pairs: list[Pair] = []
    whole = SequenceMatcher(None, [_place(op) for op in a.ops], [_place(op) for op in b.ops], autojunk=False)
    for tag, a0, a1, b0, b1 in whole.get_opcodes():
        if tag == "equal":
            pairs += [Pair(x, y) for x, y in zip(a.ops[a0:a1], b.ops[b0:b1], strict=True)]
            continue
        left, right = a.ops[a0:a1], b.ops[b0:b1]
        kinds = SequenceMatcher(None, [op.kind for op in left], [op.kind for op in right], autojunk=False)
        for inner, i0, i1, j0, j1 in kinds.get_opcodes():
            if inner == "equal":
                pairs += [Pair(x, y) for x, y in zip(left[i0:i1], right[j0:j1], strict=True)]
            else:
                pairs += [Pair(x, None) for x in left[i0:i1]] + [Pair(None, y) for y in right[j0:j1]]
    return Comparison(a, b, tuple(pairs))


def parse(text: str, label: str) -> Side:
    """A profile from JSON: of ``gossamer profile --json``, ``gossamer device profile --json``, or the static
    ``gossamer-profile --json``.

    Raises:
        InputError: not JSON, not a profile, or a time that is not a finite number of microseconds from 0 on.
    """
    try:
        value: Any = json.loads(text)
    except ValueError as e:
        raise InputError(f"not JSON: {e}", where=label, hint="'gossamer profile MODEL --json' writes a profile") from e
    if not isinstance(value, dict):
        raise InputError(f"a profile is a JSON object, not {type(value).__name__}", where=label)
    static = "operators" in value
    try:
        latency = _fields(value, "inference" if static else "latency", label)
        runs = int(value["runs"] if static else latency["runs"])
        listed = value["operators" if static else "ops"]
        if not isinstance(listed, list):
            raise InputError("the profile's operators are not a list", where=label)
        ops = tuple(_op(row, f"{label}: operator {i}") for i, row in enumerate(listed))
        warm = value.get("warm_up")
        warm = warm if isinstance(warm, dict) else {}
        until = warm.get("runs_until_steady")
        notes = value.get("notes")
        return Side(
            label=label,
            model=str(value["model"]),
            isa=str(value["isa"]),
            threads=int(value["threads"]),
            runs=runs,
            min_us=_us(latency, "min_us", label),
            median_us=_us(latency, "median_us", label),
            p90_us=_us(latency, "p90_us", label),
            ops=ops,
            first_run_us=_us(warm, "first_run_us", label) if "first_run_us" in warm else None,
            runs_until_steady=None if until is None else int(until),
            steady_median_us=None if until is None else _us(warm, "steady_median_us", label),
            steady_p90_us=None if until is None else _us(warm, "steady_p90_us", label),
            notes=tuple(map(str, notes)) if isinstance(notes, list) else (),
        )
    except KeyError as e:
        raise InputError(
            f"not a profile: {e.args[0]!r} is missing", where=label, hint="'gossamer profile MODEL --json' writes one"
        ) from e
    except (TypeError, ValueError, OverflowError) as e:
        raise InputError(f"not a profile: {e}", where=label) from e


def _op(row: Any, where: str) -> Op:
    if not isinstance(row, dict):
        raise InputError(f"an operator is a JSON object, not {type(row).__name__}", where=where)
    return Op(
        index=int(row["index"]),
        name=str(row["name"]),
        kind=str(row["kind"]),
        source=str(row["source"]),
        kernel=str(row["kernel"]),
        median_us=_us(row, "median_us", where),
        min_us=_us(row, "min_us", where),
        p90_us=_us(row, "p90_us", where),
    )


def _fields(value: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    found = value[key]
    if not isinstance(found, dict):
        raise InputError(f"the profile's {key!r} is not an object", where=where)
    return found


def _us(fields: dict[str, Any], key: str, where: str) -> float:
    value = fields[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise InputError(f"{key} is {value!r}, not a time in microseconds", where=where)
    return float(value)


def _place(op: Op) -> tuple[str, str]:
    return op.kind, op.source or op.name


def _ratio(a: float, b: float) -> float | None:
    return b / a if a > 0 else None


def _text(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
