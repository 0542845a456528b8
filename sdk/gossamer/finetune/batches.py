"""Batches for a classifier: shuffled anew each epoch, so that an epoch can be repeated from its number alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gossamer._errors import InputError
from gossamer._proto.v1 import manifest_pb2 as pb

if TYPE_CHECKING:
    from gossamer.search.examples import Examples


@dataclass(frozen=True)
class Batch:
    """``inputs``: ``[B, ...]`` of the model's types, in its order; ``labels``: int64 ``[B]`` or None."""

    inputs: tuple[Tensor, ...]
    labels: Tensor | None


class Batches:
    """Batches of a set of examples.

    Args:
        examples: already prepared; all inputs batch 1.
        ports: the model's inputs.
        size: examples in a batch. A last batch of a single one joins the batch before it: batch norm needs two.
        mirror: mirror half of the pictures left to right.
        seed: of order and mirroring.

    Raises:
        InputError: fewer than two examples, or mirroring where the input takes no pictures.
    """

    def __init__(
        self, examples: Examples, ports: Sequence[pb.Port], size: int, *, mirror: bool = False, seed: int = 0
    ) -> None:
        if len(examples) < 2:
            raise InputError(f"{len(examples)} training examples", where=examples.source, hint="give at least two")
        if mirror and not all(port.HasField("image") for port in ports):
            raise InputError("only pictures can be mirrored", where=examples.source, hint="set train.mirror to false")
        self.examples, self.ports, self.size, self.mirror, self.seed = examples, list(ports), size, mirror, seed
        self._labels = examples.labels
        self._cuts = _cuts(len(examples), size)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._cuts) - 1

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch ``number``; the same number gives the same batches."""
        rng = np.random.default_rng([self.seed, number])
        order = rng.permutation(len(self.examples))
        flip = rng.random(len(self.examples)) < 0.5 if self.mirror else np.zeros(len(self.examples), bool)
        for start, end in zip(self._cuts, self._cuts[1:], strict=False):
            chosen = order[start:end]
            samples = [self.examples[int(i)] for i in chosen]
            inputs = []
            for port in self.ports:
                rows = [
                    _mirrored(s[port.name], port) if flip[i] else s[port.name]
                    for i, s in zip(chosen, samples, strict=True)
                ]
                inputs.append(torch.from_numpy(np.ascontiguousarray(np.concatenate(rows))))
            labels = None if self._labels is None else torch.from_numpy(self._labels[chosen])
            yield Batch(tuple(inputs), labels)


def _mirrored(values: Any, port: pb.Port) -> Any:
    return values[..., ::-1] if port.image.layout == port.image.LAYOUT_NCHW else values[..., ::-1, :]


def _cuts(count: int, size: int) -> list[int]:
    cuts = [*range(0, count, size), count]
    if len(cuts) > 2 and cuts[-1] - cuts[-2] == 1:
        del cuts[-2]
    return cuts
