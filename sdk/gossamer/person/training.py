"""Trains person detectors from random weights: several candidates on one bank of augmented, teacher-marked views.

The bank stays on the device as bytes. Candidates differ by what they are and which views they may draw. The weights
that count are an exponential moving average over steps. A run writes its whole state now and then and goes on from
there, on a CPU with the same random numbers.
"""

from __future__ import annotations

import hashlib
import io
import math
import pickle
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
from gossamer.person.weights import read_state


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
        initial: folder with the weights ``<name>.pt`` that candidates start from; their digests, from
            :func:`initial_digests`, are in ``settings.initial``.
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
        InputError: the state is damaged or belongs to other settings, teachers or photos, a setting is wrong, a split
            (or what a candidate may see of it) lacks a label, weights to start from are missing or others, or a loss or
            a weight is no number any more; then the last state is from before that.
        ModelError: a file of weights to start from holds none, or some that are not finite.
        RecipeError: a candidate's recipe would leave a layer empty.
    """
    if settings.epochs < 1 or settings.batch < 2 or settings.bank < 2:
        raise InputError("epochs must be at least 1, batch and bank at least 2", where="TrainSettings")
    if not settings.candidates or len(set(settings.candidates)) < len(settings.candidates):
        raise InputError(
            "candidates must be there, each once" if settings.candidates else "no candidates", where="TrainSettings"
        )
    state = None
    if state_path is not None and Path(state_path).is_file():
        if seconds is not None:
            raise InputError(
                "a run by the clock cannot go on from a state", where=str(state_path), hint="remove the state"
            )
        state = _read_state(Path(state_path), settings)
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
    for split, those in (("train", rows), ("val", val_rows)):
        data.require_both_labels((p.label for p in those), f"{people.folder}, split {split}")
    starts = _starts(recipes, settings, initial, where)
    origin = {"teachers": [[t.name, t.digest()] for t in teachers], "photos": _photos_digest(rows)}
    if state is not None:
        _check_origin(state, origin, state_path)
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
    if state is not None:
        first, losses = _restore(state, learners, where)
        log(f"going on after epoch {first}")
    if where.type == "cuda":
        for learner in learners:
            learner.capture()
        log(f"{len(learners)} graphs after {time.monotonic() - began:.1f} s")
    last = settings.epochs if stop_after is None else min(stop_after, settings.epochs)
    if seconds is not None:
        seconds -= time.monotonic() - began
    began, logged, epoch, done = time.monotonic(), -math.inf, first, first * steps
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
            done = step + 1
        if done == epoch * steps:  # the clock ran out between two epochs
            break
        losses.append([learner.mean_loss() for learner in learners])
        _check_finite(losses[-1], candidates, epoch, state_path)
        epoch += 1
        if time.monotonic() - logged > 20 or epoch == last:
            logged = time.monotonic()
            networks = {c.recipe.text: c.finished() for c in candidates}
            speed = (done - first * steps) / (logged - began)
            log(_progress(epoch, speed, losses[-1], networks, val, val_rows))
            keep(networks)
        if state_path is not None and seconds is None and (epoch % save_every == 0 or epoch == last):
            _save(Path(state_path), epoch, losses, settings, origin, learners)
    networks = {c.recipe.text: c.finished(last=True) for c in candidates}
    return Outcome(
        networks=networks,
        val={name: _val_report(network, val, val_rows) for name, network in networks.items()},
        losses=losses,
        steps=done,
        views_per_second=(done - first * steps) * settings.batch / max(time.monotonic() - began, 1e-9),
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
    path: Path,
    epoch: int,
    losses: list[list[float]],
    settings: TrainSettings,
    origin: dict[str, Any],
    learners: Sequence[Learner],
) -> None:
    state = {
        "settings": asdict(settings),
        **origin,
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


def initial_digests(candidates: Sequence[str], folder: str | Path) -> tuple[tuple[str, str], ...]:
    """``TrainSettings.initial`` for candidates with ``from:<name>``: name and SHA-256 of each ``<folder>/<name>.pt``.

    Raises:
        InputError: a file is missing, or a candidate has another form.
    """
    names = sorted({parse(text).start for text in candidates} - {""})
    return tuple((name, hashlib.sha256(_initial(folder, name)).hexdigest()) for name in names)


def _initial(folder: str | Path, name: str) -> bytes:
    path = Path(folder) / f"{name}.pt"
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"no weights to start from: {error.strerror}", where=str(path)) from error


def _starts(
    recipes: Sequence[Recipe], settings: TrainSettings, folder: str | Path | None, device: torch.device
) -> dict[str, dict[str, Tensor]]:
    """Weights by name for the candidates that start from some, each checked against its digest."""
    digests, found = dict(settings.initial), {}
    for name in sorted({r.start for r in recipes if r.start}):
        if folder is None:
            raise InputError(
                f"+from:{name} needs a folder", where="candidates", hint=f"--init FOLDER (initial=) with {name}.pt"
            )
        content, where = _initial(folder, name), str(Path(folder) / f"{name}.pt")
        if hashlib.sha256(content).hexdigest() != digests.get(name):
            raise InputError("the weights to start from are not those of the settings", where=where)
        found[name] = {k: v.to(device) for k, v in read_state(content, where).items()}
    return found


def _check_finite(
    losses: Sequence[float], candidates: Sequence[Candidate], epoch: int, state_path: str | Path | None
) -> None:
    """Refuse losses and weights that are no numbers: the last step of an epoch may spoil weights, but not its loss."""
    for candidate, loss in zip(candidates, losses, strict=True):
        if not math.isfinite(loss):
            what = "the loss"
        elif not candidate.finite():
            what = "a weight"
        else:
            continue
        saved = state_path is not None and Path(state_path).is_file()
        raise InputError(
            f"{what} of {candidate.recipe.text!r} is no number after epoch {epoch + 1}",
            where="training",
            hint="start again, in another folder, with a lower learning rate"
            + (f"; {state_path} is from before" if saved else ""),
        )


def _photos_digest(rows: Sequence[data.Photo]) -> str:
    return hashlib.sha256("\n".join(f"{p.file} {p.label} {p.source}" for p in rows).encode()).hexdigest()


def _read_state(path: Path, settings: TrainSettings) -> dict[str, Any]:
    """The saved state, of these settings."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        theirs = dict(state["settings"])
        if missing := {"epoch", "losses", "candidates", "optimisers", "cpu_random", "cuda_random"} - state.keys():
            raise KeyError(sorted(missing)[0])
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise InputError(
            "this is no state of a training run, or a damaged one",
            where=str(path),
            hint="remove it to start again, or give another output folder",
        ) from error
    mine = asdict(settings)
    for key in sorted(mine.keys() | theirs.keys()):
        if mine.get(key) != theirs.get(key):
            raise InputError(
                f"the saved run has {key} = {theirs.get(key)!r}, this one {mine.get(key)!r}",
                where=str(path),
                hint="give the same settings to go on, or another output folder",
            )
    return dict(state)


def _check_origin(state: dict[str, Any], origin: dict[str, Any], path: str | Path | None) -> None:
    """Going on is for the same teachers and photos. States from before these were kept say nothing about them."""
    for key, mine in origin.items():
        if key in state and state[key] != mine:
            raise InputError(
                f"the saved run has other {key}",
                where=str(path),
                hint=f"give the same {key} to go on, or another output folder",
            )


def _restore(state: dict[str, Any], learners: Sequence[Learner], device: torch.device) -> tuple[int, list[list[float]]]:
    for learner, candidate, optimiser in zip(learners, state["candidates"], state["optimisers"], strict=True):
        learner.candidate.restore(candidate)
        learner.optimiser.load_state_dict(optimiser)
    torch.set_rng_state(state["cpu_random"])
    if state["cuda_random"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda_random"])
    return int(state["epoch"]), list(state["losses"])
