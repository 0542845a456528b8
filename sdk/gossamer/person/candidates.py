"""What is trained side by side: a network, what it learns from and may not see, how sparse it should be able to get."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gossamer._errors import InputError
from gossamer.person.ensemble import GRID
from gossamer.person.models import PersonNet, build, is_prunable


@dataclass(frozen=True, slots=True)
class Recipe:
    """A candidate in words, ``<network>[+<option>...]``, for example ``v1-0.35+1x4:0.75``.

    Attributes:
        text: as written.
        network: see :func:`gossamer.person.models.build`.
        sparsity: option ``1x4:<fraction>``: the fraction of 1x4 blocks of each layer that training sets to zero, little
            by little, so that one-shot pruning of that fraction or less finds its zeros already there.
        labels_only: option ``labels``: teachers are not used.
        without: option ``without:<source>``: views that show this source are not used.
    """

    text: str
    network: str
    sparsity: float = 0.0
    labels_only: bool = False
    without: tuple[str, ...] = ()


def parse(text: str) -> Recipe:
    """Read a candidate.

    Raises:
        InputError: an unknown option or a fraction outside 0..1.
    """
    network, *options = text.split("+")
    sparsity, labels_only, without = 0.0, False, []
    for option in options:
        kind, _, value = option.partition(":")
        if kind == "1x4" and _fraction(value):
            sparsity = float(value)
        elif option == "labels":
            labels_only = True
        elif kind == "without" and value:
            without.append(value)
        else:
            raise InputError(
                f"option {option!r}", where=f"candidate {text!r}", hint="1x4:<fraction>, labels, without:<source>"
            )
    return Recipe(text, network, sparsity, labels_only, tuple(without))


def _fraction(text: str) -> bool:
    try:
        return 0.0 < float(text) < 1.0
    except ValueError:
        return False


class Candidate:
    """A network in training, the running average of its weights and statistics, and its guess of teachers' features.

    Args:
        recipe: what to build.
        teacher_features: channels of the teachers' features, 0 for none.
        dropout: before the classifier.
        device: where to train.
    """

    def __init__(self, recipe: Recipe, teacher_features: int, dropout: float, device: torch.device):
        self.recipe = recipe
        layout = torch.channels_last
        self.net = build(recipe.network, dropout=dropout).to(device, memory_format=layout)  # type: ignore[call-overload]
        self.average = build(recipe.network, dropout=dropout).to(device, memory_format=layout).eval()  # type: ignore[call-overload]
        self.average.load_state_dict(self.net.state_dict())
        width = 0 if recipe.labels_only else teacher_features
        self.projection = nn.Conv2d(self.net.classifier.in_features, width, 1).to(device) if width else None
        self._pruned: list[Tensor] = []
        self._masks: list[Tensor] = []
        self._kept_pruned: list[Tensor] = []
        self._share = 0.0
        if recipe.sparsity:
            pairs = zip(self.net.modules(), self.average.modules(), strict=True)
            both = [
                (a, b) for a, b in pairs if isinstance(a, nn.Conv2d) and isinstance(b, nn.Conv2d) and is_prunable(a)
            ]
            self._pruned = [a.weight.data for a, _ in both]
            self._kept_pruned = [b.weight.data for _, b in both]
            self._masks = [torch.ones_like(w) for w in self._pruned]
        now, kept = self.net.state_dict(), self.average.state_dict()
        self._now = [v for v in now.values() if v.is_floating_point()]
        self._kept = [v for k, v in kept.items() if now[k].is_floating_point()]

    def loss(self, batch: tuple[Tensor, Tensor, Tensor, Tensor], distill: float, hint: float, smooth: float) -> Tensor:
        """Cross entropy with the blended target plus the mean squared error of the features (arXiv 1412.6550).

        Args:
            batch: views, label, person, features of :meth:`gossamer.person.bank.Bank.draw`.
            distill: share of the teachers in the target.
            hint: weight of the features' error.
            smooth: label smoothing.
        """
        views, label, person, features = batch
        target = label * (1.0 - smooth) + 0.5 * smooth
        share = 0.0 if self.projection is None else distill
        target = share * person + (1.0 - share) * target
        own = self.net.features(views)
        log_p = torch.log_softmax(self.net.classify(own).float(), dim=1)
        loss = -(target * log_p[:, 1] + (1.0 - target) * log_p[:, 0]).mean()
        if self.projection is not None and hint:
            if own.shape[2] != GRID:
                raise InputError(f"feature map of {own.shape[2]}, teachers have {GRID}", where=self.recipe.text)
            loss = loss + hint * (self.projection(own).float() - features).square().mean()
        return loss

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        """One step of the exponential moving average."""
        torch._foreach_lerp_(self._kept, self._now, 1.0 - decay)

    @torch.no_grad()
    def prune(self, progress: float) -> None:
        """Mark the weakest 1x4 blocks of each layer for :meth:`apply_masks`; a block once gone stays gone.

        The share follows Zhu and Gupta's cubic schedule (arXiv 1710.01878) from 5% to 50% of the run; after that
        the blocks that are left have the rest of the run to make up for the others.
        """
        ramp = min(max((progress - 0.05) / 0.45, 0.0), 1.0)
        share = self.recipe.sparsity * (1.0 - (1.0 - ramp) ** 3)
        if share <= self._share:
            return
        self._share = share
        for weight, mask in zip(self._pruned, self._masks, strict=True):
            blocks = weight.permute(0, 2, 3, 1).reshape(-1, 4)
            strength = blocks.square().sum(dim=1)
            weak = math.floor(share * strength.numel())
            if weak:
                alive = (strength > strength.kthvalue(weak).values)[:, None].expand_as(blocks)
                shape = (weight.shape[0], *weight.shape[2:], weight.shape[1])
                mask.copy_(alive.reshape(shape).permute(0, 3, 1, 2))

    @torch.no_grad()
    def apply_masks(self) -> None:
        """Set the marked blocks to zero."""
        if self._masks:
            torch._foreach_mul_(self._pruned, self._masks)

    @torch.no_grad()
    def finished(self) -> PersonNet:
        """The averaged network, in evaluation mode, with zeros where the trained one has them."""
        if self._masks:
            torch._foreach_mul_(self._kept_pruned, self._masks)
        average: PersonNet = self.average.eval()
        return average

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Take over the weights of a finished network.

        Raises:
            InputError: they belong to another network.
        """
        try:
            self.net.load_state_dict(weights)
        except RuntimeError as error:
            raise InputError("these weights belong to another network", where=self.recipe.text) from error
        self.average.load_state_dict(weights)

    def parameters(self) -> list[nn.Parameter]:
        """Everything that is learned."""
        extra = [] if self.projection is None else list(self.projection.parameters())
        return [*self.net.parameters(), *extra]

    def snapshot(self) -> list[Tensor]:
        """Copies of everything that a step changes, for :meth:`reset`."""
        return [v.clone() for v in self._changing()]

    @torch.no_grad()
    def reset(self, snapshot: list[Tensor]) -> None:
        """Go back to a :meth:`snapshot`, in the same memory."""
        for now, before in zip(self._changing(), snapshot, strict=True):
            now.copy_(before)

    def _changing(self) -> list[Tensor]:
        extra = [] if self.projection is None else list(self.projection.state_dict().values())
        return [*self.net.state_dict().values(), *extra]

    def state(self) -> dict[str, object]:
        """For :meth:`restore`."""
        projection = None if self.projection is None else self.projection.state_dict()
        return {
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "projection": projection,
            "masks": self._masks,
            "share": self._share,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a :meth:`state` of the same recipe."""
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        if self.projection is not None:
            self.projection.load_state_dict(state["projection"])
        for mask, saved in zip(self._masks, state["masks"], strict=True):
            mask.copy_(saved)
        self._share = float(state["share"])
