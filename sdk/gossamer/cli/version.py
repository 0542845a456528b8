"""``gossamer version``."""

from __future__ import annotations

import click

from gossamer.cli._common import json_option, print_json


@click.command("version", epilog="\b\nExample:\n  gossamer version --json\n")
@json_option
def command(as_json: bool) -> None:
    """Show the versions of Gossamer, its runtime and its native core."""
    from gossamer._version import __version__
    from gossamer_runtime import __version__ as runtime
    from gossamer_runtime._native import core_version

    value = {"gossamer": __version__, "gossamer-runtime": runtime, "core": core_version()}
    if as_json:
        print_json(value)
        return
    for name, text in value.items():
        click.echo(f"{name} {text}")
