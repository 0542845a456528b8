"""The prunable layers of an ONNX graph: Conv, Gemm and MatMul with constant weights, float or quantised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gossamer._errors import ModelError
from gossamer.sparsify.matrix import Columns, from_onnx, to_onnx
from gossamer.sparsify.scores import magnitude

PRUNABLE = ("Conv", "Gemm", "MatMul")
SOURCE_KEY = "gossamer.source"
PATTERN_KEY = "gossamer.pattern"
_PASSED = ("DequantizeLinear", "QuantizeLinear", "Transpose", "Identity")
_DTYPES = (np.float16, np.float32, np.float64, np.int8, np.uint8)


@dataclass(eq=False)
class Layer:
    """One node with constant weights.

    Attributes:
        node: the Conv, Gemm or MatMul.
        value: the initializer that holds the weights.
        transposed: the initializer is 2-D with inputs first, ``[K, N]``.
        scale: step of quantised weights, broadcast against the initializer; 1.0 for float ones.
        zero_point: the stored number that stands for zero, likewise.
    """

    node: ir.Node
    value: ir.Value
    transposed: bool
    scale: npt.NDArray[Any]
    zero_point: npt.NDArray[Any]

    @property
    def name(self) -> str:
        return self.node.name or f"{self.node.op_type} of {self.value.name}"

    @property
    def source(self) -> str:
        return self.node.metadata_props.get(SOURCE_KEY, "")

    @property
    def weight(self) -> npt.NDArray[Any]:
        assert self.value.const_value is not None
        return self.value.const_value.numpy()

    @property
    def groups(self) -> int:
        attribute = self.node.attributes.get("group")
        return attribute.as_int() if attribute is not None else 1

    @property
    def depthwise(self) -> bool:
        return self.node.op_type == "Conv" and self.groups > 1 and self.weight.shape[1] == 1

    def matrix(self) -> tuple[npt.NDArray[np.float32], Columns]:
        """Importance of every weight, ``[R, K]``, float32 at least 0, padding 0.

        Raises:
            ModelError: a weight is NaN or infinite.
        """
        weight = self.weight
        if np.issubdtype(weight.dtype, np.floating) and not np.isfinite(weight).all():
            bad = np.argwhere(~np.isfinite(weight))[0].tolist()
            raise ModelError(
                f"the weights of '{self.name}' hold {weight[tuple(bad)]} at {bad}",
                where=f"initializer '{self.value.name}'",
                hint="repair the model: weights must be finite",
            )
        scores = magnitude(weight, scale=self.scale, zero_point=self.zero_point)
        return from_onnx(scores, transposed=self.transposed)

    def apply(self, mask: npt.NDArray[np.bool_]) -> int:
        """Sets what the mask (``[R, K]``) drops to zero, in place; returns the zeros there are then."""
        weight = self.weight
        keep = to_onnx(mask, weight.shape, transposed=self.transposed)
        zero = np.broadcast_to(self.zero_point.astype(weight.dtype), weight.shape)
        pruned = np.where(keep, weight, zero)
        self.value.const_value = ir.tensor(pruned, name=self.value.name)
        return int(np.count_nonzero(pruned == zero))

    @property
    def zeros(self) -> int:
        return int(np.count_nonzero(self.weight == self.zero_point.astype(self.weight.dtype)))


@dataclass(frozen=True)
class Skipped:
    """A node with weights that cannot be pruned, and why; ``weights`` is 0 where another layer counts them."""

    node: ir.Node
    shape: tuple[int, ...]
    weights: int
    zeros: int
    reason: str


def find_layers(model: ir.Model) -> tuple[list[Layer], list[Skipped]]:
    """Every prunable layer of the top-level graph in its order, and those that cannot be pruned.

    A weight that several nodes share is listed once, at the first of them.
    """
    found: list[Layer] = []
    skipped: list[Skipped] = []
    owners: dict[int, Layer] = {}
    for node in list(model.graph):
        if node.domain not in ("", "ai.onnx") or node.op_type not in PRUNABLE or len(node.inputs) < 2:
            continue
        layer = _trace(model, node)
        if layer is None:
            continue
        reason = _why_not(layer, owners)
        if reason is None:
            owners[id(layer.value)] = layer
            found.append(layer)
            continue
        counted = id(layer.value) not in owners
        shape = tuple(int(d) for d in layer.weight.shape)
        weights, zeros = (int(layer.weight.size), layer.zeros) if counted else (0, 0)
        skipped.append(Skipped(node, shape, weights, zeros, reason))
    return found, skipped


def _why_not(layer: Layer, owners: dict[int, Layer]) -> str | None:
    """Why the weights of ``layer`` cannot be pruned; ``None`` when they can."""
    weight = layer.weight
    if id(layer.value) in owners:
        return f"shares its weights with '{owners[id(layer.value)].name}'"
    if weight.dtype not in _DTYPES or weight.size == 0:
        return f"weights of type {weight.dtype} are not pruned"
    if weight.ndim < 2 or (layer.node.op_type != "Conv" and weight.ndim != 2):
        return f"weights of {weight.ndim} dimensions are not pruned"
    other = _other_use(layer.value)
    return None if other is None else f"its weights also feed {other.op_type} '{other.name}'"


def _trace(model: ir.Model, node: ir.Node) -> Layer | None:
    """Follows input 1 back to its initializer; ``None`` when it is no constant."""
    value = node.inputs[1]
    transposed = node.op_type == "MatMul"
    if node.op_type == "Gemm":
        flag = node.attributes.get("transB")
        transposed = flag is None or not flag.as_int()
    scale: npt.NDArray[Any] = np.ones((), np.float32)
    zero_point: npt.NDArray[Any] = np.zeros((), np.int32)
    axis: int | None = None
    flipped = False
    while value is not None and value.const_value is None:
        producer = value.producer()
        if producer is None or producer.op_type not in (*_PASSED, "Constant"):
            return None
        if producer.op_type == "Constant":
            constant = ir.convenience.get_const_tensor(value)
            if constant is None:
                return None
            name = value.name or f"{node.name}.weight"
            fresh = ir.Value(name=f"{name}.const", type=value.type, shape=value.shape, const_value=constant)
            fresh.const_value = ir.tensor(constant.numpy(), name=fresh.name)
            model.graph.register_initializer(fresh)
            ir.convenience.replace_all_uses_with(value, fresh)
            value = fresh
            break
        if producer.op_type == "DequantizeLinear":
            constants = [i.const_value if i is not None else None for i in producer.inputs[1:]]
            if constants[0] is None:
                return None
            scale = constants[0].numpy()
            if len(constants) > 1 and constants[1] is not None:
                zero_point = constants[1].numpy()
            attribute = producer.attributes.get("axis")
            axis = attribute.as_int() if attribute is not None else 1
            flipped = False
        elif producer.op_type == "Transpose":
            attribute = producer.attributes.get("perm")
            if attribute is not None and list(attribute.as_ints()) != [1, 0]:
                return None
            transposed = not transposed
            flipped = not flipped
        value = producer.inputs[0]
    if value is None or value.const_value is None:
        return None
    weight = value.const_value.numpy()
    if np.issubdtype(weight.dtype, np.floating):  # float weights in front of their own QuantizeLinear
        scale, zero_point = np.ones((), np.float32), np.zeros((), np.int32)
    elif scale.size > 1 or zero_point.size > 1:
        axis = (axis or 0) % weight.ndim
        axis = 1 - axis if flipped and weight.ndim == 2 else axis
        shape = [1] * weight.ndim
        shape[axis] = -1
        scale = scale.reshape(shape)
        zero_point = zero_point.reshape(shape if zero_point.size > 1 else ())
    else:
        scale, zero_point = scale.reshape(()), zero_point.reshape(())
    return Layer(node, value, transposed, scale, zero_point)


def _other_use(value: ir.Value) -> ir.Node | None:
    """A node that reads the weights and is no prunable layer."""
    for use in value.uses():
        node = use.node
        if node.op_type in PRUNABLE and use.idx == 1:
            continue
        if node.op_type in _PASSED and use.idx == 0:
            for output in node.outputs:
                other = _other_use(output)
                if other is not None:
                    return other
            continue
        return node
    return None


def heads(model: ir.Model, layers: list[Layer]) -> set[int]:
    """``id`` of the layers after which no other layer with weights comes: the classifiers."""
    weighted = {id(layer.node) for layer in layers}
    busy: set[int] = set()
    last: set[int] = set()
    for node in reversed(list(model.graph)):
        after = any(id(use.node) in busy or id(use.node) in weighted for out in node.outputs for use in out.uses())
        if after:
            busy.add(id(node))
        elif id(node) in weighted:
            last.add(id(node))
    return {id(layer) for layer in layers if id(layer.node) in last}
