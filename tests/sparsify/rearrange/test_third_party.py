"""Models that others trained: rearranged, every int8 output byte of the compiled bundle is equal on real inputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

import gossamer
from gossamer import person
from gossamer.recipe import QuantizeStep, SparsifyStep
from gossamer.sparsify.rearrange import rearrange
from gossamer_runtime import Session
from tests.compat import inputs
from tests.sparsify.rearrange.graphs import assert_same, run, scramble

Array = npt.NDArray[Any]
COUNT = 12
DENSE = {"version": 1, "target": {"measure": False}}


def _rgb(size: int) -> Callable[[Path], Array]:
    return lambda data: inputs.photos(data, size, size, COUNT)


def _signed(size: int) -> Callable[[Path], Array]:
    return lambda data: (inputs.photos(data, size, size, COUNT).astype(np.int16) - 128).astype(np.int8)


INT8: dict[str, Callable[[Path], Array]] = {
    "coral/tf2_mobilenet_v2_1.0_224_ptq": _rgb(224),
    "coral/mobilenet_v1_0.25_128_quant": _rgb(128),
    "mlperf-tiny/vww_96_int8": _signed(96),
    "mlperf-tiny/pretrainedResnet_quant": _signed(32),
    "wake-vision-zoo/wv_quality_micronets_vww4_128_128_INT8": lambda data: inputs.grey(_rgb(128)(data)),
    "wake-vision-zoo/wv_quality_mcunet-10fps_vww": _rgb(64),
}
FLOAT: dict[str, Callable[[Path], Array]] = {
    "mlperf-tiny/vww_96_float": lambda data: _rgb(96)(data).astype(np.float32) / np.float32(255),
    "mlperf-tiny/pretrainedResnet": lambda data: _rgb(32)(data).astype(np.float32),
}


def outputs(model: ir.Model, samples: Array) -> list[Array]:
    """What the compiled bundle says of every sample."""
    with Session(gossamer.optimize(model, DENSE, key=False).data, verify=False) as session:
        found = []
        for x in samples:
            y = session.run(x[None])
            found.append(np.concatenate([np.ravel(a) for a in (y if isinstance(y, (list, tuple)) else [y])]))
        return found


def assert_equal(before: list[Array], after: list[Array]) -> None:
    for a, b in zip(before, after, strict=True):
        assert a.dtype == b.dtype and a.dtype != np.float32
        np.testing.assert_array_equal(a, b)


SLOW = {"coral/tf2_mobilenet_v2_1.0_224_ptq", "wake-vision-zoo/wv_quality_micronets_vww4_128_128_INT8"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in INT8])
def test_int8_is_equal_whatever_the_order(data_dir: Path, name: str) -> None:
    samples = INT8[name](data_dir)
    path = data_dir / "models" / f"{name}.tflite"
    reference = outputs(gossamer.load(path), samples)
    assert len({bytes(y) for y in reference}) > 1
    scrambled = gossamer.load(path)
    found, _ = scramble(scrambled)
    assert len(found) > 50
    assert_equal(reference, outputs(scrambled, samples))
    searched = gossamer.load(path)
    report = rearrange(searched, SparsifyStep(pattern="4x4", sparsity=0.9), effort=0, seconds=3)
    assert report.after > report.before and report.moved > 50
    assert_equal(reference, outputs(searched, samples))


@pytest.mark.parametrize("name", FLOAT)
def test_f32_is_the_same_to_1e_5(data_dir: Path, name: str) -> None:
    samples = FLOAT[name](data_dir)
    path = data_dir / "models" / f"{name}.tflite"
    model, other = gossamer.load(path), gossamer.load(path)
    report = rearrange(other, SparsifyStep(pattern="1x4", sparsity=0.9), effort=0)
    assert report.after > report.before + 0.01
    key = model.graph.inputs[0].name
    for x in samples[:4]:
        assert_same(run(model, {key: x[None]}), run(other, {key: x[None]}))


def test_the_shipped_model_quantised_by_our_own_rule(data_dir: Path) -> None:
    from gossamer.quantize import quantize

    photos = _rgb(96)(data_dir).astype(np.float32).transpose(0, 3, 1, 2) / np.float32(255)
    model = gossamer.load(person.model_path())
    calibration = [{person.INPUT_NAME: x[None]} for x in photos]
    int8 = quantize(model, QuantizeStep(samples=COUNT), calibration)
    reference = outputs(int8, photos)
    report = rearrange(int8, SparsifyStep(pattern="1x4", sparsity=0.9), effort=0, seconds=3)
    assert report.after > report.before
    for a, b in zip(reference, outputs(int8, photos), strict=True):
        np.testing.assert_array_equal(a, b)
