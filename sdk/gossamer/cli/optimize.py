"""``gossamer optimize``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gossamer.cli._common import PATH, json_option, print_json

_EPILOG = """\b
Example:
  gossamer optimize model.onnx -r recipe.yaml --calibration photos/ -o model.goss
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
@click.option("--report", type=PATH, help="Write an HTML report here as well.")
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
    license: str,
    labels: Path | None,
    preprocess: str | None,
    shapes: dict[str, tuple[int, ...]],
    report: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Prune, quantise and compile MODEL (.onnx, .tflite or .pt2) into a signed bundle.

    Prints per layer the sparsity, the kernel, dense and sparse time, and why a layer stayed dense.
    """
    from gossamer import _atomic
    from gossamer._errors import ModelError
    from gossamer._optimize import STAGES, optimize
    from gossamer.cli._progress import Bar

    if key and unsigned:
        raise click.UsageError("--key and --unsigned exclude each other")
    if not model.is_file():
        wrong = "this is a folder, not a model file" if model.is_dir() else "no such model file"
        raise ModelError(wrong, where=str(model), hint="check the path")
    if report is not None:
        _atomic.check_target(report)
    with Bar(STAGES, quiet=quiet or as_json) as bar:
        result = optimize(
            model,
            recipe,
            list(calibration) or None,
            output,
            key=False if unsigned else key,
            name=name,
            version=model_version,
            license=license,
            labels=_labels(labels),
            preprocess=preprocess,
            input_shapes=shapes,
            progress=bar,
        )
    written: dict[str, Any] = {}
    if report is not None:
        from gossamer.report import bundle_report

        written["report"] = str(_atomic.write_text(report, bundle_report(result.data, where=str(output))))
    if as_json:
        print_json({**result.to_json(), **written})
        return
    click.echo(result.table())
    click.echo()
    click.echo(result.summary())
    from gossamer.bundle.verify import signer

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
