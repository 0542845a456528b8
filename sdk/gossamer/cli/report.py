"""``gossamer report``."""

from __future__ import annotations

from pathlib import Path

import click

from gossamer.cli._common import PATH, json_option, print_json

_EPILOG = """\b
Example:
  gossamer report model.goss -i photos/ --against model.onnx -o report.html
"""


@click.command("report", epilog=_EPILOG)
@click.argument("bundle", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="HTML file to write.")
@click.option("-i", "--input", "inputs", type=PATH, multiple=True, help="Pictures to run and show.")
@click.option("--against", type=PATH, help="The original model: compare outputs.")
@click.option("--runs", type=click.IntRange(1), default=50, show_default=True, help="Timed inferences.")
@click.option("--no-verify", is_flag=True, help="Do not check the signature.")
@json_option
def command(
    bundle: Path,
    output: Path,
    inputs: tuple[Path, ...],
    against: Path | None,
    runs: int,
    no_verify: bool,
    as_json: bool,
) -> None:
    """Write one self-contained HTML page: pictures with decisions, layers, sizes, accuracy, latency."""
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
