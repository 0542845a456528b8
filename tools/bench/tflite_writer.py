"""An ONNX graph, float32 or QDQ int8, as a .tflite file for the peers that read nothing else.

The very same weights, biases, scales and zero points, so that LiteRT's outputs can be held against the graph's. NHWC
inside; float32 at both ends, with QUANTIZE and DEQUANTIZE inside an int8 model. Operators: those of MobileNetV1,
MobileNetV2 and ResNet-18. Pads that TensorFlow's SAME does not give become a PAD of their own, with the real zero.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gossamer.importers.tflite import flatbuf
from tests.tflite_file import Model, number

Array = npt.NDArray[Any]
SAME, VALID = 0, 1
NONE, RELU, RELU6 = 0, 1, 3
SPARSE_FROM = 0.3
"""Share of zeros from which a weight tensor is stored sparse; TensorFlow's converter draws the line there too."""


def tflite(model: ir.Model, *, sparse: bool = False) -> bytes:
    """The .tflite of a graph of one input and one output, opset 13 or later, shapes inferred.

    Args:
        model: float32, or QDQ with int8 activations and symmetric int8 weights; batch norm folded.
        sparse: store float32 1x1 and classifier weights in TFLite's sparse form (CSR of the innermost dimension), the
            convolutions' behind DENSIFY, as TensorFlow's ``EXPERIMENTAL_SPARSITY`` does.

    Raises:
        ValueError: an operator, or a form of one, that this writer does not know, by name.
    """
    return _Writer(model, sparse).write()


