"""Reads values from the middle of an ONNX graph: ONNX Runtime with further outputs, one sample at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gossamer._errors import BackendError, ModelError
from gossamer.quantize.calibration import Sample, checked_samples, input_specs


def read_samples(model: ir.Model, source: Iterable[Any], limit: int) -> list[Sample]:
    """At most ``limit`` samples for ``model``, checked; see :func:`gossamer.quantize.calibration.checked_samples`.

    Raises:
        CalibrationError: none at all, or one that does not fit the model's inputs.
    """
    return list(checked_samples(source, input_specs(model), limit))


class Taps:
    """A session that returns some values of a graph.

    Args:
        model: not changed.
        names: of values of the top-level graph: its inputs, its outputs, or anything between.

    Raises:
        ModelError: no such value.
        BackendError: ONNX Runtime refuses the model.
    """

    def __init__(self, model: ir.Model, names: Sequence[str]):
        import onnx
        import onnxruntime as ort

        for value in model.graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):  # serialised, it would lose the file's folder
                value.const_value = ir.tensor(value.const_value.numpy().copy(), name=value.name)
        proto = ir.to_proto(model)
        made = {name for node in proto.graph.node for name in node.output}
        self._fed = {value.name for value in proto.graph.input}
        missing = [name for name in names if name not in made and name not in self._fed]
        if missing:
            raise ModelError(f"the graph has no value '{missing[0]}'", where=model.graph.name)
        self.names = tuple(names)
        self._fetched = tuple(dict.fromkeys(name for name in names if name not in self._fed))
        known = {value.name for value in proto.graph.output}
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in self._fetched if name not in known)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        try:
            self._session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class
            text = str(error).strip().split("\n")[0]
            raise BackendError(f"ONNX Runtime refuses the model: {text}", hint="check that it runs there") from error

    def run(self, sample: Sample) -> dict[str, npt.NDArray[Any]]:
        """The values by name for one sample."""
        found = self._session.run(list(self._fetched), sample) if self._fetched else []
        values = dict(zip(self._fetched, map(np.asarray, found), strict=True))
        return {name: sample[name] if name in self._fed else values[name] for name in self.names}
