"""A .tflite file under construction: tensors and operators by number, for tests and benchmarks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gossamer.importers.tflite import flatbuf, schema

Array = npt.NDArray[Any]
TYPES = {"float32": "FLOAT32", "float16": "FLOAT16", "int8": "INT8", "uint8": "UINT8", "int16": "INT16"}
TYPES |= {"int32": "INT32", "int64": "INT64", "bool": "BOOL"}


def number(enum: str, name: str) -> int:
    return {v: k for k, v in schema.enum(enum).items()}[name]


class Model:
    """A TFLite model under construction: ``tensor`` and ``op`` return and take tensor numbers."""

    def __init__(self) -> None:
        self.buffers = [flatbuf.Record("Buffer")]
        self.tensors: list[flatbuf.Record] = []
        self.codes: list[flatbuf.Record] = []
        self.ops: list[flatbuf.Record] = []
        self.inputs: list[int] = []
        self.outputs: list[int] = []

    def tensor(
        self,
        shape: tuple[int, ...],
        dtype: str = "float32",
        scale: float | Array | None = None,
        zero: int | Array = 0,
        axis: int = 0,
        data: npt.ArrayLike | None = None,
        name: str = "",
        variable: bool = False,
        sparsity: flatbuf.Record | None = None,
    ) -> int:
        record = flatbuf.Record("Tensor", shape=np.array(shape, np.int32), type=number("TensorType", TYPES[dtype]))
        record.name = name or f"t{len(self.tensors)}"
        record.is_variable = variable
        record.sparsity = sparsity
        if scale is not None:
            scales = np.atleast_1d(np.asarray(scale, np.float32))
            zeros = np.broadcast_to(np.asarray(zero, np.int64), scales.shape)
            record.quantization = flatbuf.Record(
                "QuantizationParameters", scale=scales, zero_point=zeros, quantized_dimension=axis
            )
        if data is not None:
            raw = np.frombuffer(np.ascontiguousarray(data, dtype=dtype).tobytes(), np.uint8)
            record.buffer = len(self.buffers)
            self.buffers.append(flatbuf.Record("Buffer", data=raw))
        self.tensors.append(record)
        return len(self.tensors) - 1

    def const(self, data: npt.ArrayLike, dtype: str = "float32", **quant: Any) -> int:
        array = np.asarray(data, dtype)
        return self.tensor(array.shape, dtype, data=array, **quant)

    def op(
        self,
        kind: str,
        inputs: list[int],
        outputs: list[int],
        options: str = "",
        version: int = 1,
        custom: str = "",
        **values: Any,
    ) -> None:
        code = number("BuiltinOperator", kind)
        self.codes.append(
            flatbuf.Record(
                "OperatorCode",
                builtin_code=code,
                deprecated_builtin_code=min(code, 127),
                version=version,
                custom_code=custom or None,
            )
        )
        record = flatbuf.Record("Operator", opcode_index=len(self.codes) - 1)
        record.inputs, record.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        if options:
            record.builtin_options_type = number("BuiltinOptions", options)
            record.builtin_options = flatbuf.Record(options, **values)
        self.ops.append(record)

    def build(self) -> bytes:
        graph = flatbuf.Record(
            "SubGraph",
            name="main",
            tensors=self.tensors,
            inputs=np.array(self.inputs, np.int32),
            outputs=np.array(self.outputs, np.int32),
            operators=self.ops,
        )
        model = flatbuf.Record(
            "Model", version=3, operator_codes=self.codes, subgraphs=[graph], buffers=self.buffers, description="test"
        )
        return flatbuf.write(model, b"TFL3")
