"""Times one weighted operator in several stored forms through the C core, interleaved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gossamer.compile.encode import encode_weights
from gossamer.compile.plan import Layout, Op, OpKind, P, Plan, Tensor, Weights

if TYPE_CHECKING:
    from gossamer_runtime import Session

ROUNDS = 5
"""Rounds in which every form has its turn: what slows the machine for a moment slows all of them."""
RUNS = 8
BUDGET_US = 200_000
"""At most about this long per form: slow operators get fewer runs, at least two a round."""
_NAME = "measured"


def bundle_of(op: Op, pattern: str) -> bytes:
    """An unsigned bundle of one operator with its weights stored as ``pattern``; inputs and outputs are row-major."""
    from gossamer.bundle.container import build
    from gossamer.compile.emit import emit

    assert op.weights is not None
    x, y = op.inputs[0], op.outputs[0]
    assert x is not None
    inner_x, inner_y = _like(x, "x"), _like(y, "y")
    single = Op(
        op.kind,
        [inner_x, None, None, *op.inputs[3:]],
        [inner_y],
        dict(op.p),
        dict(op.f),
        _NAME,
        "",
        Weights(op.weights.dense, pattern),
    )
    ops, inputs, outputs = [single], [inner_x], [inner_y]
    if x.layout is Layout.CB:
        outer = Tensor("input", x.dtype, x.shape, Layout.ROW, x.scale, x.zero_point)
        ops.insert(0, Op(OpKind.LAYOUT, [outer], [inner_x], {0: 0}, name="to_blocked"))
        inputs = [outer]
    if y.layout is Layout.CB:
        outer = Tensor("output", y.dtype, y.shape, Layout.ROW, y.scale, y.zero_point)
        ops.append(Op(OpKind.LAYOUT, [inner_y], [outer], {0: 0}, name="to_rows"))
        outputs = [outer]
    plan = Plan(ops, inputs, outputs)
    encode_weights(plan)
    made = emit(plan)
    return build(made.plan, made.weights, b"{}")


def measure(op: Op, patterns: Sequence[str], *, threads: int = 1, isa: str | None = None) -> dict[str, float]:
    """Median microseconds of the operator in every stored form.

    Forms take turns, so that they see the same machine; warm-up runs are not counted.

    Raises:
        LibraryError: the native core is missing.
    """
    from gossamer_runtime import Session

    sessions: dict[str, Session] = {
        pattern: Session(bundle_of(op, pattern), threads=threads, isa=isa, verify=False) for pattern in patterns
    }
    try:
        first = {pattern: _time(session, 2) for pattern, session in sessions.items()}
        runs = {p: int(np.clip(BUDGET_US / (ROUNDS * max(us, 1.0)), 2, RUNS)) for p, us in first.items()}
        times: dict[str, list[float]] = {pattern: [] for pattern in patterns}
        for _ in range(ROUNDS):
            for pattern, session in sessions.items():
                times[pattern].append(_time(session, runs[pattern]))
        return {pattern: float(np.median(taken)) for pattern, taken in times.items()}
    finally:
        for session in sessions.values():
            session.close()


def _time(session: Session, runs: int) -> float:
    """Median microseconds of the operator over a few runs."""
    profile = session.profile(runs=runs, warmup=1)
    return next(op.median_us for op in profile.ops if op.name == _NAME)


def key_of(op: Op, runs: str, work: float) -> str:
    """What the time of an operator depends on, as text: kind, type, shapes, window, the form that runs, its work.

    Args:
        runs: the form that the kernel walks.
        work: share of the matrix that it executes, in [0, 1]; told in steps of 1/40.
    """
    assert op.weights is not None
    x, y = op.inputs[0], op.outputs[0]
    assert x is not None
    parts = [op.kind.name.lower(), x.dtype.name.lower(), _shape(x.shape), _shape(y.shape)]
    if op.kind is OpKind.CONV:
        window = (P.KH, P.KW, P.SH, P.SW, P.DH, P.DW, P.PT, P.PL, P.PB, P.PR)
        parts.append("k" + ",".join(str(op.p.get(slot, 0)) for slot in window))
        parts.append(f"g{op.p.get(P.GROUPS, 1)}")
    wide = op.weights.dense.dtype == np.int16 and bool((np.abs(op.weights.dense) > 127).any())
    parts.append(runs + ("+wide" if wide else ""))
    parts.append(f"{round(work * 40) / 40:.3f}")
    return " ".join(parts)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _like(tensor: Tensor, name: str) -> Tensor:
    return Tensor(name, tensor.dtype, tensor.shape, tensor.layout, tensor.scale, tensor.zero_point)
