"""LiteRT as the reference: run a .tflite on a batch of inputs, one at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

Array = npt.NDArray[Any]


def repaired(content: bytes) -> bytes:
    """The model with ``quantized_dimension`` set to 0 on one-dimensional tensors.

    LiteRT refuses any other value there (``person_detect.tflite`` carries 3); TFLite Micro ignores it.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.quantization is not None and len(tensor.shape) == 1:
                tensor.quantization.quantizedDimension = 0
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def run(model: Path | bytes, batch: Array) -> Array:
    """The first output for each ``batch[i]``, stacked without the batch axis; variables are reset between inputs."""
    content = model if isinstance(model, bytes) else model.read_bytes()
    try:
        interpreter = Interpreter(model_content=content, num_threads=1)
    except (ValueError, RuntimeError):
        interpreter = Interpreter(model_content=repaired(content), num_threads=1)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    results = []
    for x in batch:
        interpreter.reset_all_variables()
        interpreter.set_tensor(source["index"], x.reshape(source["shape"]).astype(source["dtype"], copy=False))
        interpreter.invoke()
        results.append(interpreter.get_tensor(target["index"])[0].copy())
    return np.stack(results)
