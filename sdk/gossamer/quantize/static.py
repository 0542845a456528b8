"""Static int8: ONNX Runtime calibrates and inserts QuantizeLinear and DequantizeLinear; names and sources are kept."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import onnx_ir as ir

from gossamer._errors import CalibrationError, ModelError
from gossamer.quantize.bias import widen_channels
from gossamer.quantize.calibration import checked_samples, input_specs
from gossamer.quantize.narrow import narrow_activations
from gossamer.quantize.prepare import QUANTISED, check_runnable, is_quantised, left_in_float, ready

if TYPE_CHECKING:
    import onnx

    from gossamer.recipe import QuantizeStep

SOURCE_KEY = "gossamer.source"
Progress = Callable[[int, int], None]


class _Reader:
    """Calibration samples as ONNX Runtime wants them, counted."""

    def __init__(self, samples: Iterator[dict[str, npt.NDArray[Any]]], total: int, progress: Progress | None) -> None:
        self.samples, self.total, self.progress, self.done = samples, total, progress, 0

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        sample = next(self.samples, None)
        if sample is not None:
            self.done += 1
            if self.progress is not None:
                self.progress(self.done, self.total)
        return sample

    def __iter__(self) -> _Reader:
        return self

    def __next__(self) -> dict[str, npt.NDArray[Any]]:
        sample = self.get_next()
        if sample is None:
            raise StopIteration
        return sample


def quantize(
    model: ir.Model,
    step: QuantizeStep,
    calibration: Iterable[Any],
    *,
    progress: Progress | None = None,
) -> ir.Model:
    """A QDQ int8 model: int8 activations, symmetric int8 weights (per output channel where the step says so).

    Batch norm and the factors of Gemm are folded first. Weights that are zero stay exactly zero. Node names,
    ``metadata_props`` and the model's inputs and outputs are those of ``model``; operators that the core has no int8
    form for stay float32. A model that is quantised already is returned as it is.

    Args:
        model: float32 ONNX, opset 13 or later; not changed.
        step: calibration method, bits, nodes to leave.
        calibration: dicts by input name, or arrays for a model of one input; at most ``step.samples`` are read.
            :func:`gossamer.quantize.read_calibration` makes them from photos and files.
        progress: called after every sample with (samples read, most that will be read).

    Returns:
        A new model.

    Raises:
        CalibrationError: samples are missing or do not fit the model's inputs.
        RecipeError: ``exclude`` names nothing.
        UnsupportedError: ONNX Runtime lacks an operator of the model.
        ModelError: ONNX Runtime refuses the model.
    """
    if is_quantised(model):
        return model
    check_runnable(model)
    for value in model.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):  # a copy of the model would lose the file's folder
            value.const_value = ir.tensor(value.const_value.numpy().copy(), name=value.name)
    work = ir.serde.deserialize_model(ir.serde.serialize_model(model))
    ready(work)
    excluded = left_in_float(work, step.exclude)
    samples = checked_samples(calibration, input_specs(work), step.samples)
    proto = _shaped(ir.serde.serialize_model(work))
    reader = _Reader(samples, step.samples, progress)
    made = ir.serde.deserialize_model(_quantise(proto, step, excluded, reader))
    _restore(work, made)
    widen_channels(made)
    if step.activation_bits == 7:
        narrow_activations(made)
    return made


def _shaped(proto: onnx.ModelProto) -> onnx.ModelProto:
    import onnx

    try:
        shaped = onnx.shape_inference.infer_shapes(proto)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise ModelError(f"shapes of the model cannot be inferred: {error}") from error
    mark = shaped.metadata_props.add()  # how ONNX Runtime knows that shapes were inferred
    mark.key, mark.value = "onnx.infer", "onnxruntime.quant"
    return shaped


def _quantise(proto: onnx.ModelProto, step: QuantizeStep, excluded: list[str], reader: _Reader) -> onnx.ModelProto:
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    method = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }[step.calibrate]
    options: dict[str, Any] = {
        "ActivationSymmetric": False,
        "WeightSymmetric": True,
        "CalibTensorRangeSymmetric": False,
    }
    if step.percentile is not None:
        options["CalibPercentile"] = step.percentile
    with tempfile.TemporaryDirectory(prefix="gossamer-") as folder, _quiet():
        output = Path(folder) / "quantised.onnx"
        try:
            quantize_static(
                proto,
                output,
                reader,
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTISED),
                nodes_to_exclude=excluded,
                per_channel=step.per_channel,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=method,
                extra_options=options,
            )
        except (CalibrationError, KeyboardInterrupt):
            raise
        except Exception as error:
            # The quantiser and the runtime under it raise ValueError, RuntimeError and types of their own.
            text = str(error).strip().split("\n")[0]
            raise ModelError(f"ONNX Runtime cannot quantise the model: {text}") from error
        return onnx.load(output)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the quantiser's log lines and prints off the terminal."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _restore(before: ir.Model, after: ir.Model) -> None:
    """Metadata by node name; new nodes take the source of the node whose value they carry."""
    kept = {node.name: dict(node.metadata_props) for node in before.graph}
    for node in after.graph:
        node.metadata_props.update(kept.get(node.name, {}))
    for node in after.graph:
        if SOURCE_KEY in node.metadata_props or not node.inputs or node.inputs[0] is None:
            continue
        producer = node.inputs[0].producer()
        if producer is not None and SOURCE_KEY in producer.metadata_props:
            node.metadata_props[SOURCE_KEY] = producer.metadata_props[SOURCE_KEY]
    after.metadata_props.clear()
    after.metadata_props.update(before.metadata_props)
    after.graph.metadata_props.update(before.graph.metadata_props)
    after.graph.name = before.graph.name
