"""A profile as Chrome trace events, for https://ui.perfetto.dev and ``chrome://tracing``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_ARGS = ("kernel", "source", "macs", "sparsity_percent")
_OPERATORS, _WHOLE = 1, 2


def chrome_trace(
    model: str,
    isa: str,
    threads: int,
    operators: Sequence[Mapping[str, Any]],
    times_us: Iterable[Sequence[float]],
    *,
    runs_us: Sequence[float] | None = None,
    whole: Sequence[tuple[str, float, dict[str, Any]]] = (),
    notes: Sequence[str] = (),
) -> str:
    """The events as JSON; their times are in microseconds from the first one on.

    Args:
        operators: ``name``, ``kind`` and what else is known of each, in execution order.
        times_us: one row a run, in it each operator's time; drawn back to back.
        runs_us: each run's whole time, at least the sum of its row. None: the sums.
        whole: a track of its own, drawn first: inferences timed without their operators, as name, time and arguments.
        notes: what may have bent the times.
    """

    def event(name: str, cat: str, tid: int, at: float, us: float, args: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, "cat": cat, "ph": "X", "pid": 1, "tid": tid, "ts": at, "dur": us, "args": args}

    def label(name: str, tid: int, text: str) -> dict[str, Any]:
        return {"name": name, "ph": "M", "pid": 1, "tid": tid, "ts": 0, "args": {"name": text}}

    events = [
        label("process_name", _OPERATORS, f"gossamer {model}"),
        label("thread_name", _OPERATORS, f"operators, {isa} x{threads}"),
    ]
    if whole:
        events.append(label("thread_name", _WHOLE, "whole inferences"))
    at = 0.0
    for name, us, args in whole:
        events.append(event(name, "run", _WHOLE, at, us, args))
        at += us
    for run, times in enumerate(times_us):
        took = sum(times) if runs_us is None else runs_us[run]
        events.append(event(f"run {run}", "run", _OPERATORS, at, took, {}))
        inside = at
        for op, us in zip(operators, times, strict=True):
            shown = {key: op[key] for key in _ARGS if key in op}
            events.append(event(f"{op['kind']} {op['name']}".strip(), op["kind"], _OPERATORS, inside, us, shown))
            inside += us
        at += took
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ns", "otherData": {"notes": list(notes)}})
