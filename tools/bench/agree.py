"""Whether a contender computes what it is timed for: its output against a reference on the same graph and input.

float32 and bf16 are held against ONNX Runtime's float32, int8 against LiteRT's int8. Gossamer's int8 is counted in
steps of the output's scale. The other engines round within layers as they like (OpenVINO adds in bf16 between int8
layers), and what a step in an early layer does to the end grows with the depth: of them, noise against signal is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tools.bench.contenders import Contender
from tools.bench.models import Variant, export
from tools.bench.process import EngineFailedError, MissingEngineError, Worker

TOLERANCE = {"of the largest output": 1e-4, "steps": 1.0, "noise to signal": 0.25}
"""By unit: f32; Gossamer's int8; int8 and bf16 of the others (RMS of the difference over RMS of the reference: 1.4
between unrelated outputs, 0.17 of bf16 on MobileNetV1 0.25 with its ten random outputs)."""


@dataclass(frozen=True)
class Difference:
    """How far off an output is, in a unit of ``TOLERANCE``; NaN agrees with nothing.

    Without a value there was nothing to compare with: ``unit`` says why, and ``agrees`` is None.
    """

    value: float | None
    unit: str

    @property
    def agrees(self) -> bool | None:
        return None if self.value is None else self.value <= TOLERANCE[self.unit]


class References:
    """Outputs of the reference engines for one input file, each computed once."""

    def __init__(self, x: Path, folder: Path) -> None:
        self.x, self.folder = x, folder
        self.known: dict[Variant, npt.NDArray[np.float32]] = {}

    def of(self, variant: Variant) -> npt.NDArray[np.float32]:
        """The reference output of a graph, flat float32."""
        if variant not in self.known:
            engine = "litert" if variant.precision == "int8" else "onnxruntime"
            reference = Contender(engine, variant.precision, variant)
            with Worker(engine, reference.file(1, self.folder), self.x, 1, variant.precision) as worker:
                self.known[variant] = worker.output()
        return self.known[variant]

    def difference(self, contender: Contender, output: npt.NDArray[np.float32]) -> Difference:
        """How far a contender's output is from its graph's reference.

        Raises:
            EngineFailedError: it has another number of elements, or the reference engine failed.
        """
        v = contender.variant
        try:
            want = self.of(v)
        except MissingEngineError as error:
            return Difference(None, f"not compared: no {error}")
        if output.shape != want.shape:
            raise EngineFailedError(f"gives {output.size} numbers instead of {want.size}")
        if contender.precision == "f32":
            return Difference(float(np.abs(output - want).max() / np.abs(want).max()), "of the largest output")
        if contender.engine == "gossamer":
            onnx = export(v.model, v.precision, v.pattern, v.sparsity, self.folder, formats=["onnx"])["onnx"]
            return Difference(float(np.abs(output - want).max()) / output_scale(onnx), "steps")
        noise = np.square(output - want, dtype=np.float64).mean() / np.square(want, dtype=np.float64).mean()
        return Difference(float(np.sqrt(noise)), "noise to signal")


@cache
def output_scale(onnx: Path) -> float:
    """The scale of the last QuantizeLinear of a QDQ graph: one step of its output."""
    import gossamer

    graph = gossamer.load(onnx).graph
    node = [n for n in graph if n.op_type == "QuantizeLinear"][-1]
    scale = node.inputs[1]
    assert scale is not None and scale.const_value is not None
    return float(scale.const_value.numpy())
