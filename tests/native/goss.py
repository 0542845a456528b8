"""Bundles taken apart, changed and put together again, and the core's answer to them."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer.bundle import container
from gossamer.compile import plan as pl
from gossamer_runtime import _native

OK, ARGUMENT, FORMAT, VERSION, UNSUPPORTED, MEMORY, SIGNATURE, BACKEND = range(8)


@dataclass
class Parts:
    """The records of a bundle as writable numpy arrays; ``bytes()`` puts them together with a right container."""

    header: np.ndarray
    tensors: np.ndarray
    ops: np.ndarray
    refs: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    strings: bytearray
    weights: bytes
    manifest: bytes
    externs: list[tuple[pl.Backend, bytes]]

    @classmethod
    def of(cls, data: bytes) -> Parts:
        sections = container.sections(data)
        body = {s.kind: bytes(container.section_bytes(data, s)) for s in sections}
        plan = body[pl.Section.PLAN]
        at = pl.PLAN_HEADER.itemsize
        header = np.frombuffer(plan[:at], pl.PLAN_HEADER).copy()

        def take(dtype: np.dtype[Any] | str, count: int) -> np.ndarray:
            nonlocal at
            size = np.dtype(dtype).itemsize * count
            at += size
            return np.frombuffer(plan[at - size : at], dtype).copy()

        h = header[0]
        tensors, ops = take(pl.TENSOR, h["n_tensors"]), take(pl.OP, h["n_ops"])
        refs, inputs, outputs = take("<u4", h["n_refs"]), take("<u4", h["n_inputs"]), take("<u4", h["n_outputs"])
        externs = [
            (pl.Backend(s.tag), bytes(container.section_bytes(data, s)))
            for s in sections
            if s.kind is pl.Section.EXTERN
        ]
        return cls(
            header,
            tensors,
            ops,
            refs,
            inputs,
            outputs,
            bytearray(plan[at:]),
            body[pl.Section.WEIGHTS],
            body[pl.Section.MANIFEST],
            externs,
        )

    def count(self) -> None:
        """Makes the plan header's counts agree with the arrays."""
        h = self.header[0]
        h["n_tensors"], h["n_ops"], h["n_refs"] = len(self.tensors), len(self.ops), len(self.refs)
        h["n_inputs"], h["n_outputs"], h["strings_size"] = len(self.inputs), len(self.outputs), len(self.strings)
        h["n_externs"] = len(self.externs)

    def bytes(self) -> bytes:
        arrays = [self.header, self.tensors, self.ops, self.refs, self.inputs, self.outputs]
        plan = b"".join(a.tobytes() for a in arrays) + bytes(self.strings)
        return container.build(plan, self.weights, self.manifest, self.externs)


def aligned(data: bytes) -> ctypes.Array[ctypes.c_char]:
    """A copy that starts at a multiple of 64."""
    block = ctypes.create_string_buffer(len(data) + 64)
    shift = -ctypes.addressof(block) % 64
    view = (ctypes.c_char * len(data)).from_buffer(block, shift)
    view.raw = data
    return view


def core() -> ctypes.CDLL:
    """The native library with its test hooks declared."""
    lib = _native.library()
    lib.gs_test_fail_alloc_after.argtypes = [ctypes.c_long]
    lib.gs_test_fail_alloc_after.restype = None
    lib.gs_test_kernel_count.restype = ctypes.c_uint32
    lib.gs_test_kernel_name.argtypes = [ctypes.c_uint32]
    lib.gs_test_kernel_name.restype = ctypes.c_char_p
    lib.gs_test_pick_mm.argtypes = [*[ctypes.c_int] * 4, ctypes.c_uint32]
    lib.gs_test_pick_mm.restype = ctypes.c_char_p
    lib.gs_test_pick_dw.argtypes = [ctypes.c_int, ctypes.c_int, *[ctypes.c_uint32] * 3]
    lib.gs_test_pick_dw.restype = ctypes.c_char_p
    return lib


def open_model(data: bytes, keep: ctypes.Array[ctypes.c_char] | None = None) -> tuple[int, str]:
    """Status and message of ``gs_model_open``; the model is closed again."""
    lib = core()
    block = keep if keep is not None else aligned(data)
    model, error = ctypes.c_void_p(), _native.ErrorStruct()
    status = lib.gs_model_open(ctypes.addressof(block), len(data), ctypes.byref(model), ctypes.byref(error))
    assert (status == OK) == (model.value is not None)
    assert error.code == status
    lib.gs_model_close(model)
    return status, error.message.decode()


def open_and_run(data: bytes, isa: int = _native.ISA_BEST, threads: int = 1, seed: int = 0) -> tuple[int, Any]:
    """Opens and runs once: ``(OK, outputs)`` as bytes objects, or the status and message of the first failure."""
    lib = core()
    block = aligned(data)
    model, session, error = ctypes.c_void_p(), ctypes.c_void_p(), _native.ErrorStruct()
    status = lib.gs_model_open(ctypes.addressof(block), len(data), ctypes.byref(model), ctypes.byref(error))
    if status != OK:
        return status, error.message.decode()
    try:
        options = _native.OptionsStruct(threads, isa, _native.EXTERN_FN(_fill_outputs), None)
        status = lib.gs_session_open(model, ctypes.byref(options), ctypes.byref(session), ctypes.byref(error))
        if status != OK:
            return status, error.message.decode()
        io = _native.IoStruct()
        rng = np.random.default_rng(seed)
        buffers: list[list[Any]] = [[], []]
        for k, (count, describe) in enumerate(
            [(lib.gs_model_input_count, lib.gs_model_input), (lib.gs_model_output_count, lib.gs_model_output)]
        ):
            for i in range(count(model)):
                assert describe(model, i, ctypes.byref(io)) == OK
                content = rng.integers(0, 100, io.bytes, dtype=np.uint8).tobytes()
                buffers[k].append(ctypes.create_string_buffer(content, io.bytes))
        pointers = [(ctypes.c_void_p * max(len(b), 1))(*[ctypes.addressof(x) for x in b]) for b in buffers]
        status = lib.gs_session_run(session, pointers[0], pointers[1], ctypes.byref(error))
        return status, [b.raw for b in buffers[1]] if status == OK else error.message.decode()
    finally:
        lib.gs_session_close(session)
        lib.gs_model_close(model)


def _fill_outputs(_user: Any, _partition: int, _inputs: Any, _n_inputs: int, outputs: Any, n_outputs: int) -> int:
    for i in range(n_outputs):
        ctypes.memset(outputs[i].data, 1, outputs[i].bytes)
    return 0
