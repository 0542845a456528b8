"""What is trained side by side: a network, where it starts, what it learns from and may not see, how it gets sparse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gossamer._errors import InputError, RecipeError
from gossamer.person.ensemble import GRID
from gossamer.person.models import PersonNet, build
from gossamer.recipe import SparsifyStep, load_recipe
from gossamer.sparsify.training import Method, SparseLayer, Sparsifier, get_method

_STORED = ".parametrizations.weight.original"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A candidate in words, ``<network>[+<option>...]``, for example ``v1-0.75+granet:1x4:0.9,every=200+seed:1``.

    Attributes:
        text: as written.
        network: see :func:`gossamer.person.models.build`.
        method: option ``<method>:<pattern>[:<sparsity>][,<setting>=<number>...]``: how it gets sparse, see
            :data:`gossamer.sparsify.training.METHODS`; None: dense.
        target: what the option says of pattern and sparsity; None: dense.
        labels_only: option ``labels``: teachers are not used.
        without: option ``without:<source>``: views that show this source are not used.
        start: option ``from:<name>``: start from the weights ``<name>.pt`` of an earlier run.
        seed: option ``seed:<number>``: of the first weights and of what a method draws.
    """

    text: str
    network: str
    method: Method | None = None
    target: SparsifyStep | None = None
    labels_only: bool = False
    without: tuple[str, ...] = ()
    start: str = ""
    seed: int = 0


def parse(text: str) -> Recipe:
    """Read a candidate.

    Raises:
        InputError: an unknown option, method, pattern or setting, or a number out of range.
    """
    network, *options = text.split("+")
    found: dict[str, Any] = {"without": ()}
    for option in options:
        kind, _, value = option.partition(":")
        if option == "labels":
            found["labels_only"] = True
        elif kind == "without" and value:
            found["without"] += (value,)
        elif kind == "from" and value:
            found["start"] = value
        elif kind == "seed" and value.isdecimal():
            found["seed"] = int(value)
        elif value and "method" not in found:
            found["method"], found["target"] = _sparse(text, kind, value)
        else:
            raise InputError(
                f"option {option!r}",
                where=f"candidate {text!r}",
                hint="<method>:<pattern>:<sparsity>, labels, without:<source>, from:<name>, seed:<number>",
            )
    return Recipe(text, network, **found)


def _sparse(text: str, name: str, value: str) -> tuple[Method, SparsifyStep]:
    shape, *settings = value.split(",")
    pattern, _, number = shape.rpartition(":")
    if not pattern or pattern.isdigit():  # n:m alone
        pattern, number = shape, ""
    try:
        chosen = get_method(name, {k: _number(v) for k, _, v in (s.partition("=") for s in settings)})
        step: dict[str, Any] = {"pattern": pattern}
        if number:
            step["sparsity"] = float(number)
        target = load_recipe({"version": 1, "sparsify": step}).sparsify
    except (RecipeError, ValueError) as error:
        raise InputError(f"option {name}:{value}: {error}", where=f"candidate {text!r}") from error
    assert target is not None
    return chosen, target


def _number(text: str) -> int | float | str:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text


class Candidate:
    """A network in training, the running average of its weights and statistics, and its guess of teachers' features.

    Args:
        recipe: what to build.
        teacher_features: channels of the teachers' features, 0 for none.
        dropout: before the classifier.
        device: where to train.
        seed: of the run, added to the recipe's.
        steps: optimiser steps of the run, or a guess where the clock ends it.
        start: weights to start from, for a recipe with ``from``.

    Raises:
        InputError: the weights to start from belong to another network.
    """

    def __init__(
        self,
        recipe: Recipe,
        teacher_features: int,
        dropout: float,
        device: torch.device,
        *,
        seed: int = 0,
        steps: int = 1,
        start: dict[str, Tensor] | None = None,
    ):
        self.recipe = recipe
        layout = torch.channels_last
        torch.manual_seed(seed + recipe.seed)
        self.net = build(recipe.network, dropout=dropout).to(device, memory_format=layout)  # type: ignore[call-overload]
        if start is not None:
            try:
                self.net.load_state_dict(start)
            except RuntimeError as error:
                raise InputError("these weights belong to another network", where=recipe.text) from error
        self.average = build(recipe.network, dropout=dropout).to(device, memory_format=layout).eval()  # type: ignore[call-overload]
        self.average.load_state_dict(self.net.state_dict())
        width = 0 if recipe.labels_only else teacher_features
        self.projection = nn.Conv2d(self.net.classifier.in_features, width, 1).to(device) if width else None
        self.sparsifier: Sparsifier | None = None
        self._steps, self._seed = steps, seed + recipe.seed
        self._sparse: list[tuple[Tensor, SparseLayer]] = []
        self._pair()

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Start sparse training where the recipe asks for it, with the optimiser of :meth:`parameters`."""
        if self.recipe.target is None:
            return
        self.sparsifier = Sparsifier(
            self.net,
            self.recipe.target,
            self.recipe.method,
            total_steps=self._steps,
            optimizer=optimizer,
            seed=self._seed,
        )
        kept = self.average.state_dict()
        self._sparse = [(kept[f"{layer.name}.weight"], layer) for layer in self.sparsifier.layers]
        self._pair()

    def _pair(self) -> None:
        now = {k.replace(_STORED, ".weight"): v for k, v in self.net.state_dict().items()}
        self._pairs = [(now[k], v) for k, v in self.average.state_dict().items() if v.is_floating_point()]

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
        if self.sparsifier is not None:
            loss = loss + self.sparsifier.penalty()
        return loss

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        """One step of the exponential moving average."""
        torch._foreach_lerp_([k for _, k in self._pairs], [n for n, _ in self._pairs], 1.0 - decay)

    @torch.no_grad()
    def finished(self, *, last: bool = False) -> PersonNet:
        """The averaged network, in evaluation mode, with zeros where the trained one has them.

        Args:
            last: training is over: the method brings the masks to where they have to end.
        """
        if last and self.sparsifier is not None:
            self.sparsifier.settle()
        for weight, layer in self._sparse:
            weight.mul_(layer.mask)
        average: PersonNet = self.average.eval()
        return average

    @torch.no_grad()
    def finite(self) -> bool:
        """Whether every weight and statistic, of the network and of its average, is a number."""
        tensors = [v for part in (self.net, self.average) for v in part.state_dict().values() if v.is_floating_point()]
        return bool(torch.stack([torch.isfinite(v).all() for v in tensors]).all())

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
        return {
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "projection": None if self.projection is None else self.projection.state_dict(),
            "sparsifier": None if self.sparsifier is None else self.sparsifier.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a :meth:`state` of the same recipe."""
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        if self.projection is not None:
            self.projection.load_state_dict(state["projection"])
        if self.sparsifier is not None:
            self.sparsifier.load_state_dict(state["sparsifier"])
