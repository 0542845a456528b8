"""Does the device decide as training said: a quantisation-aware model in torch beside its bundle, photo by photo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gossamer.person.preprocess import INPUT_SIZE

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
    import torch

    from gossamer import load, optimize
    from gossamer.quantize.qat import prepare_qat
    from gossamer_runtime import Session

    snapshot = prepare_qat(load(qdq)).snapshot()
    bundle = optimize(qdq, recipe={"version": 1, "target": {"measure": False}}, key=False)
    photos = people.images(people.select(split), size=INPUT_SIZE)
    pixels = np.ascontiguousarray(photos.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
    ours = np.concatenate(
        [_first(snapshot(torch.from_numpy(x))) for x in np.split(pixels, range(batch, len(pixels), batch))]
    )
    with Session(bundle.data, verify=False, threads=1) as session:
        device = np.concatenate([np.asarray(session.run(x[None])).reshape(1, -1) for x in pixels])
    same = ours.argmax(axis=1) == device.argmax(axis=1)
    return Agreement(len(pixels), int(same.sum()), int((ours == device).all(axis=1).sum()))


def _first(outputs: Any) -> npt.NDArray[np.float32]:
    return np.asarray(outputs[0] if isinstance(outputs, (list, tuple)) else outputs)
