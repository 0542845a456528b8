"""What the static profiler measured, in the figures and the trace of every other profile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gossamer_runtime._figures import Figures, Latency, OpTime
from gossamer_runtime._steady import warm_up
from gossamer_runtime._trace import chrome_trace

_NOTES = (
    "whole inferences were timed with the time of each operator, which adds to them",
    "clock and heat unknown: the static profiler reads neither",
)


def figures(found: Mapping[str, Any], model: str) -> Figures:
    """The figures of ``gossamer-profile --json --each``; times in microseconds.

    Args:
        found: its JSON.
        model: name of what ran; the program knows its file alone.

    Raises:
        LookupError, TypeError, ValueError: it is not that JSON; the last two perhaps only where the figures are shown.
    """
    warmups, whole = (np.asarray(found["inference"][key], np.float64) / 1e3 for key in ("warmup_ns", "runs_ns"))
    total = sum(op["median_us"] for op in found["operators"]) or 1.0
    return Figures(
        model=model,
        isa=found["isa"],
        threads=found["threads"],
        warmup=found["warmup"],
        warmup_mean_us=float(warmups.mean()) if len(warmups) else 0.0,
        init_us=found["load_us"],
        arena_bytes=found["arena_bytes"],
        session_bytes=found["session_bytes"],
        latency=Latency.of(whole),
        ops=[_op(op, 100.0 * op["median_us"] / total) for op in found["operators"]],
        machine=dict.fromkeys(("start_mhz", "end_mhz", "max_mhz", "start_celsius", "end_celsius")) | {"governors": []},
        notes=_NOTES,
        warm_up=warm_up(np.concatenate([warmups, whole])),
    )


def trace(found: Mapping[str, Any], model: str) -> str:
    """Every timed run as Chrome trace events; raises as ``figures``."""
    shown = figures(found, model)
    operators = [{**vars(op)} for op in shown.ops]
    times = np.asarray([op["runs_ns"] for op in found["operators"]], np.float64).T / 1e3
    runs = np.asarray(found["inference"]["runs_ns"], np.float64) / 1e3
    return chrome_trace(
        model, shown.isa, shown.threads, operators, times.tolist(), runs_us=runs.tolist(), notes=shown.notes
    )


def _op(op: Mapping[str, Any], share_percent: float) -> OpTime:
    same = ("index", "name", "kind", "source", "pattern", "kernel", "dtype", "macs", "macs_executed", "fused")
    count = op["weight_count"]
    return OpTime(
        **{key: op[key] for key in same},
        sparsity_percent=100.0 * (1.0 - op["weight_nonzero"] / count) if count else None,
        input_bytes=op["bytes_in"],
        output_bytes=op["bytes_out"],
        weight_bytes=op["bytes_weights"],
        median_us=op["median_us"],
        min_us=op["min_us"],
        p90_us=op["p90_us"],
        share_percent=share_percent,
    )
