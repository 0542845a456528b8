"""``gossamer fleet rollout``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gossamer.cli._common import json_option, print_json
from gossamer.cli._server import (
    DURATION,
    client_of,
    id_text,
    server_options,
    state_text,
    time_text,
    version_text,
)

if TYPE_CHECKING:
    from gossamer.client import Client, Rollout, Stage

_EPILOG = """\b
Examples:
  gossamer fleet rollout start person/1.4.0 site=lab --stage 10:1h --stage 50:1h --stage 100 --wait
  gossamer fleet rollout back 5d1e...

\b
Exit codes: 0 complete (or rolled back, where that was asked for), 10 another rollout of this bundle goes
on, or there is no such one, 17 it goes on still at the end of --timeout, 19 nothing to do, 20 it halted,
or somebody rolled it back.
"""


class _StageType(click.ParamType[tuple[float, float]]):
    name = "stage"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        percent, colon, soak = value.partition(":")
        try:
            share = float(percent)
        except ValueError:
            self.fail(f"{value!r} is not PERCENT or PERCENT:SOAK, such as 10:1h", param, ctx)
        return share, DURATION.convert(soak, param, ctx) if colon else 0.0


_wait = click.option("--wait", "waits", is_flag=True, help="Show progress and end when it has.")
_timeout = click.option("--timeout", "timeout_s", type=DURATION, help="With --wait: wait no longer than this.")


@click.group("rollout", epilog=_EPILOG)
def rollout() -> None:
    """Bring a version to many devices in stages, halted by failures, and take it back."""


@rollout.command("start", epilog="\b\nExample:\n  gossamer fleet rollout start person/1.4.0 --stage 10 --stage 100\n")
@click.argument("version")
@click.argument("selector", default="")
@click.option(
    "--stage",
    "stages",
    type=_StageType(),
    multiple=True,
    metavar="PERCENT[:SOAK]",
    help="Share of the devices, and how long it must hold before the next; repeat, the last is 100. [default: 100]",
)
@click.option(
    "--failure-limit",
    type=click.FloatRange(0, 100),
    default=0.0,
    show_default=True,
    help="Percent of the reached devices that may fail; more halt it. 0: the first failure does.",
)
@click.option("--dry-run", is_flag=True, help="Change nothing; say how many devices match.")
@_wait
@_timeout
@server_options
@json_option
def start(
    version: str,
    selector: str,
    stages: tuple[tuple[float, float], ...],
    failure_limit: float,
    dry_run: bool,
    waits: bool,
    timeout_s: float | None,
    as_json: bool,
    **server: Any,
) -> int:
    """Roll VERSION out to the devices that SELECTOR fits now; without one, to all.

    Exit code 19 when no device does.
    """
    from gossamer._errors import EXIT_NOTHING_TO_DO

    _check(waits, timeout_s, dry_run)
    with client_of(**server) as client:
        wanted: dict[str, Any] = {"stages": _stages(stages), "failure_limit_percent": failure_limit}
        planned = client.fleet.start_rollout(version, selector, dry_run=True, **wanted)
        if planned.matching_devices == 0:
            _tell(planned, as_json, EXIT_NOTHING_TO_DO, "nothing to do: no device matches")
            return EXIT_NOTHING_TO_DO
        if dry_run:
            _tell(planned, as_json, 0, f"would reach {planned.matching_devices} devices")
            return 0
        found = client.fleet.start_rollout(version, selector, **wanted)
        return _end(client, found, waits, timeout_s, as_json)


@rollout.command("show", epilog="\b\nExample:\n  gossamer fleet rollout show 5d1e...\n")
@click.argument("name")
@_wait
@_timeout
@server_options
@json_option
def show(name: str, waits: bool, timeout_s: float | None, as_json: bool, **server: Any) -> int:
    """Show how far a rollout is."""
    _check(waits, timeout_s)
    with client_of(**server) as client:
        return _end(client, client.fleet.rollout(name), waits, timeout_s, as_json)


@rollout.command("list", epilog="\b\nExample:\n  gossamer fleet rollout list\n")
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="Latest ones to list.")
@server_options
@json_option
def list_(limit: int, as_json: bool, **server: Any) -> None:
    """List rollouts, newest first."""
    from gossamer._tables import columns

    with client_of(**server) as client:
        found = client.fleet.rollouts(limit=limit)
    if as_json:
        print_json({"rollouts": found})
        return
    head = ["rollout", "version", "selector", "state", "stage", "updated", "failed", "reached", "matching", "created"]
    rows = [
        [
            id_text(r.name),
            version_text(r.version),
            r.selector or "all",
            state_text(r.state),
            f"{r.stage + 1} of {len(r.stages)}",
            str(r.updated_devices),
            str(r.failed_devices),
            str(r.reached_devices),
            str(r.matching_devices),
            time_text(r.created),
        ]
        for r in found
    ]
    click.echo(columns(head, rows, left={0, 1, 2, 3, 9}))
    if not found:
        click.echo("no rollouts; 'gossamer fleet rollout start' begins one")


@rollout.command("pause", epilog="\b\nExample:\n  gossamer fleet rollout pause 5d1e...\n")
@click.argument("name")
@server_options
@json_option
def pause(name: str, as_json: bool, **server: Any) -> None:
    """Reach no more devices until 'resume'."""
    with client_of(**server) as client:
        _tell(client.fleet.pause(name), as_json)


@rollout.command("resume", epilog="\b\nExample:\n  gossamer fleet rollout resume 5d1e... --failure-limit 20 --wait\n")
@click.argument("name")
@click.option("--failure-limit", type=click.FloatRange(0, 100), help="A new limit, in percent. [default: as it was]")
@_wait
@_timeout
@server_options
@json_option
def resume(
    name: str, failure_limit: float | None, waits: bool, timeout_s: float | None, as_json: bool, **server: Any
) -> int:
    """Go on with a rollout that was paused, or halted: then with a new limit, for the old one halts it again."""
    _check(waits, timeout_s)
    with client_of(**server) as client:
        found = client.fleet.resume(name, failure_limit_percent=failure_limit)
        return _end(client, found, waits, timeout_s, as_json)


@rollout.command("back", epilog="\b\nExample:\n  gossamer fleet rollout back 5d1e...\n")
@click.argument("name")
@_wait
@_timeout
@server_options
@json_option
def back(name: str, waits: bool, timeout_s: float | None, as_json: bool, **server: Any) -> int:
    """Give every device that was reached what it was to run before."""
    _check(waits, timeout_s)
    with client_of(**server) as client:
        return _end(client, client.fleet.roll_back(name), waits, timeout_s, as_json, asked_back=True)


def _check(waits: bool, timeout_s: float | None, dry_run: bool = False) -> None:
    if timeout_s is not None and not waits:
        raise click.UsageError("--timeout needs --wait")
    if waits and dry_run:
        raise click.UsageError("--dry-run and --wait exclude each other")


def _stages(stages: tuple[tuple[float, float], ...]) -> list[Stage]:
    from gossamer.client import Stage

    return [Stage(percent, soak_s) for percent, soak_s in stages]


def _end(
    client: Client,
    found: Rollout,
    waits: bool,
    timeout_s: float | None,
    as_json: bool,
    asked_back: bool = False,
) -> int:
    """Wait where that is asked for, tell, and give the exit code."""
    from gossamer._errors import RolledBackError, UnreachableError
    from gossamer.cli._progress import Bar
    from gossamer.client import RolloutState

    if not waits:
        _tell(found, as_json)
        return 0
    names = [f"stage {i + 1} of {len(found.stages)} ({s.percent:g}%)" for i, s in enumerate(found.stages)]
    with Bar(names, quiet=as_json) as bar:

        def progress(now: Rollout) -> None:
            bar(names[min(now.stage, len(names) - 1)], now.updated_devices + now.failed_devices, now.reached_devices)

        try:
            found = client.fleet.wait_rollout(found.name, progress=progress, timeout_s=timeout_s)
        except TimeoutError as e:
            raise UnreachableError(
                f"the rollout goes on still after {timeout_s:g} s",
                where=found.name,
                hint="'gossamer fleet list' tells what each device runs; 'gossamer fleet rollout back' takes it back",
            ) from e
    good = RolloutState.ROLLED_BACK if asked_back else RolloutState.COMPLETED
    code = 0 if found.state is good else RolledBackError.exit_code
    _tell(found, as_json, code)
    return code


def _tell(found: Rollout, as_json: bool, code: int = 0, head: str = "") -> None:
    if as_json:
        print_json({"rollout": found, "exit_code": code})
        return
    if head:
        click.echo(head)
        return
    where = f" of devices with {found.selector}" if found.selector else ""
    click.echo(f"{found.name}: {version_text(found.version)}{where}: {state_text(found.state)}")
    click.echo(
        f"stage {found.stage + 1} of {len(found.stages)}; devices: {found.updated_devices} updated, "
        f"{found.failed_devices} failed, {found.reached_devices} reached, {found.matching_devices} matching"
    )
    if found.message:
        click.echo(f"halted: {found.message}")
