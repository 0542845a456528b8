"""Reductions over axes, and the index of the largest or smallest element."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gossamer.importers.tflite.builder import AXIS_NCHW, Builder, Form
from gossamer.importers.tflite.forms import axis_in

OPERATORS = {
    "MEAN": "ReduceMean",
    "SUM": "ReduceSum",
    "REDUCE_MAX": "ReduceMax",
    "REDUCE_MIN": "ReduceMin",
    "REDUCE_PROD": "ReduceProd",
}


def _form(b: Builder, rank: int, axes: list[int], keep: bool) -> Form:
    """NCHW when the input has it and the axes that remain are in the plain order."""
    source = b.need(0)
    if rank != 4 or (b.has(source, "plain") and not b.has(source, "nchw")):
        return "plain"
    if keep:
        return "nchw"
    rest = [AXIS_NCHW[a] for a in range(4) if a not in axes]
    return "nchw" if rest == sorted(rest) else "plain"


def _reduce(op_type: str) -> Callable[[Builder], None]:
    def convert(b: Builder) -> None:
        source, out = b.need(0), b.output()
        rank = len(source.shape)
        axes = sorted({axis_in(b, int(a), rank, "plain") for a in b.ints(1).reshape(-1)})
        keep = bool(b.op.option("keep_dims"))
        form = _form(b, rank, axes, keep)
        mapped = sorted(axis_in(b, a, rank, form) for a in axes)
        inputs = [b.real(source, form), b.const(np.array(mapped, np.int64), f"{out.name}/axes")]
        value = b.one(op_type, inputs, out.name, keepdims=int(keep))
        b.put(out, value, form if keep else "plain")

    return convert


def _arg(op_type: str) -> Callable[[Builder], None]:
    def convert(b: Builder) -> None:
        source, out = b.need(0), b.output()
        axis = axis_in(b, int(b.ints(1).reshape(-1)[0]), len(source.shape), "plain")
        value = b.one(op_type, [b.real(source)], out.name, axis=axis, keepdims=0)
        if out.dtype == "int32":
            value = b.one("Cast", [value], out.name, to=6)
        b.put(out, value)

    return convert


CONVERTERS: dict[str, Callable[[Builder], None]] = {
    **{kind: _reduce(op_type) for kind, op_type in OPERATORS.items()},
    "ARG_MAX": _arg("ArgMax"),
    "ARG_MIN": _arg("ArgMin"),
}
