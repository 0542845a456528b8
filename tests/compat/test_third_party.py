"""Models that others trained and converted, compiled unchanged and held against LiteRT on real photos and clips.

int8: the same top-1 on at least 99% of the inputs and no output more than two quantisation steps off.
f32: within 1e-4 of the largest magnitude of the output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import gossamer
from gossamer_runtime import Session
from tests import litert
from tests.compat import inputs

Array = npt.NDArray[Any]
COUNT = 100
"""Inputs a model sees: one top-1 difference is the most that 99% allows."""


def _rgb(size: int) -> Callable[[Path], Array]:
    return lambda data: inputs.photos(data, size, size, COUNT)


def _signed(size: int) -> Callable[[Path], Array]:
    return lambda data: (inputs.photos(data, size, size, COUNT).astype(np.int16) - 128).astype(np.int8)


def _grey(size: int) -> Callable[[Path], Array]:
    return lambda data: inputs.grey(inputs.photos(data, size, size, COUNT))


def _grey_signed(size: int) -> Callable[[Path], Array]:
    return lambda data: (_grey(size)(data).astype(np.int16) - 128).astype(np.int8)


def _float(size: int, scale: float) -> Callable[[Path], Array]:
    return lambda data: inputs.photos(data, size, size, COUNT).astype(np.float32) * np.float32(scale)


def _mfcc(data: Path) -> Array:
    return np.stack([inputs.mfcc(c) for c in inputs.clips(data, COUNT)])[..., None].astype(np.float32)


def _mfcc_int8(data: Path) -> Array:
    return np.clip(np.round(_mfcc(data) / 0.5847029089927673) + 83, -128, 127).astype(np.int8)


def _micro_speech(data: Path) -> Array:
    """40 bands of 49 frames in 0..26 (the models' own feature range), quantised by the input's scale."""
    spoken = [
        *inputs.clips(data, COUNT - 2),
        *(inputs.wav(data / f"models/tflite-micro/{w}_1000ms.wav") for w in ("yes", "no")),
    ]
    mel = np.stack([inputs.log_mel(s, 480, 320, 40, 49).reshape(-1) for s in spoken])
    return np.clip(np.round((mel + 8) * 1.5 / 0.10171568393707275) - 128, -128, 127).astype(np.int8)


def _machine_sound(data: Path) -> Array:
    """Five frames of 128 log-mel bands in dB, as the anomaly model takes them."""
    mel = np.stack([inputs.log_mel(c, 1024, 512, 128, 5).reshape(-1) for c in inputs.clips(data, COUNT)])
    return (mel * 10 / np.log(10)).astype(np.float32)


def _digits(dtype: type, offset: int) -> Callable[[Path], Array]:
    def load(data: Path) -> Array:
        files = [
            data / "models/coral/mnist_nine.bmp",
            *(data / f"models/tflite-micro/mnist_sample{d}.png" for d in (0, 7)),
        ]
        found = []
        for file in files:
            with Image.open(file) as image:
                pixels = np.asarray(image.convert("L").resize((28, 28))).astype(np.int16)
                # Shifted copies of the three real digits, so that more than three inputs are compared.
                found += [np.roll(pixels, (dy, dx), (0, 1)) for dy in (-2, 0, 2) for dx in (-2, 0, 2)]
        return (np.stack(found) + offset).astype(dtype)

    return load


@dataclass(frozen=True)
class Case:
    file: str
    make_inputs: Callable[[Path], Array]
    fallback: tuple[str, ...] = ()
    float_weights: bool = False
    """int8 weights under float activations: LiteRT runs them with the weights in float32."""


CASES = [
    Case("coral/mobilenet_v1_0.25_128_quant", _rgb(128)),
    Case("coral/mobilenet_v1_0.75_192_quant", _rgb(192)),
    Case("coral/tf2_mobilenet_v2_1.0_224_ptq", _rgb(224)),
    Case("coral/keras_lstm_mnist_ptq", _digits(np.uint8, 0), ("litert",)),
    Case("mlperf-tiny/ad01_fp32", _machine_sound),
    Case("mlperf-tiny/kws_ref_model", _mfcc_int8),
    Case("mlperf-tiny/kws_ref_model_float32", _mfcc, float_weights=True),
    Case("mlperf-tiny/pretrainedResnet", _float(32, 1.0)),
    Case("mlperf-tiny/pretrainedResnet_quant", _signed(32)),
    Case("mlperf-tiny/vww_96_float", _float(96, 1 / 255)),
    Case("mlperf-tiny/vww_96_int8", _signed(96)),
    Case("tflite-micro/micro_speech_quantized", _micro_speech),
    Case("tflite-micro/person_detect", _grey_signed(96)),
    Case("tflite-micro/trained_lstm_int8", _digits(np.int8, -128), ("litert",)),
    Case("wake-vision-zoo/wv_quality_k_4_c_5", _rgb(50)),
    Case("wake-vision-zoo/wv_quality_mcunet-10fps_vww", _rgb(64)),
    Case("wake-vision-zoo/wv_quality_mcunet-320kb-1mb_vww", _rgb(144)),
    Case("wake-vision-zoo/wv_quality_micronets_vww4_128_128_INT8", _grey(128)),
    Case("wake-vision-zoo/wv_quality_mobilenetv2", _rgb(224)),
    Case("wake-vision-zoo/wv_quality_ymac", _rgb(50)),
]


def test_every_third_party_model_has_a_case(data_dir):
    present = {
        p.relative_to(data_dir / "models").with_suffix("").as_posix() for p in data_dir.glob("models/*/*.tflite")
    }
    assert present == {case.file for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.file.split("/")[1])
def test_agrees_with_litert(case, data_dir, tmp_path):
    model = data_dir / "models" / f"{case.file}.tflite"
    recipe = {"version": 1, "policy": {"fallback": list(case.fallback)}}
    bundle = tmp_path / "model.goss"
    gossamer.optimize(model, recipe=recipe, output=bundle)

    batch = case.make_inputs(data_dir)
    theirs = litert.run(litert.with_float_weights(model.read_bytes()) if case.float_weights else model, batch)
    with Session(bundle) as session:
        ours = np.stack([np.asarray(session.run(x[None]))[0] for x in batch])
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    if ours.dtype == np.float32:
        error = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        assert error <= 1e-4, f"{error:.2e} of the largest output"
    else:
        steps, agreement = litert.difference(ours, theirs)
        assert steps <= 2, f"an output is {steps} steps off"
        assert agreement >= 0.99, f"top-1 agrees on {agreement:.1%}"
