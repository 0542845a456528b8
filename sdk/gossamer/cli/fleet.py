"""``gossamer fleet``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gossamer.cli._common import PATH, json_option, print_json
from gossamer.cli._fleet_rollout import rollout
from gossamer.cli._server import (
    DURATION,
    ago_text,
    client_of,
    id_text,
    labels_of,
    labels_text,
    server_options,
    state_text,
    time_text,
    version_text,
)

if TYPE_CHECKING:
    from gossamer.client import DeviceProfile, FleetDevice

_EPILOG = """\b
Examples:
  gossamer fleet token --label site=lab --out pi.token   (see gossamer-agent enroll --help)
  gossamer fleet list cpu=cortex-a76,site!=lab
  gossamer fleet set 3f0c... person/1.4.0
  gossamer fleet rollout start person/1.4.0 site=lab --stage 10:1h --stage 100 --wait
  gossamer fleet profiles --model person

\b
A device is named by its id, a version as NAME/VERSION, or NAME@CHANNEL for what a channel names now.
Exit codes besides those of 'gossamer --help': 10 there is no such device, version or rollout, or it
cannot be changed so, 17 the server does not answer, 19 nothing to do, 20 a rollout halted, 23 token
or certificate refused.
"""


@click.group("fleet", epilog=_EPILOG)
def command() -> None:
    """Enrol devices at a server, say what they run, roll versions out, and see their profiles."""


command.add_command(rollout)


@command.command("token", epilog="\b\nExample:\n  gossamer fleet token --label site=lab --ttl 15m --out pi.token\n")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label that the device gets; repeat.")
@click.option("--ttl", type=DURATION, default="1h", show_default=True, help="How long it is good for: 90, 15m, 2h, 7d.")
@click.option("-o", "--out", type=PATH, help="Write it to this new file, readable by you alone. [default: print it]")
@server_options
@json_option
def token(labels: tuple[str, ...], ttl: float, out: Path | None, as_json: bool, **server: Any) -> None:
    """Make a token with which one device enrols, once. The server keeps its hash: it is shown this once."""
    from gossamer import _atomic
    from gossamer._errors import OutputError

    wanted = {key: value for key, value in labels_of(labels).items() if value is not None}
    if out is not None:
        _atomic.check_target(out)
        if out.exists():
            raise OutputError("the file exists already", where=str(out), hint="choose another name")
    with client_of(**server) as client:
        made = client.fleet.enrollment_token(wanted, lifetime_s=ttl)
    if out is not None:
        _atomic.write(out, f"{made.token}\n".encode(), mode=0o600, overwrite=False)
    if as_json:
        shown = {"token": made.token} if out is None else {"out": str(out)}
        print_json({**shown, "labels": wanted, "expires": made.expires})
        return
    click.echo(made.token if out is None else f"{out}: good until {time_text(made.expires)}, for one device")


@command.command("list", epilog="\b\nExample:\n  gossamer fleet list cpu=cortex-a76,site!=lab\n")
@click.argument("selector", default="")
@server_options
@json_option
def list_(selector: str, as_json: bool, **server: Any) -> None:
    """List devices, or those that SELECTOR fits: comma-separated KEY=VALUE or KEY!=VALUE over labels and facts."""
    from gossamer._tables import columns

    with client_of(**server) as client:
        found = client.fleet.devices(selector)
    if as_json:
        print_json({"devices": found})
        return
    head = ["device", "name", "state", "runs", "desired", "cpu", "arch", "heard", "holder", "labels"]
    rows = [
        [
            id_text(d.name),
            d.display_name or "-",
            _state(d),
            d.status.bundle_sha256[:12] or "-",
            version_text(d.desired_version) or "-",
            d.facts.cpu or "-",
            d.facts.arch or "-",
            ago_text(d.heard),
            d.holder or "-",
            labels_text(d.labels),
        ]
        for d in found
    ]
    click.echo(columns(head, rows, left=set(range(len(head))), widest={1: 24, 9: 60}))
    if not found:
        click.echo("no device matches" if selector else "no devices; 'gossamer fleet token' lets one enrol")


@command.command("show", epilog="\b\nExample:\n  gossamer fleet show 3f0c9a...\n")
@click.argument("device")
@server_options
@json_option
def show(device: str, as_json: bool, **server: Any) -> None:
    """Show what a device is, what it runs, and what it should run."""
    with client_of(**server) as client:
        found = client.fleet.device(device)
    _tell(found, as_json)


@command.command("label", epilog="\b\nExample:\n  gossamer fleet label 3f0c9a... site=lab broken- --name kitchen\n")
@click.argument("device")
@click.argument("labels", nargs=-1, metavar="[KEY=VALUE | KEY-]...")
@click.option("--name", "display_name", help="Name for people; '' removes it.")
@server_options
@json_option
def label(device: str, labels: tuple[str, ...], display_name: str | None, as_json: bool, **server: Any) -> None:
    """Add or replace labels of a device (KEY=VALUE), remove some (KEY-), or name it for people."""
    changes = labels_of(labels, removable=True)
    if not changes and display_name is None:
        raise click.UsageError("nothing to change: give KEY=VALUE, KEY- or --name")
    with client_of(**server) as client:
        found = client.fleet.update(device, labels=changes or None, display_name=display_name)
    _tell(found, as_json)


@command.command("set", epilog="\b\nExample:\n  gossamer fleet set 3f0c9a... person/1.4.0\n")
@click.argument("device")
@click.argument("version", required=False)
@click.option("--clear", is_flag=True, help="Instead of VERSION: nothing is desired, it keeps what it has.")
@server_options
@json_option
def set_(device: str, version: str | None, clear: bool, as_json: bool, **server: Any) -> int:
    """Say which VERSION a device should run. It hears of it with its next heartbeat.

    Exit code 19 when it should already.
    """
    from gossamer._errors import EXIT_NOTHING_TO_DO

    if (version is None) != clear:
        raise click.UsageError("give VERSION or --clear: one of them")
    with client_of(**server) as client:
        before = client.fleet.device(device)
        found = client.fleet.update(device, desired_version=version or "")
    unchanged = before.desired_version == found.desired_version
    code = EXIT_NOTHING_TO_DO if unchanged else 0
    if as_json:
        print_json({"device": found, "unchanged": unchanged, "exit_code": code})
        return code
    wanted = version_text(found.desired_version) or "nothing in particular"
    click.echo(
        f"nothing to do: {id_text(found.name)} should run {wanted}" if unchanged else f"{id_text(found.name)}: {wanted}"
    )
    return code


@command.command("remove", epilog="\b\nExample:\n  gossamer fleet remove 3f0c9a...\n")
@click.argument("device")
@server_options
@json_option
def remove(device: str, as_json: bool, **server: Any) -> None:
    """Remove a device and revoke its certificate; it goes on running what it has, and can enrol again."""
    with client_of(**server) as client:
        found = client.fleet.remove(device)
    if as_json:
        print_json({"removed": found})
        return
    click.echo(f"removed {id_text(found.name)}")


@command.command("profiles", epilog="\b\nExample:\n  gossamer fleet profiles --model person --layer classifier\n")
@click.argument("name", required=False)
@click.option("--model", default="", help="Of this model.")
@click.option("--device", default="", help="Made by this device.")
@click.option("--kernel", default="", help="With an operator that ran on this kernel.")
@click.option("--layer", default="", help="With an operator of this name.")
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="Latest ones to list.")
@server_options
@json_option
def profiles(
    name: str | None, model: str, device: str, kernel: str, layer: str, limit: int, as_json: bool, **server: Any
) -> None:
    """List profiles that devices made, newest first, or show the one called NAME operator by operator.

    With --json, what NAME gives is what 'gossamer profile compare' takes. With --kernel or --layer the operators that
    fit are summed up.
    """
    if name is not None:
        if model or device or kernel or layer:
            raise click.UsageError("NAME and filters exclude each other")
        with client_of(**server) as client:
            show_profile(client.fleet.get_profile(name), as_json)
        return
    with client_of(**server) as client:
        found = client.fleet.profiles(model=model, device=device, kernel=kernel, layer=layer, limit=limit)
    if as_json:
        print_json({"profiles": [profile.to_json() for profile in found]})
        return
    from gossamer._tables import columns

    head = ["profile", "device", "cpu", "model", "bundle", "isa", "runs", "min us", "median us", "p90 us", "started"]
    head += ["fitting operators' median us"] * bool(kernel or layer)
    rows = []
    for profile in found:
        figures, t = profile.figures, profile.figures.latency
        row = [id_text(profile.name), id_text(profile.device), profile.cpu or "-"]
        row += [f"{figures.model} {profile.model_version}".strip(), profile.bundle_sha256[:12], figures.isa]
        row += [str(t.runs), f"{t.min_us:.1f}", f"{t.median_us:.1f}", f"{t.p90_us:.1f}", time_text(profile.started)]
        if kernel or layer:
            fitting = [op for op in figures.ops if kernel in ("", op.kernel) and layer in ("", op.name)]
            row.append(f"{sum(op.median_us for op in fitting):.1f}")
        rows.append(row)
    click.echo(columns(head, rows, left={0, 1, 2, 3, 4, 5, 10}))
    if not found:
        click.echo("no profiles" + (" fit" if model or device or kernel or layer else ""))


def show_profile(profile: DeviceProfile, as_json: bool) -> None:
    """As 'gossamer profile' shows one that was made here."""
    if as_json:
        print_json(profile.to_json())
        return
    from gossamer._tables import printable

    click.echo(printable(profile.figures.table()))
    click.echo()
    click.echo(printable(profile.summary()))


def _tell(device: FleetDevice, as_json: bool) -> None:
    from gossamer._tables import printable

    if as_json:
        print_json({"device": device})
        return
    facts, status = device.facts, device.status
    lines = {
        "device": device.name,
        "name": device.display_name,
        "labels": labels_text(device.labels),
        "state": _state(device),
        "runs": status.bundle_sha256,
        "ran before": status.previous_sha256,
        "should run": version_text(device.desired_version),
        "failed": status.failed_sha256 and f"{status.failed_sha256}: {status.failure_reason}: {status.failure_message}",
        "cpu": f"{facts.cpu} ({facts.arch}, {facts.isa}, {facts.cores} cores)" if facts.arch else "",
        "memory": f"{facts.memory_bytes / 1e6:.0f} MB" if facts.memory_bytes else "",
        "system": facts.system,
        "runtime": facts.runtime_version,
        "agent": facts.agent_version,
        "heard": ago_text(device.heard),
        "enrolled": time_text(device.enrolled),
        "certificate ends": time_text(device.certificate_ends),
        "held by": device.holder,
    }
    for key, value in lines.items():
        click.echo(f"{key:<17} {printable(value) or '-'}")


def _state(device: FleetDevice) -> str:
    if device.status.state == "UPDATING":
        return f"updating {device.status.progress_percent:.0f}%"
    return state_text(device.status.state)
