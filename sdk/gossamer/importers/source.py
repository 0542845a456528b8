"""What imported models carry beyond ONNX: the source of every node, and a serialiser that keeps quiet about it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

SOURCE = "gossamer.source"
"""Key in ``metadata_props`` of a node: where the user wrote it. Compiler errors and profiles show it."""


def source_of(node: ir.Node) -> str:
    """The node's source, or its name when no importer set one."""
    return str(node.metadata_props.get(SOURCE) or node.name or node.op_type)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back onnx_ir's warning of bytes in a string attribute, which extracted TFLite operators carry on purpose."""
    logger = logging.getLogger("onnx_ir.serde")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """The model as a proto, quietly."""
    import onnx_ir as ir

    with quiet():
        return ir.to_proto(model)
