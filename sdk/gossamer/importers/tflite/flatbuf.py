"""Reads and writes flatbuffers from the schema, every offset and length checked before it is used.

A table becomes a :class:`Record`: attributes named as in the schema in snake case, child tables as records, number
vectors as numpy arrays that view the file. A damaged file gives ``ModelError``, whatever its bytes.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from gossamer._errors import ModelError
from gossamer.importers.tflite import schema

MAX_DEPTH = 12
MAX_TABLES = 1 << 18
MAX_VECTOR_BYTES = 1 << 31
_FORMATS = {
    "bool": "?",
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
}


class Record:
    """A table: ``table`` is its class name in the schema, the rest its fields."""

    def __init__(self, table: str, **values: Any) -> None:
        self.table = table
        for field in schema.fields(table):
            setattr(self, field.name, values.pop(field.name, _empty(field)))
        if values:
            raise KeyError(f"{table} has no field {', '.join(values)}")

    def __getattr__(self, name: str) -> Any:  # reached only for names outside the schema
        raise AttributeError(f"{self.__dict__.get('table', 'table')} has no field {name}")

    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__[name] = value


def _empty(field: schema.Field) -> Any:
    if field.kind == "scalar":
        return field.default
    return [] if field.kind in ("tables", "strings") else None


class _Reader:
    def __init__(self, data: bytes, where: str) -> None:
        self.data = data
        self.where = where
        self.tables = 0

    def fail(self, what: str, at: int, path: str) -> ModelError:
        return ModelError(
            f"damaged TFLite file: {what}",
            where=f"{self.where}, byte {at}, {path}",
            hint="the file is truncated or corrupted: copy or export it again",
        )

    def number(self, kind: str, at: int, path: str) -> Any:
        size = struct.calcsize(_FORMATS[kind])
        if at < 0 or at + size > len(self.data):
            raise self.fail(f"{kind} outside of the file", at, path)
        return struct.unpack_from("<" + _FORMATS[kind], self.data, at)[0]

    def follow(self, at: int, path: str) -> int:
        offset = int(self.number("uint32", at, path))
        if offset == 0 or at + offset >= len(self.data):
            raise self.fail(f"offset {offset} leads outside of the file", at, path)
        return at + offset

    def vector(self, at: int, item: int, path: str) -> tuple[int, int]:
        """Start and length of the vector whose offset is stored at ``at``."""
        start = self.follow(at, path)
        length = int(self.number("uint32", start, path))
        if length * item > MAX_VECTOR_BYTES or start + 4 + length * item > len(self.data):
            raise self.fail(f"vector of {length} items of {item} bytes leads outside of the file", start, path)
        return start + 4, length

    def string(self, at: int, path: str) -> str:
        start, length = self.vector(at, 1, path)
        return self.data[start : start + length].decode("utf-8", errors="replace")

    def table(self, at: int, name: str, depth: int, path: str) -> Record:
        self.tables += 1
        if depth > MAX_DEPTH or self.tables > MAX_TABLES:
            raise self.fail("tables nested too deeply or too many", at, path)
        vtable = at - int(self.number("int32", at, path))
        vtable_size = int(self.number("uint16", vtable, path))
        table_size = int(self.number("uint16", vtable + 2, path))
        if vtable_size < 4 or vtable_size % 2 or vtable + vtable_size > len(self.data):
            raise self.fail(f"field table of {vtable_size} bytes", vtable, path)
        if table_size < 4 or at + table_size > len(self.data):
            raise self.fail(f"table of {table_size} bytes leads outside of the file", at, path)
        values: dict[str, Any] = {}
        slots: dict[int, Any] = {}
        for field in schema.fields(name):
            entry = 4 + 2 * field.slot
            offset = int(self.number("uint16", vtable + entry, path)) if entry < vtable_size else 0
            if offset == 0:
                slots[field.slot] = field.default
                continue
            if offset < 4 or offset >= table_size:
                raise self.fail(f"field {field.name} lies outside of its table", at, path)
            here = f"{path}.{field.name}"
            if field.kind == "union":
                kind = slots.get(field.slot - 1)
                values[field.name] = self.union(field, kind, at + offset, depth, here)
            else:
                values[field.name] = slots[field.slot] = self.field(field, at + offset, depth, here)
        return Record(name, **values)

    def union(self, field: schema.Field, kind: Any, at: int, depth: int, path: str) -> Record | None:
        child = schema.enum(field.table).get(int(kind or 0))
        if child is None:
            raise self.fail(f"unknown kind {kind} of {field.name}", at, path)
        if child == "NONE":
            return None
        return self.table(self.follow(at, path), child, depth + 1, path)

    def field(self, field: schema.Field, at: int, depth: int, path: str) -> Any:
        if field.kind == "scalar":
            return self.number(field.dtype, at, path)
        if field.kind == "string":
            return self.string(at, path)
        if field.kind == "table":
            return self.table(self.follow(at, path), field.table, depth + 1, path)
        if field.kind == "scalars":
            dtype = np.dtype(field.dtype).newbyteorder("<")
            start, length = self.vector(at, dtype.itemsize, path)
            return np.frombuffer(self.data, dtype, length, start)
        start, length = self.vector(at, 4, path)
        if length > MAX_TABLES:
            raise self.fail(f"{length} entries", start, path)
        if field.kind == "strings":
            return [self.string(start + 4 * i, f"{path}[{i}]") for i in range(length)]
        return [
            self.table(self.follow(start + 4 * i, path), field.table, depth + 1, f"{path}[{i}]") for i in range(length)
        ]


def read(data: bytes, root: str, where: str) -> Record:
    """The root table ``root`` of a flatbuffer.

    Args:
        data: the whole file; numpy arrays in the result view it.
        root: class name of the root table, such as ``Model``.
        where: the file's name for error messages.

    Raises:
        ModelError: something in the file leads outside of it, or its structure is absurd (depth, counts).
    """
    reader = _Reader(data, where)
    return reader.table(reader.follow(0, root), root, 0, root)


def write(record: Record, identifier: bytes) -> bytes:
    """The flatbuffer of a record and everything below it; vectors of bytes (tensor data) are aligned to 16 bytes."""
    schema.package()
    from flatbuffers import Builder

    builder = Builder(1024)
    builder.Finish(_put_table(builder, record), file_identifier=identifier)
    return bytes(builder.Output())


def _put_offsets(builder: Any, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _put_scalars(builder: Any, values: npt.ArrayLike, dtype: str) -> int:
    array = np.ascontiguousarray(values, dtype=np.dtype(dtype).newbyteorder("<"))
    if array.dtype.itemsize == 1:
        builder.StartVector(1, array.size, 16)
        raw = array.tobytes()
        builder.head -= len(raw)
        builder.Bytes[builder.head : builder.head + len(raw)] = raw
        return int(builder.EndVector())
    return int(builder.CreateNumpyVector(array))


def _put_table(builder: Any, record: Record) -> int:
    children: dict[str, int] = {}
    fields = schema.fields(record.table)
    for field in fields:
        value = getattr(record, field.name)
        if field.kind == "scalar" or value is None or (field.kind in ("tables", "strings") and not value):
            continue
        if field.kind == "string":
            children[field.name] = builder.CreateString(value)
        elif field.kind == "strings":
            children[field.name] = _put_offsets(builder, [builder.CreateString(v) for v in value])
        elif field.kind == "scalars":
            children[field.name] = _put_scalars(builder, value, field.dtype)
        elif field.kind == "tables":
            children[field.name] = _put_offsets(builder, [_put_table(builder, v) for v in value])
        else:
            children[field.name] = _put_table(builder, value)
    builder.StartObject(max(f.slot for f in fields) + 1 if fields else 0)
    for field in fields:
        if field.kind == "scalar":
            put = getattr(builder, f"Prepend{_PREPEND[field.dtype]}Slot")
            put(field.slot, getattr(record, field.name), field.default)
        elif field.name in children:
            builder.PrependUOffsetTRelativeSlot(field.slot, children[field.name], 0)
    return int(builder.EndObject())


_PREPEND = {
    "bool": "Bool",
    "int8": "Int8",
    "uint8": "Uint8",
    "int16": "Int16",
    "uint16": "Uint16",
    "int32": "Int32",
    "uint32": "Uint32",
    "int64": "Int64",
    "uint64": "Uint64",
    "float32": "Float32",
    "float64": "Float64",
}
