"""What rearranging gained, layer by layer, and what could not move and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from gossamer.sparsify.rearrange.apply import Permutations


@dataclass(frozen=True)
class LayerGain:
    """What a layer's pattern keeps before and after.

    Attributes:
        name: node name.
        pattern: pattern of its mask.
        magnitude: sum of the magnitudes of all its weights.
        before: share of it that the mask keeps in the order that the model came in, in [0, 1].
        after: share that it keeps in the order found.
    """

    name: str
    pattern: str
    magnitude: float
    before: float
    after: float


@dataclass(frozen=True)
class Held:
    """Channels of a layer that share blocks and cannot move.

    Attributes:
        layer: node name.
        axis: "outputs" or "inputs".
        channels: how many.
        reason: why.
    """

    layer: str
    axis: str
    channels: int
    reason: str


@dataclass(frozen=True)
class RearrangeReport:
    """The outcome of one rearrangement.

    Attributes:
        layers: every layer that the step prunes, in graph order.
        held: what could not move.
        groups: sets of channels that move together and that were searched.
        moved: channels of these that have another place now.
        rounds: passes over all groups.
        finished: the search ended by itself, not for lack of time.
        seconds: how long it took.
        permutations: by name of a constant and axis, the permutation: position ``i`` takes what position ``order[i]``
            held.
    """

    layers: tuple[LayerGain, ...]
    held: tuple[Held, ...]
    groups: int
    moved: int
    rounds: int
    finished: bool
    seconds: float
    permutations: Permutations = field(repr=False)

    @property
    def magnitude(self) -> float:
        """Sum of the magnitudes of all weights of these layers."""
        return sum(layer.magnitude for layer in self.layers)

    @property
    def before(self) -> float:
        """Share of it that the masks keep in the order that the model came in, in [0, 1]; 1 without layers."""
        kept = sum(layer.magnitude * layer.before for layer in self.layers)
        return kept / self.magnitude if self.magnitude else 1.0

    @property
    def after(self) -> float:
        """Share that the masks keep in the order found."""
        kept = sum(layer.magnitude * layer.after for layer in self.layers)
        return kept / self.magnitude if self.magnitude else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the permutations."""
        return {
            "before": self.before,
            "after": self.after,
            "groups": self.groups,
            "moved": self.moved,
            "rounds": self.rounds,
            "finished": self.finished,
            "seconds": self.seconds,
            "layers": [asdict(layer) for layer in self.layers],
            "held": [asdict(held) for held in self.held],
        }

    def lines(self) -> list[str]:
        """A line for the whole, one per layer, and one per set of channels that could not move."""
        ended = "" if self.finished else ", ended by the time limit"
        rows = [
            f"retained magnitude {self.before:.2%} -> {self.after:.2%}: {self.moved} channels moved in {self.groups} "
            f"groups, {self.rounds} rounds, {self.seconds:.1f} s{ended}"
        ]
        rows += [f"{x.before:7.2%} -> {x.after:7.2%}  {x.pattern:<12} {x.name}" for x in self.layers]
        rows += [f"{x.channels} {x.axis} of {x.layer} stay: {x.reason}" for x in self.held]
        return rows

    def text(self) -> str:
        """:meth:`lines` as one text."""
        return "\n".join(self.lines())
