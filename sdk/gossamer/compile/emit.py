"""Plan -> bytes: the PLAN and WEIGHTS sections that the C core reads (``native/src/plan_format.h``)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gossamer._errors import CompileError
from gossamer.compile import plan as pl
from gossamer.compile.memory import MemoryPlan, plan_memory


@dataclass(frozen=True)
class Emitted:
    """The two sections and what they hold in memory."""

    plan: bytes
    weights: bytes
    memory: MemoryPlan


class _Strings:
    """NUL-terminated UTF-8 strings, each stored once; offset 0 is the empty string."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0")
        self._at = {"": 0}

    def add(self, text: str) -> int:
        text = text.replace("\0", "")
        if text not in self._at:
            self._at[text] = len(self.data)
            self.data += text.encode() + b"\0"
        return self._at[text]


def emit(plan: pl.Plan, memory: MemoryPlan | None = None) -> Emitted:
    """Serialise ``plan``. Weights must be encoded (``Op.weights`` is None everywhere).

    Raises:
        CompileError: a weight is not encoded, a tensor is used before it is made, or a value does not fit its field.
    """
    memory = memory or plan_memory(plan)
    tensors = _collect(plan)
    number = {t: i for i, t in enumerate(tensors)}
    strings = _Strings()
    weights = bytearray()

    trec = np.zeros(len(tensors), pl.TENSOR)
    spans: dict[bytes, int] = {}
    ports = {*plan.inputs, *plan.outputs}
    for rec, t in zip(trec, tensors, strict=True):
        _tensor_record(rec, t)
        # Operators carry names and sources; those of inner tensors would double the plan of a small model.
        rec["name"] = strings.add(t.name) if t in ports else 0
        if t.data is None:
            rec["place"], rec["offset"], rec["size"] = pl.Place.ARENA, memory.offsets[t], t.nbytes
            continue
        raw = np.ascontiguousarray(t.data, dtype=t.dtype.numpy).tobytes()
        if raw not in spans:
            weights += b"\0" * (-len(weights) % pl.ALIGN)
            spans[raw] = len(weights)
            weights += raw
        rec["place"], rec["offset"], rec["size"] = pl.Place.CONST, spans[raw], len(raw)

    orec = np.zeros(len(plan.ops), pl.OP)
    refs: list[int] = []
    for rec, op in zip(orec, plan.ops, strict=True):
        if op.weights is not None:
            raise CompileError(f"{op.name}: its weights are not encoded", hint="call encode_weights before emit")
        rec["kind"], rec["n_in"], rec["n_out"] = op.kind, len(op.inputs), len(op.outputs)
        rec["refs"] = len(refs)
        refs += [pl.NONE if t is None else number[t] for t in op.inputs] + [number[t] for t in op.outputs]
        rec["name"], rec["source"] = strings.add(op.name), strings.add(op.source)
        for slot, value in op.p.items():
            rec["p"][int(slot)] = value
        for slot, number_f in op.f.items():
            if math.isnan(number_f):
                raise CompileError(f"{op.name}: float parameter {int(slot)} is NaN", where=op.source)
            rec["f"][int(slot)] = number_f

    header = np.zeros(1, pl.PLAN_HEADER)
    header["n_tensors"], header["n_ops"], header["n_refs"] = len(tensors), len(plan.ops), len(refs)
    header["n_inputs"], header["n_outputs"] = len(plan.inputs), len(plan.outputs)
    header["strings_size"], header["n_externs"] = len(strings.data), len(plan.externs)
    header["arena_size"] = memory.arena_bytes
    io = [number[t] for t in plan.inputs] + [number[t] for t in plan.outputs]
    body = [header, trec, orec, np.array(refs, "<u4"), np.array(io, "<u4")]
    return Emitted(b"".join(a.tobytes() for a in body) + bytes(strings.data), bytes(weights), memory)


def _collect(plan: pl.Plan) -> list[pl.Tensor]:
    """All tensors in order of first appearance; checks that each is made before it is read, and made once."""
    seen: dict[pl.Tensor, None] = dict.fromkeys(plan.inputs)
    for op in plan.ops:
        for t in op.inputs:
            if t is None:
                continue
            if t.is_const:
                seen.setdefault(t)
            elif t not in seen:
                raise CompileError(f"{op.name} reads {t.name!r} before any operator makes it", where=op.source)
        for t in op.outputs:
            if t in seen:
                raise CompileError(f"{op.name} makes {t.name!r}, which was made before", where=op.source)
            seen[t] = None
    for t in plan.outputs:
        if t not in seen or t.is_const:
            raise CompileError(f"graph output {t.name!r} is made by no operator")
    return list(seen)


def _tensor_record(rec: np.void, t: pl.Tensor) -> None:
    if len(t.shape) > pl.MAX_RANK:
        raise CompileError(f"tensor {t.name!r} has rank {len(t.shape)}; the core runs at most {pl.MAX_RANK}")
    if t.data is not None and tuple(t.data.shape) != tuple(t.shape):
        raise CompileError(f"constant {t.name!r} is shaped {t.data.shape} but declared {t.shape}")
    rec["dtype"], rec["layout"], rec["rank"] = t.dtype, t.layout, len(t.shape)
    rec["dims"][: len(t.shape)] = t.shape
    rec["pstride"] = t.pstride
    rec["scale"], rec["zero_point"] = t.scale, t.zero_point
