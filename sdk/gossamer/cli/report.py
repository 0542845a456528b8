"""``gossamer report``: a page about a bundle, and ``gossamer report pareto``: a page about many trained networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gossamer.cli._common import PATH, json_option, print_json

_EPILOG = """\b
Examples:
  gossamer report model.goss -i photos/ --against model.onnx -o report.html
  gossamer report pareto records/ -o pareto.html --png pareto.png
"""
_PARETO_EPILOG = """\b
Example:
  gossamer report pareto records/ -o pareto.html --png pareto.png

Records come from `python -m tools.person_records`. Latencies of two machines are refused.
"""


class _BundleByDefault(click.Group):
    """``report model.goss`` is ``report bundle model.goss``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["bundle", *args]
        return super().parse_args(ctx, args)


@click.group("report", cls=_BundleByDefault, epilog=_EPILOG)
def command() -> None:
    """Write a self-contained HTML page about a bundle, or about many trained networks.

    A bundle is taken without naming the command: `gossamer report model.goss`.
    """


@command.command("bundle", epilog=_EPILOG)
@click.argument("bundle", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="HTML file to write.")
@click.option("-i", "--input", "inputs", type=PATH, multiple=True, help="Pictures to run and show.")
@click.option("--against", type=PATH, help="The original model: compare outputs.")
@click.option("--runs", type=click.IntRange(1), default=50, show_default=True, help="Timed inferences.")
@click.option("--no-verify", is_flag=True, help="Do not check the signature.")
@json_option
def of_bundle(
    bundle: Path,
    output: Path,
    inputs: tuple[Path, ...],
    against: Path | None,
    runs: int,
    no_verify: bool,
    as_json: bool,
) -> None:
    """Pictures with decisions, layers, sizes, accuracy, latency of one bundle."""
    from gossamer import _atomic, _images
    from gossamer._errors import located
    from gossamer.bundle.sign import read
    from gossamer.report import bundle_report

    _atomic.check_target(output)
    data = read(bundle)
    photos = [(p.name, _images.open_image(p)) for p in _images.image_files(inputs)] if inputs else []
    with located(str(bundle)):
        page = bundle_report(data, photos=photos, against=against, runs=runs, verify=not no_verify, where=str(bundle))
    path = _atomic.write_text(output, page)
    if as_json:
        print_json({"report": str(path), "bytes": len(page.encode())})
        return
    click.echo(f"wrote {path}")


@command.command("pareto", epilog=_PARETO_EPILOG)
@click.argument("records", type=PATH, nargs=-1, required=True)
@click.option("-o", "--output", type=PATH, required=True, help="HTML file to write.")
@click.option("--png", type=PATH, help="Write the plot here, too.")
@click.option("--split", type=click.Choice(["test", "val"]), default="test", show_default=True, help="Which photos.")
@json_option
def pareto(records: tuple[Path, ...], output: Path, png: Path | None, split: Any, as_json: bool) -> None:
    """Accuracy against measured latency and size of the networks in RECORDS (files or folders): is pruning worth it?

    Sparse networks are compared with dense ones of equal size and of equal latency, and methods with each other.
    """
    from gossamer import _atomic
    from gossamer.report.pareto import collect, render

    for target in filter(None, (output, png)):
        _atomic.check_target(target)
    data = collect(records, split=split)
    path = _atomic.write_text(output, render(data))
    if png is not None:
        _atomic.write(png, data.png())
    if as_json:
        print_json({"report": str(path), "png": str(png) if png else None, **data.to_json()})
        return
    for warning in data.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(data.table())
    click.echo(f"wrote {path}" + (f" and {png}" if png else ""))
