"""An ONNX graph as a torch module that can be trained, and back into the very same graph.

>>> from gossamer.trainable import TrainableGraph
>>> network = TrainableGraph(gossamer.load("model.onnx"))          # doctest: +SKIP
>>> loss = cross_entropy(network(images), labels); loss.backward()  # doctest: +SKIP
>>> onnx_ir.save(network.to_onnx(), "trained.onnx")                # doctest: +SKIP

Needs torch (``pip install gossamer[torch]``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossamer.trainable.graph import TrainableGraph

__all__ = ["TrainableGraph"]


def __getattr__(name: str) -> Any:
    """Loaded on first use, so that importing the package loads no torch."""
    if name == "TrainableGraph":
        from gossamer.trainable.graph import TrainableGraph

        return TrainableGraph
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
