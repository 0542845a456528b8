"""Where the user wrote a node: one metadata key, set by every importer and read by compiler errors and profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

SOURCE = "gossamer.source"
"""Key in ``metadata_props`` of a node."""


def source_of(node: ir.Node) -> str:
    """The node's source, or its name when no importer set one."""
    return str(node.metadata_props.get(SOURCE) or node.name or node.op_type)