class _Writer:
    def __init__(self, model: ir.Model, sparse: bool) -> None:
        self.graph = model.graph
        self.sparse = sparse
        self.file = Model()
        self.tensors: dict[str, int] = {}
        """ONNX value to tensor; a dequantised activation is the int8 tensor itself."""
        self.non_negative: set[int] = set()

    def write(self) -> bytes:
        (source,) = self.graph.inputs
        (result,) = self.graph.outputs
        self.file.inputs = [self.file.tensor(_nhwc(_shape(source)), name=source.name or "input")]
        self.tensors[_name(source)] = self.file.inputs[0]
        for node in self.graph:
            if all(_constant(v) is None for v in node.inputs[:1]):
                self.node(node)
        self.file.outputs = [self.tensors[_name(result)]]
        return self.file.build()

    def node(self, node: ir.Node) -> None:
        x, y = node.inputs[0], node.outputs[0]
        assert x is not None
        if node.op_type in ("QuantizeLinear", "DequantizeLinear", "Relu", "Clip") and _name(y) in self.tensors:
            return  # part of the operator before it
        put = getattr(self, f"_{node.op_type.lower()}", None)
        if put is None:
            raise ValueError(f"no .tflite form of {node.op_type} '{node.name}'")
        put(node)

    # Tensors

    def result(self, node: ir.Node) -> tuple[int, int]:
        """The tensor of a node's result after the activation and the QuantizeLinear that follow, and the activation."""
        value, fused, passed = node.outputs[0], NONE, [node.outputs[0]]
        for _ in range(2):
            uses = list(value.uses())
            if len(uses) != 1:
                break
            user = uses[0].node
            if user.op_type in ("Relu", "Clip") and fused == NONE:
                fused = _activation(user)
            elif user.op_type == "QuantizeLinear":
                passed.append(user.outputs[0])
                break
            else:
                break
            value = user.outputs[0]
            passed.append(value)
        tensor = self.fresh(passed[-1])
        for one in passed:
            self.tensors[_name(one)] = tensor
        if fused != NONE:
            self.non_negative.add(tensor)
        return tensor, fused

    def fresh(self, value: ir.Value) -> int:
        """A new tensor; int8 with its scale where a QuantizeLinear makes the value."""
        maker = value.producer()
        shape = _nhwc(_shape(value))
        if maker is None or maker.op_type != "QuantizeLinear":
            return self.file.tensor(shape, name=_name(value))
        scale, zero = (_constant(v) for v in maker.inputs[1:3])
        assert scale is not None and zero is not None
        if zero.dtype != np.int8 or scale.size != 1:
            raise ValueError(f"'{maker.name}' is not int8 with one scale")
        tensor = self.file.tensor(shape, "int8", float(scale), int(zero), name=_name(value))
        if int(zero) == -128:
            self.non_negative.add(tensor)
        return tensor

    def same(self, node: ir.Node) -> None:
        """The result is the input under another name."""
        tensor, value = self.tensors[_name(node.inputs[0])], node.outputs[0]
        for _ in range(2):
            self.tensors[_name(value)] = tensor
            users = [u.node for u in value.uses()]
            if len(users) != 1 or users[0].op_type != "QuantizeLinear":
                return
            value = users[0].outputs[0]

    def weight(self, node: ir.Node, axis: int, order: tuple[int, ...]) -> int:
        """The weights of a node as a constant with its output channels at ``axis`` of the transposed form."""
        value = node.inputs[1]
        maker = value.producer() if value is not None else None
        stored = _constant(value if maker is None else maker.inputs[0])
        if stored is None:
            raise ValueError(f"the weights of '{node.name}' are no constant")
        data = np.ascontiguousarray(stored.transpose(order))
        name = _name(value)
        if maker is None:
            if self.sparse and axis == 0 and (data == 0).mean() >= SPARSE_FROM and math.prod(data.shape[1:-1]) == 1:
                return self.sparse_weight(data, name)
            return self.file.tensor(data.shape, data=data, name=name)
        scale = _constant(maker.inputs[1])
        assert scale is not None and data.dtype == np.int8
        return self.file.tensor(data.shape, "int8", scale.reshape(-1), 0, axis, data, name)

    def sparse_weight(self, data: Array, name: str) -> int:
        """Rows of nonzeros; a convolution reads them through DENSIFY, which the delegate looks through."""
        stored = self.file.tensor(data.shape, data=data[data != 0], name=f"{name}.sparse", sparsity=_csr(data))
        if data.ndim == 2:
            return stored
        dense = self.file.tensor(data.shape, name=name)
        self.file.op("DENSIFY", [stored], [dense], "DensifyOptions")
        return dense

    def bias(self, node: ir.Node, channels: int) -> int:
        value = node.inputs[2] if len(node.inputs) > 2 else None
        if value is None:
            raise ValueError(f"'{node.name}' has no bias: fold batch norm first")
        maker = value.producer()
        if maker is None:
            data = _constant(value)
            assert data is not None
            return self.file.tensor((channels,), data=data, name=_name(value))
        data, scale = (_constant(v) for v in maker.inputs[:2])
        assert data is not None and scale is not None and data.dtype == np.int32
        return self.file.tensor((channels,), "int32", scale.reshape(-1), 0, 0, data, _name(value))

    def padded(
        self, node: ir.Node, x: int, span: list[int], strides: list[int], zero_is_least: bool
    ) -> tuple[int, int]:
        """The input, behind a PAD where it needs one, and the padding mode of the operator."""
        pads = _ints(node, "pads", [0, 0, 0, 0])
        record = self.file.tensors[x]
        height, width = int(record.shape[1]), int(record.shape[2])
        if not any(pads):
            return x, VALID
        if zero_is_least and x not in self.non_negative:
            raise ValueError(f"'{node.name}' pads an input that may be negative")
        if pads == _same_pads((height, width), span, strides):
            return x, SAME
        rows = np.array([[0, 0], [pads[0], pads[2]], [pads[1], pads[3]], [0, 0]], np.int32)
        shape = tuple(int(d) + int(p) for d, p in zip(record.shape, rows.sum(1), strict=True))
        y = self.like(record, shape, f"{node.name}.padded")
        self.file.op("PAD", [x, self.file.const(rows, "int32")], [y], "PadOptions")
        return y, VALID

    def like(self, record: flatbuf.Record, shape: tuple[int, ...], name: str) -> int:
        """A tensor of another shape with the type and scale of ``record``."""
        if record.quantization is None:
            return self.file.tensor(shape, name=name)
        q = record.quantization
        return self.file.tensor(shape, "int8", float(q.scale[0]), int(q.zero_point[0]), name=name)

    # Operators

    def _quantizelinear(self, node: ir.Node) -> None:
        y = self.fresh(node.outputs[0])
        self.tensors[_name(node.outputs[0])] = y
        self.file.op("QUANTIZE", [self.tensors[_name(node.inputs[0])]], [y], "QuantizeOptions")

    def _dequantizelinear(self, node: ir.Node) -> None:
        x, value = self.tensors[_name(node.inputs[0])], node.outputs[0]
        self.tensors[_name(value)] = x
        if value in self.graph.outputs:
            y = self.tensors[_name(value)] = self.file.tensor(_nhwc(_shape(value)), name=_name(value))
            self.file.op("DEQUANTIZE", [x], [y], "DequantizeOptions")

    def _conv(self, node: ir.Node) -> None:
        x = self.tensors[_name(node.inputs[0])]
        channels, cout, groups = int(self.file.tensors[x].shape[3]), _shape(node.outputs[0])[1], _int(node, "group", 1)
        kernel, strides = _ints(node, "kernel_shape", []), _ints(node, "strides", [1, 1])
        dilations = _ints(node, "dilations", [1, 1])
        depthwise = groups == channels and groups > 1
        if groups != 1 and not depthwise:
            raise ValueError(f"'{node.name}' is a grouped convolution")
        span = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        x, padding = self.padded(node, x, span, strides, False)
        w = self.weight(node, 3 if depthwise else 0, (1, 2, 3, 0) if depthwise else (0, 2, 3, 1))
        b = self.bias(node, cout)
        y, act = self.result(node)
        window = {"stride_h": strides[0], "stride_w": strides[1], "padding": padding}
        window |= {"dilation_h_factor": dilations[0], "dilation_w_factor": dilations[1]}
        kind, options = ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions") if depthwise else ("CONV_2D", "Conv2DOptions")
        if depthwise:
            window["depth_multiplier"] = cout // channels
        version = 3 if self.file.tensors[y].quantization is not None else 1
        self.file.op(kind, [x, w, b], [y], options, version, fused_activation_function=act, **window)

    def _gemm(self, node: ir.Node) -> None:
        if not _int(node, "transB", 0) or _int(node, "transA", 0):
            raise ValueError(f"'{node.name}' multiplies by weights that are not [N, K]")
        x = self.tensors[_name(node.inputs[0])]
        w, b = self.weight(node, 0, (0, 1)), self.bias(node, _shape(node.outputs[0])[1])
        y, act = self.result(node)
        version = 4 if self.file.tensors[y].quantization is not None else 8 if self.file.tensors[w].sparsity else 1
        self.file.op("FULLY_CONNECTED", [x, w, b], [y], "FullyConnectedOptions", version, fused_activation_function=act)

    def _add(self, node: ir.Node) -> None:
        inputs = [self.tensors[_name(v)] for v in node.inputs]
        y, act = self.result(node)
        version = 2 if self.file.tensors[y].quantization is not None else 1
        self.file.op("ADD", inputs, [y], "AddOptions", version, fused_activation_function=act)

    def _maxpool(self, node: ir.Node) -> None:
        kernel, strides = _ints(node, "kernel_shape", []), _ints(node, "strides", [1, 1])
        x = self.tensors[_name(node.inputs[0])]
        x, padding = self.padded(node, x, kernel, strides, True)
        y, act = self.result(node)
        window = {"stride_h": strides[0], "stride_w": strides[1], "padding": padding}
        window |= {"filter_height": kernel[0], "filter_width": kernel[1], "fused_activation_function": act}
        version = 2 if self.file.tensors[y].quantization is not None else 1
        self.file.op("MAX_POOL_2D", [x], [y], "Pool2DOptions", version, **window)

    def _reducemean(self, node: ir.Node) -> None:
        """The mean over the plane as ``[N, C]``: a Reshape that only drops the plane is nothing then."""
        axes = _constant(node.inputs[1])
        if axes is None or sorted(int(a) % 4 for a in axes.reshape(-1)) != [2, 3]:
            raise ValueError(f"'{node.name}' is no mean over the plane")
        y, _ = self.result(node)
        self.file.tensors[y].shape = np.array(_shape(node.outputs[0])[:2], np.int32)
        version = 2 if self.file.tensors[y].quantization is not None else 1
        x = self.tensors[_name(node.inputs[0])]
        self.file.op("MEAN", [x, self.file.const([1, 2], "int32")], [y], "ReducerOptions", version, keep_dims=False)

    def _reshape(self, node: ir.Node) -> None:
        x = self.file.tensors[self.tensors[_name(node.inputs[0])]]
        if tuple(x.shape) != _shape(node.outputs[0]):
            raise ValueError(f"'{node.name}' does more than to drop a plane of one pixel")
        self.same(node)


