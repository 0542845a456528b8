"""A classifier whose layers are worth pruning, and examples that it decides rightly but for a few."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.shellkit import cli, home

__all__ = ["cli", "home"]
SIDE, CLASSES = 16, 4
RECIPE = {
    "version": 1,
    "name": "search",
    "sparsify": {"pattern": "1x4", "sparsity": 0.75},
    "quantize": {"samples": 16},
}


def classifier(seed: int = 3) -> onnx.ModelProto:
    """image [1,3,16,16] -> Conv 3x3 (64), Relu, Conv 1x1 (64 -> 256), Relu, Conv 1x1 (256 -> 64), Relu, pool, Gemm -> 4
    scores. Of layer ``wide``, three quarters of the upper half are blocks of zeros already."""
    rng = np.random.default_rng(seed)

    def weight(name: str, *shape: int, gain: float = 1.0) -> onnx.TensorProto:
        fan = int(np.prod(shape[1:])) if len(shape) > 1 else 16
        values = (gain * rng.standard_normal(shape) * np.sqrt(2 / fan)).astype(np.float32)
        if name in ("w1", "w2"):  # blocks of very different size, as training makes them
            size = np.exp(rng.standard_normal((shape[0], shape[1] // 4))) / np.e
            values *= size.repeat(4, axis=1)[:, :, None, None].astype(np.float32)
        if name == "w1":
            values[128:] = np.where(np.arange(64)[None, :, None, None] < 48, 0, values[128:])
        return numpy_helper.from_array(values, name)

    constants = [
        weight("w0", 64, 3, 3, 3), weight("b0", 64, gain=0.1), weight("w1", 256, 64, 1, 1), weight("b1", 256, gain=0.1),
        weight("w2", 64, 256, 1, 1), weight("b2", 64, gain=0.1), weight("w3", CLASSES, 64, gain=4.0),
        numpy_helper.from_array(np.zeros(CLASSES, np.float32), "b3"),
    ]  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["image", "w0", "b0"], ["c0"], "stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], "stem_act"),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], "wide"),
        helper.make_node("Relu", ["c1"], ["r1"], "wide_act"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "narrow"),
        helper.make_node("Relu", ["c2"], ["r2"], "narrow_act"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["scores"], "head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, CLASSES])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def scores(model: onnx.ModelProto, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The model's scores ``[N, 4]``, by ONNX Runtime."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": row[None]})[0] for row in x])


def centred(model: onnx.ModelProto, x: npt.NDArray[np.float32]) -> onnx.ModelProto:
    """The model with its last bias set so that each class gets its share of ``x``: random networks favour one."""
    for tensor in model.graph.initializer:
        if tensor.name == "b3":
            tensor.CopyFrom(numpy_helper.from_array(-scores(model, x).mean(axis=0), "b3"))
    return model


@dataclass(frozen=True)
class Case:
    """A model file, its examples in a file, and the same as arrays; 6% of the labels are not what the model says."""

    model: Path
    data: Path
    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64]
    calibration: npt.NDArray[np.float32]


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("search")
    rng = np.random.default_rng(5)
    tint = rng.standard_normal((240, 3, 1, 1))
    x = (0.5 * rng.standard_normal((240, 3, SIDE, SIDE)) + tint).astype(np.float32)
    model = centred(classifier(), x)
    y = scores(model, x).argmax(axis=1)
    wrong = rng.choice(len(y), 14, replace=False)
    y[wrong] = (y[wrong] + 1) % CLASSES
    onnx.save(model, folder / "classifier.onnx")
    np.savez(folder / "examples.npz", x=x, y=y)
    return Case(folder / "classifier.onnx", folder / "examples.npz", x, y.astype(np.int64), x[:16])


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cost table of this run's own: times of other runs on a busy machine decide nothing here."""
    monkeypatch.setenv("GOSSAMER_CACHE", str(tmp_path_factory.getbasetemp() / "search-cache"))
