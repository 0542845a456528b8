"""``gossamer keys``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gossamer.cli._common import PATH, json_option, print_json

_EPILOG = """\b
Examples:
  gossamer keys new release
  gossamer keys trust colleague.pub
"""


@click.group("keys", epilog=_EPILOG)
def command() -> None:
    """Make, list and trust Ed25519 keys. They live under GOSSAMER_HOME (default ~/.config/gossamer)."""


@command.command("new", epilog="\b\nExample:\n  gossamer keys new release\n")
@click.argument("name", default="default")
@click.option("--folder", type=PATH, help="Put the pair here instead, and do not trust it.")
@json_option
def new(name: str, folder: Path | None, as_json: bool) -> None:
    """Make a key pair called NAME (default: default) and trust it here. Never overwrites."""
    from gossamer.bundle import keys

    made = keys.new_key(name, folder)
    if as_json:
        print_json(_record(made))
        return
    click.echo(f"private key {made.private} (mode 0600: keep it to yourself)")
    click.echo(f"public key  {made.public_path} ({made.fingerprint})")
    if made.trusted:
        click.echo("this machine now runs what you sign with it")


@command.command("list", epilog="\b\nExample:\n  gossamer keys list --json\n")
@json_option
def list_(as_json: bool) -> None:
    """List own keys and trusted ones."""
    from gossamer._tables import columns
    from gossamer.bundle import keys

    found = keys.list_keys()
    if as_json:
        print_json({"home": str(keys.home()), "keys": [_record(k) for k in found]})
        return
    rows = [
        [k.name, k.fingerprint, "yes" if k.trusted else "no", "yes" if k.private else "no", str(k.public_path)]
        for k in found
    ]
    click.echo(columns(["name", "fingerprint", "trusted", "can sign", "public key"], rows, left={0, 1, 2, 3, 4}))
    if not found:
        click.echo(f"no keys under {keys.home()}; make one with 'gossamer keys new'")


@command.command("trust", epilog="\b\nExample:\n  gossamer keys trust colleague.pub\n")
@click.argument("public", type=PATH)
@click.option("--name", help="Name in the trust store. [default: the file's stem]")
@json_option
def trust(public: Path, name: str | None, as_json: bool) -> None:
    """Run bundles signed with the key of this PUBLIC .pub file from now on."""
    from gossamer.bundle import keys

    added = keys.trust(public, name)
    if as_json:
        print_json(_record(added))
        return
    click.echo(f"trusting {added.name} ({added.fingerprint})")


@command.command("untrust", epilog="\b\nExample:\n  gossamer keys untrust colleague\n")
@click.argument("name")
@json_option
def untrust(name: str, as_json: bool) -> None:
    """Stop trusting the key called NAME."""
    from gossamer.bundle import keys

    gone = keys.untrust(name)
    if as_json:
        print_json({"removed": str(gone)})
        return
    click.echo(f"no longer trusting {name}")


def _record(key: Any) -> dict[str, Any]:
    return {
        "name": key.name,
        "fingerprint": key.fingerprint,
        "public_path": str(key.public_path),
        "private_path": str(key.private) if key.private else None,
        "trusted": key.trusted,
    }
