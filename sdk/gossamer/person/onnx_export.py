"""Writes a PersonNet as plain ONNX: opset 17, float32, fixed batch 1, one node per layer with a readable name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from gossamer import _atomic
from gossamer.person.models import ConvNorm, InvertedResidual, PersonNet
from gossamer.person.preprocess import INPUT_NAME, INPUT_SIZE, OUTPUT_NAME

OPSET = 17


def to_onnx(network: PersonNet, metadata: dict[str, str] | None = None) -> bytes:
    """Serialised, checked ONNX model of the network in evaluation mode; the same network gives the same bytes.

    Batch normalisations stay nodes of their own (a compiler folds them); input ``image`` float32 [1, 3, 96, 96] (grey
    networks [1, 1, 96, 96]), output ``logits`` float32 [1, 2].

    Args:
        network: with trained statistics.
        metadata: entries of the model's metadata_props.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(name: str, values: Any) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(kind: str, name: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        result = output or f"{name}.out"
        nodes.append(helper.make_node(kind, inputs, [result], name=name, **attributes))
        return result

    def conv_norm(block: ConvNorm, x: str, name: str) -> str:
        conv, norm = block[0], block[1]
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        pad = conv.kernel_size[0] // 2
        x = add(
            "Conv",
            f"{name}.conv",
            [x, constant(f"{name}.conv.weight", _array(conv.weight))],
            dilations=[1, 1],
            group=conv.groups,
            kernel_shape=list(conv.kernel_size),
            pads=[pad] * 4,
            strides=list(conv.stride),
        )
        statistics = [
            constant(f"{name}.norm.{key}", _array(getattr(norm, key)))
            for key in ("weight", "bias", "running_mean", "running_var")
        ]
        x = add("BatchNormalization", f"{name}.norm", [x, *statistics], epsilon=norm.eps)
        if len(block) == 2:
            return x
        return add("Clip", f"{name}.relu6", [x, "zero", "six"])

    def walk(module: nn.Module, x: str, name: str) -> str:
        if isinstance(module, ConvNorm):
            return conv_norm(module, x, name)
        if isinstance(module, InvertedResidual):
            y = walk(module.branch, x, f"{name}.branch")
            return add("Add", f"{name}.add", [x, y]) if module.skip else y
        for key, child in module.named_children():
            x = walk(child, x, f"{name}.{key}")
        return x

    constant("zero", np.float32(0.0))
    constant("six", np.float32(6.0))
    x = walk(network.trunk, INPUT_NAME, "trunk")
    x = add("GlobalAveragePool", "pool", [x])
    x = add("Flatten", "flatten", [x], axis=1)
    classifier = [
        x,
        constant("classifier.weight", _array(network.classifier.weight)),
        constant("classifier.bias", _array(network.classifier.bias)),
    ]
    add("Gemm", "classifier", classifier, output=OUTPUT_NAME, transB=1)
    graph = helper.make_graph(
        nodes,
        f"person_{network.name}",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, [1, network.channels, INPUT_SIZE, INPUT_SIZE])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [1, 2])],
        initializer=constants,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="gossamer.person"
    )
    helper.set_model_props(model, dict(sorted((metadata or {}).items())))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)  # type: ignore[no-any-return]


def save_onnx(network: PersonNet, path: str | Path, metadata: dict[str, str] | None = None) -> int:
    """:func:`to_onnx` into a file, whole or not at all; returns its size in bytes."""
    content = to_onnx(network, metadata)
    _atomic.write(Path(path), content)
    return len(content)


def _array(value: Any) -> Any:
    return value.detach().float().cpu().contiguous().numpy()
