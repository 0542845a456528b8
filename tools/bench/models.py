"""The benchmark's networks, each in every engine's own file, all made from one graph.

One seeded network (``tests/models.py``) becomes one ONNX graph with batch norm folded; Gossamer prunes it by its own
patterns and, for int8, quantises it. Every file is written from that graph: the same weights, scales and zero points.
Input and output are float32 in all of them (``[1, 3, H, W]`` for .onnx and .goss, ``[1, H, W, 3]`` for .tflite).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx_ir as ir

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / "build" / "bench"
MODELS = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v1_0.25", "resnet18")
"""MobileNetV1 1.0/224, MobileNetV2 1.0/224, MobileNetV1 0.25/96 (10 classes, 1000 in the others), ResNet-18/224."""
PRECISIONS = ("f32", "int8")
FORMATS = ("goss", "onnx", "u8.onnx", "tflite", "sparse.tflite")
CALIBRATION_SAMPLES = 4

_GRAPH_SOURCES = ("sdk/gossamer/_load.py", "sdk/gossamer/importers", "sdk/gossamer/quantize", "sdk/gossamer/recipe",
                  "sdk/gossamer/sparsify", "tests/models.py", "tools/bench/models.py")  # fmt: skip
_TFLITE_SOURCES = ("tests/tflite_file.py", "tools/bench/tflite_writer.py")
_BUNDLE_SOURCES = ("sdk/gossamer", "device_runtime/gossamer_runtime/_lib")
_SIZED = re.compile(r"mobilenet_v1_([0-9.]+)_([0-9]+)")


@dataclass(frozen=True)
class Variant:
    """One graph.

    Attributes:
        model: a name of ``MODELS``, or ``mobilenet_v1_WIDTH_SIZE`` (1000 classes) such as ``mobilenet_v1_0.5_160``.
        precision: ``f32`` or ``int8``.
        pattern: ``dense``, ``unstructured``, ``1x4``, ``4x1``, ``4x4`` or n:m.
        sparsity: share of zeros in [0, 1); 0 with ``dense``, and what follows from n:m.
        activation_bits: 8, or 7 for activations in 0..127.
    """

    model: str
    precision: str
    pattern: str
    sparsity: float
    activation_bits: int = 8

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision {self.precision!r} is none of {', '.join(PRECISIONS)}")
        if (self.pattern == "dense") != (self.sparsity == 0.0):
            raise ValueError(f"pattern {self.pattern} does not go with sparsity {self.sparsity:g}")

    @property
    def label(self) -> str:
        bits = "-7bit" if self.activation_bits == 7 else ""
        pattern = self.pattern.replace(":", "of")
        return f"{self.model}-{self.precision}{bits}-{pattern}-{100 * self.sparsity:g}"


def export(
    model: str,
    precision: str,
    pattern: str,
    sparsity: float,
    folder: Path = CACHE,
    *,
    formats: Iterable[str] | None = None,
    target: str = "host",
    threads: int = 1,
    activation_bits: int = 8,
) -> dict[str, Path]:
    """Files of one variant by format; those in ``folder`` that the same sources made are not made again.

    Args:
        model, precision, pattern, sparsity, activation_bits: as in :class:`Variant`.
        folder: where files are kept, by name and by a digest of the sources that made them.
        formats: some of ``FORMATS``: ``goss``; ``onnx`` (float32, or QDQ int8); ``u8.onnx`` (int8 alone: uint8
            activations, for ONNX Runtime); ``tflite``; ``sparse.tflite`` (f32 alone: weights in TFLite's sparse form).
            By default all that the precision has; without .tflite for 7 bits.
        target: architecture whose kernels ``goss`` is compiled for, as in a recipe's ``target.arch``; the cost table of
            this machine decides for ``host``, a model of the cost for others.
        threads: of the session that ``goss`` is compiled for.

    Raises:
        ValueError: a format that the precision lacks, or an unknown name.
    """
    variant = Variant(model, precision, pattern, sparsity, activation_bits)
    lacks = {"f32": {"u8.onnx"}, "int8": {"sparse.tflite"} | ({"tflite"} if activation_bits == 7 else set())}[precision]
    possible = [f for f in FORMATS if f not in lacks]
    wanted = possible if formats is None else list(formats)
    if not set(wanted) <= set(possible):
        raise ValueError(f"{variant.label} has no {', '.join(sorted(set(wanted) - set(possible)))}")
    maker = _Maker(variant, folder)
    makers: dict[str, Callable[[], Path]] = {
        "goss": lambda: maker.goss(target, threads),
        "onnx": maker.onnx,
        "u8.onnx": maker.unsigned,
        "tflite": lambda: maker.tflite(sparse=False),
        "sparse.tflite": lambda: maker.tflite(sparse=True),
    }
    return {name: makers[name]() for name in wanted}


def input_shape(model: str) -> tuple[int, int, int, int]:
    """``(1, 3, H, W)`` of a model's input."""
    from tests.models import INPUT_SHAPES

    sized = _SIZED.fullmatch(model)
    if sized:
        return (1, 3, int(sized[2]), int(sized[2]))
    if model not in MODELS:
        raise ValueError(f"no model {model!r}: use {', '.join(MODELS)} or mobilenet_v1_WIDTH_SIZE")
    n, c, h, w = INPUT_SHAPES[model]
    return n, c, h, w


def sample(model: str, seed: int = 1000) -> npt.NDArray[np.float32]:
    """A seeded standard normal input, ``[1, 3, H, W]`` float32; calibration uses seeds below 1000."""
    return np.random.default_rng(seed).standard_normal(input_shape(model), dtype=np.float32)


class _Maker:
    """Makes the files of a variant, each at most once for the same sources."""

    def __init__(self, variant: Variant, folder: Path) -> None:
        self.variant, self.folder = variant, folder
        folder.mkdir(parents=True, exist_ok=True)

    def kept(self, suffix: str, sources: tuple[str, ...], make: Callable[[], bytes], label: str, *more: Any) -> Path:
        key = repr((asdict(self.variant), label, suffix, more, digest(_GRAPH_SOURCES + sources)))
        path = self.folder / f"{label}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.{suffix}"
        if not path.exists():
            content = make()
            partial = path.with_name(f"{path.name}.{os.getpid()}")
            partial.write_bytes(content)
            partial.replace(path)  # a reader never sees half a file
        return path

    def dense(self) -> Path:
        """The float32 network before pruning, batch norm folded."""
        base = _Maker(Variant(self.variant.model, "f32", "dense", 0.0), self.folder)
        return base.kept("onnx", (), base._trace, f"{self.variant.model}-traced")

    def onnx(self) -> Path:
        return self.kept("onnx", (), self._onnx, self.variant.label)

    def goss(self, target: str, threads: int) -> Path:
        label = f"{self.variant.label}-{target}-t{threads}"
        return self.kept("goss", _BUNDLE_SOURCES, lambda: self._goss(target, threads), label)

    def unsigned(self) -> Path:
        return self.kept("u8.onnx", ("tools/bench/unsigned.py",), self._unsigned, self.variant.label)

    def tflite(self, *, sparse: bool) -> Path:
        suffix = "sparse.tflite" if sparse else "tflite"
        return self.kept(suffix, _TFLITE_SOURCES, lambda: self._tflite(sparse), self.variant.label)

    def _trace(self) -> bytes:
        import torch

        import gossamer
        from gossamer.quantize.prepare import fold_batch_norm

        graph = gossamer.load(_network(self.variant.model), example_inputs=torch.zeros(input_shape(self.variant.model)))
        fold_batch_norm(graph)
        return _bytes(graph)

    def _onnx(self) -> bytes:
        import gossamer
        from gossamer.quantize import quantize
        from gossamer.recipe import load_recipe
        from gossamer.sparsify import prune

        graph = gossamer.load(self.dense())
        recipe: dict[str, Any] = {"version": 1}
        if self.variant.pattern != "dense":
            recipe["sparsify"] = {"pattern": self.variant.pattern, "sparsity": self.variant.sparsity}
        if self.variant.precision == "int8":
            recipe["quantize"] = {"activation_bits": self.variant.activation_bits}
        steps = load_recipe(recipe)
        if steps.sparsify is not None:
            prune(graph, steps.sparsify)
        if steps.quantize is not None:
            photos = [sample(self.variant.model, seed) for seed in range(CALIBRATION_SAMPLES)]
            graph = quantize(graph, steps.quantize, photos)
        return _bytes(graph)

    def _goss(self, target: str, threads: int) -> bytes:
        import gossamer

        recipe = {"version": 1, "target": {"arch": target, "threads": threads}}
        with _own_cost_table(self.folder / f"cost-{digest(_BUNDLE_SOURCES)[:12]}"):
            return bytes(gossamer.optimize(self.onnx(), recipe=recipe, key=False).data)

    def _unsigned(self) -> bytes:
        import gossamer
        from tools.bench.unsigned import unsigned_activations

        graph = gossamer.load(self.onnx())
        unsigned_activations(graph)
        return _bytes(graph)

    def _tflite(self, sparse: bool) -> bytes:
        import gossamer
        from tools.bench.tflite_writer import tflite

        return tflite(gossamer.load(self.onnx()), sparse=sparse)


@contextlib.contextmanager
def _own_cost_table(folder: Path) -> Iterator[None]:
    """Kernel times measured with these very kernels: the user's table may hold those of another build."""
    before = os.environ.get("GOSSAMER_CACHE")
    os.environ["GOSSAMER_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["GOSSAMER_CACHE"]
        else:
            os.environ["GOSSAMER_CACHE"] = before


def _network(model: str) -> Any:
    from tests import models

    sized = _SIZED.fullmatch(model)
    if sized is None:
        return models.build(model)
    width, size = float(sized[1]), int(sized[2])
    return models.seeded(lambda: models.MobileNetV1(width), (1, 3, min(size, 96), min(size, 96)))


def _bytes(graph: ir.Model) -> bytes:
    """The graph with every shape stated."""
    import onnx
    import onnx_ir

    proto = onnx.shape_inference.infer_shapes(onnx_ir.to_proto(graph))
    return bytes(proto.SerializeToString(deterministic=True))


@cache
def digest(paths: tuple[str, ...]) -> str:
    """SHA-256 over the named files and the .py and .so files of the named folders, relative to the repository."""
    h = hashlib.sha256()
    for path in sorted(ROOT / p for p in paths):
        found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in (".py", ".so"))
        for file in found:
            h.update(f"{file.relative_to(ROOT)}:{file.stat().st_size};".encode())
            h.update(file.read_bytes())
    return h.hexdigest()
