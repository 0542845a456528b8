"""Runs a detector over person128 photos, one at a time as a device would, and reports where it is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gossamer._errors import GossamerError, ModelError
from gossamer.person import dataset as data
from gossamer.person import metrics
from gossamer.person.preprocess import INPUT_NAME, INPUT_SIZE, OUTPUT_NAME, as_inputs, person_probability, to_grey

Predictor = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float64]]
"""float32 [N, 3, 96, 96] (RGB; grey models turn it into luma) in 0..1 to the probability of a person, float64 [N]."""


def onnx_predictor(model: str | Path | bytes, *, threads: int = 1) -> Predictor:
    """Predictor that runs an ONNX model (float32 or QDQ) in ONNX Runtime.

    Raises:
        ModelError: not a model, or one with another input or output than ``image`` and ``logits``.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    source = model if isinstance(model, bytes) else str(model)
    try:
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exception classes are private
        where = "" if isinstance(model, bytes) else str(model)
        raise ModelError(f"ONNX Runtime cannot open it: {error}", where=where) from error
    names = [i.name for i in session.get_inputs()], [o.name for o in session.get_outputs()]
    if names != ([INPUT_NAME], [OUTPUT_NAME]):
        raise ModelError(f"inputs {names[0]} and outputs {names[1]}", hint=f"need {INPUT_NAME} and {OUTPUT_NAME}")

    grey = session.get_inputs()[0].shape[1] == 1

    def predict(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        images = to_grey(images) if grey else images
        rows = [session.run([OUTPUT_NAME], {INPUT_NAME: image[None]})[0] for image in images]
        return person_probability(np.concatenate(rows))

    return predict


def bundle_predictor(bundle: str | Path | bytes, *, threads: int = 1, verify: bool = True) -> Predictor:
    """Predictor that runs a ``.goss`` bundle in the native core.

    Args:
        bundle: path or bytes.
        threads: of the session.
        verify: check the signature first.

    Raises:
        GossamerError: as ``gossamer_runtime.Session``, or the bundle has other than one input and one output.
    """
    from gossamer_runtime import Session

    session = Session(bundle if isinstance(bundle, bytes) else str(bundle), threads=threads, verify=verify)
    if len(session.inputs) != 1 or len(session.outputs) != 1:
        raise GossamerError(f"{len(session.inputs)} inputs and {len(session.outputs)} outputs", hint="need one each")

    grey = session.inputs[0].shape[1] == 1

    def predict(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        images = to_grey(images) if grey else images
        rows = [np.reshape(session.run(np.ascontiguousarray(image[None])), (1, 2)) for image in images]
        return person_probability(np.concatenate(rows))

    return predict


def evaluate(
    predict: Predictor,
    people: data.PersonDataset,
    split: str = "test",
    *,
    photos: Sequence[data.Photo] | None = None,
    threshold: float = 0.5,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Report of a predictor on one split: see :func:`gossamer.person.metrics.sliced_report`.

    Args:
        predict: from one of the predictors above.
        people: person128.
        split: ``train``, ``val`` or ``test``; ignored when ``photos`` are given.
        photos: rows to use instead of a split.
        threshold: probability from which a photo is called "person".
        progress: called with (photos done, photos).
    """
    rows = list(photos) if photos is not None else people.select(split)
    pixels = people.images(rows, size=INPUT_SIZE)
    score = np.empty(len(rows), dtype=np.float64)
    for start in range(0, len(rows), 64):
        score[start : start + 64] = predict(as_inputs(pixels[start : start + 64]))
        if progress is not None:
            progress(min(start + 64, len(rows)), len(rows))
    return metrics.sliced_report(data.labels(rows), score, data.sources(rows), data.areas(rows), threshold)
