"""Steps for a QDQ graph: QuantizeLinear becomes a quantiser, layers with quantised weights their quantised form."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor, nn

from gossamer.compile.graph import Array, Node
from gossamer.compile.passes_qdq import params_of
from gossamer.quantize.qat.activation import ActivationQuantizer, Scales
from gossamer.quantize.qat.weight import CLASSES, QuantizedWeight
from gossamer.trainable.movement import OPERATORS as MOVEMENT
from gossamer.trainable.step import Builder, CannotTrainError, require

_EIGHT = (np.dtype(np.int8), np.dtype(np.uint8))
_ON_INTEGERS = {*MOVEMENT, "MaxPool", "GlobalMaxPool"} - {"Pad"}
"""Operators that may stand between QuantizeLinear and DequantizeLinear: integers and reals go through them alike."""

Floats = Mapping[tuple[str, int], Array]
"""Float32 weights and biases by node name and input."""


Key = tuple[str, str]
"""Names of a scale and a zero point."""


@dataclass(frozen=True)
class Options:
    """How scales and zeros are treated; see :func:`gossamer.quantize.qat.prepare_qat`."""

    activation_scales: Scales = "fixed"
    learn_weight_scales: bool = False
    keep_zeros: bool = False
    momentum: float = 0.99


class Groups:
    """Sets of keys that belong together (union-find)."""

    def __init__(self) -> None:
        self._above: dict[Key, Key] = {}

    def of(self, key: Key) -> Key:
        """The key that stands for a key's set."""
        while self._above.get(key, key) != key:
            key = self._above[key]
        return key

    def join(self, first: Key, second: Key) -> None:
        """Make one set of the sets of two keys; the first one's stands for it."""
        self._above[self.of(second)] = self.of(first)


