"""Third-party int8 models give equal bytes on every target, dense and pruned."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.bundle import container
from gossamer.compile.emit import emit
from gossamer.compile.encode import encode_weights
from gossamer.compile.lower import lower
from gossamer.importers import load_model
from gossamer.recipe import Policy, SparsifyStep
from gossamer.sparsify import prune
from gossamer_runtime import Session
from tests.native import runners

MODELS = [
    "mlperf-tiny/vww_96_int8.tflite",
    "mlperf-tiny/pretrainedResnet_quant.tflite",
    "tflite-micro/person_detect.tflite",
    "coral/tf2_mobilenet_v2_1.0_224_ptq.tflite",
]
PATTERNS = ["dense", "1x4", "4x4", "4x1"]


@functools.cache
def case(path: Path, pattern: str) -> tuple[bytes, list[np.ndarray[Any, Any]], list[np.ndarray[Any, Any]]]:
    """Bundle, random inputs, and what the scalar kernels make of them."""
    model = load_model(path)
    if pattern != "dense":
        prune(model, SparsifyStep(pattern=pattern, sparsity=0.75))
    plan = lower(model, Policy(fallback=[]))
    encode_weights(plan)
    emitted = emit(plan)
    data = container.build(emitted.plan, emitted.weights, b"{}")
    rng = np.random.default_rng(4)
    with Session(data, isa="scalar", verify=False) as session:
        inputs = []
        for port in session.inputs:
            limits = np.iinfo(port.dtype)
            inputs.append(rng.integers(limits.min, limits.max + 1, port.shape).astype(port.dtype))
    return data, inputs, runners.native("scalar").run(data, inputs, Path())


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in runners.RUNNERS if n != "scalar"])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("model", MODELS)
def test_targets_agree(model: str, pattern: str, name: str, data_dir: Path, tmp_path: Path) -> None:
    runner = runners.runner(name)
    data, inputs, expected = case(data_dir / "models" / model, pattern)
    for got, want in zip(runner.run(data, inputs, tmp_path), expected, strict=True):
        np.testing.assert_array_equal(got, want)
