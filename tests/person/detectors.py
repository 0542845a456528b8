"""Tiny detectors whose answer is known: a bright photo shows a person."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GAIN = 20.0
"""Logit of "person" per unit of brightness above a half."""


def brightness(
    path: Path,
    *,
    size: int = 8,
    channels: int = 3,
    labels: list[str] | None = None,
    person: int = 1,
    outputs: int = 2,
    end: str = "",
    batch: Any = 1,
    metadata: bool = True,
    bias: float = 0.0,
) -> Path:
    """Write an ONNX model: mean of the image, then ``outputs`` logits, of which number ``person`` rises with it.

    Args:
        path: of the file.
        size, channels: of the input [batch, channels, size, size].
        labels: into the metadata.
        person: the output that means "person".
        outputs: how many.
        end: ``Softmax`` or ``Sigmoid`` after the logits.
        batch: first dimension; a name leaves it open.
        metadata: say how pixels become inputs.
        bias: added to the logit of "person".
    """
    weight = np.zeros((outputs, channels), np.float32)
    weight[person] = GAIN / channels
    offset = np.zeros(outputs, np.float32)
    offset[person] = -GAIN / 2 + bias
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"], "pool"),
        helper.make_node("Flatten", ["mean"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "w", "b"], ["logits" if not end else "raw"], "classifier", transB=1),
    ]
    if end:
        nodes.append(helper.make_node(end, ["raw"], ["logits"], "end"))
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, channels, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, outputs])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(offset, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="test")
    about: dict[str, Any] = {}
    if metadata:
        about["preprocess"] = {"resize": "stretch", "colour": "rgb", "mean": 0.0, "std": 255.0}
    if labels is not None:
        about["labels"] = labels
    if about:
        helper.set_model_props(model, {"gossamer.manifest": json.dumps(about)})
    onnx.save(model, path)
    return path
