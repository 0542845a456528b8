"""Where the time goes: measuring a session's inferences and operators."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gossamer_runtime import _conditions
from gossamer_runtime._errors import InputError
from gossamer_runtime._figures import Figures, Latency, OpTime
from gossamer_runtime._session import OpInfo, op_infos
from gossamer_runtime._steady import WarmUp, warm_up
from gossamer_runtime._trace import chrome_trace

if TYPE_CHECKING:
    from gossamer_runtime._session import Session


class Profile(Figures):
    """What ``Session.profile`` measured; ``warm_up`` is always there."""

    warm_up: WarmUp

    def __init__(self, *, op_us: npt.NDArray[np.float64], whole_us: npt.NDArray[np.float64], **figures: Any) -> None:
        super().__init__(warm_up=warm_up(whole_us), **figures)
        self._op_us = op_us
        self._whole_us = whole_us

    def chrome_trace(self) -> str:
        """Chrome trace events as JSON, for https://ui.perfetto.dev and ``chrome://tracing``; times in microseconds.

        Two tracks, one after the other in time as they were measured: whole inferences, warm-up included, then the runs
        with the per-operator hook, operators back to back.
        """
        steady = self.warm_up.runs_until_steady
        whole = [
            (
                f"warm-up {i}" if i < self.warmup else f"inference {i - self.warmup}",
                us,
                {"steady": None if steady is None else i >= steady},
            )
            for i, us in enumerate(self._whole_us.tolist())
        ]
        operators = [asdict(op) for op in self.ops]
        times = self._op_us.tolist()
        return chrome_trace(self.model, self.isa, self.threads, operators, times, whole=whole, notes=self.notes)


def measure(session: Session, runs: int, warmup: int, inputs: Any) -> Profile:
    """Profile a session; see ``Session.profile``."""
    if runs < 1 or warmup < 0:
        raise InputError(f"runs must be at least 1 and warmup at least 0, not {runs} and {warmup}")
    x = example_inputs(session) if inputs is None else inputs
    arrays = session._arrange(x)
    outputs = [np.empty(port.shape, port.dtype) for port in session.outputs]
    with session._lock:
        session._require_open()
        n_ops = int(session._lib.gs_model_op_count(session._model))
        op_ns = np.zeros((runs, n_ops), np.uint64)
        clock = time.perf_counter_ns
        before = _conditions.read()
        every = np.empty(warmup + runs)
        for i in range(len(every)):
            t = clock()
            session._run(arrays, outputs, None)
            every[i] = clock() - t
        for i in range(runs):
            session._run(arrays, outputs, op_ns[i])
        machine, notes = _conditions.describe(before, _conditions.read())
        infos = op_infos(session)
        where = session._where
    every /= 1e3
    op_us = op_ns / 1e3
    medians = np.median(op_us, axis=0) if n_ops else np.zeros(0)
    total = float(medians.sum()) or 1.0
    ops = [
        _op_time(i, info, op_us[:, i], float(medians[i]), 100.0 * float(medians[i]) / total)
        for i, info in enumerate(infos)
    ]
    return Profile(
        model=str(session.manifest.get("name") or where),
        isa=session.isa,
        threads=session.threads,
        warmup=warmup,
        warmup_mean_us=float(every[:warmup].mean()) if warmup else 0.0,
        init_us=session._init_us,
        arena_bytes=session.arena_bytes,
        session_bytes=session.session_bytes,
        latency=Latency.of(every[warmup:]),
        ops=ops,
        op_us=op_us,
        whole_us=every,
        machine=machine,
        notes=notes,
    )


def example_inputs(session: Session, seed: int = 0) -> list[npt.NDArray[Any]]:
    """Seeded random inputs: floats uniform in [0, 1), integers over their whole range (32 bits and more: 0..9)."""
    rng = np.random.default_rng(seed)
    out = []
    for port in session.inputs:
        if port.dtype.kind == "f":
            out.append(rng.random(port.shape, np.float32).astype(port.dtype))
            continue
        info = np.iinfo(port.dtype)
        low, high = (info.min, info.max) if port.dtype.itemsize < 4 else (0, 9)
        out.append(rng.integers(low, high, port.shape, dtype=port.dtype, endpoint=True))
    return out


def _op_time(index: int, info: OpInfo, us: npt.NDArray[np.float64], median: float, share: float) -> OpTime:
    count = info.weight_count
    return OpTime(
        index=index,
        name=info.name,
        kind=info.kind,
        source=info.source,
        pattern=info.pattern,
        kernel=info.kernel,
        dtype=info.dtype,
        sparsity_percent=100.0 * (1.0 - info.weight_nonzero / count) if count else None,
        macs=info.macs,
        macs_executed=info.macs_executed,
        input_bytes=info.input_bytes,
        output_bytes=info.output_bytes,
        weight_bytes=info.weight_bytes,
        fused=info.fused,
        median_us=median,
        min_us=float(us.min()),
        p90_us=float(np.percentile(us, 90)),
        share_percent=share,
    )
