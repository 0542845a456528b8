"""What LiteRT and the importer make of small .tflite files."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gossamer.importers import load_model
from tests import litert, ort

Array = npt.NDArray[Any]


def run(model: ir.Model, inputs: list[Array]) -> list[Array]:
    names = [v.name for v in model.graph.inputs]
    return ort.run(model, dict(zip(names, inputs, strict=True)))


def random_inputs(content: bytes, seed: int = 0) -> list[Array]:
    """Seeded inputs by shape and type; floats are standard normal."""
    rng = np.random.default_rng(seed)
    made = []
    for value in load_model(content).graph.inputs:
        shape, dtype = value.shape.numpy(), value.dtype.numpy()
        if dtype.kind == "f":
            made.append(rng.normal(size=shape).astype(dtype))
        elif dtype.kind == "b":
            made.append(rng.integers(0, 2, shape).astype(bool))
        else:
            low, high = (-128, 128) if dtype == np.int8 else (0, 256) if dtype == np.uint8 else (0, 3)
            made.append(rng.integers(low, high, shape).astype(dtype))
    return made


def compare(content: bytes, steps: int = 1, seed: int = 0) -> ir.Model:
    """Hold the importer against LiteRT: floats to 1e-5 of the largest output, integers within ``steps``."""
    inputs = random_inputs(content, seed)
    model = load_model(content)
    expected, got = litert.run_plain(content, inputs), run(model, inputs)
    assert len(expected) == len(got)
    for want, have in zip(expected, got, strict=True):
        assert want.dtype == have.dtype
        assert want.shape == have.shape
        if want.dtype.kind == "f":
            assert np.abs(want - have).max() <= 1e-5 * max(1.0, float(np.abs(want).max()))
        else:
            assert np.abs(want.astype(np.int64) - have.astype(np.int64)).max() <= steps
    return model


def kinds(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]
