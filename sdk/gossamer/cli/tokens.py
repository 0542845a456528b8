"""``gossamer tokens``."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import click

from gossamer.cli._common import PATH, json_option, print_json
from gossamer.cli._services import services_module, setting


@click.group("tokens")
def command() -> None:
    """Make, list and revoke the tokens that a server asks for; on the server's machine, also while it runs."""


def _state(function: Any) -> Any:
    function = click.option("--config", "config_path", type=PATH, help="YAML file of the server's settings.")(function)
    return click.option("--data", type=PATH, help="The server's data folder.")(function)


def _store(data: Path | None, config_path: Path | None) -> Any:
    config = services_module("config").load(config_path, [] if data is None else [setting("state.folder", str(data))])
    config.state.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return services_module("serve").open_tokens(config)


@command.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(["read", "submit", "flash", "admin"]),
    help="What it may do; repeat for more. admin includes the others.",
)
@click.option("--days", type=click.FloatRange(0, min_open=True), help="Days until it ends. [default: it does not]")
@_state
@json_option
def create(
    name: str,
    scopes: tuple[str, ...],
    days: float | None,
    data: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Make a token called NAME and print it, this once: the server keeps its hash."""
    token = _store(data, config_path).create(name, scopes, None if days is None else days * 86400)
    if as_json:
        print_json({"name": name, "scopes": sorted(set(scopes)), "token": token})
        return
    click.echo(token)


@command.command("list")
@_state
@json_option
def list_(data: Path | None, config_path: Path | None, as_json: bool) -> None:
    """List names, scopes and states of tokens."""
    found = _store(data, config_path).list()
    if as_json:
        print_json(
            {
                "tokens": [
                    {
                        "name": t.name,
                        "scopes": sorted(t.scopes),
                        "revoked": t.revoked,
                        "created": _date(t.created_s),
                        "expires": None if t.expires_s is None else _date(t.expires_s),
                    }
                    for t in found
                ]
            }
        )
        return
    for t in found:
        ends = "revoked" if t.revoked else "does not end" if t.expires_s is None else f"ends {_date(t.expires_s)}"
        click.echo(f"{t.name}  {','.join(sorted(t.scopes))}  {ends}")


@command.command("revoke")
@click.argument("name")
@_state
def revoke(name: str, data: Path | None, config_path: Path | None) -> None:
    """Refuse the token called NAME from now on."""
    _store(data, config_path).revoke(name)
    click.echo(f"revoked {name}")


def _date(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
