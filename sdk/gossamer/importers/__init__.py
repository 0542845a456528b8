"""Importers: ONNX, TFLite and torch models become one checked ONNX graph."""

from gossamer.importers.load import load_model
from gossamer.importers.source import SOURCE, source_of

__all__ = ["SOURCE", "load_model", "source_of"]
