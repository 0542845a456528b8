"""What every lowering rule works with: the values made so far, the nodes already covered, the report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from gossamer.compile.graph import Graph, Node
from gossamer.compile.layout import UnsupportedNodeError, Values
from gossamer.compile.plan import F, P
from gossamer.compile.quantized import Clamp, Match
from gossamer.compile.report import LowerReport, Note

OWN = "gossamer"


class Context:
    """State of one lowering. A rule emits the operators of one node or raises ``UnsupportedNodeError``."""

    def __init__(self, g: Graph, report: LowerReport) -> None:
        self.g = g
        self.v = Values(g)
        self.report = report
        self.covered: set[int] = set()

    def cover(self, node: Node, nodes: Iterable[Node]) -> None:
        """Marks nodes as done by the operator of ``node``."""
        for other in nodes:
            self.covered.add(id(other))
            if other.op_type != "QuantizeLinear":
                self.report.fuse(f"{other.op_type} into {node.op_type}", node.name, other.name)

    def fallback(self, node: Node, reason: str) -> None:
        """Notes that a node of a quantised region runs in f32."""
        self.report.fallbacks.append(Note(node.op_type, (node.name,), reason))


Rule = Callable[[Context, Node], None]


def require(condition: bool, reason: str) -> None:
    if not condition:
        raise UnsupportedNodeError(reason)


def q_clamp(match: Match) -> dict[int, int]:
    return {P.QLO: match.lo, P.QHI: match.hi}


def f_clamp(clamp: Clamp | None = None) -> dict[int, float]:
    if clamp is None:
        return {F.LO: -math.inf, F.HI: math.inf}
    return {F.LO: clamp.lo, F.HI: clamp.hi}
