"""Teachers that fit: two outputs, a square photo as input, and "person" where it is thought to be.

A teacher whose outputs stand the other way round would teach the contrary, and nothing in a TFLite file says which way
they stand. Its answers do: a detector ranks photos with a person above those without.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gossamer._errors import InputError
from gossamer.person.augment import resize
from gossamer.person.dataset import Photo, PhotoSet, labels, require_both_labels
from gossamer.person.metrics import roc_auc
from gossamer.person.teachers import Teacher, extract, load_teachers

ENOUGH = 512
"""Photos that a teacher is tried on."""


def open_teachers(paths: Sequence[Path], person_first: Sequence[Path] = ()) -> list[Teacher]:
    """Teachers of ``.tflite`` files, or of an ``.npz`` of :func:`gossamer.person.teachers.save_teachers`.

    Args:
        paths: files whose outputs are (no person, person).
        person_first: ``.tflite`` files whose outputs are (person, no person); they are turned round.

    Raises:
        InputError: a file is missing, or a classifier with another form of input or number of outputs.
        ModelError, UnsupportedError: not a TFLite file, or one with other operators than these classifiers have.
    """
    out: list[Teacher] = []
    for path in [*paths, *person_first]:
        if not path.is_file():
            raise InputError("no such teacher", where=str(path), hint="check the path")
        if path.suffix == ".npz":
            if path in person_first:
                raise InputError("a file of several teachers has one order", where=str(path), hint="give .tflite files")
            out += load_teachers(path)
            continue
        _check_form(path)
        description, weights = extract(path)
        if path in person_first:
            weights = _turned(description, weights)
        out.append(Teacher(path.stem, description, weights))
    return out


def check_direction(teachers: Sequence[Teacher], people: PhotoSet) -> list[float]:
    """ROC AUC of every teacher on training photos, evenly spread, as many with a person as without.

    Args:
        teachers: to try.
        people: with a split ``train``.

    Raises:
        InputError: a teacher ranks photos without a person higher: its outputs stand the other way round. Or the split
            lacks a label.
    """
    rows = people.select("train")
    require_both_labels((p.label for p in rows), f"{people.folder}, split train")
    picked: list[Photo] = []
    for label in (0, 1):
        alike = [p for p in rows if p.label == label]
        picked += [alike[i] for i in np.linspace(0, len(alike) - 1, min(ENOUGH // 2, len(alike))).round().astype(int)]
    pixels = torch.from_numpy(people.images(picked)).permute(0, 3, 1, 2).float() / 255
    found = []
    for teacher in teachers:
        with torch.no_grad():
            margins = torch.cat([teacher(resize(part, teacher.size))[0] for part in torch.split(pixels, 32)])
        if not bool(torch.isfinite(margins).all()):
            raise InputError("its output is not a number", where=f"teacher {teacher.name}", hint="take another one")
        auc = roc_auc(labels(picked), margins.numpy())
        if auc < 0.5:
            raise InputError(
                f"it ranks photos without a person higher (ROC AUC {auc:.3f} on {len(picked)} training photos)",
                where=f"teacher {teacher.name}",
                hint="its outputs stand the other way round: give it with --teacher-person-first",
            )
        found.append(auc)
    return found


def _check_form(path: Path) -> None:
    """Input and outputs as a teacher needs them, before its operators are looked at."""
    import tflite

    from gossamer._errors import ModelError

    content = path.read_bytes()
    if content[4:8] != b"TFL3":
        raise ModelError("not a TFLite file", where=str(path), hint="teachers are .tflite files, or an .npz of several")
    graph = tflite.Model.GetRootAs(content, 0).Subgraphs(0)
    shape = [int(d) for d in graph.Tensors(graph.Inputs(0)).ShapeAsNumpy()]
    outputs = int(np.prod(graph.Tensors(graph.Outputs(0)).ShapeAsNumpy()))
    if len(shape) != 4 or shape[1] != shape[2] or shape[3] not in (1, 3):
        raise InputError(
            f"a teacher takes a square photo [1, S, S, 3] or [1, S, S, 1], this one {shape}", where=str(path)
        )
    if outputs != 2:
        raise InputError(f"a teacher has two outputs, no person and person, this one {outputs}", where=str(path))


def _turned(
    description: dict[str, Any], weights: dict[str, npt.NDArray[np.float32]]
) -> dict[str, npt.NDArray[np.float32]]:
    """The weights with the two rows of the last layer swapped."""
    last = [step["weights"] for step in description["steps"] if "weights" in step][-1]
    names = [f"{last}.weight", f"{last}.bias"]
    return {k: np.ascontiguousarray(v[::-1]) if k in names else v for k, v in weights.items()}
