"""LiteRT as the reference: a .tflite on a batch of inputs, or on one set of inputs without delegates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

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


def with_float_weights(content: bytes) -> bytes:
    """The model with its int8 constants as float32.

    A model whose weights alone are int8 (dynamic range quantisation) makes LiteRT quantise activations on the fly, by
    rules that differ between its own kernels (0.41 of the output apart on ``kws_ref_model_float32``). With the same
    weights in float32 it computes what the file says.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = model.buffers[tensor.buffer].data
            if tensor.type != schema.TensorType.INT8 or data is None or len(data) == 0:
                continue
            q = tensor.quantization
            view = [1] * len(tensor.shape)
            if len(q.scale) > 1:
                view[q.quantizedDimension] = len(q.scale)
            scale, zero = np.asarray(q.scale, np.float32).reshape(view), np.asarray(q.zeroPoint).reshape(view)
            values = np.frombuffer(bytes(data), np.int8).reshape(tensor.shape).astype(np.int32)
            real = ((values - zero).astype(np.float32) * scale).astype("<f4")
            model.buffers.append(schema.BufferT())
            model.buffers[-1].data = np.frombuffer(real.tobytes(), np.uint8)
            tensor.type, tensor.quantization, tensor.buffer = schema.TensorType.FLOAT32, None, len(model.buffers) - 1
    builder = flatbuffers.Builder(len(content) * 4)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def run(model: Path | bytes, batch: Array, resolver: OpResolverType = OpResolverType.AUTO) -> Array:
    """The first output for each ``batch[i]``, stacked without the batch axis; variables are reset between inputs."""
    content = model if isinstance(model, bytes) else model.read_bytes()
    try:
        interpreter = Interpreter(model_content=content, num_threads=1, experimental_op_resolver_type=resolver)
    except (ValueError, RuntimeError):
        interpreter = Interpreter(
            model_content=repaired(content), num_threads=1, experimental_op_resolver_type=resolver
        )
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    results = []
    for x in batch:
        interpreter.reset_all_variables()
        interpreter.set_tensor(source["index"], x.reshape(source["shape"]).astype(source["dtype"], copy=False))
        interpreter.invoke()
        results.append(interpreter.get_tensor(target["index"])[0].copy())
    return np.stack(results)


def run_plain(content: bytes, inputs: list[Array]) -> list[Array]:
    """All outputs of LiteRT's own kernels, without delegates, for one set of inputs in order."""
    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


def difference(a: Array, b: Array) -> tuple[int, float]:
    """Of two integer batches ``[n, ...]``: the largest difference in steps, and the share of inputs of equal top-1."""
    flat_a, flat_b = (v.reshape(len(v), -1).astype(np.int32) for v in (a, b))
    return int(np.abs(flat_a - flat_b).max()), float(np.mean(flat_a.argmax(1) == flat_b.argmax(1)))
