"""Calibration samples: a folder of photos, .npy and .npz files, arrays or dicts become checked model inputs."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gossamer._errors import CalibrationError
from gossamer.quantize.images import IMAGE_SUFFIXES, load_image

if TYPE_CHECKING:
    import onnx_ir

    from gossamer.recipe import Preprocess

Sample = dict[str, npt.NDArray[Any]]
_ARRAYS = frozenset({".npy", ".npz"})


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
    source: str | os.PathLike[str] | npt.NDArray[Any] | Iterable[Any],
    specs: list[InputSpec],
    preprocess: Preprocess,
    samples: int = 100,
) -> Iterator[Sample]:
    """Yields at most ``samples`` checked samples.

    Args:
        source: a folder of images (searched with its subfolders; of more than ``samples`` files, evenly spaced ones in
            order of their paths are taken) or of .npy/.npz files; one such file; an array; or an iterable of dicts
            (input name to array) or, for models of one input, of arrays. Arrays of one dimension more than the input,
            or with a longer first dimension where the input has 1, hold several samples.
        specs: the model's inputs.
        preprocess: how images become inputs.
        samples: the most that is read, at least 1.

    Raises:
        CalibrationError: nothing there, a file that is no image or array, a wrong name, shape or type, or NaN.
    """
    count = 0
    for sample in _all(source, specs, preprocess, samples):
        yield sample
        count += 1
        if count >= samples:
            return
    if count == 0:
        raise CalibrationError("there are no calibration samples", hint="give at least one; a hundred is usual")


def _all(source: Any, specs: list[InputSpec], preprocess: Preprocess, samples: int) -> Iterator[Sample]:
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.is_dir():
            for file in _pick(_files(path), samples):
                yield from _file(file, specs, preprocess)
        elif path.is_file():
            yield from _file(path, specs, preprocess)
        else:
            raise CalibrationError(
                "no such file or folder", where=str(path), hint="give a folder of photos, .npy or .npz"
            )
        return
    if isinstance(source, np.ndarray):
        yield from _split({_only(specs, "the array").name: source}, specs, "the array")
        return
    if isinstance(source, Mapping):
        yield from _split(dict(source), specs, "the mapping")
        return
    if not isinstance(source, Iterable):
        raise CalibrationError(f"calibration samples cannot be a {type(source).__name__}")
    for i, item in enumerate(source):
        where = f"sample {i}"
        if isinstance(item, Mapping):
            yield from _split(dict(item), specs, where)
        elif isinstance(item, (str, os.PathLike)):
            yield from _file(Path(item), specs, preprocess)
        else:
            yield from _split({_only(specs, where).name: np.asarray(item)}, specs, where)


def _files(folder: Path) -> list[Path]:
    everything = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    found = [p for p in everything if p.suffix.lower() in IMAGE_SUFFIXES]
    found = found or [p for p in everything if p.suffix.lower() in _ARRAYS]
    if not found:
        held = f"; it holds {everything[0].name} and the like" if everything else "; it is empty"
        raise CalibrationError(f"the folder has no images, .npy or .npz files{held}", where=str(folder))
    return found


def _pick(files: list[Path], samples: int) -> list[Path]:
    if len(files) <= samples:
        return files
    return [files[i * len(files) // samples] for i in range(samples)]


def _only(specs: list[InputSpec], where: str) -> InputSpec:
    if len(specs) != 1:
        names = ", ".join(s.name for s in specs)
        raise CalibrationError(
            f"the model has {len(specs)} inputs ({names})",
            where=where,
            hint="give dicts or .npz files with these names",
        )
    return specs[0]


def _file(path: Path, specs: list[InputSpec], preprocess: Preprocess) -> Iterator[Sample]:
    if path.suffix.lower() not in _ARRAYS:
        spec = _only(specs, str(path))
        yield {spec.name: load_image(path, spec.shape, preprocess, spec.dtype)}
        return
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {_only(specs, str(path)).name: loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise CalibrationError(f"this is no array file: {error}", where=str(path)) from error
    if path.suffix.lower() == ".npz" and len(specs) == 1 and len(arrays) == 1:
        arrays = {specs[0].name: next(iter(arrays.values()))}
    yield from _split(arrays, specs, str(path))


def _split(arrays: dict[str, Any], specs: list[InputSpec], where: str) -> Iterator[Sample]:
    """One or several samples from arrays by input name."""
    names = {s.name for s in specs}
    for name in arrays:
        if name not in names:
            raise CalibrationError(
                f"'{name}' is no input of the model", where=where, hint=f"inputs: {', '.join(sorted(names))}"
            )
    stacks: dict[str, list[npt.NDArray[Any]]] = {}
    for spec in specs:
        if spec.name not in arrays:
            raise CalibrationError(f"input '{spec.name}' is missing", where=where)
        stacks[spec.name] = _samples_of(np.asarray(arrays[spec.name]), spec, where)
    lengths = {name: len(stack) for name, stack in stacks.items()}
    if len(set(lengths.values())) > 1:
        raise CalibrationError(f"inputs have different numbers of samples: {lengths}", where=where)
    for i in range(next(iter(lengths.values()), 0)):
        yield {name: stack[i] for name, stack in stacks.items()}


def _samples_of(array: npt.NDArray[Any], spec: InputSpec, where: str) -> list[npt.NDArray[Any]]:
    place = f"{where}, input '{spec.name}'"
    if array.dtype != spec.dtype:
        if not (array.dtype.kind == "f" and spec.dtype.kind == "f"):
            raise CalibrationError(
                f"the array is {array.dtype}, the input takes {spec.dtype}", where=place, hint="convert it first"
            )
        array = array.astype(spec.dtype)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise CalibrationError("the array holds NaN or infinity", where=place)
    if _fits(array.shape, spec.shape):
        return [np.ascontiguousarray(array)]
    if array.ndim == len(spec.shape) + 1 and _fits(array.shape[1:], spec.shape):
        return [np.ascontiguousarray(a) for a in array]
    if array.ndim == len(spec.shape) > 0 and spec.shape[0] == 1 and _fits((1, *array.shape[1:]), spec.shape):
        return [np.ascontiguousarray(array[i : i + 1]) for i in range(array.shape[0])]
    shown = ["?" if d is None else d for d in spec.shape]
    raise CalibrationError(f"the array has shape {list(array.shape)}, the input takes {shown}", where=place)


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(w is None or w == d for d, w in zip(shape, wanted, strict=True))
