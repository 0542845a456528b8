"""``gossamer diff``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from gossamer.cli._common import PATH, json_option, print_json

_EPILOG = """\b
Example:
  gossamer diff old.goss new.goss
"""


@click.command("diff", epilog=_EPILOG)
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@json_option
def command(a: Path, b: Path, as_json: bool) -> int:
    """Compare bundles A and B: sections, signature, manifest, operators, weights.

    Exit code 0 when they are the same byte for byte, 14 when they differ.
    """
    from gossamer._errors import MismatchError
    from gossamer.bundle.diff import diff
    from gossamer.bundle.sign import read

    found = diff(read(a), read(b), (str(a), str(b)))
    if as_json:
        print_json({"a": str(a), "b": str(b), "equal": not found, "differences": [asdict(d) for d in found]})
    elif not found:
        click.echo("the bundles are the same, byte for byte")
    else:
        for difference in found:
            click.echo(str(difference))
    return MismatchError.exit_code if found else 0
