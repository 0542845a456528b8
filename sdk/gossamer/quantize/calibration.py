"""Calibration samples: read from photos or arrays, and checked against the model's inputs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gossamer._errors import CalibrationError

if TYPE_CHECKING:
    import onnx_ir

    from gossamer.recipe import Preprocess

Sample = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class InputSpec:
    """A model input: name, shape with ``None`` for free dimensions, numpy dtype."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


def input_specs(model: onnx_ir.Model) -> list[InputSpec]:
    """The inputs of a model that are not initializers.

    Raises:
        CalibrationError: an input has no shape or type.
    """
    specs = []
    for value in model.graph.inputs:
        if value.name in model.graph.initializers:
            continue
        if value.shape is None or value.dtype is None:
            raise CalibrationError(f"input '{value.name}' has no shape or type", hint="give the model's inputs shapes")
        shape = tuple(d if isinstance(d, int) else None for d in value.shape.dims)
        specs.append(InputSpec(value.name or "", shape, np.dtype(value.dtype.numpy())))
    return specs


def read_calibration(
    source: Any, model: onnx_ir.Model, samples: int = 100, preprocess: Preprocess | None = None
) -> list[Sample]:
    """Reads at most ``samples`` samples for ``model``, as ``gossamer.optimize`` does.

    Args:
        source: a folder of pictures, ``.npy`` or ``.npz`` files, arrays, or dicts by input name.
        model: fixed input shapes.
        samples: of more pictures, evenly spread ones are taken.
        preprocess: how a picture becomes an input; by default centre crop, RGB, 0..1.

    Returns:
        Dicts by input name.

    Raises:
        CalibrationError: nothing there, a file that is no picture or array, or a wrong shape or type.
        UnsupportedError: an input's shape is dynamic.
    """
    from gossamer import _calibration, _manifest
    from gossamer.recipe import Preprocess

    ports = _manifest.model_ports(model.graph.inputs, "input")
    if len(ports) == 1:
        _manifest.choose_image(preprocess or Preprocess(), None, {}, ports[0])
    return _calibration.samples(source, ports, samples)


def checked_samples(source: Iterable[Any], specs: list[InputSpec], samples: int) -> Iterator[Sample]:
    """Yields at most ``samples`` dicts by input name, each checked against the model's inputs.

    Args:
        source: dicts by input name or, for models of one input, arrays; float64 is taken for float32.
        specs: the model's inputs.
        samples: the most that is read, at least 1.

    Raises:
        CalibrationError: none at all, a wrong name, shape or type, NaN, or a path (read it first).
    """
    if isinstance(source, (str, os.PathLike, Mapping)) or not isinstance(source, Iterable):
        raise CalibrationError(
            f"calibration must be an iterable of samples, not {type(source).__name__}",
            hint="read files with gossamer.quantize.read_calibration(folder, model)",
        )
    count = 0
    for item in source:
        where = f"sample {count}"
        arrays = dict(item) if isinstance(item, Mapping) else {_only(specs, where).name: item}
        yield _checked(arrays, specs, where)
        count += 1
        if count >= samples:
            return
    if count == 0:
        raise CalibrationError("there are no calibration samples", hint="give at least one; a hundred is usual")


def _only(specs: list[InputSpec], where: str) -> InputSpec:
    if len(specs) != 1:
        names = ", ".join(s.name for s in specs)
        raise CalibrationError(f"the model has {len(specs)} inputs", where=where, hint=f"give dicts with {names}")
    return specs[0]


def _checked(arrays: dict[str, Any], specs: list[InputSpec], where: str) -> Sample:
    names = {s.name for s in specs}
    if set(arrays) != names:
        raise CalibrationError(f"inputs {sorted(arrays)} given, the model has {sorted(names)}", where=where)
    sample: Sample = {}
    for spec in specs:
        array = np.asarray(arrays[spec.name])
        place = f"{where}, input '{spec.name}'"
        if array.dtype != spec.dtype and not (array.dtype.kind == "f" and spec.dtype.kind == "f"):
            raise CalibrationError(
                f"the array is {array.dtype}, the input takes {spec.dtype}", where=place, hint="convert it first"
            )
        fits = array.ndim == len(spec.shape) and all(
            w is None or w == d for d, w in zip(array.shape, spec.shape, strict=True)
        )
        if not fits:
            shown = ["?" if d is None else d for d in spec.shape]
            raise CalibrationError(f"the array has shape {list(array.shape)}, the input takes {shown}", where=place)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise CalibrationError("the array holds NaN or infinity", where=place)
        sample[spec.name] = np.ascontiguousarray(array, dtype=spec.dtype)
    return sample
