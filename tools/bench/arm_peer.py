"""Runs inside an emulated aarch64 Python: LiteRT's first and second inference of a .tflite, a marker around the second.

The marker is a function of two instructions, one of which nothing else executes; ``arm_count`` looks for it in the
log of qemu.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable

MARKER = 0xD28B4B49
"""``mov x9, #0x5a5a``"""


def _marker() -> Callable[[], None]:
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(MARKER.to_bytes(4, "little") + 0xD65F03C0.to_bytes(4, "little"))  # and ret
    function = ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    function.page = page  # type: ignore[attr-defined]  # lives as long as the function
    return function


def main(path: str) -> None:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]
    x = np.random.default_rng(0).standard_normal(source["shape"])
    interpreter.set_tensor(source["index"], x.astype(source["dtype"]))
    marker = _marker()
    interpreter.invoke()
    marker()
    interpreter.invoke()
    marker()


if __name__ == "__main__":
    main(sys.argv[1])
