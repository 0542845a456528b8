"""Quantisation-aware training by the runtime's own int8 rules.

>>> from gossamer.quantize.qat import prepare_qat
>>> q = prepare_qat(model, calibration)                       # doctest: +SKIP
>>> loss = cross_entropy(q(images), labels); loss.backward()  # doctest: +SKIP
>>> decisions = q.exact(images).argmax(1)                     # doctest: +SKIP
>>> gossamer.optimize(q.to_onnx(), recipe, output="model.goss")  # doctest: +SKIP

``q(images)`` is fast float arithmetic with fake quantisation, for training; ``q.exact(images)`` is what the bundle
computes on the device, bit for bit. Needs torch (``pip install gossamer[torch]``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossamer.quantize.qat.exact import PlanModule
    from gossamer.quantize.qat.graph import QuantizedGraph
    from gossamer.quantize.qat.prepare import prepare_qat

__all__ = ["PlanModule", "QuantizedGraph", "prepare_qat"]

_HOMES = {"PlanModule": "exact", "QuantizedGraph": "graph", "prepare_qat": "prepare"}


def __getattr__(name: str) -> Any:
    """Loaded on first use, so that importing the package loads no torch."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"gossamer.quantize.qat.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
