"""``gossamer profile compare``."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
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
  gossamer profile compare dense.goss sparse.goss --rounds 5   (by turns: clocks drift)
"""


@click.command("compare", epilog=_EPILOG)
@click.argument("a")
@click.argument("b")
@click.option("--runs", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Timed inferences.")
@click.option("--warmup", type=click.IntRange(0, 100_000), default=5, show_default=True, help="Inferences before them.")
@click.option(
    "--rounds",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Measure A and B by turns, this many times each; for two sides that get measured.",
)
@session_options
@json_option
def command(a: str, b: str, runs: int, warmup: int, rounds: int, as_json: bool, **options: Any) -> None:
    """Show two profiles side by side, operator by operator, with the ratio B/A of their medians.

    A and B are each a file of 'gossamer profile --json' (or of the static gossamer-profile --json), a bundle, which is
    measured on this machine, or device:NAME, a device that was added, which measures the bundle it runs. --runs and
    --warmup are for what gets measured, --runs in every round; the other options for bundles measured here.
    """
    from gossamer._profile_compare import compare
    from gossamer._profile_rounds import by_turns

    sides = [_Side(text, runs, warmup, options) for text in (a, b)]
    if rounds == 1:
        found = compare(*(side.once() for side in sides))
    else:
        for side in sides:
            if side.saved:
                raise click.UsageError(f"--rounds measures both sides anew, and {side.text} is a saved profile")
        with contextlib.ExitStack() as stack:
            measure = [stack.enter_context(side.opened()) for side in sides]
            found = by_turns(measure[0], measure[1], rounds)
    if as_json:
        print_json(found.to_json())
        return
    click.echo(found.table())
    click.echo()
    click.echo(found.summary())


class _Side:
    """What one argument names: ``saved`` is a file to read, else a bundle or a device to measure.

    Raises:
        InputError: there is no such file.
    """

    def __init__(self, text: str, runs: int, warmup: int, options: dict[str, Any]) -> None:
        from gossamer._errors import InputError

        self.text = text
        self._runs, self._warmup = runs, warmup
        self._options = options
        self._device = text.removeprefix("device:") if text.startswith("device:") else None
        path = Path(text)
        if self._device is None and not path.exists():
            raise InputError(
                "no such file",
                where=text,
                hint="a profile's JSON, a bundle, or device:NAME for a device that was added",
            )
        self.saved = self._device is None and path.is_file() and _is_json(path)

    def once(self) -> Side:
        """The side, read or measured."""
        from gossamer._profile_compare import parse

        if self.saved:
            return parse(_read(Path(self.text)), self.text)
        with self.opened() as measure:
            return measure()

    @contextlib.contextmanager
    def opened(self) -> Iterator[Callable[[], Side]]:
        """What measures it, as often as wanted."""
        from gossamer._profile_compare import parse

        if self._device is not None:
            from gossamer.device import book
            from gossamer.device.target import open_device

            with contextlib.closing(open_device(book.find(self._device).check())) as device:
                yield lambda: parse(device.profile(runs=self._runs, warmup=self._warmup)[0], self.text)
            return
        with open_session(Path(self.text), self._options) as session:
            yield lambda: parse(json.dumps(session.profile(self._runs, self._warmup).to_json()), self.text)


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
