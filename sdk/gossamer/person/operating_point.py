"""Where a detector says "person": a scale and an offset of its margin, fitted on val and folded into the classifier.

Training draws both labels equally often and mixes views, and teachers lean to one side, so that a probability of 0.5 is
seldom where misses and false alarms balance. Two numbers put that right; the order of the photos, and so the ROC curve,
stays as it is.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gossamer._errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from gossamer.person.models import PersonNet


def fit(margins: npt.ArrayLike, label: npt.ArrayLike, *, ridge: float = 1e-6) -> tuple[float, float]:
    """Platt scaling with both labels weighing the same: ``P(person) = 1 / (1 + exp(-(scale * margin + offset)))``.

    Newton's method on the logistic loss (Platt, "Probabilistic Outputs for Support Vector Machines", 1999, without its
    smoothed targets), each label's photos weighing one half together, so that 0.5 is where balanced accuracy asks for
    the decision.

    Args:
        margins: [N], logit of person minus logit of no person.
        label: [N] of 0 and 1.
        ridge: keeps the fit finite where the labels can be told apart without error.

    Returns:
        ``scale`` (above 0) and ``offset``.

    Raises:
        InputError: a label is missing, a margin is no number, all are the same, or they order the labels the wrong way
            round.
    """
    z, y = np.asarray(margins, np.float64), np.asarray(label)
    if not np.isfinite(z).all():
        raise InputError("a margin is no number", where="operating point", hint="the network diverged in training")
    if set(np.unique(y).tolist()) != {0, 1}:
        raise InputError("an operating point needs photos of both labels", where="operating point")
    weight = np.where(y == 1, 0.5 / (y == 1).sum(), 0.5 / (y == 0).sum())
    spread = float(z.std())
    if spread == 0.0:
        raise InputError("every photo has the same margin", where="operating point", hint="the network learned nothing")
    x = np.stack([z / spread, np.ones_like(z)], axis=1)
    w = np.zeros(2)
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ w, -30, 30)))
        gradient = x.T @ (weight * (p - y)) + ridge * w
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + ridge * np.eye(2)
        w = w - np.linalg.solve(hessian, gradient)
    scale, offset = float(w[0]) / spread, float(w[1])
    if scale <= 0:
        raise InputError("photos without a person score higher than those with one", where="operating point")
    return scale, offset


def folded(network: PersonNet, scale: float, offset: float) -> PersonNet:
    """A copy of ``network`` whose margin is ``scale * margin + offset``."""
    import torch

    moved = copy.deepcopy(network)
    with torch.no_grad():
        moved.classifier.weight.mul_(scale)
        moved.classifier.bias.mul_(scale)
        moved.classifier.bias.add_(moved.classifier.bias.new_tensor([-0.5 * offset, 0.5 * offset]))
    return moved


def balanced(network: PersonNet, images: Tensor, label: npt.ArrayLike, batch: int = 256) -> PersonNet:
    """:func:`folded` with the numbers that :func:`fit` finds on photos.

    Args:
        network: trained.
        images: uint8 [N, 3, 96, 96].
        label: [N] of 0 and 1.
        batch: photos at a time.

    Raises:
        InputError: as :func:`fit`.
    """
    import torch

    network.eval()
    with torch.no_grad():
        logits = torch.cat([network(part.float() / 255.0).float().cpu() for part in torch.split(images, batch)])
    return folded(network, *fit((logits[:, 1] - logits[:, 0]).numpy(), label))
