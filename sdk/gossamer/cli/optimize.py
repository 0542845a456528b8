"""``gossamer optimize``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gossamer.cli._common import PATH, json_option, print_json

if TYPE_CHECKING:
    from gossamer._result import OptimizeResult

_EPILOG = """\b
Example:
  gossamer optimize model.onnx -r recipe.yaml --calibration photos/ -o model.goss
  gossamer optimize model.onnx -r 1x4-75-int8 -c photos/ -o model.goss \\
      --max-accuracy-drop 0.01 --eval-data labels.csv --eval-split val --report report.html
  gossamer optimize model.onnx -r 1x4-75-gradual-int8 -c photos/ -o model.goss --train-data labelled/
"""


def _shapes(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    found = {}
    for text in values:
        name, _, dims = text.rpartition("=")
        try:
            found[name] = tuple(int(d) for d in dims.split(","))
        except ValueError:
            raise click.BadParameter(f"{text!r} is not NAME=1,3,224,224") from None
        if not name or min(found[name]) < 1:
            raise click.BadParameter(f"{text!r} is not NAME=1,3,224,224")
    return found


@click.command("optimize", epilog=_EPILOG)
@click.argument("model", type=PATH)
@click.option("-r", "--recipe", required=True, help="Recipe: a YAML file or a name from 'gossamer recipes list'.")
@click.option("-o", "--output", type=PATH, required=True, help="Bundle to write (.goss).")
@click.option(
    "-c",
    "--calibration",
    type=PATH,
    multiple=True,
    help="Pictures, folders of pictures, or .npy/.npz files. Needed when the recipe quantises a float model.",
)
@click.option("-k", "--key", help="Sign with this key (name or .key file). [default: the key 'default']")
@click.option("--unsigned", is_flag=True, help="Leave the bundle unsigned.")
@click.option("--name", help="Name of the model. [default: the file's stem]")
@click.option("--model-version", default="", help="Version of the model, for the manifest.")
@click.option(
    "--rollback-counter",
    type=click.IntRange(0, (1 << 32) - 1),
    default=0,
    show_default=True,
    help="Devices that have committed a bundle with a higher one refuse this bundle.",
)
@click.option("--license", default="", help="SPDX licence of the model, for the manifest.")
@click.option("--labels", type=PATH, help="Text file with one class name a line.")
@click.option(
    "--preprocess",
    type=click.Choice(["unit", "signed", "imagenet", "raw"]),
    help="How pictures become inputs: 0..1, -1..1, ImageNet's mean and deviation, or bytes. [default: the recipe's]",
)
@click.option(
    "--shape", "shapes", multiple=True, callback=_shapes, metavar="NAME=1,3,224,224", help="Fix a dynamic input."
)
@click.option(
    "--max-accuracy-drop",
    type=click.FloatRange(0.0, 1.0, max_open=True),
    help="Choose each layer's sparsity: the fastest bundle that loses at most this much accuracy, such as 0.01.",
)
@click.option(
    "--latency-ms",
    type=click.FloatRange(0.0, min_open=True),
    help="Choose each layer's sparsity: the bundle that loses least among those as fast as this on this machine.",
)
@click.option(
    "--eval-data",
    type=PATH,
    help="What accuracy is measured on: a folder with a subfolder a class, a .csv of file,label, an .npz with x and y.",
)
@click.option("--eval-split", help="Rows of a .csv with a column 'split'.")
@click.option(
    "--metric",
    type=click.Choice(["balanced_accuracy", "accuracy"]),
    default="balanced_accuracy",
    show_default=True,
    help="Balanced: the mean over classes of the accuracy on each.",
)
@click.option("--train-data", type=PATH, help="Examples for the recipe's train step, in the forms of --eval-data.")
@click.option("--train-split", help="Rows of a .csv with a column 'split'.")
@click.option("--checkpoint", type=PATH, help="Folder for the training's checkpoints; a run found there goes on.")
@click.option("--report", type=PATH, help="Write an HTML report here as well; of a search also its plot as a PNG.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@json_option
def command(
    model: Path,
    recipe: str,
    output: Path,
    calibration: tuple[Path, ...],
    key: str | None,
    unsigned: bool,
    name: str | None,
    model_version: str,
    rollback_counter: int,
    license: str,
    labels: Path | None,
    preprocess: str | None,
    shapes: dict[str, tuple[int, ...]],
    max_accuracy_drop: float | None,
    latency_ms: float | None,
    eval_data: Path | None,
    eval_split: str | None,
    metric: str,
    train_data: Path | None,
    train_split: str | None,
    checkpoint: Path | None,
    report: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Prune, quantise and compile MODEL (.onnx, .tflite or .pt2) into a signed bundle.

    Prints per layer the sparsity, the kernel, dense and sparse time, and why a layer stayed dense. With
    --max-accuracy-drop or --latency-ms the sparsity of each layer is found by measuring; the recipe says pattern and
    layers. With a recipe that trains, the model is fine-tuned while it becomes sparse.
    """
    from gossamer import _atomic
    from gossamer._errors import ModelError
    from gossamer.cli._search import check_report

    if key and unsigned:
        raise click.UsageError("--key and --unsigned exclude each other")
    automatic = max_accuracy_drop is not None or latency_ms is not None
    if max_accuracy_drop is not None and latency_ms is not None:
        raise click.UsageError("--max-accuracy-drop and --latency-ms exclude each other")
    if automatic != (eval_data is not None):
        raise click.UsageError("--eval-data and one of --max-accuracy-drop and --latency-ms need each other")
    if automatic and rollback_counter:
        raise click.UsageError("--rollback-counter cannot be combined with a search")
    for data, split, kind in ((eval_data, eval_split, "eval"), (train_data, train_split, "train")):
        if split is not None and data is None:
            raise click.UsageError(f"--{kind}-split needs --{kind}-data")
    if not model.is_file():
        wrong = "this is a folder, not a model file" if model.is_dir() else "no such model file"
        raise ModelError(wrong, where=str(model), hint="check the path")
    if report is not None:
        check_report(report, {"model": model, "bundle": output}, searched=automatic)
    options: dict[str, Any] = {
        "key": False if unsigned else key,
        "name": name,
        "version": model_version,
        "license": license,
        "labels": _labels(labels),
        "preprocess": preprocess,
        "input_shapes": shapes,
        "train_data": train_data,
        "train_split": train_split,
        "checkpoint": checkpoint,
    }
    arguments = (model, recipe, list(calibration) or None, output)
    silent = quiet or as_json
    if automatic:
        from gossamer.cli._search import search

        goal = {"max_accuracy_drop": max_accuracy_drop, "latency_ms": latency_ms}
        options |= {"eval_data": eval_data, "eval_split": eval_split, "metric": metric, **goal}
        search(arguments, options, report=report, quiet=silent, as_json=as_json)
        return
    from gossamer._optimize import STAGES, optimize
    from gossamer.cli._progress import Bar

    with Bar(STAGES, quiet=silent) as bar:
        result = optimize(*arguments, progress=bar, rollback_counter=rollback_counter, **options)
    written: dict[str, Any] = {}
    if report is not None:
        from gossamer.report import bundle_report

        written["report"] = str(_atomic.write_text(report, bundle_report(result.data, where=str(output))))
    if as_json:
        print_json({**result.to_json(), **written})
        return
    show(result, report)


def show(result: OptimizeResult, report: Path | None) -> None:
    """A finished bundle as text: its layers, sizes, times and signature."""
    from gossamer.bundle.verify import signer

    click.echo(result.table())
    click.echo()
    click.echo(result.summary())
    click.echo(f"signature {signer(result.data)}")
    if report is not None:
        click.echo(f"report   {report}")


def _labels(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    from gossamer._errors import InputError

    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"cannot read the labels: {e}", where=str(path), hint="a text file, one name a line") from e
