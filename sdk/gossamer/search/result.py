"""What a search found: the bundles it tried, which of them it took, and what it knows about each layer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from gossamer._errors import MismatchError
from gossamer._result import OptimizeResult
from gossamer._tables import bytes_text, columns, cut
from gossamer.search.latency import LayerCost
from gossamer.search.sensitivity import Sensitivity


@dataclass(frozen=True)
class Goal:
    """What is asked for: at most a drop of accuracy (0..1) at the smallest latency, or at most a latency in
    microseconds at the smallest drop. One of the two is None."""

    max_drop: float | None = None
    latency_us: float | None = None

    def meets(self, drop: float, latency_us: float) -> bool:
        """Whether measured numbers keep within it."""
        if self.max_drop is not None:
            return drop <= self.max_drop + 1e-12
        assert self.latency_us is not None
        return latency_us <= self.latency_us

    def told(self) -> str:
        """In words."""
        if self.max_drop is not None:
            return f"accuracy drop of at most {self.max_drop:g}"
        assert self.latency_us is not None
        return f"latency of at most {self.latency_us / 1e3:g} ms"


@dataclass(frozen=True)
class Trial:
    """A bundle that was built and measured.

    Attributes:
        name: ``dense`` for the model as given, every layer dense; else a number.
        sparsities: by layer name, of the layers that were pruned.
        predicted_us, predicted_divergence: what the solver expected of all layers; None for ``dense``.
        accuracy, drop, interval: measured on all examples; see :class:`gossamer.search.decide.Loss`.
        latency_us: median of one inference; those of one table took turns.
        bundle_bytes: unsigned or signed, it is the same.
        zeros_percent: zeros among all weights.
        meets: whether the goal is met; ``chosen``: whether it was taken.
    """

    name: str
    sparsities: dict[str, float]
    predicted_us: float | None
    predicted_divergence: float | None
    accuracy: float
    drop: float
    interval: float
    latency_us: float
    bundle_bytes: int
    zeros_percent: float
    meets: bool = False
    chosen: bool = False


@dataclass(frozen=True)
class SearchResult:
    """The outcome of :func:`gossamer.optimize_auto`.

    Attributes:
        bundle: the chosen bundle, as from ``gossamer.optimize``; None in a :class:`ConstraintError`.
        goal: what was asked for.
        metric: what stands under accuracy: ``accuracy``, ``balanced accuracy``, or the agreement with the original.
        baseline: the original's accuracy, 0..1; 1 for agreement.
        examples: what it was measured on, in words; ``samples``: how many.
        trials: ``dense`` first, then by latency, slowest first.
        costs: measured times of each layer; ``sensitivities``: what pruning it alone does.
        dense_layers: name to reason, of the layers that the recipe leaves dense.
        machine: processor, instruction set and threads of the times.
        seconds: time of each stage.
        notes: what the user should know besides.
    """

    bundle: OptimizeResult | None
    goal: Goal
    metric: str
    baseline: float
    examples: str
    samples: int
    trials: list[Trial]
    costs: list[LayerCost]
    sensitivities: list[Sensitivity]
    dense_layers: dict[str, str]
    machine: str
    seconds: dict[str, float]
    notes: list[str]

    @property
    def chosen(self) -> Trial | None:
        """The trial that was taken; None when none meets the goal."""
        return next((t for t in self.trials if t.chosen), None)

    @property
    def dense(self) -> Trial:
        """The model as given, every layer dense."""
        return self.trials[0]

    def table(self) -> str:
        """The trials as text, the chosen one marked with ``>``."""
        head = [
            "",
            "bundle",
            "accuracy",
            "drop",
            "+-95%",
            "latency us",
            "of dense",
            "size",
            "zeros %",
            "pruned",
            "goal",
        ]
        rows = [
            [
                ">" if t.chosen else "",
                t.name,
                f"{t.accuracy:.4f}",
                f"{t.drop:+.4f}",
                f"{t.interval:.4f}",
                f"{t.latency_us:.1f}",
                f"{t.latency_us / self.dense.latency_us:.3f}",
                bytes_text(t.bundle_bytes),
                f"{t.zeros_percent:.1f}",
                str(len(t.sparsities)),
                "met" if t.meets else "missed",
            ]
            for t in self.trials
        ]
        return columns(head, rows, left={0, 1, 10})

    def layers(self) -> str:
        """One line per layer that the recipe may prune: times, the sparsity it got, and why it stayed dense."""
        taken = self.chosen.sparsities if self.chosen is not None else {}
        rows = [
            [
                cost.name,
                "-" if cost.dense_us is None else f"{cost.dense_us:.1f}",
                " ".join(f"{s:g}:{us:.1f}" for s, us in sorted(cost.sparse_us.items())) or "-",
                f"{taken[cost.name]:g}" if cost.name in taken else "as is",
                "" if cost.name in taken else self.why_dense(cost.name),
            ]
            for cost in self.costs
        ]
        head = ["layer", "now us", "us by sparsity, where faster", "sparsity", "why not pruned"]
        return columns(head, rows, left={0, 2, 4}, widest={0: 44, 4: 90})

    def why_dense(self, name: str) -> str:
        """Why a layer that the recipe may prune stayed as it was in the chosen bundle; "" where none was chosen."""
        cost = next((c for c in self.costs if c.name == name), None)
        if cost is None or cost.reason:
            return cost.reason if cost is not None else self.dense_layers.get(name, "")
        if self.chosen is None:
            return ""
        if self.chosen.sparsities:
            return "left as it came: other layers save more time for the accuracy they cost"
        if self.goal.max_drop is not None:
            return "left as it came: nothing tried that prunes more is faster and keeps within the goal"
        return "left as it came: the goal is met without pruning more"

    def summary(self) -> str:
        """The outcome in a few lines."""
        lines = [f"goal      {self.goal.told()}", f"measured  {self.metric} on {self.examples}"]
        lines.append(f"original  {self.metric} {self.baseline:.4f}")
        best = self.chosen
        if best is not None:
            share = best.latency_us / self.dense.latency_us
            lines.append(
                f"chosen    drop {best.drop:+.4f} (+-{best.interval:.4f}), {best.latency_us:.1f} us, {share:.3f} of "
                f"dense, {best.zeros_percent:.1f}% zeros, {bytes_text(best.bundle_bytes)}"
            )
        lines.append(f"times     {self.machine}")
        lines.append("search    " + ", ".join(f"{name} {s:.1f} s" for name, s in self.seconds.items()))
        lines += [f"note      {cut(note, 160)}" for note in self.notes]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Everything but the bundle; every key with a unit names it."""
        return {
            "goal": {"max_accuracy_drop": self.goal.max_drop, "latency_us": self.goal.latency_us},
            "metric": self.metric,
            "baseline": self.baseline,
            "examples": self.examples,
            "samples": self.samples,
            "machine": self.machine,
            "trials": [asdict(t) for t in self.trials],
            "layers": [
                {
                    "name": c.name,
                    "dense_us": c.dense_us,
                    "sparse_us": {f"{s:g}": us for s, us in c.sparse_us.items()},
                    "sparsity": self.chosen.sparsities.get(c.name, 0.0) if self.chosen is not None else None,
                    "reason": "" if self.chosen and c.name in self.chosen.sparsities else self.why_dense(c.name),
                }
                for c in self.costs
            ],
            "sensitivities": [asdict(s) for s in self.sensitivities],
            "dense_layers": self.dense_layers,
            "stage_seconds": self.seconds,
            "notes": self.notes,
        }


class ConstraintError(MismatchError):
    """No bundle tried meets the goal. ``result`` has all that were tried; its ``bundle`` is None."""

    def __init__(
        self, message: str, result: SearchResult, *, where: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, where=where, hint=hint)
        self.result = result
