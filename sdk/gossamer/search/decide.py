"""Outputs to decisions, decisions to accuracy: what a model lost against another, with the interval of that loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gossamer import _images
from gossamer._errors import InputError
from gossamer._proto.v1 import manifest_pb2 as pb
from gossamer.search.examples import Classes

Metric = Literal["accuracy", "balanced_accuracy"]
METRICS: tuple[Metric, ...] = ("accuracy", "balanced_accuracy")
AGREEMENT = "agreement with the original"
"""What stands for accuracy where the data have no labels."""
_FLOOR = 1e-6
"""Smallest probability: an int8 softmax says 0 for everything unlikely."""


def classes_of(port: pb.Port) -> Classes:
    """The classes that an output scores.

    Raises:
        InputError: the output does not score classes, so that accuracy has no meaning.
    """
    post, size = port.postprocessing, math.prod(port.shape)
    if post.kind == post.KIND_BINARY and size == 1:
        return Classes(2, tuple(post.labels) if len(post.labels) == 2 else ())
    if post.kind == post.KIND_CLASSES and size > 1:
        return Classes(size, tuple(post.labels))
    raise InputError(
        f"output {port.name!r} of shape {list(port.shape)} does not score classes: it has no accuracy",
        hint="automatic sparsity and training take classifiers; give --labels where the output does score classes",
    )


def probabilities(values: npt.NDArray[Any], port: pb.Port) -> npt.NDArray[np.float64]:
    """Class probabilities, float64 ``[classes]``, of one output as it came from a session or from the original."""
    integer = values.dtype.kind in "iu"
    real = _images.dequantised(values, port.scale if integer else 0.0, port.zero_point).reshape(-1)
    post = port.postprocessing
    if post.kind == post.KIND_BINARY:
        p = float(1 / (1 + np.exp(-real[0])) if post.logits else real[0])
        return np.array([1 - p, p])
    if post.logits:
        e = np.exp(real - real.max())
        return np.asarray(e / e.sum(), np.float64)
    return np.asarray(real, np.float64)


def decisions(found: npt.NDArray[np.float64], port: pb.Port) -> npt.NDArray[np.int64]:
    """Class numbers, int64 ``[N]``, of probabilities ``[N, classes]``: the largest, of equals the first; with one score
    whether it reaches the threshold."""
    post = port.postprocessing
    if post.kind == post.KIND_BINARY:
        return np.asarray(found[:, 1] >= (post.threshold or 0.5), np.int64)
    return np.asarray(found.argmax(axis=1), np.int64)


def divergence(reference: npt.NDArray[np.float64], found: npt.NDArray[np.float64]) -> float:
    """Mean Kullback-Leibler divergence KL(reference || found) in nats of probabilities ``[N, classes]``."""
    p, q = (np.clip(x, _FLOOR, None) for x in (reference, found))
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    return float((p * (np.log(p) - np.log(q))).sum(axis=1).mean())


@dataclass(frozen=True)
class Loss:
    """What a model lost against the original on the same examples; all values in 0..1.

    Attributes:
        accuracy: of the model, or its agreement with the original where there are no labels.
        baseline: the original's; 1 for agreement.
        drop: ``baseline - accuracy``.
        interval: half width of the drop's 95% interval, from the paired differences and one more example that differs:
            a few examples that are all decided alike tell little, not that nothing was lost (after Agresti and Min,
            Statistics in Medicine 24, 2005, who add one differing pair to those seen).
    """

    accuracy: float
    baseline: float
    drop: float
    interval: float


@dataclass(frozen=True)
class Judge:
    """Accuracy on one set of examples.

    Attributes:
        labels: int64 ``[N]``, or None: the original's decisions stand for them.
        original: decisions of the original, int64 ``[N]``.
        metric: ``balanced_accuracy`` is the mean over the classes that occur of the accuracy on each.
    """

    labels: npt.NDArray[np.int64] | None
    original: npt.NDArray[np.int64]
    metric: Metric = "balanced_accuracy"

    @property
    def name(self) -> str:
        """What is measured, in words."""
        return AGREEMENT if self.labels is None else self.metric.replace("_", " ")

    @property
    def key(self) -> str:
        """The same for keys of JSON and of a manifest's metrics, with its unit."""
        return "agreement_percent" if self.labels is None else f"{self.metric}_percent"

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """How much each example counts; they sum to 1."""
        truth = self.original if self.labels is None else self.labels
        if self.metric == "accuracy" or self.labels is None:
            return np.full(len(truth), 1 / len(truth))
        _, where, counts = np.unique(truth, return_inverse=True, return_counts=True)
        return np.asarray(1 / (len(counts) * counts[where]), np.float64)

    def loss(self, decided: npt.NDArray[np.int64]) -> Loss:
        """What decisions, int64 ``[N]``, lost against the original's."""
        truth = self.original if self.labels is None else self.labels
        weights = self.weights
        right, before = decided == truth, self.original == truth
        lost = before.astype(np.float64) - right
        accuracy, baseline = float(weights @ right), float(weights @ before)
        # The weighted mean's variance, each example drawn on its own: sum w^2 (x - mean)^2.
        squares = weights**2
        spread = math.sqrt(float(squares @ (lost - weights @ lost) ** 2 + squares.mean()))
        return Loss(accuracy, baseline, baseline - accuracy, 1.96 * spread)
