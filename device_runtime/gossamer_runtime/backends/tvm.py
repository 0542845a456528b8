"""Partitions compiled by Apache TVM on the host, run by its virtual machine (extra ``tvm``).

The payload is a shared library for the target machine. It is written to a private temporary file to be loaded, and the
file is removed again as soon as the loader has mapped it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from gossamer_runtime.backends import Array

__all__ = ["open"]


class _Partition:
    def __init__(self, tvm: Any, machine: Any, device: Any) -> None:
        self._tvm = tvm
        self._main = machine["main"]
        self._device = device

    def run(self, inputs: list[Array]) -> list[Array]:
        made = self._main(*[self._tvm.runtime.tensor(x, device=self._device) for x in inputs])
        if hasattr(made, "numpy"):
            made = [made]
        return [np.ascontiguousarray(y.numpy()) for y in made]


def open(payload: bytes, *, threads: int = 1) -> _Partition:
    """Opens a compiled library. Raises ``ImportError`` without apache-tvm, ``OSError`` for another machine's code."""
    os.environ.setdefault("TVM_NUM_THREADS", str(threads))
    import tvm
    from tvm import relax

    handle, path = tempfile.mkstemp(suffix=".so", prefix="gossamer-tvm-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
        library = tvm.runtime.load_module(path)
    finally:
        Path(path).unlink()
    device = tvm.cpu()
    return _Partition(tvm, relax.VirtualMachine(library, device), device)
