"""ONNX Runtime as the reference: a model as it is written, without graph rewrites."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

Arrays = dict[str, np.ndarray]


def session(model: onnx.ModelProto | ir.Model | Path) -> onnxruntime.InferenceSession:
    """ONNX Runtime on the CPU with every optimisation off and its warnings hidden."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    proto = ir.to_proto(model) if isinstance(model, ir.Model) else model
    content = proto if isinstance(proto, Path) else proto.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run(model: onnx.ModelProto | ir.Model | Path, feeds: Arrays, outputs: list[str] | None = None) -> list[np.ndarray]:
    """The outputs (all, in order, by default) for one set of inputs by name."""
    return list(session(model).run(outputs, feeds))
