"""``gossamer person``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gossamer.cli._common import PATH, json_option, open_session, print_json, session_options
from gossamer.cli._person_train import train

F = TypeVar("F", bound=Callable[..., Any])

_LAYOUTS = ("auto", "person128", "wake-vision", "coco")
_PRESETS = ("unit", "signed", "imagenet", "raw")
_EPILOG = """\b
Example:
  gossamer person evaluate detector.goss --data person128/
"""


@click.group("person", epilog=_EPILOG)
def command() -> None:
    """Person detectors: judge them the Wake Vision way, run them, train them."""


command.add_command(train)


def _model_options(function: F) -> F:
    """--label-order, --preprocess, --network."""
    for option in reversed(
        [
            click.option(
                "--label-order",
                help="Names of the outputs in their order, with commas, one of them 'person'. [default: the model's]",
            ),
            click.option(
                "--preprocess",
                type=click.Choice(_PRESETS),
                help="How pixels become inputs. [default: as the model says]",
            ),
            click.option("--network", help="Network of .pt weights. [default: the start of the file's name]"),
        ]
    ):
        function = option(function)
    return function


def _layout_option(function: F) -> F:
    return click.option(
        "--layout", type=click.Choice(_LAYOUTS), default="auto", show_default=True, help="Published layout of the data."
    )(function)


@command.command(
    "evaluate",
    short_help="Judge a model on labelled photos.",
    epilog="\b\nExamples:\n  gossamer person evaluate detector.goss --data person128/\n"
    "  gossamer person evaluate vww_96_int8.tflite --data wake_vision/ --split validation --html report.html\n",
)
@click.argument("model", type=PATH)
@click.option("--data", "folder", type=PATH, required=True, help="Folder of the photos.")
@_layout_option
@click.option("--split", help="Split to judge on. [default: test, else validation]")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Probability from which a photo is called a person. [default: the largest output wins]",
)
@_model_options
@click.option("--html", "page", type=PATH, help="Write the tables as an HTML page.")
@click.option("--markdown", type=PATH, help="Write the tables as Markdown.")
@session_options
@json_option
def evaluate(
    model: Path,
    folder: Path,
    layout: str,
    split: str | None,
    threshold: float | None,
    label_order: str | None,
    preprocess: str | None,
    network: str | None,
    page: Path | None,
    markdown: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Judge MODEL (.goss, .onnx, .tflite, .pt, or a shipped model's name) on labelled photos.

    Accuracy, balanced accuracy, TPR, TNR, ROC AUC, calibration, by source and by the five fine-grained sets, with
    counts and 95% intervals. Photos that cannot be read are skipped and named; a malformed label is an error.
    """
    from gossamer import _atomic
    from gossamer.cli._progress import Bar
    from gossamer.person.dataset import open_photos
    from gossamer.person.evaluation import evaluate_detector

    for target in (page, markdown):
        if target is not None:
            _atomic.check_target(target)
    detector = _detector(model, label_order, preprocess, network, options)
    photos = open_photos(folder, layout)
    with Bar(["evaluate"], quiet=as_json) as bar:
        report = evaluate_detector(
            detector, photos, split, threshold=threshold, progress=functools.partial(bar, "evaluate")
        )
    written = []
    for target, text in ((page, report.html), (markdown, report.markdown)):
        if target is not None:
            written.append(str(_atomic.write_text(target, text())))
    if as_json:
        print_json({**report.to_json(), "written": written})
        return
    click.echo(report.text())
    for path in written:
        click.echo(f"wrote {path}")


