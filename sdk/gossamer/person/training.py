"""Trains person detectors from random weights: several candidates on one bank of augmented, teacher-marked views.

The bank stays on the device as bytes. Candidates differ by what they are and which views they may draw. The weights
that count are an exponential moving average over steps. A run writes its whole state now and then and goes on from
there, on a CPU with the same random numbers.
"""

from __future__ import annotations

import hashlib
import io
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

from gossamer import _atomic
from gossamer._errors import InputError
from gossamer.person import dataset as data
from gossamer.person import metrics
from gossamer.person.augment import Augmentation
from gossamer.person.bank import fill
from gossamer.person.candidates import Candidate, Recipe, parse
from gossamer.person.ensemble import TeacherEnsemble
from gossamer.person.learner import Learner
from gossamer.person.models import PersonNet
from gossamer.person.preprocess import INPUT_SIZE, person_probability
from gossamer.person.teachers import Teacher


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """One run.

    Attributes:
        candidates: networks with options, see :func:`gossamer.person.candidates.parse`, trained side by side.
        bank: augmented views made at the start.
        epochs: passes; one pass draws as many views as the bank has.
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
        initial: name and SHA-256 (hex) of the weights that candidates with ``from:<name>`` start from; see ``train``.
        augmentation: how views are made.
    """

    candidates: tuple[str, ...] = ("v1-0.35",)
    bank: int = 300_000
    epochs: int = 50
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
    initial: tuple[tuple[str, str], ...] = ()
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
    save_every: int = 5,
    stop_after: int | None = None,
    train_limit: int | None = None,
    val_limit: int | None = None,
    log: Callable[[str], None] = print,
    keep: Callable[[dict[str, PersonNet]], None] = lambda _: None,
) -> Outcome:
    """Train every candidate, from random weights or those it names; go on from ``state_path`` when it exists.

    Args:
        people: person128; its train and val splits are used.
        settings: the run.
        teachers: third-party networks that mark every view; none: labels alone.
        initial: folder with the weights ``<name>.pt`` that candidates start from; digests in ``settings.initial``.
        device: ``cpu`` or ``cuda``.
        seconds: let the schedule follow the clock and end after so many seconds, the making of the bank included,
            instead of after ``epochs``.
        state_path: written atomically every ``save_every`` epochs and at the end.
        save_every: epochs.
        stop_after: leave after this many epochs in all, with the state written, as an interruption would.
        train_limit, val_limit: use only so many photos, evenly spread (for trials).
        log: receives one line now and then.
        keep: receives the averaged networks as often.

    Raises:
        InputError: the state belongs to other settings, a setting is wrong, a split lacks a label, or a loss is no
            number any more; then the last state is from before that.
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
    names = sorted({p.source for p in people.select("train")})
    for name in (n for r in recipes for n in r.without if n not in names):
        raise InputError(f"no source {name!r}", where="candidates", hint=f"sources: {', '.join(names)}")
    nowhere = set(names).intersection(*(r.without for r in recipes))
    rows = _spread(people.select("train", without=nowhere), train_limit)
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
    steps = max(1, settings.bank // settings.batch)
    starts = _starts(recipes, settings, initial, where)
    candidates = [
        Candidate(
            r,
            bank.features.shape[1],
            settings.dropout,
            where,
            seed=settings.seed + 1,
            steps=steps * settings.epochs,
            start=starts.get(r.start),
        )
        for r in recipes
    ]
    torch.manual_seed(settings.seed + 1)
    learners = [
        Learner(c, bank, bank.weights(sum(1 << names.index(n) for n in c.recipe.without)), settings) for c in candidates
    ]
    losses: list[list[float]] = []
    first = 0
    if resumed and state_path is not None:
        first, losses = _restore(Path(state_path), settings, learners, where)
        log(f"going on after epoch {first}")
    if where.type == "cuda":
        for learner in learners:
            learner.capture()
        log(f"{len(learners)} graphs after {time.monotonic() - began:.1f} s")
    last = settings.epochs if stop_after is None else min(stop_after, settings.epochs)
    if seconds is not None:
        seconds -= time.monotonic() - began
    began, logged, epoch, step = time.monotonic(), -math.inf, first, first * steps
    while epoch < last if seconds is None else time.monotonic() - began < seconds:
        for step in range(epoch * steps, (epoch + 1) * steps):
            if seconds is None:
                progress = step / (steps * settings.epochs)
            else:
                if where.type == "cuda" and step % 16 == 0:  # the clock must not run ahead of the device
                    torch.cuda.synchronize()
                progress = (time.monotonic() - began) / seconds
                if progress >= 1.0:
                    break
            for learner in learners:
                learner.step(step, progress)
        losses.append([learner.mean_loss() for learner in learners])
        _check_finite(losses[-1], recipes, epoch, state_path)
        epoch += 1
        if time.monotonic() - logged > 20 or epoch == last:
            logged = time.monotonic()
            networks = {c.recipe.text: c.finished() for c in candidates}
            speed = (step + 1 - first * steps) / (logged - began)
            log(_progress(epoch, speed, losses[-1], networks, val, val_rows))
            keep(networks)
        if state_path is not None and seconds is None and (epoch % save_every == 0 or epoch == last):
            _save(Path(state_path), epoch, losses, settings, learners)
    networks = {c.recipe.text: c.finished(last=True) for c in candidates}
    return Outcome(
        networks=networks,
        val={name: _val_report(network, val, val_rows) for name, network in networks.items()},
        losses=losses,
        steps=step + 1 if losses else 0,
        views_per_second=(step + 1 - first * steps) * settings.batch / max(time.monotonic() - began, 1e-9),
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
    networks: dict[str, PersonNet],
    val: Tensor,
    rows: Sequence[data.Photo],
) -> str:
    parts = []
    for (name, network), loss in zip(networks.items(), losses, strict=True):
        r = _val_report(network, val, rows)["all"]
        parts.append(f"{name} {loss:.3f} {r['balanced_accuracy']['value'] or 0:.3f}/{r['roc_auc'] or 0:.3f}")
    return f"epoch {epoch}, {steps_per_second:.1f} steps/s; loss, val balanced/AUC: " + "; ".join(parts)


def _spread(rows: list[data.Photo], limit: int | None) -> list[data.Photo]:
    if limit is None or limit >= len(rows):
        return rows
    return [rows[i] for i in np.linspace(0, len(rows) - 1, limit).round().astype(int)]


def _save(
    path: Path, epoch: int, losses: list[list[float]], settings: TrainSettings, learners: Sequence[Learner]
) -> None:
    state = {
        "settings": asdict(settings),
        "epoch": epoch,
        "losses": losses,
        "candidates": [x.candidate.state() for x in learners],
        "optimisers": [x.optimiser.state_dict() for x in learners],
        "cpu_random": torch.get_rng_state(),
        "cuda_random": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    torch.save(state, content)
    _atomic.write(path, content.getvalue())


def _starts(
    recipes: Sequence[Recipe], settings: TrainSettings, folder: str | Path | None, device: torch.device
) -> dict[str, dict[str, Tensor]]:
    """Weights by name for the candidates that start from some, each checked against its digest."""
    digests, found = dict(settings.initial), {}
    for name in sorted({r.start for r in recipes if r.start}):
        path = Path(folder or ".") / f"{name}.pt"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"no weights to start from: {error.strerror}", where=str(path)) from error
        if hashlib.sha256(content).hexdigest() != digests.get(name):
            raise InputError("the weights to start from are not those of the settings", where=str(path))
        found[name] = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    return found


def _check_finite(
    losses: Sequence[float], recipes: Sequence[Recipe], epoch: int, state_path: str | Path | None
) -> None:
    bad = [r.text for r, loss in zip(recipes, losses, strict=True) if not math.isfinite(loss)]
    if not bad:
        return
    kept = f"go on from {state_path} with" if state_path is not None and Path(state_path).is_file() else "start with"
    raise InputError(
        f"the loss of {bad[0]!r} is no number after epoch {epoch + 1}",
        where="training",
        hint=f"{kept} a lower learning rate; no state was written since",
    )


def _restore(
    path: Path, settings: TrainSettings, learners: Sequence[Learner], device: torch.device
) -> tuple[int, list[list[float]]]:
    state = torch.load(path, map_location=device, weights_only=True)
    for key in asdict(settings).keys() | state["settings"].keys():
        mine, theirs = asdict(settings).get(key), state["settings"].get(key)
        if mine != theirs:
            raise InputError(
                f"the saved run has {key} = {theirs!r}, this one {mine!r}",
                where=str(path),
                hint="give the same settings to go on, or another output folder",
            )
    for learner, candidate, optimiser in zip(learners, state["candidates"], state["optimisers"], strict=True):
        learner.candidate.restore(candidate)
        learner.optimiser.load_state_dict(optimiser)
    torch.set_rng_state(state["cpu_random"].cpu())
    if state["cuda_random"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda_random"].cpu())
    return int(state["epoch"]), list(state["losses"])
