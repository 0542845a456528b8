"""Examples out of arrays: ``x`` and ``y`` of an .npz, a pair, or unlabelled samples as calibration takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gossamer import _calibration
from gossamer._errors import CalibrationError, InputError
from gossamer._proto.v1 import manifest_pb2 as pb
from gossamer.search.examples import Classes, Entry, Examples, Sample


def file(path: Path, ports: Sequence[pb.Port], classes: Classes) -> Examples:
    """An .npz with ``x`` (or one array per input name) and, for labels, ``y``."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
    except (OSError, ValueError, EOFError) as e:
        raise InputError(f"cannot read the arrays: {e}", where=str(path), hint="save them with numpy.savez") from e
    except Exception as e:  # a damaged zip raises errors of zipfile and zlib
        raise InputError(f"the file is damaged: {e}", where=str(path), hint="save it again with numpy.savez") from e
    y = arrays.pop("y", None)
    if set(arrays) == {"x"} and len(ports) == 1:
        arrays = {ports[0].name: arrays["x"]}
    return _examples(arrays, y, ports, classes, str(path))


def pair(x: npt.NDArray[Any], y: npt.NDArray[Any], ports: Sequence[pb.Port], classes: Classes, where: str) -> Examples:
    """``x`` ``[N, ...]`` of a model of one input and ``y`` ``[N]``."""
    if len(ports) != 1:
        raise InputError(f"the model has {len(ports)} inputs", where=where, hint="give an .npz with one array each")
    return _examples({ports[0].name: x}, y, ports, classes, where)


def unlabelled(source: Any, ports: Sequence[pb.Port], classes: Classes, where: str) -> Examples:
    """Samples without labels, in the forms of calibration."""
    try:
        found = _calibration.samples(source, ports)
    except CalibrationError as e:
        raise InputError(e.message, where=e.where or where, hint=e.hint) from e
    return Examples([_entry(s, None, f"{where}, sample {i}") for i, s in enumerate(found)], where, classes)


def _examples(
    arrays: dict[str, npt.NDArray[Any]],
    y: npt.NDArray[Any] | None,
    ports: Sequence[pb.Port],
    classes: Classes,
    where: str,
) -> Examples:
    shapes = {p.name: tuple(p.shape) for p in ports}
    if any(a.shape == shapes.get(n) for n, a in arrays.items()) and y is not None and len(y) == 1:
        arrays = {n: a[None] for n, a in arrays.items()}
    try:
        found = list(_calibration._stack(arrays, ports, where))
    except CalibrationError as e:
        raise InputError(e.message, where=e.where or where, hint=e.hint) from e
    labels: list[int | None] = [None] * len(found)
    if y is not None:
        labels = list(_labels(y, len(found), classes, where))
    entries = [_entry(s, c, f"{where}, sample {i}") for i, (s, c) in enumerate(zip(found, labels, strict=True))]
    return Examples(entries, where, classes)


def _labels(y: npt.NDArray[Any], count: int, classes: Classes, where: str) -> list[int]:
    if y.dtype.kind not in "iu" or y.shape != (count,):
        raise InputError(
            f"y is {y.dtype}{list(y.shape)}, not one class number for each of {count} samples",
            where=where,
            hint="y holds integers, shape [N]",
        )
    wrong = np.flatnonzero((y < 0) | (y >= classes.count))
    if wrong.size:
        raise InputError(
            f"label {int(y[wrong[0]])} of sample {int(wrong[0])} is no class", where=where, hint=classes.told
        )
    return [int(c) for c in y]


def _entry(sample: Sample, label: int | None, name: str) -> Entry:
    return Entry(name, label, lambda: sample)
