"""``gossamer person train``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import click

from gossamer.cli._common import PATH, json_option, print_json

_EPILOG = """\b
Examples:
  gossamer person train --data person128/ -o run --candidate v1-0.25 --epochs 20
  gossamer person train --data wake_vision/ -o run --candidate v1-0.35+gradual-magnitude:1x4:0.75 \\
    --teacher mcunet-320kb-1mb_vww.tflite
"""


@click.command("train", short_help="Train detectors, with teachers and sparsity.", epilog=_EPILOG)
@click.option("--data", "folder", type=PATH, required=True, help="Folder of the photos.")
@click.option(
    "--layout",
    type=click.Choice(("auto", "person128", "wake-vision", "coco")),
    default="auto",
    show_default=True,
    help="Published layout of the data.",
)
@click.option("--train-split", help="Split to train on. [default: train, else train_quality]")
@click.option("--val-split", help="Split to choose by. [default: val or validation]")
@click.option("-o", "--output", type=PATH, required=True, help="Folder of weights, ONNX files, state and run.json.")
@click.option(
    "--candidate",
    "candidates",
    multiple=True,
    help="Network with options, such as v1-0.25, mcunet-1-grey or v1-0.75+granet:1x4:0.9+seed:1; several side by side.",
)
@click.option("--teacher", "teachers", type=PATH, multiple=True, help="Detector to learn from (.tflite, .npz).")
@click.option(
    "--teacher-person-first", type=PATH, multiple=True, help="The same, for one whose outputs are person, no person."
)
@click.option("--epochs", type=click.IntRange(1), help="Passes over the bank of views.")
@click.option("--bank", type=click.IntRange(2), help="Augmented views made at the start.")
@click.option("--batch", type=click.IntRange(2), help="Views a step.")
@click.option("--warmup", type=click.IntRange(0), help="Steps with a rising learning rate.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="Peak of the cosine schedule.")
@click.option("--distill", type=click.FloatRange(0, 1), help="Share of the teachers in the target.")
@click.option("--seed", type=int, help="Of weights, draws and views.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Let the schedule follow the clock instead.")
@click.option("--init", type=PATH, help="Folder where candidates with +from:NAME find NAME.pt.")
@click.option("--device", help="cpu or cuda. [default: cuda when there is one]")
@click.option("--stop-after", type=click.IntRange(1), help="Leave after this many epochs in all; go on later.")
@json_option
def train(
    folder: Path,
    layout: str,
    train_split: str | None,
    val_split: str | None,
    output: Path,
    candidates: tuple[str, ...],
    teachers: tuple[Path, ...],
    teacher_person_first: tuple[Path, ...],
    seconds: float | None,
    init: Path | None,
    device: str | None,
    stop_after: int | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train person detectors on labelled photos; run again with the same options to go on after an interruption.

    Photos that cannot be read are skipped and named. Everything runs on a CPU too, slowly.
    """
    from gossamer._errors import BackendError, InputError
    from gossamer.cli._progress import Bar
    from gossamer.person.dataset import open_photos
    from gossamer.person.dataset.training_view import TrainingView

    try:
        import torch  # noqa: F401 - checked before the long reading
    except ImportError as e:
        raise BackendError("training needs torch", hint="pip install 'gossamer[torch]'") from e
    from gossamer.person.candidates import parse
    from gossamer.person.fitting import fit
    from gossamer.person.models import build
    from gossamer.person.teacher_check import check_direction, open_teachers
    from gossamer.person.training import TrainSettings, initial_digests

    chosen: dict[str, Any] = {k: v for k, v in settings.items() if v is not None}
    if candidates:
        chosen["candidates"] = candidates
    texts = chosen.get("candidates", TrainSettings().candidates)
    for recipe in map(parse, texts):
        build(recipe.network)
        if recipe.start and init is None:
            raise InputError(f"+from:{recipe.start} needs a folder", hint="give --init FOLDER that holds NAME.pt")
    if init is not None:
        chosen["initial"] = initial_digests(texts, init)
    marks = open_teachers(teachers, teacher_person_first)
    with Bar(["read"], quiet=as_json) as bar:
        photos = open_photos(folder, layout)
        people = TrainingView(photos, train_split, val_split, progress=functools.partial(bar, "read"))
    if marks:
        check_direction(marks, people)
    record = fit(
        people,  # type: ignore[arg-type]  # the training loop asks for what every PhotoSet has
        TrainSettings(**chosen),
        output,
        teachers=marks,
        device=device,
        seconds=seconds,
        initial=init,
        stop_after=stop_after,
        log=lambda line: None if as_json else click.echo(line),
    )
    if as_json:
        print_json({**record, "output": str(output), "skipped": people.skipped.to_json()})
        return
    from gossamer.person.evaluation_tables import percent

    for name, report in record["val"].items():
        r = report["all"]
        click.echo(f"{name}: val balanced accuracy {percent(r['balanced_accuracy'])}")
    for file, reason in people.skipped.named[:20]:
        click.echo(f"skipped  {file}: {reason}", err=True)
    if people.skipped.count:
        click.echo(f"{people.skipped.count} photos skipped: they could not be read", err=True)
    click.echo(f"wrote {output}")
