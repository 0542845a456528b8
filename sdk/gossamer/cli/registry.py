"""``gossamer registry``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gossamer.cli._common import PATH, json_option, print_json
from gossamer.cli._server import client_of, id_text, labels_of, registry_options, time_text, version_text

if TYPE_CHECKING:
    from gossamer.client import Client, Version

_EPILOG = """\b
Examples:
  gossamer registry push model.goss person/1.4.0 --channel canary
  gossamer registry list person
  gossamer registry channel person@stable 1.4.0

\b
Where the registry is served apart, the variables GOSSAMER_REGISTRY and GOSSAMER_REGISTRY_TOKEN say
where, and with which token.

\b
Exit codes besides those of 'gossamer --help': 8 not a bundle, 10 there is no such version, or it exists
with other bytes, 17 the server does not answer, 19 nothing to do, 23 token or certificate refused.
"""

_ALL = 1_000_000
_CHANNEL = click.Choice(["stable", "canary"])


@click.group("registry", epilog=_EPILOG)
def command() -> None:
    """Push bundles to a server's registry, list their versions, and point channels at them."""


@command.command("push", epilog="\b\nExample:\n  gossamer registry push model.goss person/1.4.0\n")
@click.argument("bundle_file", metavar="FILE", type=PATH)
@click.argument("version", metavar="NAME/VERSION")
@click.option("--channel", type=_CHANNEL, help="Also point this channel at it.")
@click.option("--description", default="", help="For people.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label of the version; repeat.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@registry_options
@json_option
def push(
    bundle_file: Path,
    version: str,
    channel: str | None,
    description: str,
    labels: tuple[str, ...],
    quiet: bool,
    as_json: bool,
    **server: Any,
) -> int:
    """Make the bundle in FILE a version of NAME in the registry. The upload goes on where an earlier try broke off.

    Exit code 19 when it is that version already, and the channel names it.
    """
    from gossamer._errors import EXIT_NOTHING_TO_DO
    from gossamer.cli._transfer import TransferBar

    name, number = _pair(version, "/", "NAME/VERSION, such as person/1.4.0")
    wanted = {key: value for key, value in labels_of(labels).items() if value is not None}
    with client_of(**server, registry=True) as client:
        with TransferBar("push", quiet=quiet or as_json) as bar:
            digest = client.upload(bundle_file, bar)
        made, new = _publish(client, digest, name, number, description=description, labels=wanted)
        moved = False
        if channel is not None:
            named = {c.name: c.version for c in client.channels(name)}
            moved = named.get(f"bundles/{name}/channels/{channel}") != made.name
            if moved:
                client.set_channel(name, channel, number)
    code = 0 if new or moved else EXIT_NOTHING_TO_DO
    if as_json:
        print_json({"version": made, "new": new, "channel": channel, "channel_moved": moved, "exit_code": code})
        return code
    click.echo(f"pushed {version}: {made.size_bytes} bytes, {made.sha256}" if new else f"{version} is there already")
    if channel is not None:
        click.echo(f"{name}@{channel} names {number}" + ("" if moved else " already"))
    return code


@command.command("list", epilog="\b\nExample:\n  gossamer registry list person\n")
@click.argument("name", default="")
@click.option("-n", "--limit", type=click.IntRange(1), default=100, show_default=True, help="Latest ones to list.")
@registry_options
@json_option
def list_(name: str, limit: int, as_json: bool, **server: Any) -> None:
    """List versions of the bundle NAME, newest first, or of all bundles; and which of them channels name."""
    from gossamer._tables import bytes_text, columns

    with client_of(**server, registry=True) as client:
        versions, channels = client.versions(name, limit=limit), client.channels(name, limit=_ALL)
    if as_json:
        print_json({"versions": versions, "channels": channels})
        return
    named: dict[str, list[str]] = {}
    for channel in channels:
        named.setdefault(channel.version, []).append(id_text(channel.name))
    head = ["version", "channels", "size", "sha256", "model", "key", "created", "creator", "description"]
    rows = [
        [
            version_text(v.name),
            ",".join(named.get(v.name, [])) or "-",
            bytes_text(v.size_bytes),
            v.sha256[:16],
            f"{v.model_name} {v.model_version}".strip() or "-",
            v.key_fingerprint or "unsigned",
            time_text(v.created),
            v.creator or "-",
            v.description or "-",
        ]
        for v in versions
    ]
    click.echo(columns(head, rows, left={0, 1, 3, 4, 5, 6, 7, 8}, widest={8: 40}))
    if not versions:
        click.echo("no versions; 'gossamer registry push' makes one")


@command.command("channel", epilog="\b\nExample:\n  gossamer registry channel person@stable 1.4.0\n")
@click.argument("channel", metavar="NAME@CHANNEL")
@click.argument("version", required=False)
@registry_options
@json_option
def channel_(channel: str, version: str | None, as_json: bool, **server: Any) -> int:
    """Point a channel (stable or canary) at VERSION, or show what it names.

    Exit code 19 when it names it already.
    """
    from gossamer._errors import EXIT_NOTHING_TO_DO, InputError

    name, kind = _pair(channel, "@", "NAME@CHANNEL, such as person@stable")
    code = 0
    with client_of(**server, registry=True) as client:
        known = {c.name: c for c in client.channels(name)}
        found = known.get(f"bundles/{name}/channels/{kind}")
        if version is not None:
            wanted = f"bundles/{name}/versions/{version.removeprefix(f'{name}/')}"
            if found is not None and found.version == wanted:
                code = EXIT_NOTHING_TO_DO
            else:
                found = client.set_channel(name, kind, wanted.rpartition("/")[2])
    if found is None:
        raise InputError(
            f"the channel {channel} names nothing yet", hint=f"'gossamer registry channel {channel} VERSION' points it"
        )
    if as_json:
        print_json({"channel": found, "exit_code": code})
        return code
    before = f", before {version_text(found.previous_version)}" if found.previous_version else ""
    click.echo(f"{'nothing to do: ' if code else ''}{channel} names {version_text(found.version)}{before}")
    return code


def _publish(client: Client, digest: str, name: str, number: str, **options: Any) -> tuple[Version, bool]:
    """The version, and whether it is new."""
    from gossamer.client import RemoteError

    try:
        return client.publish(digest, name, number, **options), True
    except RemoteError as e:
        if e.reason != "VERSION_EXISTS":
            raise
        known = client.version(f"{name}/{number}")
        if known.sha256 != digest:
            e.where = known.name
            e.hint = f"its SHA-256 is {known.sha256[:16]}..., the file's {digest[:16]}...: choose another version"
            raise
        return known, False


def _pair(text: str, between: str, form: str) -> tuple[str, str]:
    first, found, second = text.partition(between)
    if not (first and found and second) or between in second:
        raise click.UsageError(f"{text!r} is not {form}")
    return first, second