@command.command(
    "data",
    short_help="Count photos by split, source, label and slice.",
    epilog="\b\nExample:\n  gossamer person data wake_vision/ --labels-only\n",
)
@click.argument("folder", type=PATH)
@_layout_option
@click.option("--labels-only", is_flag=True, help="Do not decode the photos: quick, and finds no damaged ones.")
@json_option
def data(folder: Path, layout: str, labels_only: bool, as_json: bool) -> None:
    """Count the photos in FOLDER by split, source, label and slice; name those that cannot be read."""
    from gossamer.cli._progress import Bar
    from gossamer.person.dataset import open_photos
    from gossamer.person.dataset.counts import count_photos

    photos = open_photos(folder, layout)
    with Bar(["read"], quiet=as_json) as bar:
        counts = count_photos(photos, decode=not labels_only, progress=functools.partial(bar, "read"))
    if as_json:
        print_json(counts.to_json())
        return
    click.echo(counts.text())


@command.command(
    "predict",
    short_help="Say of photos whether a model sees a person.",
    epilog="\b\nExample:\n  gossamer person predict detector.goss photo.jpg\n",
)
@click.argument("model", type=PATH)
@click.argument("inputs", type=PATH, nargs=-1, required=True)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Probability from which a photo is called a person. [default: the largest output wins]",
)
@_model_options
@session_options
@json_option
def predict(
    model: Path,
    inputs: tuple[Path, ...],
    threshold: float | None,
    label_order: str | None,
    preprocess: str | None,
    network: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Say of every photo in INPUTS (files or folders) whether MODEL sees a person.

    A photo that cannot be read is skipped and named; exit code 10 when none can.
    """
    from gossamer import _images
    from gossamer._errors import InputError

    detector = _detector(model, label_order, preprocess, network, options)
    results, skipped = [], []
    for path in _images.image_files(inputs):
        try:
            image = _images.open_image(path)
        except InputError as e:
            skipped.append({"file": str(path), "reason": e.message})
            continue
        score = detector.score(image, str(path))
        call = score.called if threshold is None else score.probability >= threshold
        results.append({"file": str(path), "probability": score.probability, "person": call})
    if not results:
        first = skipped[0]
        raise InputError(f"none of {len(skipped)} photos could be read", where=first["file"], hint=first["reason"])
    if as_json:
        print_json({"model": detector.describe(), "results": results, "skipped": skipped})
        return
    for note in detector.assumed:
        click.echo(f"assumed: {note}", err=True)
    for r in results:
        click.echo(f"{100 * r['probability']:6.2f} %  {'person   ' if r['person'] else 'no person'}  {r['file']}")
    for s in skipped:
        click.echo(f"skipped  {s['file']}: {s['reason']}", err=True)


@command.command("models", epilog="\b\nExample:\n  gossamer person models\n")
@json_option
def models(as_json: bool) -> None:
    """List the person detectors that ship with Gossamer."""
    from gossamer._tables import bytes_text, columns
    from gossamer.person._shipped import shipped_models
    from gossamer.person.evaluation_tables import percent

    found = shipped_models()
    if as_json:
        print_json({"models": found})
        return
    rows = [
        [
            m["name"],
            str(m.get("network", "")),
            f"{100 * m['sparsity']:.0f}%" if m.get("sparsity") else "",
            bytes_text(m["bytes"]),
            percent(m["balanced_accuracy"]) if m.get("balanced_accuracy") else "",
            str(m.get("description", "")),
        ]
        for m in found
    ]
    head = ["model", "network", "zeros", "size", "person128 test, balanced accuracy", "what it is"]
    click.echo(columns(head, rows, left={0, 1, 5}))
    click.echo(f"\nfiles: {Path(found[0]['path']).parent}")


def _detector(
    model: Path, label_order: str | None, preprocess: str | None, network: str | None, options: dict[str, Any]
) -> Any:
    from gossamer.person._shipped import shipped_model
    from gossamer.person.detector import open_detector

    if not model.exists() and not model.suffix:
        model = shipped_model(str(model)) or model
    return open_detector(
        model,
        labels=[name.strip() for name in label_order.split(",")] if label_order is not None else None,
        preprocess=preprocess,
        network=network,
        session=lambda path: open_session(path, options),
    )
