"""A profile's figures as table, JSON and lines of text, whichever machine they were measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gossamer_runtime._errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from gossamer_runtime._steady import WarmUp


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

    @classmethod
    def of(cls, times_us: npt.NDArray[np.float64]) -> Latency:
        """Of all timed runs in their order; at least one."""
        import numpy as np

        return cls(
            runs=len(times_us),
            first_us=float(times_us[0]),
            min_us=float(times_us.min()),
            median_us=float(np.median(times_us)),
            mean_us=float(times_us.mean()),
            p90_us=float(np.percentile(times_us, 90)),
            max_us=float(times_us.max()),
            std_us=float(times_us.std()),
        )


class Figures:
    """What a profile tells.

    Attributes:
        ops: one ``OpTime`` per operator, in execution order.
        latency: whole inferences, timed without the per-operator hook, the warm-up left out.
        warm_up: the same with the warm-up: the first run, and when the times were steady. ``None``: not kept.
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
        ops: Sequence[OpTime],
        machine: dict[str, Any],
        notes: Sequence[str],
        warm_up: WarmUp | None = None,
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
        self.ops = list(ops)
        self.machine = machine
        self.notes = list(notes)
        self.warm_up = warm_up

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
                *([] if self.warm_up is None else [self.warm_up.line()]),
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
            **({} if self.warm_up is None else {"warm_up": asdict(self.warm_up)}),
            "machine": self.machine,
            "notes": self.notes,
            "ops_median_us": self.ops_median_us,
            "ops": [asdict(op) for op in self.ops],
        }

    def __repr__(self) -> str:
        kind, us = type(self).__name__, self.latency.median_us
        return f"<{kind} {self.model}: median {us:.1f} us, {len(self.ops)} operators>"


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
