"""A small convolutional classifier as an ONNX graph, and a task that it can learn in a few epochs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from gossamer._proto.v1 import manifest_pb2 as pb
from gossamer.recipe import Recipe, load_recipe
from gossamer.search.decide import classes_of
from gossamer.search.examples import Examples
from gossamer.search.read import read_examples
from tests.shellkit import cli, home

__all__ = ["cli", "home"]
SIDE, CLASSES = 8, 3


def network(seed: int = 0, *, softmax: bool = False) -> onnx.ModelProto:
    """image [1,3,8,8] -> Conv 3x3 (16) BN Relu, Conv 1x1 (32) BN Relu, depthwise, Conv 1x1 (32) Relu, pool, Gemm."""
    rng = np.random.default_rng(seed)
    constants = []

    def weight(name: str, *shape: int) -> str:
        fan = int(np.prod(shape[1:])) if len(shape) > 1 else 16
        constants.append(numpy_helper.from_array((rng.standard_normal(shape) / np.sqrt(fan)).astype(np.float32), name))
        return name

    def norm(name: str, size: int) -> list[str]:
        for part, value in (("scale", 1.0), ("bias", 0.0), ("mean", 0.0), ("var", 1.0)):
            constants.append(numpy_helper.from_array(np.full(size, value, np.float32), f"{name}.{part}"))
        return [f"{name}.{part}" for part in ("scale", "bias", "mean", "var")]

    nodes = [
        helper.make_node("Conv", ["image", weight("w0", 16, 3, 3, 3)], ["c0"], "body.0.conv", pads=[1] * 4),
        helper.make_node("BatchNormalization", ["c0", *norm("n0", 16)], ["b0"], "body.0.norm"),
        helper.make_node("Relu", ["b0"], ["r0"], "body.0.act"),
        helper.make_node("Conv", ["r0", weight("w1", 32, 16, 1, 1)], ["c1"], "body.1.conv"),
        helper.make_node("BatchNormalization", ["c1", *norm("n1", 32)], ["b1"], "body.1.norm"),
        helper.make_node("Relu", ["b1"], ["r1"], "body.1.act"),
        helper.make_node("Conv", ["r1", weight("w2", 32, 1, 3, 3)], ["c2"], "body.2.conv", pads=[1] * 4, group=32),
        helper.make_node("Conv", ["c2", weight("w3", 32, 32, 1, 1), weight("b3", 32)], ["c3"], "body.3.conv"),
        helper.make_node("Relu", ["c3"], ["r3"], "body.3.act"),
        helper.make_node("GlobalAveragePool", ["r3"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", weight("w4", CLASSES, 32), weight("b4", CLASSES)], ["y"], "head", transB=1),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["y"], ["scores"], "soft"))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores" if softmax else "y", TensorProto.FLOAT, [1, CLASSES])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def task(count: int, seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Noise pictures in which one of three colours is a little stronger: the class."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, count)
    x = rng.standard_normal((count, 3, SIDE, SIDE)).astype(np.float32)
    x[np.arange(count), y] += 0.6
    return x, y


@dataclass(frozen=True)
class Task:
    """The graph as loaded, its ports, and training examples."""

    model: ir.Model
    ports: list[pb.Port]
    output: pb.Port
    examples: Examples
    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64]


def ports_of(model: ir.Model) -> tuple[list[pb.Port], pb.Port]:
    from gossamer._manifest import last_op, model_metadata, model_ports, postprocessing

    output = model_ports(model.graph.outputs, "output")[0]
    postprocessing(None, model_metadata(model), output, last_op(model))
    return model_ports(model.graph.inputs, "input"), output


def make_task(proto: onnx.ModelProto, count: int = 96, *, labelled: bool = True) -> Task:
    """A graph with ``count`` training examples."""
    model = ir.from_proto(proto)
    ports, output = ports_of(model)
    x, y = task(count, 1)
    examples = read_examples((x, y) if labelled else x, ports, classes_of(output)).prepare()
    return Task(model, ports, output, examples, x, y)


@pytest.fixture
def small() -> Task:
    return make_task(network())


def recipe(**train: object) -> Recipe:
    """1x4 at 75% of ``body.1.conv`` and ``body.3.conv``; three epochs of batches of 32."""
    settings = {"epochs": 3, "batch": 32, "learning_rate": 0.01, **train}
    return load_recipe({"version": 1, "sparsify": {"pattern": "1x4", "sparsity": 0.75}, "train": settings})


def weights(model: ir.Model) -> dict[str, npt.NDArray[np.float32]]:
    """Float initializers by name."""
    return {str(n): v.const_value.numpy() for n, v in model.graph.initializers.items() if v.const_value is not None}


def accuracy(model: ir.Model, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> float:
    """By ONNX Runtime."""
    from gossamer._reference import open_reference

    reference = open_reference(model)
    return float(np.mean([reference.run({"image": a[None]})[0].argmax() == c for a, c in zip(x, y, strict=True)]))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network after dense training: what is going to be made sparse."""
    from gossamer.finetune import fine_tune

    case = make_task(network(), 192)
    dense = load_recipe({"version": 1, "train": {"epochs": 8, "batch": 32, "learning_rate": 0.01}})
    tuned = fine_tune(case.model, dense, case.examples, case.ports, case.output)
    path = tmp_path_factory.mktemp("trained") / "trained.onnx"
    path.write_bytes(ir.to_proto(tuned.model).SerializeToString())
    return path
