"""The TFLite schema as data: fields, slots and types of every table, read off the generated accessors of ``tflite``.

The generated classes trust every offset in the file, so they are not used to read it. Each accessor is called once on a
recording table instead; what it asks for (slot, number type, child table) is the schema that :mod:`.flatbuf` reads and
writes with bounds checks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, Literal

from gossamer._errors import UnsupportedError

Kind = Literal["scalar", "string", "table", "scalars", "strings", "tables", "union"]

UNIONS = {
    ("Operator", "BuiltinOptions"): "BuiltinOptions",
    ("Operator", "BuiltinOptions2"): "BuiltinOptions2",
    ("QuantizationParameters", "Details"): "QuantizationDetails",
    ("DimensionMetadata", "ArraySegments"): "SparseIndexVector",
    ("DimensionMetadata", "ArrayIndices"): "SparseIndexVector",
}
"""Fields that hold one of several tables, and the enumeration (next lower slot) that says which."""


@dataclass(frozen=True)
class Field:
    """One field of a table. ``dtype`` is the numpy type of scalars; ``table`` the class name of child tables."""

    name: str
    slot: int
    kind: Kind
    dtype: str = ""
    default: Any = None
    table: str = ""


@cache
def package() -> ModuleType:
    """The ``tflite`` package; :class:`UnsupportedError` when it is not installed."""
    try:
        import tflite
    except ImportError as error:
        raise UnsupportedError(
            "reading .tflite files needs the packages tflite and flatbuffers",
            hint="pip install 'gossamer[tflite]'",
        ) from error
    module: ModuleType = tflite
    return module


def snake(name: str) -> str:
    """``FusedActivationFunction`` -> ``fused_activation_function``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


@cache
def enum(name: str) -> dict[int, str]:
    """Number -> name of a schema enumeration such as ``BuiltinOperator`` or ``TensorType``."""
    members = vars(getattr(package(), name))
    return {value: key for key, value in members.items() if isinstance(value, int) and not key.startswith("_")}


class _Recorder:
    """Stands in for ``flatbuffers.table.Table`` and writes down what an accessor asks for."""

    Bytes = b""
    Pos = 0

    def __init__(self, present: bool) -> None:
        self.present = present
        self.slot = -1
        self.number: Any = None
        self.string = False
        self.union = False

    def Offset(self, vtable: int) -> int:
        self.slot = (vtable - 4) // 2
        return 4 if self.present else 0

    def Get(self, flags: Any, _at: int) -> Any:
        self.number = flags
        return flags.py_type(0)

    def GetVectorAsNumpy(self, flags: Any, _at: int) -> None:
        self.number = flags

    def String(self, _at: int) -> bytes:
        self.string = True
        return b""

    def Union(self, _table: Any, _at: int) -> None:
        self.union = True

    def Vector(self, _at: int) -> int:
        return 0

    def Indirect(self, _at: int) -> int:
        return 0


def _call(cls: type, method: str, present: bool) -> tuple[_Recorder, Any]:
    instance = cls()
    recorder = _Recorder(present)
    instance._tab = recorder
    arguments = (0,) if hasattr(cls, method + "Length") and not method.endswith("AsNumpy") else ()
    return recorder, getattr(instance, method)(*arguments)


@cache
def fields(table: str) -> tuple[Field, ...]:
    """The fields of a table class, in slot order; ``KeyError`` for an unknown table."""
    cls = getattr(package(), table, None)
    if not isinstance(cls, type):
        raise KeyError(table)
    found: list[Field] = []
    for method, member in vars(cls).items():
        if method == "Init" or isinstance(member, classmethod) or method.startswith("_"):
            continue
        if method.endswith(("AsNumpy", "Length", "IsNone")):
            continue
        if not callable(member):
            continue
        recorder, value = _call(cls, method, present=True)
        many = hasattr(cls, method + "Length")
        name, slot = snake(method), recorder.slot
        if recorder.union:
            found.append(Field(name, slot, "union", table=UNIONS[table, method]))
        elif recorder.string:
            found.append(Field(name, slot, "strings" if many else "string"))
        elif recorder.number is not None:
            dtype = str(recorder.number.name)  # numpy's names
            default = None if many else _call(cls, method, present=False)[1]
            found.append(Field(name, slot, "scalars" if many else "scalar", dtype=dtype, default=default))
        else:
            found.append(Field(name, slot, "tables" if many else "table", table=type(value).__name__))
    if table == "OperatorCode":  # this accessor merges the old 8-bit field with slot 3, where newer files keep the code
        found = [f for f in found if f.name != "builtin_code"]
        found.append(Field("builtin_code", 3, "scalar", dtype="int32", default=0))
    return tuple(sorted(found, key=lambda f: f.slot))
