"""Who runs against whom: Gossamer at every sparsity, dense peers once, sparse peers at every sparsity."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.bench import mnn
from tools.bench.models import CACHE, Variant, export

PACKAGES = {
    "gossamer": "gossamer-runtime",
    "litert": "ai-edge-litert",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "mnn": "mnn",
}
FORMATS = {"gossamer": "goss", "litert": "tflite", "onnxruntime": "onnx", "openvino": "onnx", "mnn": "onnx"}
DENSE_PEERS = (
    ("litert", "f32"),
    ("litert", "int8"),
    ("onnxruntime", "f32"),
    ("onnxruntime", "int8"),
    ("openvino", "bf16"),
    ("openvino", "f32"),
    ("openvino", "int8"),
)


@dataclass(frozen=True)
class Contender:
    """An engine with a graph.

    Attributes:
        engine: a name of ``PACKAGES``.
        precision: what it computes in: ``f32``, ``bf16`` (of the float32 graph) or ``int8``.
        variant: the graph.
        sparse: the engine is told of the zeros, where it has to be told.
    """

    engine: str
    precision: str
    variant: Variant
    sparse: bool = False

    @property
    def label(self) -> str:
        return f"{self.engine} {'sparse ' if self.sparse else ''}{self.precision}"

    @property
    def where(self) -> str:
        """The label with the graph's zeros."""
        zeros = "dense" if self.variant.pattern == "dense" else f"{self.variant.pattern} {self.variant.sparsity:.0%}"
        return f"{self.label} {zeros}"

    def file(self, threads: int, folder: Path = CACHE) -> Path:
        """The engine's model, made on first use.

        Raises:
            MissingEngineError: it takes the engine to make it, and that is not installed.
            EngineFailedError: the engine's converter refused the graph.
        """
        v = self.variant
        kind = FORMATS[self.engine]
        if self.engine == "litert" and self.sparse:
            kind = "sparse.tflite"
        elif self.engine == "onnxruntime" and v.precision == "int8":
            kind = "u8.onnx"
        files = export(v.model, v.precision, v.pattern, v.sparsity, folder, formats=[kind], threads=threads)
        return mnn.convert(files[kind]) if self.engine == "mnn" else files[kind]

    @property
    def version(self) -> str:
        try:
            return importlib.metadata.version(PACKAGES[self.engine])
        except importlib.metadata.PackageNotFoundError:
            return "unknown"


def contenders(model: str, precisions: Sequence[str], pattern: str, sparsities: Sequence[float]) -> Iterator[Contender]:
    """All that one interleaved run times.

    Dense engines cost the same whatever the weights, and take the graph before pruning. LiteRT's sparse form has the
    zeros where Gossamer has them; MNN has as many in 4x1 blocks, the only ones that it is fast with.
    """
    for precision in precisions:
        yield Contender("gossamer", precision, Variant(model, precision, "dense", 0.0))
        for sparsity in sparsities:
            yield Contender("gossamer", precision, Variant(model, precision, pattern, sparsity))
    for engine, precision in DENSE_PEERS:
        graph = "int8" if precision == "int8" else "f32"
        yield Contender(engine, precision, Variant(model, graph, "dense", 0.0))
    for sparsity in sparsities:
        yield Contender("litert", "f32", Variant(model, "f32", pattern, sparsity), sparse=True)
        yield Contender("mnn", "f32", Variant(model, "f32", "4x1", sparsity), sparse=True)
