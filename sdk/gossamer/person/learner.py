"""One candidate's training steps; on a GPU a CUDA graph on a stream of its own, so that candidates share the device.

Small networks have many kernels of a few microseconds: launched one by one they would take longer than they run.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gossamer.person.bank import Bank, cumulative
from gossamer.person.candidates import Candidate

if TYPE_CHECKING:
    from gossamer.person.training import TrainSettings

_WARM_UP = 4


class Learner:
    """A candidate with its optimiser and what it draws from.

    Args:
        candidate: what learns.
        bank: what it learns from.
        weights: drawing weights of the bank's views, [N].
        settings: of the run.
    """

    def __init__(self, candidate: Candidate, bank: Bank, weights: Tensor, settings: TrainSettings):
        self.candidate = candidate
        self.optimiser = _optimiser(candidate, settings)
        candidate.attach(self.optimiser)
        self._bank, self._cumulative, self._settings = bank, cumulative(weights), settings
        self._sum, self._count = torch.zeros((), device=weights.device), 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream: torch.cuda.Stream | None = None

    def capture(self) -> None:
        """Record the step as a CUDA graph; weights, statistics and optimiser are as before afterwards."""
        from gossamer.person.depthwise import use_fast_depthwise

        use_fast_depthwise(self.candidate.net)
        self.candidate.net.train()
        before, moments = self.candidate.snapshot(), self.optimiser.state_dict()
        fresh = not moments["state"]
        kept = [{k: v.clone() for k, v in s.items()} for s in moments["state"].values()]
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UP):
                self._update()
            self._graph = torch.cuda.CUDAGraph()
            self.optimiser.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        with torch.cuda.graph(self._graph, stream=self._stream):
            self._update()
        torch.cuda.synchronize()
        self.candidate.reset(before)
        for position, state in enumerate(self.optimiser.state_dict()["state"].values()):
            for key, value in state.items():
                if fresh:
                    value.zero_()
                else:
                    value.copy_(kept[position][key])
        self._sum.zero_()
        torch.cuda.synchronize()

    def step(self, number: int, progress: float) -> None:
        """Step ``number`` of the run, of which ``progress`` (0..1) is over."""
        if self._stream is None:
            self._step(number, progress)
        else:
            with torch.cuda.stream(self._stream):
                self._step(number, progress)

    def mean_loss(self) -> float:
        """Mean loss since the last call; waits for the device."""
        if self._stream is not None:
            self._stream.synchronize()
        mean = float(self._sum) / max(1, self._count)
        self._sum.zero_()
        self._count = 0
        return mean

    def _step(self, number: int, progress: float) -> None:
        settings, candidate = self._settings, self.candidate
        rate = _learning_rate(number, progress, settings)
        for group in self.optimiser.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        if self._graph is None:
            candidate.net.train()
            self._update()
        else:
            self._graph.replay()
        if candidate.sparsifier is not None:
            candidate.sparsifier.step(progress)
        candidate.update_average(min(settings.ema_decay, (1.0 + number) / (10.0 + number)))
        self._count += 1

    def _update(self) -> None:
        settings, where = self._settings, self._sum.device.type
        self.optimiser.zero_grad(set_to_none=True)
        batch = self._bank.draw(self._cumulative, settings.batch)
        with torch.autocast(where, dtype=torch.bfloat16, enabled=where == "cuda"):
            loss = self.candidate.loss(batch, settings.distill, settings.hint, settings.label_smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self._sum += loss.detach()


def _learning_rate(step: int, progress: float, settings: TrainSettings) -> float:
    rising = min(1.0, (step + 1) / max(1, settings.warmup))
    return settings.learning_rate * rising * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))


def _optimiser(candidate: Candidate, settings: TrainSettings) -> torch.optim.AdamW:
    everything = candidate.parameters()
    groups: list[dict[str, Any]] = [
        {"params": [p for p in everything if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in everything if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if not everything[0].is_cuda:
        return torch.optim.AdamW(groups, lr=settings.learning_rate)
    rates = torch.tensor(settings.learning_rate, device=everything[0].device)
    return torch.optim.AdamW(groups, lr=rates, fused=True, capturable=True)
