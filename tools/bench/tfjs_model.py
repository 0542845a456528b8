"""A network for TensorFlow.js: the operators of an ONNX graph as JSON and one file of float32 weights, channels last.

TensorFlow.js has no reader of ONNX or TFLite that still works; ``web/tfjs_graph.mjs`` runs these files with the
operators of its core.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


class _Writer:
    def __init__(self) -> None:
        self.blocks: list[np.ndarray[Any, np.dtype[np.float32]]] = []
        self.at = 0

    def put(self, array: np.ndarray[Any, Any]) -> dict[str, Any]:
        block = np.ascontiguousarray(array, np.float32)
        where = {"at": self.at, "shape": list(block.shape)}
        self.blocks.append(block.ravel())
        self.at += block.size
        return where


def write(onnx_file: Path, folder: Path) -> Path:
    """The JSON file of a float32 network with Conv, Clip, Relu, Add, MaxPool, means and Gemm.

    Raises:
        ValueError: an operator outside of these.
    """
    import onnx
    from onnx import numpy_helper

    path = folder / f"{onnx_file.stem}.tfjs.json"
    weights = path.with_suffix(".bin")
    if path.exists() and weights.exists():
        return path
    graph = onnx.load(str(onnx_file)).graph
    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    writer, nodes = _Writer(), []
    alias: dict[str, str] = {}
    by_output: dict[str, dict[str, Any]] = {}
    for node in graph.node:
        a = {x.name: onnx.helper.get_attribute_value(x) for x in node.attribute}
        inputs = [alias.get(i, i) for i in node.input]
        out = node.output[0]
        made: dict[str, Any] | None = None
        if node.op_type == "Conv":
            top, left, bottom, right = a["pads"]
            w = constants[node.input[1]]
            deep = a.get("group", 1) > 1
            # [O, I, H, W] to [H, W, I, O]; depthwise [C, 1, H, W] to [H, W, C, 1]
            kernel = w.transpose(2, 3, 0, 1) if deep else w.transpose(2, 3, 1, 0)
            made = {
                "op": "depthwise" if deep else "conv",
                "inputs": inputs[:1],
                "filter": writer.put(kernel),
                "bias": writer.put(constants[node.input[2]]),
                "strides": a["strides"],
                "pad": [[0, 0], [top, bottom], [left, right], [0, 0]],
                "activation": "linear",
            }
        elif node.op_type in ("Clip", "Relu"):
            # Its producer takes it as a fused activation; every clip here is ReLU6.
            by_output[inputs[0]]["activation"] = "relu6" if node.op_type == "Clip" else "relu"
            alias[out] = inputs[0]
        elif node.op_type == "Add":
            made = {"op": "add", "inputs": inputs, "activation": "linear"}
        elif node.op_type == "MaxPool":
            made = {"op": "maxpool", "inputs": inputs[:1], "size": a["kernel_shape"], "strides": a["strides"],
                    "pad": [[0, 0], [a["pads"][0], a["pads"][2]], [a["pads"][1], a["pads"][3]], [0, 0]]}  # fmt: skip
        elif node.op_type in ("ReduceMean", "GlobalAveragePool"):
            made = {"op": "mean", "inputs": inputs[:1]}
        elif node.op_type in ("Reshape", "Flatten", "Squeeze"):
            alias[out] = inputs[0]
        elif node.op_type == "Gemm":
            made = {"op": "gemm", "inputs": inputs[:1], "filter": writer.put(constants[node.input[1]].T),
                    "bias": writer.put(constants[node.input[2]])}  # fmt: skip
        else:
            raise ValueError(f"{onnx_file.name}: {node.op_type} has no counterpart in the TensorFlow.js graph")
        if made is not None:
            made["output"] = out
            by_output[out] = made
            nodes.append(made)
    last = graph.output[0].name
    document = {"input": graph.input[0].name, "output": alias.get(last, last), "weights": weights.name, "nodes": nodes}
    weights.write_bytes(np.concatenate(writer.blocks).tobytes())
    path.write_text(json.dumps(document))
    return path
