"""What the tests of quantisation-aware training share: small models, and a bundle's outputs sample by sample."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

import gossamer
from gossamer import person
from gossamer.compile.lower import lower
from tests.compile.support import model, node, normal, session

Array = np.ndarray


@cache
def shipped() -> ir.Model:
    return gossamer.load(person.model_path())


@cache
def person_model(name: str) -> ir.Model:
    """A person detector with seeded weights and batch norm statistics of photo-like noise."""
    import torch

    from gossamer.person.models import build
    from gossamer.person.onnx_export import to_onnx
    from tests.models import seeded

    network = seeded(lambda: build(name), (8, 3, 96, 96), seed=3)
    with torch.no_grad():
        network.classifier.weight.mul_(20)  # logits of order one: made for training, they start near zero
    return gossamer.load(to_onnx(network))


def small() -> onnx.ModelProto:
    """Conv, Relu, depthwise Conv, a skip, pooling and Gemm: 8x8 images of 3 channels to 4 numbers."""
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1], group=8),
        node("Add", ["c2", "r1"], ["s"]),
        node("HardSwish", ["s"], ["h"]),
        node("GlobalAveragePool", ["h"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "w3", "b3"], ["y"], transB=1),
    ]
    consts = {
        "w1": normal(8, 3, 3, 3) * np.float32(0.3), "b1": normal(8, seed=1) * np.float32(0.1),
        "w2": normal(8, 1, 3, 3, seed=2) * np.float32(0.4), "b2": normal(8, seed=3) * np.float32(0.1),
        "w3": normal(4, 8, seed=4) * np.float32(0.5), "b3": normal(4, seed=5) * np.float32(0.1),
    }  # fmt: skip
    return model(nodes, {"x": (1, 3, 8, 8)}, ["y"], consts)


def small_samples(count: int, seed: int = 7) -> Array:
    return normal(count, 3, 8, 8, seed=seed)


def train(network: Any, x: Array, steps: int = 3, lr: float = 0.02, scale_lr: float | None = None) -> list[float]:
    """A few steps towards seeded labels; the losses."""
    import torch

    network.train()
    inputs = torch.from_numpy(x)
    labels = torch.from_numpy(np.random.default_rng(1).integers(0, 2, len(x)))
    optimiser = torch.optim.SGD(network.parameter_groups(lr, weight_decay=1e-4, scale_lr=scale_lr), momentum=0.9)
    losses = []
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(network(inputs), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def on_device(quantised: ir.Model, x: Array) -> Array:
    """First output of the compiled bundle on this machine, ``[N, ...]``."""
    with session(lower(quantised)) as opened:
        outputs = [opened.run(x[i : i + 1]) for i in range(len(x))]
    return np.concatenate([o[0] if isinstance(o, list) else o for o in outputs])


def bits(values: Any) -> Array:
    """Float32 numbers as their bits."""
    array = values if isinstance(values, np.ndarray) else values.numpy()
    return np.ascontiguousarray(array, np.float32).view(np.int32)
