"""Module names for ONNX nodes: the node's own name, dots as levels of the module tree."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

_ODD = re.compile(r"[^A-Za-z0-9_./-]")


class Names:
    """Places layers under the names of their nodes.

    A name's dots become levels, so ``trunk.0.conv`` is the same name in ``named_modules`` and in the ONNX graph, and
    recipes fit both. Characters other than letters, digits and ``_ . / -`` become ``_``. Where levels would change the
    order of layers (what training with sparsity takes for the first and the last layer goes by it), names stay flat:
    dots become ``_`` too.

    Attributes:
        modules: module name by node name.
    """

    def __init__(self, nodes: Sequence[str]) -> None:
        self.modules: dict[str, str] = {}
        self.flat = not _keeps_order(nodes)

    def place(self, root: nn.Module, node: str, layer: nn.Module) -> str:
        """Register ``layer`` below ``root``; returns its name."""
        parts = _parts(node)
        if self.flat:
            parts = ["_".join(parts)]
        at = root
        path: list[str] = []
        for part in parts[:-1]:
            found = at._modules.get(part)
            if found is None:
                part = _free(at, part)
                found = nn.Module()
                at.add_module(part, found)
            at = found
            path.append(part)
        last = _free(at, parts[-1])
        at.add_module(last, layer)
        self.modules[node] = ".".join([*path, last])
        return self.modules[node]


def _parts(name: str) -> list[str]:
    return [part or "_" for part in _ODD.sub("_", name).split(".")]


def _free(at: nn.Module, name: str) -> str:
    """A name that neither a module nor an attribute has."""
    while hasattr(at, name):
        name += "_"
    return name


def _keeps_order(nodes: Sequence[str]) -> bool:
    """Whether walking the tree of dotted names meets the nodes in their own order."""
    tree: dict[str, dict] = {}  # type: ignore[type-arg]
    for name in nodes:
        at = tree
        for part in _parts(name):
            at = at.setdefault(part, {})
    order: list[str] = []

    def walk(at: dict, path: list[str]) -> None:  # type: ignore[type-arg]
        for part, below in at.items():
            walk(below, [*path, part])
        if not at:
            order.append(".".join(path))

    walk(tree, [])
    return order == [".".join(_parts(name)) for name in nodes]
