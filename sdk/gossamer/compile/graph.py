"""The graph that passes and lowering work on: ONNX nodes, constants as arrays, a static type for every value.

Made from an ``onnx_ir.Model`` without changing it. Nodes keep ONNX operator names and attributes (plain Python values);
every value has a numpy dtype and a fixed shape once ``infer.infer`` has run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gossamer._errors import CompileError

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

Array = npt.NDArray[Any]

ROUNDING_KEY = "gossamer.rounding"
"""Node metadata: ``integer`` for an average that TFLite takes in integers."""
SOURCE_KEY = "gossamer.source"
"""Node metadata: where the user wrote the node."""


class Type(NamedTuple):
    """Element type and fixed shape of a value."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class QParams(NamedTuple):
    """Per-tensor quantisation of an integer value, in its own type: real = (q - zero_point) * scale."""

    scale: float
    zero_point: int


@dataclass(eq=False)
class Node:
    """An operator. Absent inputs are ``""``. ``captures`` are outer values that subgraphs (If, Loop) read."""

    op_type: str
    inputs: list[str]
    outputs: list[str]
    attrs: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    source: str = ""
    domain: str = ""
    captures: tuple[str, ...] = ()
    rounding: str = ""

    def input(self, index: int) -> str:
        """Name of an input, ``""`` when absent."""
        return self.inputs[index] if index < len(self.inputs) else ""

    @property
    def reads(self) -> list[str]:
        return [i for i in self.inputs if i] + list(self.captures)

    def __str__(self) -> str:
        kind = f"{self.domain}.{self.op_type}" if self.domain else self.op_type
        at = f" at {self.source}" if self.source and self.source != self.name else ""
        return f"{kind} '{self.name}'{at}"


