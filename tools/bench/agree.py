"""Whether a contender computes what it is timed for: its output against a reference on the same graph and input.

float32 and bf16 are held against ONNX Runtime's float32, int8 against LiteRT's int8, in steps of the output's scale.
Engines round int8 differently within a layer, and a step in an early layer may be several at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tools.bench.contenders import Contender
from tools.bench.models import Variant
from tools.bench.process import Worker

TOLERANCE = {"f32": 1e-4, "bf16": 5e-2, "int8": 4.0}
"""f32, bf16: of the largest output; int8: steps."""


@dataclass(frozen=True)
class Difference:
    """The largest difference of any output, in ``unit``, and whether it is within ``TOLERANCE``."""

    value: float
    unit: str
    agrees: bool


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
        """How far a contender's output is from its graph's reference."""
        want = self.of(contender.variant)
        off = float(np.abs(output - want).max()) if output.shape == want.shape else np.inf
        if contender.precision == "int8":
            onnx = Contender("onnxruntime", "int8", contender.variant).file(1, self.folder)
            off, unit = off / output_scale(onnx), "steps"
        else:
            off, unit = off / float(np.abs(want).max()), "of the largest output"
        # A NaN agrees with nothing.
        return Difference(off, unit, off <= TOLERANCE[contender.precision])


@cache
def output_scale(onnx: Path) -> float:
    """The scale of the last QuantizeLinear of a QDQ graph: one step of its output."""
    import gossamer

    graph = gossamer.load(onnx).graph
    node = [n for n in graph if n.op_type == "QuantizeLinear"][-1]
    scale = node.inputs[1]
    assert scale is not None and scale.const_value is not None
    return float(scale.const_value.numpy())
