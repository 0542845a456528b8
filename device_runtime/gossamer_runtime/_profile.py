"""Where the time goes: per-operator timings of a session as table, JSON, Chrome trace and one-line summaries."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gossamer_runtime import _conditions
from gossamer_runtime._errors import InputError
from gossamer_runtime._session import OpInfo, op_infos
from gossamer_runtime._steady import WarmUp, warm_up

if TYPE_CHECKING:
    from gossamer_runtime._session import Session


@dataclass(frozen=True)
class OpTime:
    """One operator of the plan and its time.

    ``macs`` counts the multiply-accumulates of the dense operator, ``macs_executed`` those that its kernel does.
    ``sparsity_percent`` is the share of zero weights; ``None`` for operators without weights.
    ``share_percent`` is of the sum of all operators' medians. ``fused``: a depthwise operator that runs inside the
    pointwise one behind it, tile by tile; its time is its share of that one's.
    """

    index: int
    name: str
    kind: str
    source: str
    pattern: str
    kernel: str
    dtype: str
    sparsity_percent: float | None
    macs: int
    macs_executed: int
    input_bytes: int
    output_bytes: int
    weight_bytes: int
    fused: bool
    median_us: float
    min_us: float
    p90_us: float
    share_percent: float


@dataclass(frozen=True)
class Latency:
    """Whole inferences, called from Python: the time of ``Session.run`` with its checks and copies."""

    runs: int
    first_us: float
    min_us: float
    median_us: float
    mean_us: float
    p90_us: float
    max_us: float
    std_us: float


class Profile:
    """What ``Session.profile`` measured.

    Attributes:
        ops: one ``OpTime`` per operator, in execution order.
        latency: whole inferences, timed without the per-operator hook, the warm-up left out.
        warm_up: the same with the warm-up: the first run, and when the times were steady.
        machine: clock in MHz and temperature in degrees Celsius at start and end, ``None`` where there is no telling.
        notes: what may have bent the times (clock, heat), or why that is unknown.
        init_us: time to open the session, signature check and weight packing included, in microseconds.
        model, isa, threads: what ran.
        arena_bytes, session_bytes: memory of activations, and of the whole session without the bundle.
    """

    def __init__(
        self,
        *,
        model: str,
        isa: str,
        threads: int,
        warmup: int,
        warmup_mean_us: float,
        init_us: float,
        arena_bytes: int,
        session_bytes: int,
        latency: Latency,
        ops: list[OpTime],
        op_us: npt.NDArray[np.float64],
        whole_us: npt.NDArray[np.float64],
        machine: dict[str, Any],
        notes: list[str],
    ) -> None:
        self.model = model
        self.isa = isa
        self.threads = threads
        self.warmup = warmup
        self.warmup_mean_us = warmup_mean_us
        self.init_us = init_us
        self.arena_bytes = arena_bytes
        self.session_bytes = session_bytes
        self.latency = latency
        self.ops = ops
        self.machine = machine
        self.notes = notes
        self.warm_up: WarmUp = warm_up(whole_us)
        self._op_us = op_us
        self._whole_us = whole_us

    @property
    def ops_median_us(self) -> float:
        """Sum of the operators' medians in microseconds."""
        return sum(op.median_us for op in self.ops)

    def summary(self) -> str:
        """Lines in the manner of TensorFlow Lite's ``benchmark_model``."""
        t = self.latency
        return "\n".join(
            [
                f"Timings (microseconds): count={t.runs} first={t.first_us:.1f} min={t.min_us:.1f} "
                f"median={t.median_us:.1f} p90={t.p90_us:.1f} max={t.max_us:.1f} avg={t.mean_us:.1f} "
                f"std={t.std_us:.1f}",
                f"Inference timings in us: Init: {self.init_us:.1f}, "
                f"Warmup (avg, {self.warmup} runs): {self.warmup_mean_us:.1f}, "
                f"Inference (avg, {t.runs} runs): {t.mean_us:.1f}",
                self.warm_up.line(),
                f"Memory in bytes: arena={self.arena_bytes} session={self.session_bytes}",
                f"Machine: isa={self.isa} threads={self.threads}{self._clock_and_heat()}",
                *(f"Note: {note}" for note in self.notes),
            ]
        )

    def _clock_and_heat(self) -> str:
        pairs = (("clock", "mhz", "MHz"), ("temperature", "celsius", "°C"))
        return "".join(
            f" {what}={self.machine[f'start_{key}']:.0f} to {self.machine[f'end_{key}']:.0f} {unit}"
            for what, key, unit in pairs
            if self.machine[f"start_{key}"] is not None and self.machine[f"end_{key}"] is not None
        )

    def table(self, *, sort: str = "order", limit: int | None = None) -> str:
        """One line per operator.

        Args:
            sort: ``"order"`` of execution or ``"time"``, slowest first.
            limit: at most this many lines; the rest is summed up in one.
        """
        if sort not in ("order", "time"):
            raise InputError(f"sort must be 'order' or 'time', not {sort!r}")
        ops = sorted(self.ops, key=lambda op: -op.median_us) if sort == "time" else list(self.ops)
        rest = ops[limit:] if limit is not None else []
        head = ["#", "op", "median us", "min us", "p90 us", "share %", "sparsity %", "kMAC", "kMAC run"]
        head += ["in kB", "out kB", "weight kB", "kernel", "source"]
        rows = [
            [
                str(op.index),
                op.kind,
                f"{op.median_us:.1f}",
                f"{op.min_us:.1f}",
                f"{op.p90_us:.1f}",
                f"{op.share_percent:.1f}",
                "-" if op.sparsity_percent is None else f"{op.sparsity_percent:.1f}",
                f"{op.macs / 1e3:.0f}",
                f"{op.macs_executed / 1e3:.0f}",
                f"{op.input_bytes / 1e3:.1f}",
                f"{op.output_bytes / 1e3:.1f}",
                f"{op.weight_bytes / 1e3:.1f}",
                (op.kernel or "-") + (" (fused)" if op.fused else ""),
                _short(op.source or op.name),
            ]
            for op in (ops[:limit] if limit is not None else ops)
        ]
        if rest:
            share = sum(op.share_percent for op in rest)
            us = sum(op.median_us for op in rest)
            rows.append(["", f"{len(rest)} more", f"{us:.1f}", "", "", f"{share:.1f}", *[""] * 8])
        return _columns(head, rows, left={1, 12, 13})

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data; every key with a unit names it."""
        return {
            "model": self.model,
            "isa": self.isa,
            "threads": self.threads,
            "warmup_runs": self.warmup,
            "warmup_mean_us": self.warmup_mean_us,
            "init_us": self.init_us,
            "arena_bytes": self.arena_bytes,
            "session_bytes": self.session_bytes,
            "latency": asdict(self.latency),
            "warm_up": asdict(self.warm_up),
            "machine": self.machine,
            "notes": self.notes,
            "ops_median_us": self.ops_median_us,
            "ops": [asdict(op) for op in self.ops],
        }

    def chrome_trace(self) -> str:
        """Chrome trace events as JSON, for https://ui.perfetto.dev and ``chrome://tracing``; times in microseconds.

        Two tracks, one after the other in time as they were measured: whole inferences, warm-up included, then the runs
        with the per-operator hook, operators back to back.
        """

        def event(name: str, cat: str, tid: int, at: float, us: float, args: dict[str, Any]) -> dict[str, Any]:
            return {"name": name, "cat": cat, "ph": "X", "pid": 1, "tid": tid, "ts": at, "dur": us, "args": args}

        def label(name: str, tid: int, text: str) -> dict[str, Any]:
            return {"name": name, "ph": "M", "pid": 1, "tid": tid, "ts": 0, "args": {"name": text}}

        events = [
            label("process_name", 1, f"gossamer {self.model}"),
            label("thread_name", 1, f"operators, {self.isa} x{self.threads}"),
            label("thread_name", 2, "whole inferences"),
        ]
        at = 0.0
        steady = self.warm_up.runs_until_steady
        for i, us in enumerate(self._whole_us.tolist()):
            name = f"warm-up {i}" if i < self.warmup else f"inference {i - self.warmup}"
            events.append(event(name, "run", 2, at, us, {"steady": None if steady is None else i >= steady}))
            at += us
        for run, times in enumerate(self._op_us):
            events.append(event(f"run {run}", "run", 1, at, float(times.sum()), {}))
            for op, us in zip(self.ops, times.tolist(), strict=True):
                args = {
                    "kernel": op.kernel,
                    "source": op.source,
                    "macs": op.macs,
                    "sparsity_percent": op.sparsity_percent,
                }
                events.append(event(f"{op.kind} {op.name}".strip(), op.kind, 1, at, us, args))
                at += us
        return json.dumps({"traceEvents": events, "displayTimeUnit": "ns", "otherData": {"notes": self.notes}})

    def __repr__(self) -> str:
        return f"<Profile {self.model}: median {self.latency.median_us:.1f} us, {len(self.ops)} operators>"


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
    whole = every[warmup:]
    op_us = op_ns / 1e3
    latency = Latency(
        runs=runs,
        first_us=float(whole[0]),
        min_us=float(whole.min()),
        median_us=float(np.median(whole)),
        mean_us=float(whole.mean()),
        p90_us=float(np.percentile(whole, 90)),
        max_us=float(whole.max()),
        std_us=float(whole.std()),
    )
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
        latency=latency,
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


def _short(text: str, most: int = 60) -> str:
    """The start and the end of a long name: converters put whole chains of nodes into one. JSON has all of it."""
    return text if len(text) <= most else f"{text[: most // 2 - 3]}...{text[-(most // 2) :]}"


def _columns(head: list[str], rows: list[list[str]], left: set[int]) -> str:
    """Text columns two blanks apart, numbers to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = []
    for row in [head, ["-" * w for w in widths], *rows]:
        cells = [c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
