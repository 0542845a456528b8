"""A checked TFLite model: tensors with their numbers and quantisation, operators with their options.

Everything that the converters rely on is checked here once: indices, shapes, buffer sizes, scales and zero points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gossamer._errors import ModelError, UnsupportedError
from gossamer.importers.tflite import flatbuf, schema

MAX_ELEMENTS = 1 << 28
MAX_RANK = 8
IDENTIFIER = b"TFL3"

DTYPES = {
    "FLOAT32": "float32",
    "FLOAT16": "float16",
    "FLOAT64": "float64",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT16": "int16",
    "UINT16": "uint16",
    "INT32": "int32",
    "UINT32": "uint32",
    "INT64": "int64",
    "UINT64": "uint64",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class Quant:
    """Affine quantisation: real = (stored - zero_point) * scale; ``axis`` is ``None`` for one scale per tensor."""

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int | None

    def same_as(self, other: Quant | None) -> bool:
        return (
            other is not None
            and self.axis == other.axis
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )


@dataclass(eq=False)
class Tensor:
    """A tensor of the subgraph. ``dtype`` is empty for types that numpy lacks (strings, resources, 4 bits)."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    type_name: str
    quant: Quant | None
    data: npt.NDArray[Any] | None
    is_variable: bool
    record: flatbuf.Record

    @property
    def is_const(self) -> bool:
        return self.data is not None


@dataclass(eq=False)
class Operator:
    """An operator; absent optional inputs are ``None``. ``options`` is ``None`` when the file carries none."""

    index: int
    kind: str
    version: int
    inputs: list[int | None]
    outputs: list[int]
    options: flatbuf.Record | None
    custom_code: str
    record: flatbuf.Record
    code: flatbuf.Record
    source: str = ""

    def option(self, name: str, default: Any = 0) -> Any:
        """A field of the options, or ``default`` when the options or the field are not in the file."""
        value = getattr(self.options, name, None) if self.options is not None else None
        return default if value is None else value


@dataclass(eq=False)
class Graph:
    """The main subgraph."""

    name: str
    where: str
    tensors: list[Tensor]
    operators: list[Operator]
    inputs: list[int]
    outputs: list[int]
    model: flatbuf.Record
    consumers: dict[int, list[Operator]] = field(default_factory=dict)
    producer: dict[int, Operator] = field(default_factory=dict)


def read(data: bytes, where: str) -> Graph:
    """Parse and check a .tflite file.

    Raises:
        ModelError: not a TFLite file, damaged, or holding numbers that make no sense (NaN weights, scale 0).
        UnsupportedError: well formed, but sparse weights or operators newer than the installed schema.
    """
    if len(data) < 16 or data[4:8] != IDENTIFIER:
        raise ModelError(
            f"not a TFLite model: {len(data)} bytes without the mark 'TFL3' at byte 4",
            where=where,
            hint="give a .tflite file as written by the TensorFlow Lite converter",
        )
    model = flatbuf.read(data, "Model", where)
    if model.version != 3:
        raise ModelError(f"TFLite schema version {model.version}, expected 3", where=where)
    if not model.subgraphs:
        raise ModelError("the TFLite model has no subgraph", where=where)
    main = model.subgraphs[0]
    check = _Checker(data, where, model)
    tensors = [check.tensor(i, record) for i, record in enumerate(main.tensors)]
    operators = [check.operator(i, record, tensors) for i, record in enumerate(main.operators)]
    inputs = check.indices(main.inputs, len(tensors), "graph inputs")
    outputs = check.indices(main.outputs, len(tensors), "graph outputs")
    if not outputs:
        raise ModelError("the TFLite model has no outputs", where=where)
    if not operators:
        raise ModelError("the TFLite model has no operators", where=where)
    graph = Graph(main.name or "main", where, tensors, operators, inputs, outputs, model)
    check.dataflow(graph)
    return graph


