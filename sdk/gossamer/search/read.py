"""``read_examples``: a folder, a CSV of labels, or arrays become :class:`Examples`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gossamer._errors import InputError
from gossamer._proto.v1 import manifest_pb2 as pb
from gossamer.search.examples import Classes, Examples

FORMS = "a folder with one subfolder a class, an .npz with x and y, or a .csv of file,label beside its pictures"


def read_examples(
    source: Any,
    ports: Sequence[pb.Port],
    classes: Classes,
    *,
    split: str | None = None,
) -> Examples:
    """Examples for a classifier; nothing is decoded yet.

    Args:
        source: one of
            a folder with one subfolder a class, named as the class or by its number (torchvision's ``ImageFolder``);
            a ``.csv`` with the columns ``file`` and ``label`` (a class's name or number), whose files lie beside it, in
            a folder beside it or in a ``.zip`` beside it;
            an ``.npz`` with ``x`` ``[N, ...]`` of the input's own type and shape and ``y`` ``[N]`` of class numbers, or
            a pair ``(x, y)`` of such arrays;
            and without labels: a folder of pictures, an ``.npz`` without ``y``, an ``.npy``, an array, or samples as
            for calibration.
        ports: the model's inputs, with how a picture becomes one.
        classes: of the model's first output.
        split: of a CSV with a column ``split``: the rows to take.

    Raises:
        InputError: nothing there, an unknown label, a class without examples, or arrays that do not fit the inputs.
    """
    from gossamer.search import read_arrays, read_pictures

    if isinstance(source, Examples):
        return source
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if not path.exists():
            raise InputError("no such file or folder", where=str(path), hint=f"give {FORMS}")
        if split is not None and path.suffix.lower() != ".csv":
            raise InputError("only a .csv has splits", where=str(path), hint="leave the split out")
        if path.is_dir():
            return read_pictures.folder(path, ports, classes)
        kind = path.suffix.lower()
        if kind == ".csv":
            return read_pictures.table(path, ports, classes, split)
        if kind == ".npz":
            return read_arrays.file(path, ports, classes)
        if kind == ".npy":
            return read_arrays.unlabelled(path, ports, classes, str(path))
        raise InputError("neither a folder, a .csv, an .npz nor an .npy", where=str(path), hint=f"give {FORMS}")
    if isinstance(source, tuple) and len(source) == 2 and np.ndim(source[1]) == 1:
        return read_arrays.pair(np.asarray(source[0]), np.asarray(source[1]), ports, classes, "arrays")
    return read_arrays.unlabelled(source, ports, classes, "given samples")
