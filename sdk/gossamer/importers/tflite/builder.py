"""Collects ONNX nodes while a TFLite graph is converted; keeps every tensor in the layouts that were asked for.

TFLite is channels-last, the graph inside is NCHW. A rank-4 tensor may exist ``plain`` (as TFLite has it) and ``nchw``;
each form is made when a converter first asks for it, so a run of convolutions stays NCHW and a transpose appears only
where a plain form is really read. Transposes move stored numbers (int8 stays int8); where no element moves in memory
(one pixel, or one channel) a Reshape does.

A quantised tensor has a stored value (int8 or uint8) and a real one: DequantizeLinear of the stored value. Converters
compute on real values and :meth:`Builder.put` adds the QuantizeLinear.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gossamer._errors import ModelError, UnsupportedError
from gossamer.importers.source import SOURCE
from gossamer.importers.tflite.reader import Graph, Operator, Quant, Tensor

Form = Literal["plain", "nchw"]
TO_NCHW = (0, 3, 1, 2)
TO_NHWC = (0, 2, 3, 1)
AXIS_NCHW = {0: 0, 1: 2, 2: 3, 3: 1}
"""Where an axis of an NHWC tensor is in NCHW."""


def moves_nothing(shape: Sequence[int]) -> bool:
    """Whether NHWC and NCHW of this NHWC shape are the same bytes."""
    _, height, width, channels = shape
    return channels == 1 or height * width == 1


class Builder:
    """State of one conversion. ``current`` is the TFLite operator being converted, for sources and errors."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[ir.Node] = []
        self.initializers: dict[str, ir.Value] = {}
        self.folded: dict[int, npt.NDArray[Any]] = {t.index: t.data for t in graph.tensors if t.data is not None}
        self.current: Operator | None = None
        self._stored: dict[tuple[int, Form], ir.Value] = {}
        self._real: dict[tuple[int, Form], ir.Value] = {}
        self._owned: set[int] = set()
        self._names: dict[str, int] = {}
        self.absorbed: dict[int, tuple[Tensor, tuple[int, int, int, int], Operator]] = {}
        """Zero-padded tensors read by convolutions alone: unpadded tensor, (top, left, bottom, right), the PAD."""

    # errors

    @property
    def where(self) -> str:
        return f"{self.graph.where}, {self.current.source}" if self.current else self.graph.where

    def unsupported(self, what: str, hint: str | None = None) -> UnsupportedError:
        return UnsupportedError(what, where=self.where, hint=hint)

    def broken(self, what: str) -> ModelError:
        return ModelError(
            what, where=self.where, hint="the file is damaged or its converter is at fault: export it again"
        )

    # nodes and constants

    def unique(self, name: str) -> str:
        """``name``, or ``name`` with a number behind it when it is taken."""
        count = self._names.get(name, 0)
        self._names[name] = count + 1
        return name if count == 0 else self.unique(f"{name}#{count}")

    def emit(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: dict[str, Any] | None = None,
        *,
        name: str,
        outputs: Sequence[str] = (),
        domain: str = "",
    ) -> tuple[ir.Value, ...]:
        """Append a node; ``outputs`` are names for its results (default: one, named after the node)."""
        results = [ir.Value(name=self.unique(n)) for n in (outputs or [f"{name}/{op_type}"])]
        node = ir.node(
            op_type,
            list(inputs),
            attributes or {},
            domain=domain,
            outputs=results,
            name=f"{name}/{op_type}",
            metadata_props={SOURCE: self.current.source if self.current else name},
        )
        self.nodes.append(node)
        return tuple(results)

    def one(
        self, op_type: str, inputs: Sequence[ir.Value | None], name: str, out: str = "", **attributes: Any
    ) -> ir.Value:
        """Append a node with one result."""
        return self.emit(op_type, inputs, attributes, name=name, outputs=[out] if out else ())[0]

    def const(self, array: npt.ArrayLike, name: str) -> ir.Value:
        """A new initializer."""
        values = np.asarray(array, order="C")  # ascontiguousarray would give scalars a dimension
        if values.dtype.byteorder == ">":
            values = values.astype(values.dtype.newbyteorder("="))
        unique = self.unique(name)
        value = ir.Value(
            name=unique,
            shape=ir.Shape(values.shape),
            type=ir.TensorType(ir.DataType.from_numpy(values.dtype)),
            const_value=ir.tensor(values, name=unique),
        )
        self.initializers[unique] = value
        return value

    def dequantized(self, array: npt.NDArray[Any], scale: Any, zero: Any, axis: int | None, name: str) -> ir.Value:
        """DequantizeLinear of a new integer initializer."""
        inputs = [
            self.const(array, name),
            self.const(np.asarray(scale, np.float32), f"{name}/scale"),
            self.const(np.asarray(zero, array.dtype), f"{name}/zero_point"),
        ]
        attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
        return self.one("DequantizeLinear", inputs, name, **attributes)

    # the operator and its tensors

    @property
    def op(self) -> Operator:
        """The current operator; a converter never runs without one."""
        if self.current is None:
            raise RuntimeError("no TFLite operator is being converted")
        return self.current

    def tensor(self, index: int) -> Tensor:
        return self.graph.tensors[index]

    def input(self, position: int) -> Tensor | None:
        """Input tensor of the current operator, ``None`` when absent."""
        index = self.op.inputs[position] if position < len(self.op.inputs) else None
        return None if index is None else self.graph.tensors[index]

    def need(self, position: int) -> Tensor:
        """Input tensor of the current operator; ``ModelError`` when absent."""
        tensor = self.input(position)
        if tensor is None:
            raise self.broken(f"input {position} is missing")
        return tensor

    def output(self, position: int = 0) -> Tensor:
        if position >= len(self.op.outputs):
            raise self.broken(f"output {position} is missing")
        return self.graph.tensors[self.op.outputs[position]]

    def ints(self, position: int) -> npt.NDArray[np.int64]:
        """A constant integer input of the current operator (shape, axes, paddings)."""
        tensor = self.need(position)
        values = self.folded.get(tensor.index)
        if values is None:
            raise self.unsupported(
                f"'{tensor.name}' must be a constant, but it depends on the input of the network",
                "export the model with fixed shapes",
            )
        if values.dtype.kind not in "iub":
            raise self.broken(f"'{tensor.name}' should hold integers, not {values.dtype}")
        return values.astype(np.int64)

    def has(self, tensor: Tensor, form: Form) -> bool:
        """Whether the form exists already (constants have both)."""
        return tensor.index in self.folded or (tensor.index, form) in self._stored

    def set_stored(self, tensor: Tensor, value: ir.Value, form: Form = "plain") -> None:
        if form == "nchw" and len(tensor.shape) != 4:
            raise self.broken(f"'{tensor.name}' of shape {list(tensor.shape)} should have rank 4")
        # Declared shapes steer the conversion (SAME padding); shape inference holds them against the computed ones.
        value.shape = ir.Shape(tensor.shape if form == "plain" else [tensor.shape[i] for i in TO_NCHW])
        self._stored[tensor.index, form] = value
        self._owned.add(id(value))

    def name_of(self, tensor: Tensor, form: Form) -> str:
        return tensor.name if form == "plain" else f"{tensor.name}/NCHW"

    def stored(self, tensor: Tensor, form: Form = "plain") -> ir.Value:
        """The tensor's numbers as stored, in the asked form."""
        key = (tensor.index, form)
        if key in self._stored:
            return self._stored[key]
        if tensor.index in self.folded:
            array = self.folded[tensor.index]
            if form == "nchw":
                if array.ndim != 4:
                    raise self.broken(f"'{tensor.name}' of shape {list(tensor.shape)} should have rank 4")
                array = np.transpose(array, TO_NCHW)
            value = self.const(array, self.name_of(tensor, form))
        else:
            other: Form = "nchw" if form == "plain" else "plain"
            source = self._stored.get((tensor.index, other))
            if source is None:
                raise self.unsupported(f"the value of '{tensor.name}' is not known here (a state variable or resource)")
            if len(tensor.shape) != 4:
                raise self.broken(f"'{tensor.name}' of shape {list(tensor.shape)} should have rank 4")
            perm = TO_NCHW if form == "nchw" else TO_NHWC
            name = self.name_of(tensor, form)
            n, h, w, c = tensor.shape
            if moves_nothing(tensor.shape):
                shape = self.const(
                    np.array((n, c, h, w) if form == "nchw" else (n, h, w, c), np.int64), f"{name}/shape"
                )
                value = self.one("Reshape", [source, shape], name, out=name)
            else:
                value = self.one("Transpose", [source], name, out=name, perm=list(perm))
        self._stored[key] = value
        return value

    def real(self, tensor: Tensor, form: Form = "plain") -> ir.Value:
        """The tensor as real numbers: its stored value, dequantised when it is quantised."""
        if tensor.quant is None:
            if tensor.dtype in ("int8", "uint8", "int16") and tensor.index not in self.folded:
                raise self.unsupported(f"'{tensor.name}' is {tensor.type_name} without a quantisation scale")
            if tensor.dtype == "float16" and tensor.index in self.folded:
                self.folded[tensor.index] = self.folded[tensor.index].astype(np.float32)
            return self.stored(tensor, form)
        key = (tensor.index, form)
        if key not in self._real:
            quant = tensor.quant
            self.check_width(tensor)
            name = self.name_of(tensor, form)
            stored = self.stored(tensor, form)
            axis = quant.axis
            if axis is not None and form == "nchw":
                axis = AXIS_NCHW[axis]
            inputs = [stored, *self.parameters(quant, tensor.dtype, name)]
            attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
            self._real[key] = self.one("DequantizeLinear", inputs, name, **attributes)
        return self._real[key]

    def check_width(self, tensor: Tensor) -> None:
        if tensor.dtype not in ("int8", "uint8", "int32"):
            raise self.unsupported(
                f"'{tensor.name}' is quantised to {tensor.type_name}",
                "convert the model with 8-bit activations (16x8 quantisation is not read)",
            )

    def parameters(self, quant: Quant, dtype: str, name: str) -> tuple[ir.Value, ir.Value]:
        """Scale and zero point initializers."""
        scalar = quant.axis is None
        scale = quant.scale[0] if scalar else quant.scale
        zero = quant.zero_point[0] if scalar else quant.zero_point
        return (
            self.const(np.asarray(scale, np.float32), f"{name}/scale"),
            self.const(np.asarray(zero, np.dtype(dtype)), f"{name}/zero_point"),
        )

    def flat_form(self, tensor: Tensor) -> Form:
        """A form that exists, or is cheapest to make, whose elements are in the order of the plain one."""
        free = len(tensor.shape) == 4 and moves_nothing(tensor.shape)
        return "nchw" if free and not self.has(tensor, "plain") else "plain"

    def reshaped(self, tensor: Tensor, shape: Sequence[int]) -> ir.Value:
        """The real value in another shape with the same number of elements; stored numbers are reshaped."""
        if tuple(shape) == tensor.shape:
            return self.real(tensor)
        stored = self.stored(tensor, self.flat_form(tensor))
        name = f"{tensor.name}/{'x'.join(map(str, shape))}"
        value = self.one("Reshape", [stored, self.const(np.array(shape, np.int64), f"{name}/shape")], name)
        if tensor.quant is None:
            return value
        self.check_width(tensor)
        if tensor.quant.axis is not None:
            raise self.unsupported(f"'{tensor.name}' is an activation with one scale per channel")
        return self.one("DequantizeLinear", [value, *self.parameters(tensor.quant, tensor.dtype, name)], name)

    def operand(self, tensor: Tensor, form: Form) -> ir.Value:
        """The real value for numpy broadcasting against a rank-4 tensor in ``form`` (or any tensor when plain)."""
        if form == "plain" or len(tensor.shape) == 4:
            return self.real(tensor, form)
        array = self.folded.get(tensor.index)
        if array is None or array.size == 1:
            return self.real(tensor)
        array = np.transpose(array.reshape((1,) * (4 - array.ndim) + array.shape), TO_NCHW)
        if tensor.quant is None:
            return self.const(array.astype(np.float32) if array.dtype == np.float16 else array, f"{tensor.name}/NCHW")
        if tensor.quant.axis is not None:
            raise self.unsupported(f"'{tensor.name}' is a constant of rank {len(tensor.shape)} with many scales")
        return self.dequantized(array, tensor.quant.scale[0], tensor.quant.zero_point[0], None, f"{tensor.name}/NCHW")

    def put(
        self, tensor: Tensor, value: ir.Value, form: Form = "plain", *, reshape: Sequence[int] | None = None
    ) -> None:
        """Give an output tensor its real value; it is quantised when the tensor is, then reshaped if asked."""
        name = self.name_of(tensor, form)
        if tensor.quant is not None:
            self.check_width(tensor)
            if tensor.quant.axis is not None or tensor.dtype == "int32":
                raise self.unsupported(f"activation '{tensor.name}' is quantised per channel or to 32 bits")
            value = self.one("QuantizeLinear", [value, *self.parameters(tensor.quant, tensor.dtype, name)], name)
        elif tensor.dtype in ("int8", "uint8", "int16"):
            raise self.unsupported(f"'{tensor.name}' is {tensor.type_name} without a quantisation scale")
        elif id(value) in self._owned or value.name in self.initializers:
            value = self.one("Identity", [value], name)
        if reshape is not None:
            value = self.one("Reshape", [value, self.const(np.array(reshape, np.int64), f"{name}/shape")], name)
        value.name = self.unique(name)
        self.set_stored(tensor, value, form)