def _csr(data: Array) -> flatbuf.Record:
    """TFLite's description of a tensor whose innermost dimension alone is sparse."""
    nonzero = data.reshape(-1, data.shape[-1]) != 0
    dims = [flatbuf.Record("DimensionMetadata", format=0, dense_size=d) for d in data.shape[:-1]]
    # The smallest index type that fits: its own choice in TensorFlow's converter.
    segments = np.concatenate([[0], np.cumsum(nonzero.sum(1))])
    dims.append(flatbuf.Record("DimensionMetadata", format=1, **_vector("array_segments", segments)))
    for key, value in _vector("array_indices", np.nonzero(nonzero)[1]).items():
        setattr(dims[-1], key, value)
    order = np.arange(data.ndim, dtype=np.int32)
    return flatbuf.Record("SparsityParameters", traversal_order=order, dim_metadata=dims)


def _vector(field: str, values: Array) -> dict[str, Any]:
    top = int(values.max(initial=0))
    kind = "Uint8Vector" if top < 1 << 8 else "Uint16Vector" if top < 1 << 16 else "Int32Vector"
    numbers = values.astype(kind.removesuffix("Vector").lower())
    return {f"{field}_type": number("SparseIndexVector", kind), field: flatbuf.Record(kind, values=numbers)}


