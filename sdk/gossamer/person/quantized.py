"""Quantisation-aware fine-tuning of a trained detector: the int8 network learns what its float self and teachers say.

What comes out is judged by the runtime's own integer rule (:meth:`gossamer.quantize.qat.QuantizedGraph.exact`), so that
a decision in training is the decision on the device.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from gossamer._errors import InputError
from gossamer._manifest import METADATA_KEY
from gossamer.person import dataset as data
from gossamer.person.augment import Augmentation
from gossamer.person.bank import cumulative, fill
from gossamer.person.calibration_inputs import calibration_samples
from gossamer.person.ensemble import TeacherEnsemble
from gossamer.person.models import to_luma
from gossamer.person.onnx_export import to_onnx
from gossamer.person.operating_point import fit
from gossamer.person.preprocess import INPUT_SIZE, as_inputs, model_metadata, person_probability
from gossamer.person.teachers import Teacher

if TYPE_CHECKING:
    from gossamer.person.models import PersonNet
    from gossamer.quantize.qat import QuantizedGraph


@dataclass(frozen=True)
class QuantizeSettings:
    """One run.

    Attributes:
        steps: optimiser steps; 0 calibrates and trains nothing.
        batch: views a step.
        learning_rate: peak of AdamW's cosine schedule.
        views: augmented views made at the start.
        own: share (0..1) of the float network's own probability in the target; the rest is the teachers', or the label
            without teachers.
        scales: what moves the activations' scales: ``learned`` (LSQ), ``observed`` (running ranges) or ``fixed``.
        rebalance: shift the decision to where the int8 network's own margins on val ask for it.
        without: sources that are not used.
        seed: of views and draws.
        augmentation: how views are made.
    """

    steps: int = 100
    batch: int = 32
    learning_rate: float = 2e-5
    views: int = 4096
    own: float = 1.0
    scales: Literal["fixed", "learned", "observed"] = "observed"
    rebalance: bool = True
    without: tuple[str, ...] = ("tudstreet",)
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class Quantized:
    """A detector after quantisation-aware training.

    Attributes:
        graph: to be asked with ``exact``, or saved with ``to_onnx``.
        losses: mean loss of every tenth of the steps.
        settings: of the run, as plain values.
        channels: of its input, 3 (RGB) or 1 (luma).
    """

    graph: QuantizedGraph
    losses: list[float]
    settings: dict[str, Any]
    channels: int = 3

    def onnx(self) -> bytes:
        """The QDQ model, serialised; ``gossamer.optimize`` compiles it without a quantize step."""
        import onnx_ir as ir

        return ir.to_proto(self.graph.to_onnx()).SerializeToString(deterministic=True)  # type: ignore[no-any-return]

    def logits(self, images: npt.NDArray[np.uint8], batch: int = 64) -> npt.NDArray[np.float64]:
        """Both logits, float64 [N, 2], for uint8 [N, 96, 96, 3], by the integer rule of the device."""
        snapshot = self.graph.snapshot()
        out = []
        for start in range(0, len(images), batch):
            logits = snapshot(torch.from_numpy(as_inputs(images[start : start + batch], self.channels)))
            out.append(np.asarray(logits[0] if isinstance(logits, (list, tuple)) else logits, np.float64))
        return np.concatenate(out)

    def scores(self, images: npt.NDArray[np.uint8], batch: int = 64) -> npt.NDArray[np.float64]:
        """Probability of a person, float64 [N], from :meth:`logits`."""
        return person_probability(self.logits(images, batch))


def quantize_aware(
    network: PersonNet,
    people: data.PersonDataset,
    settings: QuantizeSettings | None = None,
    *,
    teachers: Sequence[Teacher] = (),
    log: Callable[[str], None] = print,
) -> Quantized:
    """Fine-tune a trained network under the quantisation of the device; its zeros stay zeros.

    Args:
        network: trained, plain zeros, at its operating point; not changed.
        people: its train split is used, and val where the settings say ``rebalance``.
        settings: of the run.
        teachers: mark the views.
        log: receives one line now and then.

    Raises:
        InputError: a setting is out of range, a loss is no number, or ``rebalance`` meets a network that ranks photos
            of val the wrong way round.
        ModelError: a weight of the network is not finite.
    """
    from gossamer import load
    from gossamer.quantize.qat import prepare_qat

    chosen = settings or QuantizeSettings()
    if chosen.steps < 0 or chosen.batch < 1 or chosen.views < 1 or not 0.0 <= chosen.own <= 1.0:
        raise InputError(
            "steps must be at least 0, batch and views at least 1, own within 0..1", where="QuantizeSettings"
        )
    network.eval()
    samples = calibration_samples(people, network.channels)
    about = json.dumps(model_metadata(network.name, network.channels), sort_keys=True)
    model = load(to_onnx(network, {METADATA_KEY: about}))
    graph = prepare_qat(model, samples, activation_scales=chosen.scales, keep_zeros=True)
    losses: list[float] = []
    if chosen.steps:
        losses = _train(graph, network, people, chosen, teachers, log)
    made = Quantized(graph, losses, asdict(chosen), network.channels)
    if chosen.rebalance:
        _rebalance(made, people)
    return made


def _rebalance(made: Quantized, people: data.PersonDataset) -> None:
    """Moves the classifier's bias by the offset of :func:`gossamer.person.operating_point.fit` on val."""
    rows = people.select("val")
    logits = made.logits(people.images(rows, size=INPUT_SIZE))
    scale, offset = fit(logits[:, 1] - logits[:, 0], data.labels(rows))
    bias = dict(made.graph.named_parameters())["classifier.bias"]
    with torch.no_grad():
        bias.add_(bias.new_tensor([-0.5, 0.5]) * (offset / scale))


