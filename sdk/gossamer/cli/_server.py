"""What commands that call a server share: how to reach it, and texts of labels, times and durations."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gossamer.cli._common import PATH

if TYPE_CHECKING:
    from gossamer.client import Client

F = TypeVar("F", bound=Callable[..., Any])

ATTEMPTS = 5
"""Of a call: a person waits for the command, some two seconds until it says that nobody answers."""


def server_option(command: F) -> F:
    """--server."""
    return _server_option(command, "GOSSAMER_SERVER")


def server_options(command: F) -> F:
    """--server, --token-file, --ca."""
    return server_option(_options(command))


def registry_options(command: F) -> F:
    """The same for commands that call the registry alone, which may be served apart from the others."""
    return _server_option(_options(command), "GOSSAMER_REGISTRY", "GOSSAMER_SERVER")


def _server_option(command: F, *variables: str) -> F:
    return click.option(
        "--server",
        metavar="HOST:PORT",
        default="localhost:50551",
        envvar=variables,
        show_envvar=True,
        show_default=True,
        help="Address of 'gossamer serve'.",
    )(command)


def _options(command: F) -> F:
    command = click.option("--ca", help="Certificates to trust, a file or 'system'; turns TLS on.")(command)
    return click.option(
        "--token-file", type=PATH, help="A file that holds a token. [default: the variable GOSSAMER_TOKEN]"
    )(command)


@contextlib.contextmanager
def client_of(server: str, token_file: Path | None, ca: str | None, *, registry: bool = False) -> Iterator[Client]:
    """A client of the server that the options name.

    Args:
        registry: they name the registry, whatever GOSSAMER_REGISTRY says.

    Raises:
        BackendError: the packages that it needs are missing.
        InputError: the token file cannot be read or holds no token, or a token would go out unencrypted.
        KeyFileError: the certificates cannot be read.
    """
    from gossamer import _token
    from gossamer._errors import BackendError

    try:
        from gossamer.client import Client, Retry
    except ModuleNotFoundError as e:
        raise BackendError(
            f"the packages for servers are missing (no module {e.name})", hint="pip install 'gossamer[client]'"
        ) from e
    token = None if token_file is None else _token.read(token_file)
    authority = None if ca in (None, "system") else ca
    named = {"registry": server, "registry_token": token} if registry else {}
    tls, retry = True if ca else None, Retry(attempts=ATTEMPTS)
    with Client(server, token=token, ca=authority, tls=tls, retry=retry, **named) as client:
        yield client


class Duration(click.ParamType[float]):
    """Seconds, or a number with s, m, h or d: ``90``, ``15m``, ``2h``."""

    name = "duration"
    _units: Mapping[str, float] = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([smhd]?)", value, re.ASCII)
        if found is None:
            self.fail(f"{value!r} is not a duration such as 90, 15m, 2h or 7d", param, ctx)
        return float(found[1]) * self._units[found[2]]


DURATION = Duration()


def labels_of(texts: Sequence[str], *, removable: bool = False) -> dict[str, str | None]:
    """Labels of ``KEY=VALUE`` texts; where ``removable``, ``KEY-`` gives None.

    Raises:
        click.UsageError: a text is none of them.
    """
    found: dict[str, str | None] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if equals and key:
            found[key] = value
        elif removable and not equals and len(text) > 1 and text.endswith("-"):
            found[text[:-1]] = None
        else:
            raise click.UsageError(f"{text!r} is not KEY=VALUE" + (" or KEY-" if removable else ""))
    return found


def labels_text(labels: Mapping[str, str]) -> str:
    """``a=b,c=d``; ``-`` for none."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or "-"


def time_text(when: datetime | None) -> str:
    """To the second, in UTC; ``-`` for none."""
    return "-" if when is None else when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def ago_text(when: datetime | None) -> str:
    """How long ago that was: ``12 s ago``; ``never`` for none."""
    if when is None:
        return "never"
    seconds = max((datetime.now(UTC) - when).total_seconds(), 0.0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def id_text(name: str) -> str:
    """A resource's id, the last part of its name; ``-`` for none."""
    return name.rpartition("/")[2] or "-"


def state_text(state: str) -> str:
    """A state's name for people: ``fell back``."""
    return state.lower().replace("_", " ")


def version_text(name: str) -> str:
    """A version's short name, ``person/1.4.0``, as commands take it."""
    parts = name.split("/")
    return f"{parts[1]}/{parts[3]}" if len(parts) == 4 and parts[2] == "versions" else name