def _same_pads(size: tuple[int, int], span: list[int], strides: list[int]) -> list[int]:
    """TensorFlow's SAME as ONNX pads: (top, left, bottom, right)."""
    total = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, span, strides, strict=True)]
    return [total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2]


def _activation(node: ir.Node) -> int:
    if node.op_type == "Relu":
        return RELU
    low, high = (_constant(v) for v in node.inputs[1:3])
    if low is not None and high is not None and float(low) == 0.0 and float(high) == 6.0:
        return RELU6
    raise ValueError(f"'{node.name}' clips to neither [0, inf) nor [0, 6]")


def _name(value: ir.Value | None) -> str:
    assert value is not None and value.name is not None
    return value.name


def _shape(value: ir.Value) -> tuple[int, ...]:
    if value.shape is None or not value.shape.is_static():
        raise ValueError(f"'{value.name}' has no static shape")
    return tuple(int(d) for d in value.shape.numpy())


def _nhwc(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else shape


def _constant(value: ir.Value | None) -> Array | None:
    found = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if found is None else found.numpy()


def _ints(node: ir.Node, name: str, default: list[int]) -> list[int]:
    return list(node.attributes[name].as_ints()) if name in node.attributes else default


def _int(node: ir.Node, name: str, default: int) -> int:
    return node.attributes[name].as_int() if name in node.attributes else default
