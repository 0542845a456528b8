"""Quantisation: calibration data, static int8 by ONNX Runtime's quantiser, seven-bit activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossamer.quantize.calibration import InputSpec, input_specs, read_calibration
    from gossamer.quantize.static import quantize

__all__ = ["InputSpec", "input_specs", "quantize", "read_calibration"]

_HOMES = {
    "InputSpec": "calibration",
    "input_specs": "calibration",
    "quantize": "static",
    "read_calibration": "calibration",
}


def __getattr__(name: str) -> Any:
    """Loaded on first use, so that importing the package loads no onnx_ir."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"gossamer.quantize.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
