"""Partitions that are standalone ONNX models, run by ONNX Runtime (extra ``onnxruntime``)."""

from __future__ import annotations

from typing import Any

import numpy as np

from gossamer_runtime.backends import Array

__all__ = ["open"]


class _Partition:
    def __init__(self, session: Any) -> None:
        self._session = session
        self._inputs: list[str] = [i.name for i in session.get_inputs()]

    def run(self, inputs: list[Array]) -> list[Array]:
        feed = dict(zip(self._inputs, inputs, strict=True))
        return [np.ascontiguousarray(y) for y in self._session.run(None, feed)]


def open(payload: bytes, *, threads: int = 1) -> _Partition:
    """Opens an ONNX model. Raises ``ImportError`` without onnxruntime, its own errors on a bad model."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return _Partition(ort.InferenceSession(payload, options, providers=["CPUExecutionProvider"]))
