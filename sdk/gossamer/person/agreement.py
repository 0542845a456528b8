"""Does the device decide as training said: a quantisation-aware model in torch beside its bundle, photo by photo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gossamer.person.preprocess import INPUT_SIZE, as_inputs

if TYPE_CHECKING:
    from gossamer.person.dataset import PersonDataset


@dataclass(frozen=True)
class Agreement:
    """Of ``photos`` photos, how many get the same decision, and how many the same logits to the bit."""

    photos: int
    decisions: int
    bits: int


def agreement(qdq: bytes, people: PersonDataset, split: str = "test", batch: int = 64) -> Agreement:
    """Ask torch (by the runtime's integer rule) and the native core about every photo of a split.

    Args:
        qdq: the model of quantisation-aware training, as ONNX.
        people: person128.
        split: of the photos.
        batch: photos at a time, in torch.

    Raises:
        GossamerError: as :func:`gossamer.optimize` and :func:`gossamer.quantize.qat.prepare_qat`.
    """
    from gossamer import load, optimize
    from gossamer.person.quantized import Quantized
    from gossamer.quantize.qat import prepare_qat
    from gossamer_runtime import Session

    bundle = optimize(qdq, recipe={"version": 1, "target": {"measure": False}}, key=False)
    photos = people.images(people.select(split), size=INPUT_SIZE)
    with Session(bundle.data, verify=False, threads=1) as session:
        channels = int(session.inputs[0].shape[1])
        device = np.concatenate([np.reshape(session.run(x[None]), (1, 2)) for x in as_inputs(photos, channels)])
    ours = Quantized(prepare_qat(load(qdq)), [], {}, channels).logits(photos, batch)
    same = ours.argmax(axis=1) == device.argmax(axis=1)
    return Agreement(len(photos), int(same.sum()), int((ours == device).all(axis=1).sum()))
