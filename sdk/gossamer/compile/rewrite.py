"""How passes replace a node: new nodes that inherit its name and source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from gossamer.compile.graph import Graph, Node, Type

OWN = "gossamer"
"""Domain of the canonical nodes that passes make (Reshape, Slice, Pad, Linear, Lut)."""

Rule = Callable[[Graph, Node], bool]
"""Rewrites one node in place; False when it leaves the graph as it was."""


class Build:
    """Makes the nodes that replace one node; they inherit its name and source."""

    def __init__(self, g: Graph, like: Node) -> None:
        self.g, self.like, self.nodes = g, like, list[Node]()

    def __call__(
        self,
        op: str,
        inputs: list[str],
        shape: tuple[int, ...],
        *,
        dtype: npt.DTypeLike | None = None,
        domain: str = "",
        out: str = "",
        **attrs: Any,
    ) -> str:
        kind = np.dtype(dtype) if dtype is not None else self.g.dtype(inputs[0])
        name = out or self.g.add_value(self.like.outputs[0], kind, shape)
        self.g.types[name] = Type(kind, tuple(shape))
        self.nodes.append(Node(op, inputs, [name], attrs, self.like.name, self.like.source, domain))
        return name

    def reshape(self, x: str, shape: tuple[int, ...], out: str = "") -> str:
        return self("Reshape", [x], shape, domain=OWN, out=out)

    def const(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        return self.g.add_const(self.like.name or self.like.op_type, value, dtype)

    def done(self) -> bool:
        self.g.insert(self.like, self.nodes)
        self.g.remove([self.like])
        return True


def ints(g: Graph, node: Node, index: int, attr: str) -> list[int] | None:
    """Integers given as attribute (older opsets) or constant input; ``None`` when absent or not constant."""
    name = node.input(index)
    if name:
        value = g.const(name)
        return None if value is None else [int(v) for v in value.reshape(-1)]
    value = node.attrs.get(attr)
    return None if value is None else [int(v) for v in value]
