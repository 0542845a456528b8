"""Sparse training in the user's own torch loop: attach a :class:`Sparsifier`, step it, finish into plain zeros.

Needs the extra ``[torch]``; importing this package does not load torch, so that recipes can be listed without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossamer.sparsify.training.layer import SparseLayer, plain_weights
    from gossamer.sparsify.training.method import Method
    from gossamer.sparsify.training.registry import METHODS, get_method
    from gossamer.sparsify.training.sparsifier import Sparsifier

__all__ = ["METHODS", "Method", "SparseLayer", "Sparsifier", "get_method", "plain_weights"]

_HOMES = {
    "METHODS": "registry",
    "Method": "method",
    "SparseLayer": "layer",
    "Sparsifier": "sparsifier",
    "get_method": "registry",
    "plain_weights": "layer",
}


def __getattr__(name: str) -> Any:
    """Loaded on first use."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"gossamer.sparsify.training.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
