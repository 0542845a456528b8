"""Inputs of ``run`` and ``profile``: files become named samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gossamer import _calibration, _images
from gossamer._errors import CalibrationError, InputError


def named_samples(inputs: Sequence[Path], ports: Sequence[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, arrays by input) of pictures, folders of pictures, ``.npy`` and ``.npz`` files.

    Raises:
        InputError: a file is missing, is no picture, or does not fit the model's inputs.
    """
    for path in inputs:
        try:
            if path.suffix in (".npy", ".npz"):
                for i, sample in enumerate(_calibration.samples([path], ports)):
                    yield f"{path}[{i}]", sample
                continue
            for file in _images.image_files([path]):
                if len(ports) != 1:
                    names = [p.name for p in ports]
                    raise InputError(
                        f"the model has {len(ports)} inputs", where=str(file), hint=f"give an .npz with {names}"
                    )
                yield str(file), {ports[0].name: _images.to_input(_images.open_image(file), ports[0])}
        except CalibrationError as e:
            raise InputError(e.message, where=e.where, hint=e.hint) from e
