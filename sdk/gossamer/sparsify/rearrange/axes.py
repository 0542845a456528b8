"""The axes of every tensor of a graph, tied together operator by operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from gossamer.sparsify.rearrange.layout import Layout, Variables, fixed, joined, width

MAX_CONSTANT = 1 << 16


class NotFollowedError(Exception):
    """Why an operator's channels cannot be followed; everything that it touches stays in its order."""


class Axes:
    """What is known of every axis; rules tie and pin axes through it.

    An axis of unknown extent has the layout ``None``; whatever is tied to it is fixed.
    """

    def __init__(self) -> None:
        self.variables = Variables()
        self._layouts: dict[ir.Value, list[Layout | None]] = {}
        self.read: set[ir.Value] = set()
        """Values whose axes were asked for since it was last emptied."""

    def of(self, value: ir.Value | None) -> list[Layout | None]:
        """One layout per axis.

        Raises:
            NotFollowedError: there is no such value, or its rank is not known.
        """
        if value is None:
            raise NotFollowedError("an input is missing")
        self.read.add(value)
        if value not in self._layouts:
            shape = value.const_value.shape if value.const_value is not None else value.shape
            if shape is None:
                raise NotFollowedError(f"the shape of '{value.name}' is not known")
            self._layouts[value] = [self.variables.fresh(d) if isinstance(d, int) else None for d in shape]
        return self._layouts[value]

    def resolved(self, value: ir.Value) -> list[Layout | None]:
        """As :meth:`of`, in terms of free variables; an empty list where the rank is not known."""
        try:
            layouts = self.of(value)
        except NotFollowedError:
            return []
        return [None if layout is None else self.variables.resolve(layout) for layout in layouts]

    def tie(self, one: Layout | None, other: Layout | None, reason: str) -> None:
        """Permutes both alike from now on.

        Raises:
            NotFollowedError: their extents differ.
        """
        if one is None or other is None:
            self.pin(one, "a dynamic dimension")
            self.pin(other, "a dynamic dimension")
            return
        if width(one) != width(other):
            raise NotFollowedError(f"its dimensions {width(one)} and {width(other)} do not match")
        self.variables.unify(one, other, reason)

    def pin(self, layout: Layout | None, reason: str) -> None:
        """Leaves one axis in its order."""
        if layout is not None:
            self.variables.pin(layout, reason)

    def pin_value(self, value: ir.Value | None, reason: str) -> None:
        """Leaves all axes of a tensor in their order."""
        if value is not None:
            try:
                layouts = self.of(value)
            except NotFollowedError:
                return  # never permuted: it has no axes that anything could be tied to
            for layout in layouts:
                self.pin(layout, reason)

    def tie_all(self, one: ir.Value, other: ir.Value, reason: str) -> None:
        """Ties two tensors of the same shape, axis by axis."""
        left, right = self.of(one), self.of(other)
        if len(left) != len(right):
            raise NotFollowedError(f"its tensors have {len(left)} and {len(right)} dimensions")
        for a, b in zip(left, right, strict=True):
            self.tie(a, b, reason)

    def broadcast(self, value: ir.Value, output: ir.Value, reason: str) -> None:
        """Ties a tensor to the output that it is broadcast to; an axis of 1 that is spread out is free."""
        inner, outer = self.of(value), self.of(output)
        if len(inner) > len(outer):
            raise NotFollowedError(f"'{value.name}' has more dimensions than the output")
        for a, b in zip(inner, outer[len(outer) - len(inner) :], strict=True):
            if a is not None and b is not None and width(a) == 1:
                continue
            self.tie(a, b, reason)

    def concatenated(self, whole: Layout | None, parts: Sequence[Layout | None], reason: str) -> None:
        """Ties an axis to others behind each other."""
        known = [part for part in parts if part is not None]
        if len(known) < len(parts) or whole is None:
            for part in (whole, *parts):
                self.pin(part, "a dynamic dimension")
            return
        self.tie(whole, joined(known), reason)


Rule = Callable[[Axes, ir.Node], None]
"""Ties the axes of one operator, or raises ``NotFollowedError``."""


def name_of(node: ir.Node) -> str:
    """How a report calls a node."""
    return f"{node.op_type} '{node.name}'" if node.name else node.op_type


def operand(node: ir.Node, index: int) -> ir.Value:
    """Input ``index``.

    Raises:
        NotFollowedError: the node has no such input.
    """
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        raise NotFollowedError(f"it has no input {index}")
    return value


def optional(node: ir.Node, index: int) -> ir.Value | None:
    """Input ``index`` or None."""
    return node.inputs[index] if index < len(node.inputs) else None


def integer(node: ir.Node, name: str, default: int) -> int:
    """An integer attribute."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def integers(node: ir.Node, name: str) -> list[int] | None:
    """An attribute of integers, or None."""
    attribute = node.attributes.get(name)
    return None if attribute is None else list(attribute.as_ints())


def constant(value: ir.Value | None) -> list[int] | None:
    """The integers of a constant tensor, or None for an absent input.

    Raises:
        NotFollowedError: it is computed at run time.
    """
    if value is None:
        return None
    tensor = value.const_value
    if tensor is None and value.producer() is not None:
        tensor = ir.convenience.get_const_tensor(value)
    if tensor is None or tensor.size > MAX_CONSTANT:
        raise NotFollowedError(f"'{value.name}' is computed at run time")
    return [int(i) for i in np.asarray(tensor.numpy()).reshape(-1)]


def single_output(node: ir.Node) -> ir.Value:
    """The output of a node that must have one.

    Raises:
        NotFollowedError: more than one is used.
    """
    for extra in node.outputs[1:]:
        if extra.uses() or extra.is_graph_output():
            raise NotFollowedError("its other outputs are used")
    return node.outputs[0]


def known(layout: Layout | None) -> int:
    """The extent of an axis.

    Raises:
        NotFollowedError: it is dynamic.
    """
    if layout is None:
        raise NotFollowedError("a dimension is dynamic")
    return width(layout)


def stay(extent: int, reason: str) -> Layout:
    """An axis of fixed positions."""
    return fixed(extent, reason)
