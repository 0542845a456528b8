"""Which channels of a graph have to move together: every operator's rule, in graph order."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from gossamer.sparsify.rearrange import rules_elementwise, rules_linear, rules_shape
from gossamer.sparsify.rearrange.axes import Axes, NotFollowedError, Rule, name_of

RULES: dict[str, Rule] = {**rules_linear.RULES, **rules_elementwise.RULES, **rules_shape.RULES}


def follow(model: ir.Model) -> Axes:
    """Ties the axes of all tensors of the top-level graph.

    Inputs and outputs of the graph, whatever an operator without a rule touches, and what subgraphs read stay in their
    order. Missing shapes are inferred and stored on the values.
    """
    if any(value.shape is None for node in model.graph for value in node.outputs):
        ShapeInferencePass()(model)
    axes = Axes()
    for node in model.graph:
        reason = f"{name_of(node)} is not followed"
        rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if rule is not None:
            axes.read.clear()
            try:
                rule(axes, node)
            except NotFollowedError as error:
                reason = f"{name_of(node)} is not followed: {error}"
            else:
                for value in node.inputs:  # shapes, bounds and the like are no channels
                    if value is not None and value not in axes.read:
                        axes.pin_value(value, f"a parameter of {name_of(node)}")
                continue
        for value in (*node.inputs, *node.outputs, *_captured(node)):
            axes.pin_value(value, reason)
    for value in model.graph.inputs:
        axes.pin_value(value, f"'{value.name}' is an input of the graph")
    for value in model.graph.outputs:
        axes.pin_value(value, f"'{value.name}' is an output of the graph")
    return axes


def _captured(node: ir.Node) -> Iterator[ir.Value]:
    """Everything that the subgraphs of a node read."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            graphs = [attribute.as_graph()]
        elif attribute.type == ir.AttributeType.GRAPHS:
            graphs = list(attribute.as_graphs())
        else:
            continue
        for graph in graphs:
            yield from (value for value in graph.outputs if value is not None)
            for inner in graph:
                yield from (value for value in inner.inputs if value is not None)
                yield from _captured(inner)