class Graph:
    """A mutable ONNX graph in topological order."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.consts: dict[str, Array] = {}
        self.types: dict[str, Type] = {}
        self.qparams: dict[str, QParams] = {}
        self.opsets: dict[str, int] = {}
        self.declared: dict[str, tuple[np.dtype[Any] | None, tuple[int | None, ...] | None]] = {}
        self._producers: dict[str, Node] | None = None
        self._consumers: dict[str, list[Node]] | None = None
        self._counter = 0

    # --- structure

    def touch(self) -> None:
        """Says that nodes were changed by hand, so that producers and consumers are found anew."""
        self._producers = self._consumers = None

    def producer(self, name: str) -> Node | None:
        if self._producers is None:
            self._producers = {o: n for n in self.nodes for o in n.outputs if o}
        return self._producers.get(name)

    def consumers(self, name: str) -> list[Node]:
        """Nodes that read a value, each once. The graph's own outputs do not count: see ``is_output``."""
        if self._consumers is None:
            found: dict[str, list[Node]] = defaultdict(list)
            for n in self.nodes:
                for i in dict.fromkeys(n.reads):
                    found[i].append(n)
            self._consumers = dict(found)
        return self._consumers.get(name, [])

    def is_output(self, name: str) -> bool:
        return name in self.outputs

    def sole_consumer(self, name: str) -> Node | None:
        """The one node that reads a value that is no graph output, else ``None``."""
        users = self.consumers(name)
        return users[0] if len(users) == 1 and not self.is_output(name) else None

    def const(self, name: str) -> Array | None:
        return self.consts.get(name) if name else None

    def shape(self, name: str) -> tuple[int, ...]:
        return self.types[name].shape

    def dtype(self, name: str) -> np.dtype[Any]:
        return self.types[name].dtype

    def fresh(self, base: str) -> str:
        """A value name that nobody uses."""
        while True:
            self._counter += 1
            name = f"{base}.{self._counter}"
            if name not in self.types and name not in self.consts:
                return name

    def add_const(self, base: str, value: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> str:
        array = np.ascontiguousarray(np.asarray(value, dtype=dtype)).reshape(np.shape(value))
        name = self.fresh(base)
        self.consts[name] = array
        self.types[name] = Type(array.dtype, array.shape)
        return name

    def add_value(self, base: str, dtype: npt.DTypeLike, shape: Iterable[int]) -> str:
        name = self.fresh(base)
        self.types[name] = Type(np.dtype(dtype), tuple(shape))
        return name

    def replace_uses(self, old: str, new: str) -> None:
        """Makes every reader of ``old`` (graph outputs excepted) read ``new``."""
        for n in self.consumers(old):
            n.inputs = [new if i == old else i for i in n.inputs]
            n.captures = tuple(new if i == old else i for i in n.captures)
        self.touch()

    def insert(self, anchor: Node, nodes: Iterable[Node], *, after: bool = False) -> None:
        at = self.nodes.index(anchor) + (1 if after else 0)
        self.nodes[at:at] = list(nodes)
        self.touch()

    def remove(self, gone: Iterable[Node]) -> None:
        ids = {id(n) for n in gone}
        self.nodes = [n for n in self.nodes if id(n) not in ids]
        self.touch()

    def bypass(self, node: Node, value: str) -> bool:
        """Removes a node whose one result equals ``value``; it stays as Identity where it names a graph output."""
        out = node.outputs[0]
        if not self.is_output(out):
            self.replace_uses(out, value)
            self.remove([node])
            return True
        maker = self.producer(value)
        if (
            maker is not None
            and not self.is_output(value)
            and self.types.get(value) == self.types.get(out)
            and not any(value in n.captures for n in self.consumers(value))
        ):
            maker.outputs = [out if o == value else o for o in maker.outputs]
            for user in self.consumers(value):
                user.inputs = [out if i == value else i for i in user.inputs]
            if value in self.qparams:
                self.qparams.setdefault(out, self.qparams[value])
            self.remove([node])
            return True
        if node.op_type == "Identity":
            return False
        node.op_type, node.domain, node.inputs, node.attrs = "Identity", "", [value], {}
        self.touch()
        return True

    def remove_dead(self) -> int:
        """Removes nodes and constants that no graph output needs; returns how many nodes."""
        live = set(self.outputs)
        kept: list[Node] = []
        for n in reversed(self.nodes):
            if any(o in live for o in n.outputs):
                live.update(n.reads)
                kept.append(n)
        removed = len(self.nodes) - len(kept)
        self.nodes = kept[::-1]
        self.consts = {k: v for k, v in self.consts.items() if k in live}
        self.touch()
        return removed

    def sort(self) -> None:
        """Topological order, stable. Raises ``CompileError`` when the nodes form a cycle."""
        made = set(self.inputs) | set(self.consts)
        pending = {id(n): len({i for i in n.reads if i not in made}) for n in self.nodes}
        index = {id(n): k for k, n in enumerate(self.nodes)}
        import heapq

        ready = [index[id(n)] for n in self.nodes if pending[id(n)] == 0]
        heapq.heapify(ready)
        order: list[Node] = []
        while ready:
            n = self.nodes[heapq.heappop(ready)]
            order.append(n)
            for o in n.outputs:
                for user in self.consumers(o) if o else []:
                    pending[id(user)] -= 1
                    if pending[id(user)] == 0:
                        heapq.heappush(ready, index[id(user)])
        if len(order) != len(self.nodes):
            stuck = [str(n) for n in self.nodes if pending[id(n)] > 0]
            raise CompileError(
                f"the graph is not well formed: {len(stuck)} operators wait for values that nothing makes",
                where="; ".join(stuck[:5]),
                hint="check the model with onnx.checker",
            )
        self.nodes = order
        self.touch()


def attribute_value(attr: Any) -> Any:
    """A plain Python value (numbers, strings, bytes, arrays) of an onnx_ir attribute; subgraphs stay AttributeProto."""
    import onnx_ir as ir

    kind = attr.type
    if kind in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
        return ir.serde.serialize_attribute(attr)
    if kind == ir.AttributeType.TENSOR:
        return attr.value.numpy()
    if kind in (ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS):
        return list(attr.value)
    return attr.value


def _captures(node: ir.Node) -> tuple[str, ...]:
    import onnx_ir as ir

    found: dict[str, None] = {}
    for attr in node.attributes.values():
        graphs = (
            [attr.value]
            if attr.type == ir.AttributeType.GRAPH
            else list(attr.value)
            if attr.type == ir.AttributeType.GRAPHS
            else []
        )
        for sub in graphs:
            inner = {v.name for v in sub.inputs} | set(sub.initializers)
            nodes = list(ir.traversal.RecursiveGraphIterator(sub))
            inner |= {o.name for n in nodes for o in n.outputs}
            for v in [*(i for n in nodes for i in n.inputs if i is not None), *sub.outputs]:
                if v.name and v.name not in inner:
                    found[v.name] = None
    return tuple(found)


def _declared(value: ir.Value) -> tuple[np.dtype[Any] | None, tuple[int | None, ...] | None]:
    dtype: np.dtype[Any] | None = None
    if value.dtype is not None:
        try:
            dtype = np.dtype(value.dtype.numpy())
        except TypeError:
            dtype = None
    shape = None
    if value.shape is not None:
        shape = tuple(d if isinstance(d, int) else None for d in value.shape)
    return dtype, shape


def _constant(node: ir.Node) -> Array | None:
    """Value of a Constant node, ``None`` for kinds that are not arrays (sparse, string)."""
    for key, attr in node.attributes.items():
        if key == "value":
            return np.asarray(attr.value.numpy())
        if key in ("value_float", "value_floats"):
            return np.asarray(attr.value, np.float32)
        if key in ("value_int", "value_ints"):
            return np.asarray(attr.value, np.int64)
    return None


def from_model(model: ir.Model, shapes: dict[str, tuple[int, ...]] | None = None) -> Graph:
    """The graph of a model. ``shapes`` fixes inputs whose shape the model leaves open.

    Raises ``CompileError`` for an input without a fixed shape, naming every one.
    """
    import onnx_ir as ir

    if model.functions:
        from onnx_ir.passes.common import InlinePass

        model = ir.from_proto(ir.to_proto(model))
        InlinePass()(model)
    source = model.graph
    g = Graph()
    g.opsets = dict(model.opset_imports)
    g.opsets.setdefault("", 13)
    shapes = shapes or {}
    unknown = sorted(set(shapes) - {v.name for v in source.inputs})
    if unknown:
        raise CompileError(
            f"a shape was given for {', '.join(map(repr, unknown))}, which is no input of the model",
            hint=f"its inputs are {', '.join(repr(v.name) for v in source.inputs)}",
        )
    for name, value in source.initializers.items():
        if value.const_value is None:
            raise CompileError(f"constant {name!r} of the model has no data", hint="keep external data files beside it")
        g.consts[name] = np.asarray(value.const_value.numpy())
    dynamic = []
    for value in source.inputs:
        name = value.name or ""
        if name in g.consts:
            continue
        dtype, shape = _declared(value)
        if dtype is None:
            raise CompileError(f"input {name!r} has no tensor type", hint="sequence and optional inputs cannot be run")
        if name in shapes:
            given = tuple(int(d) for d in shapes[name])
            if shape is not None and (
                len(shape) != len(given) or any(a is not None and a != b for a, b in zip(shape, given, strict=True))
            ):
                raise CompileError(f"shape {list(given)} does not fit input {name!r}, which is {value.shape}")
            shape = given
        if shape is None or any(d is None for d in shape):
            dynamic.append(f"{name!r} {value.shape if value.shape is not None else '(no shape)'}")
            continue
        g.inputs.append(name)
        g.types[name] = Type(dtype, tuple(int(d or 0) for d in shape))
    if dynamic:
        raise CompileError(
            f"the model has inputs without a fixed shape: {', '.join(dynamic)}",
            hint="export it with fixed shapes, or give one: shapes={'name': (1, 3, 224, 224)}",
        )
    for k, n in enumerate(source):
        name = n.name or f"{n.op_type}_{k}"
        if n.op_type == "Constant" and n.domain in ("", "ai.onnx"):
            array = _constant(n)
            if array is not None:
                g.consts[n.outputs[0].name or ""] = array
                continue
        g.nodes.append(
            Node(
                op_type=n.op_type,
                inputs=[(i.name or "") if i is not None else "" for i in n.inputs],
                outputs=[o.name or "" for o in n.outputs],
                attrs={key: attribute_value(a) for key, a in n.attributes.items() if not a.is_ref()},
                name=name,
                source=n.metadata_props.get(SOURCE_KEY, name),
                domain="" if n.domain == "ai.onnx" else n.domain,
                captures=_captures(n),
                rounding=n.metadata_props.get(ROUNDING_KEY, ""),
            )
        )
        for o in n.outputs:
            if o.name:
                g.declared[o.name] = _declared(o)
    for name, array in g.consts.items():
        g.types[name] = Type(array.dtype, array.shape)
    g.outputs = [v.name or "" for v in source.outputs]
    g.sort()
    g.remove_dead()
    return g


def to_node_proto(node: Node) -> onnx.NodeProto:
    """The node as ONNX, for inference, folding and partitions."""
    import onnx
    from onnx import helper, numpy_helper

    proto = helper.make_node(node.op_type, node.inputs, node.outputs, name=node.name, domain=node.domain)
    for key, value in node.attrs.items():
        if isinstance(value, onnx.AttributeProto):
            proto.attribute.append(value)
        elif isinstance(value, np.ndarray):
            proto.attribute.append(helper.make_attribute(key, numpy_helper.from_array(value)))
        elif isinstance(value, list) and not value:
            proto.attribute.append(helper.make_attribute(key, value, attr_type=onnx.AttributeProto.INTS))
        else:
            proto.attribute.append(helper.make_attribute(key, value))
    return proto
