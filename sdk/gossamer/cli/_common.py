"""What commands share: options, JSON output, reading bundles."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON; errors are JSON on stderr.")
PATH = click.Path(path_type=Path)


def session_options(command: F) -> F:
    """--threads, --isa, --no-verify, --trusted-key, --allow-unverified-code."""
    for option in reversed(
        [
            click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True, help="Threads."),
            click.option("--isa", help="Use no kernel above this one: scalar, avx2, avxvnni, avx512vnni, neon, ..."),
            click.option("--no-verify", is_flag=True, help="Do not check the signature."),
            click.option(
                "--trusted-key", "trusted_keys", type=PATH, multiple=True, help="Accept only these .pub files."
            ),
            click.option(
                "--allow-unverified-code",
                is_flag=True,
                help="With --no-verify: run compiled machine code inside the bundle all the same.",
            ),
        ]
    ):
        command = option(command)
    return command


def open_session(bundle: Path, options: dict[str, Any]) -> Any:
    """A ``Session`` by the values of ``session_options``."""
    from gossamer_runtime import Session, SignatureError

    trusted = list(options["trusted_keys"]) or None
    try:
        return Session(
            bundle,
            threads=options["threads"],
            isa=options["isa"],
            verify=not options["no_verify"],
            trusted_keys=trusted,
            allow_unverified_code=options["allow_unverified_code"],
        )
    except SignatureError:
        if not options["no_verify"]:  # said in the terms of this command: fingerprints as 'gossamer keys list' has them
            from gossamer.bundle.verify import verify

            verify(bundle.read_bytes(), trusted, where=str(bundle))
        raise


def print_json(value: Any) -> None:
    """Pretty JSON on stdout; what is not a finite number becomes a string, for JSON has none. Dataclasses are objects,
    times are ISO 8601."""
    click.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return value
