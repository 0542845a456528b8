"""Values of the graph as plan tensors: which layouts each one exists in, and the operators that convert between them.

A float or 8-bit value may exist row-major (ROW), channel-blocked (CB) and, for uint8 values, in its own type (RAW);
each is made when somebody asks for it, at most once. 8-bit values are held as int8: uint8 ones are shifted by 128.
"""

from __future__ import annotations

import enum
import math

import numpy as np

from gossamer.compile.graph import Graph, Node, QParams
from gossamer.compile.plan import MAX_RANK, DType, Layout, Op, OpKind, Tensor

NHWC_TO_NCHW = [0, 3, 1, 2]
NCHW_TO_NHWC = [0, 2, 3, 1]


class UnsupportedNodeError(Exception):
    """Raised by a lowering rule: the operator cannot be a plan operator as it stands."""


class Form(enum.Enum):
    """How a value is held. RAW: row-major in the graph's own type."""

    ROW = 0
    CB = 1
    RAW = 2


def is_eight_bit(dtype: np.dtype[np.generic]) -> bool:
    return dtype in (np.dtype(np.int8), np.dtype(np.uint8))


class Values:
    """Tensors by value name, and the operators emitted so far."""

    def __init__(self, g: Graph) -> None:
        self.g = g
        self.ops: list[Op] = []
        self._held: dict[str, dict[Form, Tensor]] = {}
        self._nhwc: dict[str, str] = {}
        self._context: Node | None = None

    def at(self, node: Node) -> None:
        """Names the operators that follow after a node."""
        self._context = node

    # --- making tensors and operators

    def emit(
        self,
        kind: OpKind,
        inputs: list[Tensor | None],
        outputs: list[Tensor],
        *,
        p: dict[int, int] | None = None,
        f: dict[int, float] | None = None,
        name: str = "",
        source: str = "",
    ) -> Op:
        node = self._context
        op = Op(
            kind,
            inputs,
            outputs,
            p=p or {},
            f=f or {},
            name=name or (node.name if node else ""),
            source=source or (node.source if node else ""),
        )
        self.ops.append(op)
        return op

    def const(self, name: str, data: np.ndarray, dtype: DType | None = None) -> Tensor:
        kind = dtype or DType.of(data.dtype)
        array = np.ascontiguousarray(data, dtype=kind.numpy).reshape(np.shape(data))
        return Tensor(name, kind, tuple(array.shape), data=array)

    def params(self, name: str) -> QParams | None:
        """Parameters of an 8-bit value as int8: the zero point of uint8 values is shifted by 128."""
        params = self.g.qparams.get(name)
        if params is None:
            return None
        shift = 128 if self.g.dtype(name) == np.uint8 else 0
        return QParams(params.scale, params.zero_point - shift)

    def new(self, name: str, form: Form = Form.ROW) -> Tensor:
        """A tensor for a graph value; the caller emits the operator that makes it and calls ``hold``."""
        dtype, shape = self.g.types[name]
        if len(shape) > MAX_RANK:
            raise UnsupportedNodeError(f"rank {len(shape)} is above {MAX_RANK}")
        if 0 in shape:
            raise UnsupportedNodeError("an empty tensor")
        layout = Layout.CB if form is Form.CB else Layout.ROW
        if is_eight_bit(dtype):
            params = self.params(name) if form is not Form.RAW else self.g.qparams.get(name)
            scale, zero = params if params is not None else (0.0, 0)
            kind = DType.of(dtype) if form is Form.RAW else DType.S8
            return Tensor(name, kind, shape, layout, scale, zero)
        return Tensor(name, self.dtype(dtype), shape, layout)

    @staticmethod
    def dtype(dtype: np.dtype[np.generic]) -> DType:
        try:
            return DType.of(dtype)
        except KeyError as error:
            raise UnsupportedNodeError(
                f"element type {dtype} (the core has float32 and 8 to 64-bit integers)"
            ) from error

    def hold(self, name: str, tensor: Tensor, form: Form | None = None) -> Tensor:
        """Records that a value now exists as ``tensor``."""
        if form is None:
            form = Form.CB if tensor.layout is Layout.CB else Form.ROW
            if tensor.dtype is DType.U8 and is_eight_bit(self.g.dtype(name)):
                form = Form.RAW
        self._held.setdefault(name, {})[form] = tensor
        return tensor

    def hold_nhwc(self, name: str, source: str) -> None:
        """Says that a rank-4 value is the NCHW view of NHWC value ``source``; it is converted when asked for."""
        self._nhwc[name] = source

    def has(self, name: str, form: Form) -> bool:
        return form in self._held.get(name, {})

    def known(self, name: str) -> bool:
        return name in self._held or name in self._nhwc or name in self.g.consts

    # --- asking for values

    def blocked(self, name: str) -> bool:
        """Whether a value is at hand channel-blocked, or would need a conversion in any layout."""
        return self.has(name, Form.CB) or (name in self._nhwc and not self.has(name, Form.ROW))

    def form(self, name: str) -> Form:
        """The cheapest layout to read a value in."""
        return Form.CB if self.blocked(name) else Form.ROW

    def row(self, name: str) -> Tensor:
        return self.get(name, Form.ROW)

    def cb(self, name: str) -> Tensor:
        if len(self.g.shape(name)) != 4:
            raise UnsupportedNodeError(f"rank {len(self.g.shape(name))} where this operator needs [N, C, H, W]")
        return self.get(name, Form.CB)

    def get(self, name: str, form: Form) -> Tensor:
        """The value in a layout, converting it when it does not exist so yet."""
        held = self._held.setdefault(name, {})
        if form in held:
            return held[form]
        if name in self.g.consts:
            return self._const(name, form)
        eight = is_eight_bit(self.g.dtype(name))
        if form is Form.RAW:
            return self._to_raw(name, held) if eight else self.get(name, Form.ROW)
        if name in self._nhwc and not held:
            return self._from_nhwc(name, form)
        if not held:
            maker = self.g.producer(name)
            if maker is not None and maker.op_type == "DequantizeLinear":
                self.dequantize(maker)
                return self.get(name, form)
            raise UnsupportedNodeError(f"value {name!r} is not available")
        if form is Form.ROW and Form.CB not in held:
            return self._from_raw(name, held)
        if form is Form.CB and Form.ROW not in held:
            self._from_raw(name, held)
        source = held[Form.ROW if form is Form.CB else Form.CB]
        target = self.new(name, form)
        self.emit(OpKind.LAYOUT, [source], [target], p={0: 0})
        return self.hold(name, target)

    def nhwc(self, name: str) -> Tensor | None:
        """The CB tensor of a value when it has one, for a Transpose to NHWC; else ``None``."""
        return self._held.get(name, {}).get(Form.CB)

    def real(self, name: str) -> Tensor:
        """A float value row-major; 8-bit inputs of DequantizeLinear are dequantised on demand."""
        return self.row(name)

    def _const(self, name: str, form: Form) -> Tensor:
        array = self.g.consts[name]
        params = self.params(name)
        if is_eight_bit(array.dtype) and params is not None and form is not Form.RAW:
            shift = 128 if array.dtype == np.uint8 else 0
            made = self.const(name, array.astype(np.int16) - shift, DType.S8)
            made.scale, made.zero_point = params
        else:
            made = self.const(name, array, self.dtype(array.dtype))
        self.hold(name, made, Form.ROW)
        if form is Form.CB:
            target = self.new(name, Form.CB)
            self.emit(OpKind.LAYOUT, [made], [target], p={0: 0})
            return self.hold(name, target)
        return made

    def _to_raw(self, name: str, held: dict[Form, Tensor]) -> Tensor:
        if self.g.dtype(name) == np.int8:
            return self.get(name, Form.ROW)
        source = self.get(name, Form.ROW)
        target = self.new(name, Form.RAW)
        self._shift(source, target)
        return self.hold(name, target, Form.RAW)

    def _from_raw(self, name: str, held: dict[Form, Tensor]) -> Tensor:
        target = self.new(name, Form.ROW)
        self._shift(held[Form.RAW], target)
        return self.hold(name, target, Form.ROW)

    def _shift(self, source: Tensor, target: Tensor) -> None:
        """uint8 to int8 and back: the top bit flips."""
        table = (np.arange(256) ^ 0x80).astype(np.uint8).view(target.dtype.numpy)
        self.emit(OpKind.LUT, [source, self.const("shift", table)], [target], p={0: 1})

    def _from_nhwc(self, name: str, form: Form) -> Tensor:
        source = self.row(self._nhwc[name])
        target = self.new(name, form)
        if form is Form.CB:
            self.emit(OpKind.LAYOUT, [source], [target], p={0: 1})
        else:
            self.emit(OpKind.TRANSPOSE, [source], [target], p=dict(enumerate(NHWC_TO_NCHW)))
        return self.hold(name, target)

    def dequantize(self, node: Node) -> Tensor:
        """Makes the float value of a DequantizeLinear: on the host for constants, else by an operator."""
        from gossamer.compile.unary import real

        x, y = node.inputs[0], node.outputs[0]
        constant = real(self.g, y)
        if constant is not None:
            return self.hold(y, self.const(y, constant, DType.F32))
        context, self._context = self._context, node
        try:
            target = self.new(y)
            if not is_eight_bit(self.g.dtype(x)) and self.g.dtype(x) != np.int32:
                raise UnsupportedNodeError(f"dequantising {self.g.dtype(x)}")
            scale = self.g.const(node.inputs[1])
            zero = self.g.const(node.input(2)) if node.input(2) else np.zeros(1, np.int32)
            if scale is None or zero is None or scale.size != 1 or zero.size != 1:
                raise UnsupportedNodeError("per-channel or computed quantisation parameters of an activation")
            if self.has(x, Form.RAW):
                source = self.get(x, Form.RAW)
            else:
                source = self.row(x)
                if source.dtype is DType.S32:
                    source = self._reinterpret(x, source, float(scale.reshape(-1)[0]), int(zero.reshape(-1)[0]))
            if source.scale == 0.0 or not math.isfinite(source.scale):
                raise UnsupportedNodeError("a quantised activation without parameters")
            self.emit(OpKind.DEQUANTIZE, [source], [target])
        finally:
            self._context = context
        return self.hold(y, target)

    def _reinterpret(self, name: str, source: Tensor, scale: float, zero: int) -> Tensor:
        """An int32 value with its parameters (they stand on the tensor)."""
        if source.scale in (0.0, scale) and (source.scale or source.zero_point == 0):
            source.scale, source.zero_point = scale, zero
            return source
        target = Tensor(name, DType.S32, source.shape, Layout.ROW, scale, zero)
        self.emit(OpKind.RESHAPE, [source], [target])
        return target

    def quantize(self, node: Node) -> Tensor:
        """Makes the 8-bit value of a QuantizeLinear from its float input."""
        y = node.outputs[0]
        if not is_eight_bit(self.g.dtype(y)) or self.g.qparams.get(y) is None:
            raise UnsupportedNodeError(f"quantising to {self.g.dtype(y)}, or with per-channel or computed parameters")
        source = self.real(node.inputs[0])
        raw = self.g.dtype(y) == np.uint8 and self.g.is_output(y) and not self.g.consumers(y)
        target = self.new(y, Form.RAW if raw else Form.ROW)
        self.emit(OpKind.QUANTIZE, [source], [target])
        return self.hold(y, target, Form.RAW if raw else Form.ROW)
