"""One phase of training: AdamW with a cosine learning rate, masks that move, a checkpoint after every epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gossamer._errors import ModelError
from gossamer._proto.v1 import manifest_pb2 as pb
from gossamer.finetune.batches import Batch, Batches
from gossamer.finetune.losses import logits, loss_of

if TYPE_CHECKING:
    from gossamer.recipe import TrainStep
    from gossamer.sparsify.training.sparsifier import Sparsifier
    from gossamer.sparsify.training.squarehead import SquareHead

WARM = 0.05
"""Share of the steps in which the learning rate rises to its highest."""


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to: mean loss, share of training examples decided as labelled (or as the teacher decides)
    while training, share of zeros among the weights of the pruned layers."""

    phase: str
    number: int
    loss: float
    accuracy: float
    sparsity: float


@dataclass
class Phase:
    """A network and what trains it.

    Attributes:
        name: ``sparse`` or ``int8``; for messages and checkpoints.
        network: trained in place, on ``device``.
        step: the recipe's train step.
        port: the first output, as the manifest describes it.
        epochs, rate: how long, and the highest learning rate.
        teacher: in evaluation mode, or None; its outputs are learned where the step distills or there are no labels.
        sparsifier: attached to the network already, or None.
        squarehead: attached likewise; it runs the teacher then.
        save: called with a state after each epoch.
        held: share of zeros that the network holds where there is no sparsifier.
        done: epochs of this phase that are over.
    """

    name: str
    network: nn.Module
    step: TrainStep
    port: pb.Port
    epochs: int
    rate: float
    batches: Batches
    device: torch.device
    optimizer: torch.optim.Optimizer
    teacher: nn.Module | None = None
    sparsifier: Sparsifier | None = None
    squarehead: SquareHead | None = None
    save: Callable[[dict[str, Any]], object] | None = None
    progress: Callable[[int, int], None] | None = None
    held: float = 0.0
    done: int = 0
    log: list[Epoch] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Optimiser steps of the phase."""
        return self.epochs * len(self.batches)

    def run(self) -> None:
        """Trains what is left of the phase.

        Raises:
            ModelError: the loss or a weight is no longer finite; the checkpoint before that is as it was.
            RecipeError: the recipe leaves a layer empty.
        """
        while self.done < self.epochs:
            self.network.train()
            self.log.append(self._epoch(self.done))
            self._check_weights()
            self.done += 1
            if self.save:
                self.save(self.state())

    def state(self) -> dict[str, Any]:
        """Everything that resuming needs, as tensors and plain values."""
        return {
            "phase": self.name,
            "done": self.done,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sparsifier": None if self.sparsifier is None else self.sparsifier.state_dict(),
            "random": torch.get_rng_state(),
            "log": [asdict(epoch) for epoch in self.log],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on where :meth:`state` was taken.

        Raises:
            InputError: the sparsifier's state belongs to another recipe.
        """
        if self.sparsifier is not None:
            self.sparsifier.load_state_dict(state["sparsifier"])
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        self.done = int(state["done"])
        self.log = [Epoch(**record) for record in state["log"]]

    def _epoch(self, number: int) -> Epoch:
        losses, right, seen = 0.0, 0, 0
        for i, batch in enumerate(self.batches.epoch(number)):
            at = number * len(self.batches) + i
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(self.rate, at, self.total)
            loss, hits = self._step(batch, number, i)
            size = len(batch.inputs[0])
            losses, right, seen = losses + loss * size, right + hits, seen + size
            if self.progress:
                self.progress(at + 1, self.total)
        sparsity = self.held if self.sparsifier is None else self.sparsifier.sparsity
        return Epoch(self.name, number + 1, losses / seen, right / seen, sparsity)

    def _step(self, batch: Batch, epoch: int, number: int) -> tuple[float, int]:
        """One optimiser step; returns the loss and how many examples were decided right."""
        inputs = [x.to(self.device) for x in batch.inputs]
        labels = None if batch.labels is None else batch.labels.to(self.device)
        student = logits(_first(self.network(*inputs)), self.port)
        distill = self.step.distill
        teacher = self._taught(inputs) if distill is not None or labels is None else None
        weight, temperature = (distill.weight, distill.temperature) if distill is not None else (0.5, 2.0)
        loss = loss_of(student, labels, teacher, weight, temperature)
        if self.squarehead is not None:
            loss = loss + self.squarehead()
        if self.sparsifier is not None:
            loss = loss + self.sparsifier.penalty()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise self._diverged(f"the loss is {value} in epoch {epoch + 1}, step {number + 1}", epoch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        if self.sparsifier is not None:
            self.sparsifier.step()
        truth = labels if labels is not None else teacher.argmax(1) if teacher is not None else None
        hits = 0 if truth is None else int((student.detach().argmax(1) == truth).sum())
        return value, hits

    def _taught(self, inputs: list[Tensor]) -> Tensor | None:
        if self.teacher is None:
            return None
        if self.squarehead is not None:
            return logits(_first(self.squarehead.teacher_output), self.port)
        with torch.no_grad():
            return logits(_first(self.teacher(*inputs)), self.port)

    def _check_weights(self) -> None:
        for name, value in [*self.network.named_parameters(), *self.network.named_buffers()]:
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise self._diverged(f"'{name}' is not finite after epoch {self.done + 1}", self.done)

    def _diverged(self, message: str, good: int) -> ModelError:
        before = f"epoch {good}" if good else "the sparse epochs" if self.name == "int8" else ""
        kept = f"; the checkpoint after {before} is whole and resumes" if self.save and before else ""
        return ModelError(
            f"training diverged: {message}",
            where=f"phase {self.name}",
            hint=f"lower train.learning_rate (now {self.rate:g}){kept}",
        )


def adamw(network: nn.Module, rate: float, decay: float) -> torch.optim.AdamW:
    """AdamW; weights of two dimensions and more decay, biases and norms do not."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=rate)


def learning_rate(highest: float, step: int, total: int) -> float:
    """The rate of step ``step`` (from 0) of ``total``: a straight rise, then half a cosine down towards 0."""
    warm = max(1, round(WARM * total))
    if step < warm:
        return highest * (step + 1) / warm
    return highest * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def _first(outputs: Any) -> Tensor:
    found = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
    assert isinstance(found, Tensor)
    return found
