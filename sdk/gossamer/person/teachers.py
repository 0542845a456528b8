"""Third-party TFLite person detectors as torch networks, so that they can mark every view of the bank.

"Knowledge distillation: A good teacher is patient and consistent" (arXiv 2106.05237): the student matches the teacher
on the very pixels it sees, mixed-up images included, for very many epochs. That needs teachers that run
where the views are made; an int8 file runs here in float32 with its weights dequantised and each activation clamped
to the range its int8 tensor can hold (rounding steps between are left out).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from gossamer._errors import InputError, ModelError, UnsupportedError

_ACTIVATIONS = {0: (-np.inf, np.inf), 1: (0.0, np.inf), 3: (0.0, 6.0)}
"""TFLite's fused activation codes: none, ReLU, ReLU6."""
_SHAPE_ONLY = {"SHAPE", "STRIDED_SLICE", "PACK", "RESHAPE", "QUANTIZE", "SOFTMAX"}
"""Operators that leave the order of the two logits as it is; the softmax is left out to keep logits."""


def extract(path: str | Path) -> tuple[dict[str, Any], dict[str, npt.NDArray[np.float32]]]:
    """Read a TFLite classifier: (description, weights), both free of TFLite, for :class:`Teacher`.

    Needs the ``tflite`` package (the flatbuffer schema).

    Raises:
        ModelError: not a TFLite file.
        UnsupportedError: an operator or activation that these classifiers do not have.
    """
    import tflite

    data = Path(path).read_bytes()
    if data[4:8] != b"TFL3":
        raise ModelError("not a TFLite file", where=str(path))
    model = tflite.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    weights: dict[str, npt.NDArray[np.float32]] = {}
    steps: list[dict[str, Any]] = []

    def constant(index: int) -> npt.NDArray[Any]:
        tensor = graph.Tensors(index)
        kind = {0: np.float32, 2: np.int32, 9: np.int8}[tensor.Type()]
        raw = model.Buffers(tensor.Buffer()).DataAsNumpy()
        return np.frombuffer(bytes(raw), dtype=kind).reshape(tensor.ShapeAsNumpy())

    def dequantised(index: int) -> npt.NDArray[np.float32]:
        values, tensor = constant(index), graph.Tensors(index)
        quantisation = tensor.Quantization()
        if quantisation is None or quantisation.ScaleLength() == 0:
            return np.asarray(values, dtype=np.float32)
        scale = quantisation.ScaleAsNumpy().astype(np.float64)
        if scale.size > 1:
            axis = quantisation.QuantizedDimension() if values.ndim > 1 else 0
            scale = scale.reshape([-1 if a == axis else 1 for a in range(values.ndim)])
        return np.asarray(values.astype(np.float64) * scale, dtype=np.float32)

    def limits(index: int, activation: int) -> list[float]:
        if activation not in _ACTIVATIONS:
            raise UnsupportedError(f"fused activation {activation}", where=str(path))
        low, high = _ACTIVATIONS[activation]
        quantisation = graph.Tensors(index).Quantization()
        if quantisation is not None and quantisation.ScaleLength() == 1 and graph.Tensors(index).Type() == 9:
            scale, zero = float(quantisation.Scale(0)), int(quantisation.ZeroPoint(0))
            low, high = max(low, (-128 - zero) * scale), min(high, (127 - zero) * scale)
        return [float(low), float(high)]

    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = tflite.opcode2name(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()))
        inputs, output = [int(i) for i in operator.InputsAsNumpy()], int(operator.Outputs(0))
        step: dict[str, Any] = {"kind": kind, "output": output}
        if kind in _SHAPE_ONLY:
            if kind in ("SHAPE", "STRIDED_SLICE", "PACK"):
                continue
            steps.append({"kind": "ALIAS", "inputs": inputs[:1], "output": output})
            continue
        options: Any = getattr(tflite, _OPTIONS[kind])() if kind in _OPTIONS else None
        if options is not None:
            table = operator.BuiltinOptions()
            options.Init(table.Bytes, table.Pos)
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            kernel = dequantised(inputs[1])
            order = (0, 3, 1, 2) if kind == "CONV_2D" else (3, 0, 1, 2)
            weights[f"{number}.weight"] = np.ascontiguousarray(kernel.transpose(order))
            weights[f"{number}.bias"] = dequantised(inputs[2])
            step |= {
                "inputs": inputs[:1],
                "weights": number,
                "stride": [options.StrideH(), options.StrideW()],
                "same": options.Padding() == 0,
                "limits": limits(output, options.FusedActivationFunction()),
            }
        elif kind == "FULLY_CONNECTED":
            weights[f"{number}.weight"] = dequantised(inputs[1])
            weights[f"{number}.bias"] = dequantised(inputs[2])
            step |= {"inputs": inputs[:1], "weights": number}
        elif kind == "PAD":
            step |= {"inputs": inputs[:1], "pads": constant(inputs[1])[1:4].reshape(-1).tolist()}
        elif kind == "ADD":
            step |= {"inputs": inputs, "limits": limits(output, options.FusedActivationFunction())}
        elif kind in ("AVERAGE_POOL_2D", "MEAN"):
            step |= {"inputs": inputs[:1]}
        else:
            raise UnsupportedError(f"operator {kind} (number {number})", where=str(path))
        steps.append(step)
    shape = [int(d) for d in graph.Tensors(graph.Inputs(0)).ShapeAsNumpy()]
    description = {
        "size": shape[1],
        "channels": shape[3],
        "scale": 1.0 if graph.Tensors(graph.Inputs(0)).Type() == 0 else 255.0,
        "input": int(graph.Inputs(0)),
        "output": int(graph.Outputs(0)),
        "steps": steps,
    }
    return description, weights


_OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "ADD": "AddOptions",
}


def save_teachers(paths: dict[str, Path], target: str | Path) -> None:
    """Extract several classifiers into one .npz that :func:`load_teachers` reads without TFLite."""
    arrays: dict[str, Any] = {}
    descriptions = {}
    for name, path in paths.items():
        descriptions[name], weights = extract(path)
        arrays |= {f"{name}/{key}": value for key, value in weights.items()}
    arrays["descriptions"] = np.frombuffer(json.dumps(descriptions).encode(), dtype=np.uint8)
    with Path(target).open("wb") as file:
        np.savez(file, **arrays)


def load_teachers(path: str | Path) -> list[Teacher]:
    """The networks of a file that :func:`save_teachers` wrote.

    Raises:
        InputError: the file is not one of them.
    """
    try:
        with np.load(path) as archive:
            descriptions = json.loads(bytes(archive["descriptions"]).decode())
            out = []
            for name, description in descriptions.items():
                weights = {k.split("/", 1)[1]: archive[k] for k in archive.files if k.startswith(f"{name}/")}
                out.append(Teacher(name, description, weights))
            return out
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"not a teachers file: {error}", where=str(path)) from error


class Teacher(nn.Module):
    """One extracted classifier; gives the margin person minus no person before the softmax, and its last feature map.

    Args:
        name: for messages and cards.
        description, weights: from :func:`extract`.
    """

    def __init__(self, name: str, description: dict[str, Any], weights: dict[str, npt.NDArray[np.float32]]):
        super().__init__()
        self.name = name
        self.size = int(description["size"])
        self.channels = int(description["channels"])
        self.scale = float(description["scale"])
        self._description = description
        for key, value in weights.items():
            self.register_buffer("w" + key.replace(".", "_"), torch.from_numpy(np.array(value)))

    def digest(self) -> str:
        """SHA-256 (hex) of its steps and weights: two teachers that are alike in it say the same."""
        content = hashlib.sha256(json.dumps(self._description, sort_keys=True).encode())
        for name, weight in sorted(self.named_buffers()):
            content.update(name.encode() + weight.cpu().numpy().tobytes())
        return content.hexdigest()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """float32 [N, 3, size, size] in 0..1 to logit margins [N] and the map before global pooling [N, C, H, W]."""
        x = images * self.scale
        if self.channels == 1:
            luma = x.new_tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)
            x = (x * luma).sum(dim=1, keepdim=True)
        live = {self._description["input"]: x}
        features = x
        for step in self._description["steps"]:
            if step["kind"] in ("AVERAGE_POOL_2D", "MEAN"):
                features = live[step["inputs"][0]]
            live[step["output"]] = self._step(step, [live[i] for i in step["inputs"]])
        logits = live[self._description["output"]].flatten(1)
        return logits[:, 1] - logits[:, 0], features

    def _step(self, step: dict[str, Any], inputs: Sequence[Tensor]) -> Tensor:
        kind, x = step["kind"], inputs[0]
        if kind == "ALIAS":
            return x
        if kind == "PAD":
            top, bottom, left, right, front, back = step["pads"]
            return functional.pad(x, (left, right, top, bottom, front, back))
        if kind in ("AVERAGE_POOL_2D", "MEAN"):
            return x.mean(dim=(2, 3), keepdim=True)
        if kind == "ADD":
            return (x + inputs[1]).clamp_(*step["limits"])
        weight: Tensor = getattr(self, f"w{step['weights']}_weight")
        bias: Tensor = getattr(self, f"w{step['weights']}_bias")
        if kind == "FULLY_CONNECTED":
            return functional.linear(x.flatten(1), weight, bias)
        groups = weight.shape[0] if kind == "DEPTHWISE_CONV_2D" else 1
        padding = 0
        if step["same"]:
            x, padding = _same_padding(x, weight.shape[2:], step["stride"])
        y = functional.conv2d(x, weight, bias, tuple(step["stride"]), padding, groups=groups)
        return y.clamp_(*step["limits"])


def _same_padding(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> tuple[Tensor, Any]:
    """TensorFlow's SAME: as much as needed, the odd pixel at the bottom and right."""
    needed = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(x.shape[2:], kernel, stride, strict=True)]
    if all(n % 2 == 0 for n in needed):
        return x, (needed[0] // 2, needed[1] // 2)
    (h, w) = needed
    return functional.pad(x, (w // 2, w - w // 2, h // 2, h - h // 2)), 0
