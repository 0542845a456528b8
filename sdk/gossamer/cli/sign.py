"""``gossamer sign``."""

from __future__ import annotations

from pathlib import Path

import click

from gossamer.cli._common import PATH, json_option, print_json

_EPILOG = """\b
Example:
  gossamer sign model.goss -k release
"""


@click.command("sign", epilog=_EPILOG)
@click.argument("bundle", type=PATH)
@click.option("-k", "--key", default="default", show_default=True, help="Key by name, or a .key file.")
@click.option("-o", "--output", type=PATH, help="Write here. [default: in place]")
@json_option
def command(bundle: Path, key: str, output: Path | None, as_json: bool) -> None:
    """Sign BUNDLE with an Ed25519 key, replacing any signature it has."""
    from gossamer.bundle.sign import read, sign_file
    from gossamer.bundle.verify import signer

    path = sign_file(bundle, key, output)
    who = signer(read(path))
    if as_json:
        print_json({"bundle": str(path), "signer": who.fingerprint, "trusted": who.trusted})
        return
    click.echo(f"{path}: {who}")
