"""The loss of a classifier: its labels, and what the model said before it was changed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from gossamer._proto.v1 import manifest_pb2 as pb

_FLOOR = 1e-6
"""Smallest probability whose logarithm is taken, where a model ends in softmax or sigmoid."""


def logits(output: Tensor, port: pb.Port) -> Tensor:
    """Scores ``[B, classes]`` whose softmax are the probabilities that ``port`` describes, float32.

    Args:
        output: of the network, batch first, any shape that holds one score a class.
    """
    flat = output.float().flatten(1)
    post = port.postprocessing
    if post.kind == post.KIND_BINARY:
        if not post.logits:
            p = flat.clamp(_FLOOR, 1 - _FLOOR)
            flat = torch.log(p) - torch.log1p(-p)
        return torch.cat([torch.zeros_like(flat), flat], dim=1)
    return flat if post.logits else torch.log(flat.clamp_min(_FLOOR))


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T^2 KL(softmax(teacher / T) || softmax(student / T))``, mean over the batch (Hinton et al., arXiv 1503.02531,
    section 2); logits ``[B, classes]``."""
    return temperature**2 * functional.kl_div(
        functional.log_softmax(student / temperature, dim=1),
        functional.log_softmax(teacher / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )


def loss_of(
    student: Tensor, labels: Tensor | None, teacher: Tensor | None, weight: float = 0.5, temperature: float = 2.0
) -> Tensor:
    """``(1 - weight)`` cross entropy with the labels plus ``weight`` times the distillation; one of them alone where
    the other has nothing to go by. Scalar."""
    if teacher is None:
        assert labels is not None
        return functional.cross_entropy(student, labels)
    taught = distillation(student, teacher, temperature)
    if labels is None:
        return taught
    return (1 - weight) * functional.cross_entropy(student, labels) + weight * taught