@dataclass
class QuantizedBuilder(Builder):
    """State while a QDQ graph is turned into steps.

    Attributes:
        floats: the weights as they were before quantisation, where known.
        limits: bounds of the Relu and Clip that quantisation took over, by the value that is quantised.
        quantizers: by the names of scale and zero point.
        home: the module that quantisers are registered on.
    """

    floats: Floats = field(default_factory=dict)
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    options: Options = field(default_factory=Options)
    quantizers: dict[Key, ActivationQuantizer] = field(default_factory=dict)
    home: nn.Module = field(default_factory=nn.Module)

    def weight(self, node: Node, index: int, what: str) -> Array:
        stored = super().weight(node, index, what)
        float_ = self.floats.get((node.name, index))
        if float_ is None or float_.dtype != np.float32 or float_.size != stored.size:
            return stored
        return float_.reshape(stored.shape)

    def layer_class(self, plain: type[nn.Module], node: Node) -> type[nn.Module]:
        return CLASSES[plain] if self._restored(node.inputs[1]) is not None else plain

    def ready(self, layer: nn.Module, node: Node) -> None:
        if not isinstance(layer, QuantizedWeight):
            return
        restore = self._restored(node.inputs[1])
        assert restore is not None
        scale = self.g.const(restore.inputs[1])
        layer.start(
            self.source(node.inputs[0]),
            per_channel=scale is not None and scale.size > 1,
            integer_bias=self._restored(node.input(2)) is not None,
            keep_zeros=self.options.keep_zeros,
            learned=self.options.learn_weight_scales,
        )

    def _restored(self, name: str) -> Node | None:
        """The DequantizeLinear of a constant that makes a value."""
        maker = self.g.producer(name) if name else None
        if maker is None or maker.op_type != "DequantizeLinear" or maker.inputs[0] not in self.g.consts:
            return None
        return maker

    # --- activations

    def quantizer(self, node: Node, kind: np.dtype[Any]) -> ActivationQuantizer:
        """The quantiser of a QuantizeLinear or DequantizeLinear node; nodes that share parameters share it."""
        params = params_of(self.g, node)
        if params is None or kind not in _EIGHT:
            raise CannotTrainError("an activation quantised other than per tensor to 8 bits")
        key = (node.inputs[1], node.input(2))
        first = self.groups.of(key)
        found = self.quantizers.get(first)
        if found is None:
            info = np.iinfo(kind)
            found = ActivationQuantizer(
                params.scale,
                params.zero_point,
                int(info.min),
                int(info.max),
                scales=self.options.activation_scales,
                momentum=self.options.momentum,
                limits=self._limits(node, params.zero_point == info.min),
            )
            self.quantizers[first] = found
            name = node.inputs[1].removesuffix("_scale").replace(".", "_") or "value"
            while hasattr(self.home, name):
                name += "_"
            self.home.add_module(name, found)
        self.quantizers[key] = found
        return found

    @cached_property
    def groups(self) -> Groups:
        """Parameters that have to stay equal."""
        groups = Groups()
        for node in self.g.nodes:
            if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or params_of(self.g, node) is None:
                continue
            if node.inputs[0] in self.g.consts:
                continue
            key = (node.inputs[1], node.input(2))
            if node.op_type == "DequantizeLinear":
                origin = self.origin(node.inputs[0])
                others = [] if origin is None else [origin]
            else:
                others = self._moved(node.inputs[0])
            for other in others:
                if params_of(self.g, other) == params_of(self.g, node):
                    groups.join((other.inputs[1], other.input(2)), key)
        return groups

    def _moved(self, name: str) -> list[Node]:
        """The DequantizeLinear nodes that a float value is made of by movement alone."""
        maker = self.g.producer(name)
        if maker is None or maker.domain or maker.op_type not in _ON_INTEGERS | {"DequantizeLinear"}:
            return []
        if maker.op_type == "DequantizeLinear":
            return [] if maker.inputs[0] in self.g.consts else [maker]
        sources = maker.inputs if maker.op_type == "Concat" else maker.inputs[:1]
        return [found for source in sources for found in self._moved(source)]

    def _limits(self, node: Node, from_zero: bool) -> tuple[float, float]:
        """Quantisers drop a Relu whose work the range does: a range that begins at 0 has to go on beginning there."""
        low, high = self.limits.get(node.inputs[0], (-math.inf, math.inf))
        return (max(low, 0.0) if from_zero else low), high

    def borders(self) -> dict[str, ActivationQuantizer]:
        """Quantisers of the graph's 8-bit inputs and outputs by name."""
        found = {}
        for node in self.g.nodes:
            if node.op_type == "DequantizeLinear" and node.inputs[0] not in self.g.consts:
                name = self._start(node.inputs[0])
                if name in self.g.inputs:
                    found[name] = self.quantizers[(node.inputs[1], node.input(2))]
        for name in self.g.outputs:
            maker = self.origin(name) if self.g.dtype(name) in _EIGHT else None
            if maker is not None:
                found[name] = self.quantizers[(maker.inputs[1], maker.input(2))]
        return found

    def _start(self, name: str) -> str:
        """The value that an 8-bit value was before it was moved: made by QuantizeLinear, or a graph input."""
        maker = self.g.producer(name)
        while maker is not None and maker.op_type != "QuantizeLinear":
            name = maker.inputs[0]
            maker = self.g.producer(name)
        return name

    def origin(self, name: str) -> Node | None:
        """The QuantizeLinear behind an 8-bit value, movement looked through; None where it is a graph input."""
        return self.g.producer(self._start(name))

    def source(self, name: str) -> ActivationQuantizer | None:
        """The quantiser of a float value that comes out of DequantizeLinear, else None."""
        maker = self.g.producer(name)
        if maker is None or maker.op_type != "DequantizeLinear" or maker.inputs[0] in self.g.consts:
            return None
        return self.quantizers.get((maker.inputs[1], maker.input(2)))


def _run(layer: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = layer(x)
    return out


def _same(x: Tensor) -> Tensor:
    return x


def quantize(b: Builder, node: Node) -> None:
    """QuantizeLinear: from here to DequantizeLinear values stay real numbers, on the integers' grid."""
    assert isinstance(b, QuantizedBuilder)
    b.step(node, _run, node.inputs[:1], layer=b.quantizer(node, b.g.dtype(node.outputs[0])))


def dequantize(b: Builder, node: Node) -> None:
    """DequantizeLinear of an activation does nothing more; of a constant it is read where it is used."""
    assert isinstance(b, QuantizedBuilder)
    x = node.inputs[0]
    if x in b.g.consts:
        return
    quantizer = b.quantizer(node, b.g.dtype(x))
    origin = b.origin(x)
    if origin is None:
        b.step(node, _run, [x], layer=quantizer)
        return
    same = origin.inputs[1:] == node.inputs[1:] or params_of(b.g, origin) == params_of(b.g, node)
    require(same, "parameters other than those of the QuantizeLinear before it")
    b.step(node, _same, [x])


def guarded(operator: Callable[[Builder, Node], None]) -> Callable[[Builder, Node], None]:
    """Refuses an operator on integers that real numbers in their place would not fit."""

    def check(b: Builder, node: Node) -> None:
        kinds = {b.g.dtype(i) for i in node.inputs if i and i not in b.g.consts}
        integers = any(k in _EIGHT for k in kinds) and node.op_type != "DequantizeLinear"
        require(not integers or node.op_type in _ON_INTEGERS, "arithmetic on 8-bit integers")
        operator(b, node)

    return check
