"""Who takes part, with which file; the forms that only one engine reads."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import gossamer
from tests import ort
from tools.bench import mnn
from tools.bench.__main__ import main
from tools.bench.contenders import Contender, contenders
from tools.bench.models import Variant, export, input_shape, sample
from tools.bench.process import MissingEngineError, Worker

MODEL = "mobilenet_v1_0.25"


def test_dense_peers_take_part_once_and_sparse_ones_at_every_sparsity() -> None:
    found = [c.where for c in contenders("resnet18", ["int8"], "1x4", [0.5, 0.9])]
    assert found == [
        "gossamer int8 dense",
        "gossamer int8 1x4 50%",
        "gossamer int8 1x4 90%",
        "litert f32 dense",
        "litert int8 dense",
        "onnxruntime f32 dense",
        "onnxruntime int8 dense",
        "openvino bf16 dense",
        "openvino f32 dense",
        "openvino int8 dense",
        "litert sparse f32 1x4 50%",
        "mnn sparse f32 4x1 50%",
        "litert sparse f32 1x4 90%",
        "mnn sparse f32 4x1 90%",
    ]


@pytest.mark.parametrize(
    ("engine", "precision", "sparse", "suffix"),
    [
        ("gossamer", "int8", False, ".goss"),
        ("litert", "int8", False, ".tflite"),
        ("litert", "f32", True, ".sparse.tflite"),
        ("onnxruntime", "int8", False, ".u8.onnx"),
        ("onnxruntime", "f32", False, ".onnx"),
        ("openvino", "int8", False, ".onnx"),
    ],
)
def test_every_engine_gets_its_form(engine: str, precision: str, sparse: bool, suffix: str, folder: Path) -> None:
    pattern, sparsity = ("unstructured", 0.8) if sparse else ("dense", 0.0)
    path = Contender(engine, precision, Variant(MODEL, precision, pattern, sparsity), sparse).file(1, folder)
    assert path.name.partition("-")[0] == MODEL and path.name.endswith(suffix)
    assert path.name.endswith(".u8.onnx") == (suffix == ".u8.onnx")
    assert path.name.endswith(".sparse.tflite") == (suffix == ".sparse.tflite")


def test_unsigned_activations_compute_the_same(folder: Path) -> None:
    files = export(MODEL, "int8", "1x4", 0.75, folder, formats=["onnx", "u8.onnx"])
    graphs = {k: gossamer.load(p).graph for k, p in files.items()}
    types = {k: {str(n.outputs[0].dtype) for n in g if n.op_type == "QuantizeLinear"} for k, g in graphs.items()}
    assert types == {"onnx": {"INT8"}, "u8.onnx": {"UINT8"}}
    feeds = {graphs["onnx"].inputs[0].name: sample(MODEL)}
    want, got = (ort.run(files[k], feeds)[0] for k in ("onnx", "u8.onnx"))
    assert np.ptp(want) > 0 and np.array_equal(want, got)


def test_seven_bits_and_another_target_have_files_of_their_own(folder: Path) -> None:
    wide = export(MODEL, "int8", "1x4", 0.75, folder, formats=["onnx"])["onnx"]
    seven = export(MODEL, "int8", "1x4", 0.75, folder, activation_bits=7)
    assert set(seven) == {"goss", "onnx", "u8.onnx"} and seven["onnx"] != wide
    web = export(MODEL, "int8", "1x4", 0.75, folder, formats=["goss"], target="wasm32")["goss"]
    assert "wasm32" in web.name and web.read_bytes()


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ((MODEL, "int4", "dense", 0.0), "precision 'int4'"),
        ((MODEL, "int8", "dense", 0.5), "pattern dense does not go with sparsity 0.5"),
        ((MODEL, "int8", "1x4", 0.0), "pattern 1x4 does not go with sparsity 0"),
    ],
)
def test_impossible_variants_are_refused(variant: tuple[str, str, str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Variant(*variant)


def test_names_of_models() -> None:
    assert input_shape("mobilenet_v1") == (1, 3, 224, 224) and input_shape(MODEL) == (1, 3, 96, 96)
    assert input_shape("mobilenet_v1_1.5_160") == (1, 3, 160, 160)
    with pytest.raises(ValueError, match="no model 'lenet'"):
        input_shape("lenet")


def test_mnn_that_is_missing_is_named(folder: Path, without) -> None:
    without("_tools")
    onnx = export(MODEL, "f32", "4x1", 0.9, folder, formats=["onnx"])["onnx"]
    onnx.with_suffix(".mnn").unlink(missing_ok=True)
    with pytest.raises(MissingEngineError, match="MNN"):
        mnn.convert(onnx)


@pytest.mark.skipif(importlib.util.find_spec("_tools") is None, reason="needs MNN: pip install 'gossamer[bench]'")
def test_mnn_gets_a_sparse_model_that_computes_the_same(folder: Path, tmp_path: Path) -> None:
    onnx = export(MODEL, "f32", "4x1", 0.9, folder, formats=["onnx"])["onnx"]
    onnx.with_suffix(".mnn").unlink(missing_ok=True)
    made = mnn.convert(onnx)
    assert made.stat().st_size < 0.5 * onnx.stat().st_size  # stored sparse
    x = tmp_path / "x.npy"
    np.save(x, sample(MODEL))
    session = ort.session(onnx)
    want = session.run(None, {session.get_inputs()[0].name: sample(MODEL)})[0].reshape(-1)
    with Worker("mnn", made, x) as worker:
        assert np.abs(worker.output() - want).max() <= 1e-4 * np.abs(want).max()


def test_the_command_lists_its_benchmarks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["native", "scaling"]
    assert lines[1].endswith("interleaved in one run.")
    assert main(["nothing"]) == 2 and main([]) == 2


def test_the_command_hands_its_arguments_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["native", "--models", "lenet"])
    assert ended.value.code == 2
    assert "no lenet: use mobilenet_v1" in capsys.readouterr().err
