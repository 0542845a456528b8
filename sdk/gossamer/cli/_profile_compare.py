"""``gossamer profile compare``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gossamer.cli._common import json_option, open_session, print_json, session_options

if TYPE_CHECKING:
    from gossamer._profile_compare import Side

_EPILOG = """\b
Examples:
  gossamer profile compare dense.goss sparse.goss
  gossamer profile compare before.json after.json --json
  gossamer profile compare device:pi device:phone
  gossamer profile compare model.goss device:pi
"""


@click.command("compare", epilog=_EPILOG)
@click.argument("a")
@click.argument("b")
@click.option("--runs", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Timed inferences.")
@click.option("--warmup", type=click.IntRange(0, 100_000), default=5, show_default=True, help="Inferences before them.")
@session_options
@json_option
def command(a: str, b: str, runs: int, warmup: int, as_json: bool, **options: Any) -> None:
    """Show two profiles side by side, operator by operator, with the ratio B/A of their medians.

    A and B are each a file of 'gossamer profile --json' (or of the static gossamer-profile --json), a bundle, which is
    measured on this machine, or device:NAME, a device that was added, which measures the bundle it runs. --runs and
    --warmup are for what gets measured; the other options for bundles measured here.
    """
    from gossamer._profile_compare import compare

    sides = [_side(text, runs, warmup, options) for text in (a, b)]
    found = compare(*sides)
    if as_json:
        print_json(found.to_json())
        return
    click.echo(found.table())
    click.echo()
    click.echo(found.summary())


def _side(text: str, runs: int, warmup: int, options: dict[str, Any]) -> Side:
    """Read or measure one side."""
    import json

    from gossamer._errors import InputError
    from gossamer._profile_compare import parse

    if text.startswith("device:"):
        return parse(_on_device(text.removeprefix("device:"), runs, warmup), text)
    path = Path(text)
    if not path.exists():
        raise InputError(
            "no such file", where=text, hint="a profile's JSON, a bundle, or device:NAME for a device that was added"
        )
    if path.is_file() and _is_json(path):
        return parse(_read(path), text)
    with open_session(path, options) as session:
        return parse(json.dumps(session.profile(runs=runs, warmup=warmup).to_json()), text)


def _on_device(name: str, runs: int, warmup: int) -> str:
    from gossamer.device import book
    from gossamer.device.target import open_device

    with contextlib.closing(open_device(book.find(name).check())) as device:
        return device.profile(runs=runs, warmup=warmup)[0]


def _is_json(path: Path) -> bool:
    """Told by the name or the first byte: bundles begin with neither."""
    if path.suffix == ".json":
        return True
    try:
        with path.open("rb") as f:
            return f.read(64).lstrip().startswith(b"{")
    except OSError:
        return False  # opening it as a bundle says why


def _read(path: Path) -> str:
    from gossamer._errors import InputError

    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"cannot read the profile: {e}", where=str(path)) from e
