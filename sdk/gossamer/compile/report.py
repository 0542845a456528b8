"""What lowering did to a model: fusions, int8 operators that fell back to f32 and why, partitions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Note:
    """One event: ``kind`` (a fusion's or backend's name), the nodes it concerns, and why where there is a reason."""

    kind: str
    nodes: tuple[str, ...]
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {', '.join(self.nodes)}" + (f" ({self.reason})" if self.reason else "")


@dataclass
class LowerReport:
    """``fused``: nodes merged into one operator or folded away. ``fallbacks``: nodes of a quantised region that run in
    f32 between Dequantize and Quantize, with the reason. ``partitions``: what runs outside the core."""

    fused: list[Note] = field(default_factory=list)
    fallbacks: list[Note] = field(default_factory=list)
    partitions: list[Note] = field(default_factory=list)

    def fuse(self, kind: str, *nodes: str) -> None:
        self.fused.append(Note(kind, nodes))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            key: [{"kind": n.kind, "nodes": list(n.nodes), "reason": n.reason} for n in notes]
            for key, notes in (
                ("fused", self.fused),
                ("fallbacks", self.fallbacks),
                ("partitions", self.partitions),
            )
        }

    def __str__(self) -> str:
        lines = [f"{len(self.fused)} fusions"]
        for title, notes in (("runs in f32", self.fallbacks), ("partition", self.partitions)):
            lines += [f"{title}: {n}" for n in notes]
        return "\n".join(lines)
