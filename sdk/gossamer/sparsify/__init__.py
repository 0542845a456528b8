"""Sparsity: patterns, scores, distributions over a network, and one-shot pruning of ONNX graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossamer.sparsify.oneshot import LayerReport, PruneReport, prune

__all__ = ["LayerReport", "PruneReport", "prune"]


def __getattr__(name: str) -> Any:
    """``prune`` comes with onnx_ir, which the compiler's encoding does not need."""
    if name in __all__:
        import gossamer.sparsify.oneshot as module

        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
