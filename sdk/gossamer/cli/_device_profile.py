"""``gossamer device profile``: of a device that was added, or with ``--any`` of a free one of a server's fleet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gossamer.cli._common import PATH, json_option, print_json
from gossamer.cli._device_open import device_options, manifest_of, opened, sample_of
from gossamer.cli._server import DURATION, client_of, server_option, version_text

if TYPE_CHECKING:
    from gossamer.client import DeviceProfile, FleetDevice, ProfileRun


_EPILOG = """\b
Examples:
  gossamer device profile -d pi --runs 100
  gossamer device profile --any cpu=cortex-a76 --wait 10m
  gossamer device profile --any site=lab --bundle person/1.4.0 --json > new.json   (see 'gossamer profile compare')
"""


@click.command("profile", epilog=_EPILOG)
@click.option("--runs", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Timed inferences.")
@click.option("--warmup", type=click.IntRange(0, 100_000), default=5, show_default=True, help="Inferences before them.")
@click.option("-i", "--input", "source", type=PATH, help="A picture or array. [default: random input]")
@click.option(
    "--chrome-trace", "--perfetto", "chrome_trace", type=PATH, help="Write a trace for Perfetto or Chrome here."
)
@click.option(
    "--any", "selector", metavar="SELECTOR", help="A free device of a server's fleet that fits, such as cpu=cortex-a76."
)
@server_option
@click.option("--bundle", help="With --any: a version of the registry, NAME/VERSION. [default: what the device runs]")
@click.option("--wait", "wait_s", type=DURATION, help="With --any: for a free device, no longer. [default: for ever]")
@click.option("--hold", "hold_s", type=DURATION, help="With --any: hold it no longer than this. [default: 15m]")
@device_options
@json_option
def profile(
    runs: int,
    warmup: int,
    source: Path | None,
    chrome_trace: Path | None,
    selector: str | None,
    server: str,
    bundle: str | None,
    wait_s: float | None,
    hold_s: float | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Time every operator of the device's bundle, on the device: median, minimum, 90th percentile in microseconds.

    With --any the device is one of the fleet of --server: waited for while others hold all that fit, held meanwhile,
    and given back, also at Ctrl-C. --ca and --token-file are then for the server. Exit codes: 10 no enrolled device
    fits, 17 all that fit stayed held for --wait, or it did not answer within --hold, 9, 18 or 22 why it could not.
    """
    import json

    from gossamer import _atomic

    if selector is not None:
        given = {"-i": source, "--chrome-trace": chrome_trace}
        given |= {f"--{key.replace('name', 'device')}": options[key] for key in ("name", "root", "cert", "key")}
        if odd := [option for option, value in given.items() if value is not None]:
            raise click.UsageError(f"--any and {odd[0]} exclude each other")
        from gossamer.cli.fleet import show_profile

        made = _profile_any(
            selector,
            bundle=bundle,
            runs=runs,
            warmup=warmup,
            wait_s=wait_s,
            hold_s=hold_s,
            quiet=as_json,
            server=server,
            ca=options["ca"],
            token_file=options["token_file"],
        )
        show_profile(made, as_json)
        return
    for option, value in (("--bundle", bundle), ("--wait", wait_s), ("--hold", hold_s)):
        if value is not None:
            raise click.UsageError(f"{option} needs --any")
    if chrome_trace is not None:
        _atomic.check_target(chrome_trace)
    from gossamer._tables import printable

    with opened(options) as device:
        inputs = [] if source is None else sample_of(manifest_of(device), source)
        found, text, trace = device.profile(runs=runs, warmup=warmup, inputs=inputs, trace=chrome_trace is not None)
    if chrome_trace is not None:
        _atomic.write_text(chrome_trace, trace)
    if as_json:
        print_json({**json.loads(found), "chrome_trace": str(chrome_trace) if chrome_trace else None})
        return
    click.echo(printable(text))
    if chrome_trace is not None:
        click.echo(f"trace: {chrome_trace} (open it at https://ui.perfetto.dev)")


def _profile_any(
    selector: str,
    *,
    bundle: str | None,
    runs: int,
    warmup: int,
    wait_s: float | None,
    hold_s: float | None,
    quiet: bool,
    **server: Any,
) -> DeviceProfile:
    """The profile that a device of the fleet makes of what it runs, or of a version of the registry.

    Args:
        selector: which devices will do.
        bundle: a version's name; None: what the device runs.
        wait_s: how long to wait for one that nobody holds; None: as long as it takes.
        hold_s: the longest that it is held; None: as the client has it.
        quiet: say nothing on the way.

    Raises:
        BackendError: the packages that it needs are missing.
        InputError: ``bundle`` is a file, or names no version.
        RemoteError: what the server or the device said; its exit code is that of the reason.
        UnreachableError: no server answers.
    """

    def say(text: str) -> None:
        if not quiet:
            click.echo(text, err=True)

    def waiting(devices: Sequence[FleetDevice]) -> None:
        held = ", ".join(f"{_called(d)} held by {d.holder or 'nobody now'}" for d in devices[:4])
        more = f" and {len(devices) - 4} more" if len(devices) > 4 else ""
        limit = "" if wait_s is None else f" for at most {wait_s:g} s"
        say(f"waiting{limit} for a device with {selector or 'anything'}: {held}{more}")

    def progress(run: ProfileRun) -> None:
        if run.state == "WAITING":
            what = version_text(run.version) if run.version else "what it runs"
            say(f"asked it to profile {what} ({run.runs} runs after {run.warmup_runs}): its next heartbeat tells it")
        elif run.state == "RUNNING":
            say("it heard, and profiles")

    with client_of(**server) as client:
        from gossamer.client._fleet import HOLD_S

        version = "" if bundle is None else _version(bundle)
        hold_s = HOLD_S if hold_s is None else hold_s
        with client.fleet.acquire(selector, wait_s=wait_s, hold_s=hold_s, waiting=waiting) as lease:
            say(f"holding {_called(lease.device)}")
            return lease.profile(version, runs=runs, warmup=warmup, progress=progress)


def _version(bundle: str) -> str:
    from gossamer._errors import InputError
    from gossamer.client._registry import resource

    if bundle.endswith(".goss") or Path(bundle).is_file():
        raise InputError(
            "a device of the fleet takes bundles from the registry, not from a file here",
            where=bundle,
            hint=f"'gossamer registry push {bundle} NAME/VERSION', then --bundle NAME/VERSION",
        )
    return resource(bundle)


def _called(device: FleetDevice) -> str:
    from gossamer._tables import printable

    what = printable(device.display_name or device.facts.cpu)
    return f"{device.name} ({what})" if what else device.name
