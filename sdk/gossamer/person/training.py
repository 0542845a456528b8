"""Trains person detectors from random weights: several candidates on one bank of augmented, teacher-marked views.

The bank stays on the device as bytes. Candidates differ by what they are and which views they may draw. The weights
that count are an exponential moving average over steps. A run writes its whole state now and then and goes on from
there with the same random numbers.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gossamer._errors import InputError
from gossamer.person import dataset as data
from gossamer.person import metrics
from gossamer.person.augment import Augmentation
from gossamer.person.bank import fill
from gossamer.person.candidates import Candidate, finished, parse
from gossamer.person.depthwise import use_fast_gradient
from gossamer.person.ensemble import TeacherEnsemble
from gossamer.person.models import PersonNet
from gossamer.person.preprocess import INPUT_SIZE, person_probability
from gossamer.person.teachers import Teacher


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """One run.

    Attributes:
        candidates: networks with options, see :func:`gossamer.person.candidates.parse`, trained side by side.
        bank: augmented views made at the start.
        epochs: passes; one pass draws as many views as the training split has photos.
        batch: views a step.
        learning_rate: peak of AdamW's cosine schedule, reached after ``warmup`` steps.
        weight_decay: AdamW's, on convolution and classifier weights only.
        warmup: steps with a rising learning rate.
        label_smoothing: fraction (0..1) taken from the label and shared by both classes.
        distill: share (0..1) of the teachers in the target; the rest is the label. Unused without teachers.
        hint: weight of the squared error of the teachers' standardised features. Unused without teachers.
        dropout: before the classifier.
        ema_decay: of the averaged weights, per step, once warmed up.
        seed: of weights, draws and views.
        initial: SHA-256 (hex) of weights to start from instead of random ones, empty for random; see ``train``.
        shrink_ratio: factor on the blocks that a ``+1x4`` candidate is pushed to give up, every ``shrink_every`` steps.
        shrink_every: steps.
        augmentation: how views are made.
    """

    candidates: tuple[str, ...] = ("v1-0.35",)
    bank: int = 150_000
    epochs: int = 400
    batch: int = 512
    learning_rate: float = 3e-3
    weight_decay: float = 0.03
    warmup: int = 200
    label_smoothing: float = 0.05
    distill: float = 0.8
    hint: float = 2.0
    dropout: float = 0.1
    ema_decay: float = 0.998
    seed: int = 0
    initial: str = ""
    shrink_ratio: float = 0.9
    shrink_every: int = 4
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(slots=True)
class Outcome:
    """What a run ends with.

    Attributes:
        networks: the averaged network of each candidate, in evaluation mode.
        val: report of each candidate on val, see :func:`gossamer.person.metrics.sliced_report`.
        losses: mean training loss of each epoch, candidate by candidate.
        steps: optimiser steps made in all.
        views_per_second: views drawn per second and candidate.
    """

    networks: dict[str, PersonNet]
    val: dict[str, dict[str, Any]]
    losses: list[list[float]]
    steps: int
    views_per_second: float


def train(
    people: data.PersonDataset,
    settings: TrainSettings,
    *,
    teachers: Sequence[Teacher] = (),
    initial: str | Path | None = None,
    device: str = "cpu",
    seconds: float | None = None,
    state_path: str | Path | None = None,
    save_every: int = 50,
    stop_after: int | None = None,
    train_limit: int | None = None,
    val_limit: int | None = None,
    log: Callable[[str], None] = print,
) -> Outcome:
    """Train every candidate from random weights; go on from ``state_path`` when it exists.

    Args:
        people: person128; its train and val splits are used.
        settings: the run.
        teachers: third-party networks that mark every view; none: labels alone.
        initial: weights of an earlier run that every candidate starts from; their digest is ``settings.initial``.
        device: ``cpu`` or ``cuda``.
        seconds: let the schedule follow the clock and end after so many seconds, the making of the bank included,
            instead of after ``epochs``.
        state_path: written atomically every ``save_every`` epochs and at the end.
        save_every: epochs.
        stop_after: leave after this many epochs in all, with the state written, as an interruption would.
        train_limit, val_limit: use only so many photos, evenly spread (for trials).
        log: receives one line now and then.

    Raises:
        InputError: the state belongs to other settings, or a setting is wrong.
    """
    if settings.epochs < 1 or settings.batch < 2 or settings.bank < 2:
        raise InputError("epochs must be at least 1, batch and bank at least 2", where="TrainSettings")
    resumed = state_path is not None and Path(state_path).is_file()
    if seconds is not None and resumed:
        raise InputError("a run by the clock cannot go on from a state", where=str(state_path), hint="remove the state")
    where = torch.device(device)
    torch.manual_seed(settings.seed)
    torch.backends.cudnn.benchmark = where.type == "cuda"
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    recipes = [parse(text) for text in settings.candidates]
    rows = _spread(people.select("train"), train_limit)
    names = sorted({p.source for p in rows})
    for name in (n for r in recipes for n in r.without if n not in names):
        raise InputError(f"no source {name!r}", where="candidates", hint=f"sources: {', '.join(names)}")
    val_rows = _spread(people.select("val"), val_limit)
    val = torch.from_numpy(people.images(val_rows, size=INPUT_SIZE)).permute(0, 3, 1, 2).to(where)
    ensemble = TeacherEnsemble(teachers).to(where) if teachers else None
    began = time.monotonic()
    bank = fill(
        torch.from_numpy(people.images(rows)).permute(0, 3, 1, 2).contiguous().to(where),
        torch.from_numpy(data.labels(rows)).float().to(where),
        torch.tensor([names.index(p.source) for p in rows], device=where),
        torch.from_numpy(data.sampling_weights(rows)).float().to(where),
        settings.bank,
        settings.augmentation,
        ensemble,
        torch.Generator(device=where).manual_seed(settings.seed),
    )
    if where.type == "cuda":
        torch.cuda.synchronize()
    log(f"{settings.bank} views of {len(rows)} photos in {time.monotonic() - began:.1f} s")
    if ensemble is not None:
        log(f"teachers {[t.name for t in teachers]} weighted {[round(w, 3) for w in ensemble.weights.tolist()]}")
    generator = torch.Generator(device=where).manual_seed(settings.seed + 1)
    candidates = [Candidate(r, bank.features.shape[1], settings.dropout, where) for r in recipes]
    if initial is not None:
        if hashlib.sha256(Path(initial).read_bytes()).hexdigest() != settings.initial:
            raise InputError("the weights to start from are not those of the settings", where=str(initial))
        for c in candidates:
            c.start_from(torch.load(initial, map_location=where, weights_only=True))
    draws = [bank.weights(sum(1 << names.index(n) for n in r.without)) for r in recipes]
    if where.type == "cuda":
        for c in candidates:
            use_fast_gradient(c.net)
    optimiser = _optimiser(candidates, settings)
    steps = max(1, len(rows) // settings.batch)
    losses: list[list[float]] = []
    first = 0
    if resumed and state_path is not None:
        first, losses = _restore(Path(state_path), settings, candidates, optimiser, generator, where)
        log(f"going on after epoch {first}")
    last = settings.epochs if stop_after is None else min(stop_after, settings.epochs)
    if seconds is not None:
        seconds -= time.monotonic() - began
    began, logged, epoch = time.monotonic(), -math.inf, first
    while epoch < last if seconds is None else time.monotonic() - began < seconds:
        sums = torch.zeros(len(candidates), device=where)
        for c in candidates:
            c.net.train()
        for step in range(epoch * steps, (epoch + 1) * steps):
            progress = step / (steps * settings.epochs) if seconds is None else (time.monotonic() - began) / seconds
            for group in optimiser.param_groups:
                group["lr"] = _learning_rate(step, progress, settings)
            optimiser.zero_grad(set_to_none=True)
            for i, (c, weights) in enumerate(zip(candidates, draws, strict=True)):
                batch = bank.draw(weights, settings.batch, generator)
                with torch.autocast(where.type, dtype=torch.bfloat16, enabled=where.type == "cuda"):
                    loss = c.loss(batch, settings.distill, settings.hint, settings.label_smoothing)
                loss.backward()  # type: ignore[no-untyped-call]
                sums[i] += loss.detach()
            optimiser.step()
            for c in candidates:
                if c.recipe.sparsity and step % settings.shrink_every == 0:
                    c.shrink(progress, settings.shrink_ratio)
                c.update_average(min(settings.ema_decay, (1.0 + step) / (10.0 + step)))
        losses.append([x / steps for x in sums.tolist()])
        epoch += 1
        if time.monotonic() - logged > 20 or epoch == last:
            logged = time.monotonic()
            log(_progress(epoch, (epoch - first) * steps / (logged - began), losses[-1], candidates, val, val_rows))
        if state_path is not None and seconds is None and (epoch % save_every == 0 or epoch == last):
            _save(Path(state_path), epoch, losses, settings, candidates, optimiser, generator)
    speed = (epoch - first) * steps * settings.batch / max(time.monotonic() - began, 1e-9)
    for c in candidates:
        use_fast_gradient(c.average, False)
    return Outcome(
        networks={c.recipe.text: finished(c) for c in candidates},
        val={c.recipe.text: _val_report(c.average, val, val_rows) for c in candidates},
        losses=losses,
        steps=epoch * steps,
        views_per_second=speed,
    )


@torch.no_grad()
def scores(network: PersonNet, images: Tensor, batch: int = 512) -> npt.NDArray[np.float64]:
    """Probability of a person, float64 [N], for uint8 [N, 3, 96, 96]."""
    network.eval()
    out = [network(chunk.float() / 255.0).float().cpu() for chunk in torch.split(images, batch)]
    return person_probability(torch.cat(out).numpy())


def _val_report(network: PersonNet, images: Tensor, rows: Sequence[data.Photo]) -> dict[str, Any]:
    return metrics.sliced_report(data.labels(rows), scores(network, images), data.sources(rows), data.areas(rows))


def _progress(
    epoch: int,
    steps_per_second: float,
    losses: Sequence[float],
    candidates: Sequence[Candidate],
    val: Tensor,
    rows: Sequence[data.Photo],
) -> str:
    parts = []
    for c, loss in zip(candidates, losses, strict=True):
        r = _val_report(c.average, val, rows)["all"]
        parts.append(f"{c.recipe.text} {loss:.3f} {r['balanced_accuracy']['value'] or 0:.3f}/{r['roc_auc'] or 0:.3f}")
    return f"epoch {epoch}, {steps_per_second:.1f} steps/s; loss, val balanced/AUC: " + "; ".join(parts)


def _learning_rate(step: int, progress: float, settings: TrainSettings) -> float:
    rising = min(1.0, (step + 1) / max(1, settings.warmup))
    return settings.learning_rate * rising * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))


def _optimiser(candidates: Sequence[Candidate], settings: TrainSettings) -> torch.optim.AdamW:
    everything = [p for c in candidates for p in c.parameters()]
    groups = [
        {"params": [p for p in everything if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in everything if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=everything[0].is_cuda)


def _spread(rows: list[data.Photo], limit: int | None) -> list[data.Photo]:
    if limit is None or limit >= len(rows):
        return rows
    return [rows[i] for i in np.linspace(0, len(rows) - 1, limit).round().astype(int)]


def _save(
    path: Path,
    epoch: int,
    losses: list[list[float]],
    settings: TrainSettings,
    candidates: Sequence[Candidate],
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
) -> None:
    state = {
        "settings": asdict(settings),
        "epoch": epoch,
        "losses": losses,
        "candidates": [c.state() for c in candidates],
        "optimiser": optimiser.state_dict(),
        "generator": generator.get_state(),
        "cpu_random": torch.get_rng_state(),
        "cuda_random": torch.cuda.get_rng_state() if generator.device.type == "cuda" else None,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        torch.save(state, part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _restore(
    path: Path,
    settings: TrainSettings,
    candidates: Sequence[Candidate],
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    device: torch.device,
) -> tuple[int, list[list[float]]]:
    state = torch.load(path, map_location=device, weights_only=True)
    for key, value in asdict(settings).items():
        if state["settings"].get(key) != value:
            raise InputError(
                f"the saved run has {key} = {state['settings'].get(key)!r}, this one {value!r}",
                where=str(path),
                hint="give the same settings to go on, or another output folder",
            )
    for candidate, saved in zip(candidates, state["candidates"], strict=True):
        candidate.restore(saved)
    optimiser.load_state_dict(state["optimiser"])
    generator.set_state(state["generator"].cpu())
    torch.set_rng_state(state["cpu_random"].cpu())
    if state["cuda_random"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda_random"].cpu())
    return int(state["epoch"]), list(state["losses"])
