"""TFLite files to ONNX: f32, int8 and uint8, per tensor and per channel."""

from __future__ import annotations

import onnx_ir as ir


def import_tflite(data: bytes, where: str, name: str) -> ir.Model:
    """The ONNX model of a .tflite file, before the checks that all importers share.

    Args:
        data: the file's bytes.
        where: how to call the file in errors.
        name: name of the graph.

    Raises:
        ModelError: not a TFLite file, damaged, or contradicting itself.
        UnsupportedError: an operator or type that can be neither expressed in ONNX nor given to LiteRT.
    """
    from gossamer.importers.tflite.convert import convert
    from gossamer.importers.tflite.reader import read

    return convert(read(data, where), name)
