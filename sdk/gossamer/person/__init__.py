"""Person detection: the model that ships with Gossamer, its data, its training and its evaluation.

::

    from gossamer import person
    from PIL import Image

    x = person.preprocess(Image.open("photo.jpg"))            # float32 [1, 3, 96, 96], 0..1
    session = onnxruntime.InferenceSession(person.model_path())
    (logits,) = session.run(None, {person.INPUT_NAME: x})
    p = person.person_probability(logits)                     # float64 [1]

The question is the one of Visual Wake Words: label 1 when a box around a person covers at least 0.5% of the photo.
numpy (and Pillow for :func:`preprocess`) are enough; torch is needed only to build and to train networks.
"""

from __future__ import annotations

from gossamer.person._shipped import card_path, model_card, model_path
from gossamer.person.preprocess import (
    INPUT_NAME,
    INPUT_SIZE,
    LABELS,
    OUTPUT_NAME,
    manifest_preprocessing,
    person_probability,
    preprocess,
)

__all__ = [
    "INPUT_NAME",
    "INPUT_SIZE",
    "LABELS",
    "OUTPUT_NAME",
    "card_path",
    "manifest_preprocessing",
    "model_card",
    "model_path",
    "person_probability",
    "preprocess",
]