class _Checker:
    def __init__(self, data: bytes, where: str, model: flatbuf.Record) -> None:
        self.data = data
        self.where = where
        self.model = model

    def at(self, what: str) -> str:
        return f"{self.where}, {what}"

    def indices(self, values: Any, limit: int, what: str) -> list[int]:
        result = [] if values is None else [int(v) for v in values]
        for value in result:
            if not 0 <= value < limit:
                raise ModelError(f"tensor number {value} does not exist ({limit} tensors)", where=self.at(what))
        return result

    def buffer(self, number: int, what: str) -> npt.NDArray[np.uint8] | None:
        if number == 0:
            return None
        if number >= len(self.model.buffers):
            raise ModelError(f"buffer {number} does not exist", where=self.at(what))
        record = self.model.buffers[number]
        if record.offset > 1:  # data behind the flatbuffer, for files above 2 GB
            end = record.offset + record.size
            if end > len(self.data):
                raise ModelError(f"buffer {number} ends at byte {end}, outside of the file", where=self.at(what))
            return np.frombuffer(self.data, np.uint8, record.size, record.offset)
        data: npt.NDArray[np.uint8] | None = record.data
        return data if data is not None and data.size else None

    def tensor(self, index: int, record: flatbuf.Record) -> Tensor:
        name = record.name or f"tensor_{index}"
        what = f"tensor {index} '{name}'"
        type_name = schema.enum("TensorType").get(record.type)
        if type_name is None:
            raise ModelError(f"unknown tensor type {record.type}", where=self.at(what))
        shape = tuple(int(d) for d in record.shape) if record.shape is not None else ()
        if len(shape) > MAX_RANK or any(d < 0 for d in shape) or math.prod(shape) > MAX_ELEMENTS:
            raise ModelError(
                f"shape {list(shape)} has a negative dimension, or above {MAX_RANK} of them or {MAX_ELEMENTS} elements",
                where=self.at(what),
            )
        dtype = DTYPES.get(type_name, "")
        raw = self.buffer(record.buffer, what)
        values: npt.NDArray[Any] | None = None
        if raw is not None and record.sparsity is not None:
            raise UnsupportedError(
                "weights stored in TFLite's sparse format",
                where=self.at(what),
                hint="convert the model without sparse storage; zeros are found and packed here",
            )
        if raw is not None and dtype:
            wanted = math.prod(shape) * np.dtype(dtype).itemsize
            if raw.size != wanted:
                raise ModelError(f"{raw.size} bytes of data for {type_name}{list(shape)}", where=self.at(what))
            values = raw.view(np.dtype(dtype).newbyteorder("<")).reshape(shape)
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise ModelError(
                    "the weights hold NaN or infinity", where=self.at(what), hint="check the training run or the file"
                )
        quant = self.quant(record.quantization, shape, type_name, what)
        return Tensor(index, name, shape, dtype, type_name, quant, values, bool(record.is_variable), record)

    def quant(self, record: Any, shape: tuple[int, ...], type_name: str, what: str) -> Quant | None:
        if record is None or record.scale is None or record.scale.size == 0 or type_name == "FLOAT32":
            return None
        scale = np.asarray(record.scale, np.float32)
        zero = np.zeros(scale.size, np.int64) if record.zero_point is None else np.asarray(record.zero_point, np.int64)
        if zero.size == 1 and scale.size > 1:
            zero = np.repeat(zero, scale.size)
        if zero.size != scale.size:
            raise ModelError(f"{scale.size} scales but {zero.size} zero points", where=self.at(what))
        if not np.isfinite(scale).all() or (scale < 0).any() or ((scale == 0).any() and scale.size == 1):
            raise ModelError("a quantisation scale is zero, negative or not a number", where=self.at(what))
        # A channel of zeros is written with scale 0 by some converters: any scale gives the same numbers.
        scale = np.where(scale == 0, np.float32(1.0), scale)
        if type_name in ("INT8", "UINT8", "INT16"):
            info = np.iinfo(DTYPES[type_name])
            if (zero < info.min).any() or (zero > info.max).any():
                raise ModelError(f"a zero point does not fit {type_name}", where=self.at(what))
        if scale.size == 1:
            return Quant(scale, zero, None)
        axis = int(record.quantized_dimension)
        if not 0 <= axis < len(shape) or shape[axis] != scale.size:
            # Converters before 2020 copied the weights' axis onto one-dimensional biases (TFLite Micro accepts it).
            matching = [i for i, d in enumerate(shape) if d == scale.size]
            if len(matching) != 1:
                raise ModelError(
                    f"{scale.size} scales along dimension {axis} of {list(shape)}",
                    where=self.at(what),
                    hint="quantized_dimension must name the dimension that has one scale per entry",
                )
            axis = matching[0]
        return Quant(scale, zero, axis)

    def operator(self, index: int, record: flatbuf.Record, tensors: list[Tensor]) -> Operator:
        codes = self.model.operator_codes
        what = f"operator {index}"
        if record.opcode_index >= len(codes):
            raise ModelError(f"operator code {record.opcode_index} does not exist", where=self.at(what))
        code = codes[record.opcode_index]
        number = max(code.builtin_code, code.deprecated_builtin_code)
        kind = schema.enum("BuiltinOperator").get(number)
        if kind is None:
            raise UnsupportedError(
                f"TFLite operator number {number} is newer than the installed schema",
                where=self.at(what),
                hint="pip install --upgrade tflite",
            )
        inputs = [] if record.inputs is None else [int(i) for i in record.inputs]
        self.indices([i for i in inputs if i != -1], len(tensors), f"{what} {kind}, inputs")
        outputs = self.indices(record.outputs, len(tensors), f"{what} {kind}, outputs")
        options = record.builtin_options if record.builtin_options is not None else record.builtin_options2
        first = f" '{tensors[outputs[0]].name}'" if outputs else ""
        name = f"{kind} {code.custom_code}" if kind == "CUSTOM" else kind
        return Operator(
            index,
            kind,
            int(code.version),
            [None if i == -1 else i for i in inputs],
            outputs,
            options,
            code.custom_code or "",
            record,
            code,
            source=f"op #{index} {name}{first}",
        )

    def dataflow(self, graph: Graph) -> None:
        """Operators come in execution order, and every tensor is written once and before it is read."""
        ready = {t.index for t in graph.tensors if t.is_const or t.is_variable}
        for source in graph.inputs:
            if graph.tensors[source].is_const:
                raise ModelError(f"graph input '{graph.tensors[source].name}' is a constant", where=self.where)
            ready.add(source)
        if len(set(graph.inputs)) != len(graph.inputs):
            raise ModelError("a tensor is listed twice among the graph inputs", where=self.where)
        for op in graph.operators:
            for i in op.inputs:
                if i is None:
                    continue
                if i not in ready:
                    raise ModelError(
                        f"input '{graph.tensors[i].name}' is read before it is written", where=self.at(op.source)
                    )
                graph.consumers.setdefault(i, []).append(op)
            for out in op.outputs:
                if out in ready:
                    raise ModelError(f"output '{graph.tensors[out].name}' is written twice", where=self.at(op.source))
                ready.add(out)
                graph.producer[out] = op
        for target in graph.outputs:
            if target not in ready:
                raise ModelError(f"graph output '{graph.tensors[target].name}' is never written", where=self.where)
