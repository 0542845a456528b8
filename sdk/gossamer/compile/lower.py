"""Graph -> plan: applies the rule of every node, splits off what has none, and checks the borders.

The rules live in ``lower_<family>.py``; each turns one node (with the activation and QuantizeLinear behind it) into
plan operators. Nodes without a rule, or that their rule refuses, become external partitions where the policy allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gossamer._errors import CompileError
from gossamer.compile import (
    lower_conv,
    lower_elementwise,
    lower_norm,
    lower_pool,
    lower_shape,
    partition,
    passes,
)
from gossamer.compile.graph import Graph, Node, Type, from_model
from gossamer.compile.layout import Form, UnsupportedNodeError
from gossamer.compile.plan import DType, Extern, Op, OpKind, Plan, Tensor
from gossamer.compile.report import LowerReport
from gossamer.compile.rules import Context, Rule

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["LowerReport", "lower"]


def lower(
    model: ir.Model,
    policy: Any = None,
    *,
    report: LowerReport | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    target: str = "host",
) -> Plan:
    """Lowers a model (f32 or QDQ int8) to a plan; the model is not changed.

    Args:
        model: opset 13 or later, NCHW inside; importers make such models.
        policy: which backends may run what the core cannot, in order of preference: an object with ``fallback`` (a
            recipe's policy), a sequence of ``"onnxruntime"``, ``"litert"``, ``"tvm"``, or ``None`` for none.
        report: filled with fusions, f32 fallbacks and partitions.
        shapes: fixed shapes of inputs that the model leaves open.
        target: architecture of the device (``"host"``, ``"x86_64"``, ``"aarch64"``), which TVM partitions are compiled
            for; everything else runs anywhere.

    Returns:
        the plan; weights are still whole in ``Op.weights`` (see ``encode.encode_weights``).

    Raises:
        CompileError: a dynamic shape, or operators that neither the core nor an allowed backend can run; the message
            names each operator, its node and its source.
        ModelError: a constant holds NaN.
    """
    report = report if report is not None else LowerReport()
    fixed = {k: tuple(int(d) for d in v) for k, v in (shapes or {}).items()}
    g = from_model(model, fixed)
    passes.run(g, report)
    _carry_bool(g)
    allowed = _fallback_order(policy)
    externs: list[Extern] = []
    context, failed = _walk(g)
    for _ in range(3):
        if not failed:
            break
        externs += partition.split(g, failed, allowed, report, first=len(externs), target=target)
        context, failed = _walk(g)
    if failed:
        raise partition.unsupported_error(failed, allowed, {})
    plan = _finish(g, context, externs)
    report.fused += context.report.fused
    report.fallbacks += context.report.fallbacks
    return plan


def _fallback_order(policy: Any) -> list[str]:
    order = getattr(policy, "fallback", policy)
    if order is None:
        return []
    names = [str(getattr(b, "value", b)) for b in ([order] if isinstance(order, str) else order)]
    unknown = [b for b in names if b not in partition.BACKENDS]
    if unknown:
        raise CompileError(
            f"policy.fallback names {', '.join(map(repr, unknown))}, which is no backend",
            hint=f"the backends are {', '.join(partition.BACKENDS)}",
        )
    return names


def _carry_bool(g: Graph) -> None:
    """Boolean graph inputs and outputs are uint8 at the border (0 and 1); partitions cast."""
    for name in [*g.inputs, *g.outputs]:
        if g.dtype(name) == np.bool_:
            g.types[name] = Type(np.dtype(np.uint8), g.shape(name))


def _walk(g: Graph) -> tuple[Context, dict[Node, str]]:
    """Applies the rules in order. Returns what was emitted and the nodes that could not be, with reasons."""
    c = Context(g, LowerReport())
    failed: dict[Node, str] = {}
    inputs = {}
    for name in g.inputs:
        try:
            inputs[name] = c.v.hold(name, c.v.new(name, Form.RAW))
        except UnsupportedNodeError as reason:
            raise CompileError(
                f"input {name!r} cannot be an input of a bundle: {reason}",
                hint="export the model with float32, int8, uint8, int32 or int64 inputs",
            ) from reason
    for node in g.nodes:
        if id(node) in c.covered:
            continue
        rule = RULES.get((node.domain, node.op_type))
        c.v.at(node)
        try:
            if rule is None:
                raise UnsupportedNodeError("the core has no such operator")
            rule(c, node)
        except UnsupportedNodeError as reason:
            failed[node] = str(reason)
            for out in node.outputs:
                if out and not c.v.known(out):
                    c.v.hold(out, Tensor(out, DType.F32, g.shape(out)), Form.ROW)
    return c, failed


def _extern(c: Context, node: Node) -> None:
    inputs: list[Tensor | None] = [c.v.get(i, Form.RAW) for i in node.inputs]
    outputs = [c.v.new(o, Form.RAW) for o in node.outputs]
    c.v.emit(OpKind.EXTERN, inputs, outputs, p={0: int(node.attrs["index"]), 1: int(node.attrs["backend"])})
    for name, tensor in zip(node.outputs, outputs, strict=True):
        c.v.hold(name, tensor)


def _finish(g: Graph, c: Context, externs: list[Extern]) -> Plan:
    inputs = [c.v.get(i, Form.RAW) for i in g.inputs]
    outputs: list[Tensor] = []
    for name in g.outputs:
        maker = g.producer(name)
        if maker is not None:
            c.v.at(maker)
        try:
            t = c.v.get(name, Form.RAW)
        except UnsupportedNodeError as reason:
            raise CompileError(f"output {name!r} cannot be made: {reason}") from reason
        if t.is_const or any(t is other for other in [*inputs, *outputs]) or t.name != name:
            copy = Tensor(name, t.dtype, t.shape, t.layout, t.scale, t.zero_point)
            c.v.emit(OpKind.RESHAPE, [t], [copy], name=name)
            t = copy
        outputs.append(t)
    ops = _live(c.v.ops, outputs)
    _name_apart(ops)
    return Plan(ops, inputs, outputs, externs)


def _live(ops: list[Op], outputs: list[Tensor]) -> list[Op]:
    """Operators that an output needs, in order."""
    needed = {id(t) for t in outputs}
    kept: list[Op] = []
    for op in reversed(ops):
        if any(id(t) in needed for t in op.outputs):
            needed.update(id(t) for t in op.inputs if t is not None)
            kept.append(op)
    return kept[::-1]


def _name_apart(ops: list[Op]) -> None:
    """Every operator gets its own name. Where a node became several, the one that does the work keeps the node's."""
    helpers = (OpKind.LAYOUT, OpKind.RESHAPE, OpKind.LUT, OpKind.QUANTIZE, OpKind.DEQUANTIZE, OpKind.TRANSPOSE)
    taken: set[str] = set()
    for op in sorted(ops, key=lambda o: (o.weights is None, o.kind in helpers)):
        name, k = op.name, 1
        if name in taken:
            name = f"{op.name}:{op.kind.name.lower()}"
        while name in taken:
            k += 1
            name = f"{op.name}:{op.kind.name.lower()}{k}"
        op.name = name
        taken.add(name)


RULES: dict[tuple[str, str], Rule] = {
    **lower_conv.RULES,
    **lower_elementwise.RULES,
    **lower_shape.RULES,
    **lower_pool.RULES,
    **lower_norm.RULES,
    ("gossamer", "Extern"): _extern,
}
