"""Partitions that are standalone .tflite models, run by LiteRT (extra ``litert``)."""

from __future__ import annotations

from typing import Any

import numpy as np

from gossamer_runtime.backends import Array

__all__ = ["open"]


class _Partition:
    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        self._inputs: list[int] = [d["index"] for d in interpreter.get_input_details()]
        self._outputs: list[int] = [d["index"] for d in interpreter.get_output_details()]

    def run(self, inputs: list[Array]) -> list[Array]:
        # State tensors (LSTM) start from zero on every run, as a plan has no state of its own.
        self._interpreter.reset_all_variables()
        for index, x in zip(self._inputs, inputs, strict=True):
            self._interpreter.set_tensor(index, x)
        self._interpreter.invoke()
        return [np.ascontiguousarray(self._interpreter.get_tensor(i)) for i in self._outputs]


def open(payload: bytes, *, threads: int = 1) -> _Partition:
    """Opens a .tflite model. Raises ``ImportError`` without ai-edge-litert, its own errors on a bad model."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=payload, num_threads=threads)
    interpreter.allocate_tensors()
    return _Partition(interpreter)
