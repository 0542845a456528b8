"""A small network, pictures, a bundle of it, and the command line in process: what tests of the shell share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

RECIPE = {
    "version": 1,
    "name": "test",
    "sparsify": {"pattern": "1x4", "sparsity": 0.75},
    "quantize": {"calibrate": "minmax", "preprocess": {"resize": "stretch", "mean": 0, "std": 255}},
    "target": {"measure": False},
}
PLAIN = {"version": 1, "name": "plain", "target": {"measure": False}}
LABELS = ["ant", "bee", "cat", "dog", "eel"]


def small_network(seed: int = 0, *, nan: bool = False, dynamic: bool = False, op: str = "Relu") -> onnx.ModelProto:
    """image [1,3,16,16] -> Conv 3x3/2, Relu, Conv 1x1 (16 -> 32), Relu, Conv 1x1 (32 -> 32), pool, Gemm -> 5 scores."""
    rng = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        fan = int(np.prod(shape[1:])) if len(shape) > 1 else 16
        return numpy_helper.from_array((rng.standard_normal(shape) / np.sqrt(fan)).astype(np.float32), name)

    constants = [
        weight("w0", 16, 3, 3, 3),
        weight("b0", 16),
        weight("w1", 32, 16, 1, 1),
        weight("b1", 32),
        weight("w2", 32, 32, 1, 1),
        weight("w3", 5, 32),
        weight("b3", 5),
    ]
    if nan:
        broken = numpy_helper.to_array(constants[2]).copy()
        broken[3, 4] = np.nan
        constants[2] = numpy_helper.from_array(broken, "w1")
    nodes = [
        helper.make_node("Conv", ["image", "w0", "b0"], ["c0"], "stem", strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node(op, ["c0"], ["r0"], "stem_act", domain="" if op == "Relu" else "org.example"),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], "mid"),
        helper.make_node("Relu", ["c1"], ["r1"], "mid_act"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "last"),
        helper.make_node("GlobalAveragePool", ["c2"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["scores"], "classifier", transB=1),
    ]
    side: Any = "side" if dynamic else 16
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 5])],
        constants,
    )
    imports = [helper.make_opsetid("", 17)] + [helper.make_opsetid("org.example", 1)] * (op != "Relu")
    model = helper.make_model(graph, opset_imports=imports, ir_version=8, producer_name="test")
    helper.set_model_props(model, {"gossamer.manifest": json.dumps({"labels": LABELS, "logits": True})})
    return model


def write_pictures(folder: Path, count: int = 6, seed: int = 0) -> Path:
    """Seeded pictures with soft colours, 40x30."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        coarse = rng.integers(0, 256, (4, 5, 3), np.uint8)
        Image.fromarray(coarse).resize((40, 30), Image.Resampling.BICUBIC).save(folder / f"picture{i}.png")
    return folder


@dataclass(frozen=True)
class Work:
    """A folder with a model, its recipe, pictures, a signed bundle, and the home of its key."""

    folder: Path
    home: Path
    model: Path
    recipe: Path
    photos: Path
    bundle: Path


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Work:
    import gossamer

    folder = tmp_path_factory.mktemp("work")
    work = Work(
        folder, folder / "home", folder / "small.onnx", folder / "recipe.yaml", folder / "photos", folder / "small.goss"
    )
    onnx.save(small_network(), work.model)
    work.recipe.write_text(json.dumps(RECIPE))  # JSON is YAML
    write_pictures(work.photos)
    before = os.environ.get("GOSSAMER_HOME")
    os.environ["GOSSAMER_HOME"] = str(work.home)
    try:
        gossamer.optimize(work.model, RECIPE, work.photos, work.bundle)
    finally:
        if before is None:
            del os.environ["GOSSAMER_HOME"]
        else:
            os.environ["GOSSAMER_HOME"] = before
    return work


@pytest.fixture
def work(_made: Work, monkeypatch: pytest.MonkeyPatch) -> Work:
    """The shared folder, its key trusted. Tests do not change it."""
    monkeypatch.setenv("GOSSAMER_HOME", str(_made.home))
    return _made


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of keys and trust."""
    place = tmp_path / "home"
    monkeypatch.setenv("GOSSAMER_HOME", str(place))
    return place


@dataclass(frozen=True)
class Ran:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Ran]]:
    """Runs a command line in this process: ``cli("inspect", path)``."""
    import signal
    import warnings

    from gossamer.cli._main import run

    monkeypatch.delenv("GOSSAMER_DEBUG", raising=False)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def call(*arguments: Any) -> Ran:
        with warnings.catch_warnings():
            code = run([str(a) for a in arguments])
        got = capsys.readouterr()
        return Ran(code, got.out, got.err)

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)


def spawn(*arguments: Any, **options: Any) -> subprocess.Popen[str]:
    """The command line as a process of its own, output captured."""
    environment = {**os.environ, **options.pop("env", {})}
    environment.pop("GOSSAMER_DEBUG", None)
    return subprocess.Popen(
        [sys.executable, "-c", "from gossamer.cli import main; main()", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def leftovers(folder: Path, *known: str) -> list[str]:
    """Files in a folder besides the known ones, hidden ones included."""
    return sorted(p.name for p in folder.iterdir() if p.name not in known)