def _train(
    graph: QuantizedGraph,
    network: PersonNet,
    people: data.PersonDataset,
    settings: QuantizeSettings,
    teachers: Sequence[Teacher],
    log: Callable[[str], None],
) -> list[float]:
    torch.manual_seed(settings.seed)
    sources = sorted({p.source for p in people.select("train")})
    rows = people.select("train", without=[s for s in settings.without if s in sources])
    bank = fill(
        torch.from_numpy(people.images(rows)).permute(0, 3, 1, 2).contiguous(),
        torch.from_numpy(data.labels(rows)).float(),
        torch.tensor([sources.index(p.source) for p in rows]),
        torch.from_numpy(data.sampling_weights(rows)).float(),
        settings.views,
        settings.augmentation,
        TeacherEnsemble(teachers) if teachers else None,
        torch.Generator().manual_seed(settings.seed),
        chunk=min(512, settings.views),
    )
    weights = cumulative(bank.weights(0))
    optimiser = torch.optim.AdamW(graph.parameter_groups(settings.learning_rate))
    peaks = [group["lr"] for group in optimiser.param_groups]
    losses: list[float] = []
    total, every = 0.0, max(1, settings.steps // 10)
    graph.train()
    for step in range(settings.steps):
        share = 0.5 * (1.0 + math.cos(math.pi * step / settings.steps)) * min(1.0, (step + 1) / every)
        for group, peak in zip(optimiser.param_groups, peaks, strict=True):
            group["lr"] = peak * share
        views, _, person, _ = bank.draw(weights, settings.batch)
        views = views.contiguous()
        with torch.no_grad():
            own = torch.softmax(network(views), dim=1)[:, 1]
        target = settings.own * own + (1.0 - settings.own) * person
        log_p = torch.log_softmax(graph(to_luma(views) if network.channels == 1 else views), dim=1)
        loss = -(target * log_p[:, 1] + (1.0 - target) * log_p[:, 0]).mean()
        now = float(loss.detach())
        if not math.isfinite(now):
            raise InputError(f"the loss is no number after step {step}", where="quantisation-aware training")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        total += now
        if (step + 1) % every == 0:
            losses.append(total / every)
            log(f"step {step + 1} of {settings.steps}: loss {losses[-1]:.4f}")
            total = 0.0
    graph.eval()
    return losses
