"""``gossamer device``."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gossamer.cli._common import PATH, json_option, print_json
from gossamer.cli._device_open import device_options, inputs_of_file, manifest_of, opened
from gossamer.cli._device_profile import profile

if TYPE_CHECKING:
    from gossamer.device.target import Flashed

_EPILOG = """\b
Examples:
  gossamer device add pi --address raspberrypi.local:50061 --ca ca.pem --token-file pi.token
  gossamer device flash model.goss -d pi
  gossamer device flash model.goss --root /mnt/sdcard/var/lib/gossamer
  gossamer device add pi --ssh pi@raspberrypi.local   (its agent on 127.0.0.1:50061 there, without TLS)
  gossamer device add pi --ssh pi@raspberrypi.local --no-agent   (nothing to install there: by the static profiler)
  gossamer device add phone --adb R58M123ABC       (an Android phone, by the static profiler)

\b
Exit codes besides those of 'gossamer --help': 9 signature refused, 17 unreachable, 18 incompatible,
19 nothing to do, 20 rolled back, 21 older than the device's counter, 22 slots in use, damaged or full,
23 token or certificate refused.
"""


@click.group("device", epilog=_EPILOG)
def command() -> None:
    """Flash, run and profile bundles on devices: by their gossamer-agent, on a mounted card, or without an agent, on a
    phone over adb or a board over ssh."""


@command.command("add", epilog="\b\nExample:\n  gossamer device add pi --address raspberrypi.local:50061\n")
@click.argument("name")
@click.option("--address", default="", help="HOST:PORT of its gossamer-agent.")
@click.option("--root", type=PATH, help="Instead: the slot folder of its card where it gets mounted.")
@click.option(
    "--adb", "serial", default="", help="Instead: the serial number of an Android phone, as 'adb devices' has it."
)
@click.option("--ssh", default="", help="Its agent through ssh to [USER@]HOST; --address is then as seen there.")
@click.option("--ssh-config", type=PATH, help="With --ssh: ssh's configuration file.")
@click.option("--no-agent", is_flag=True, help="With --ssh: no agent is there; the static profiler is pushed and run.")
@click.option("--folder", default="", help="With --no-agent: where it and bundles go there. [default: ~/.gossamer]")
@click.option(
    "--profiler",
    type=PATH,
    help="With --adb or --no-agent: the static gossamer-profile for it. [default: the runtime's]",
)
@click.option("--ca", default="", help="Certificates to trust, a file or 'system'; turns TLS on.")
@click.option("--cert", type=PATH, help="Our certificate.")
@click.option("--key", type=PATH, help="Its private key.")
@click.option("--token-file", type=PATH, help="A file that holds a token.")
@click.option("--offline", is_flag=True, help="Do not try to reach it.")
@json_option
def add(
    name: str,
    address: str,
    root: Path | None,
    serial: str,
    ssh: str,
    ssh_config: Path | None,
    no_agent: bool,
    folder: str,
    profiler: Path | None,
    ca: str,
    cert: Path | None,
    key: Path | None,
    token_file: Path | None,
    offline: bool,
    as_json: bool,
) -> None:
    """Remember a device as NAME, after reaching it. A device of that name is replaced."""
    from gossamer.device import book
    from gossamer.device.target import open_device

    files = {"root": root, "cert": cert, "key": key, "token_file": token_file, "profiler": profiler}
    files["ssh_config"] = ssh_config
    paths = {k: str(v.resolve()) for k, v in files.items() if v}
    if ca and ca != "system":
        ca = str(Path(ca).resolve())
    place = book.Place(
        name, address=address, adb=serial, ssh=ssh, no_agent=no_agent, folder=folder, ca=ca, **paths
    ).check()
    info: dict[str, Any] = {}
    if not offline:
        with contextlib.closing(open_device(place)) as device:
            info = device.info()
    book.write({**book.read(), name: place})
    if as_json:
        print_json({"added": asdict(place), "info": info})
        return
    known = ", ".join(info[key] for key in ("machine", "isa") if key in info)
    click.echo(f"added {name}: {place.shown}" + (f" ({known})" if known else ""))


@command.command("remove", epilog="\b\nExample:\n  gossamer device remove pi\n")
@click.argument("name")
@json_option
def remove(name: str, as_json: bool) -> None:
    """Forget the device called NAME; nothing on it changes."""
    from gossamer._errors import InputError
    from gossamer.device import book

    known = book.read()
    if name not in known:
        raise InputError(f"no device is called {name!r}", hint=f"added: {', '.join(known) or 'none'}")
    del known[name]
    book.write(known)
    if as_json:
        print_json({"removed": name})
        return
    click.echo(f"removed {name}")


@command.command("list", epilog="\b\nExample:\n  gossamer device list --check\n")
@click.option("--check", is_flag=True, help="Also reach each of them.")
@json_option
def list_(check: bool, as_json: bool) -> None:
    """List devices that were added."""
    from gossamer._errors import GossamerError
    from gossamer._tables import columns
    from gossamer.device import book
    from gossamer.device.target import open_device

    places = book.read()
    found = []
    for place in places.values():
        record: dict[str, Any] = {"name": place.name, "transport": place.transport, "at": place.shown}
        if check:
            try:
                with contextlib.closing(open_device(place)) as device:
                    record["running"] = _running(device.info())
            except GossamerError as e:
                record["problem"] = e.message
        found.append(record)
    if as_json:
        print_json({"devices": found})
        return
    head = ["name", "transport", "at"] + ["state"] * check
    rows = [[r["name"], r["transport"], r["at"], *([r.get("running") or r.get("problem", "")] * check)] for r in found]
    click.echo(columns(head, rows, left={0, 1, 2, 3}))
    if not found:
        click.echo("no devices; add one with 'gossamer device add'")


@command.command("info", epilog="\b\nExample:\n  gossamer device info -d pi\n")
@device_options
@json_option
def info(as_json: bool, **options: Any) -> None:
    """Show what a device is and what its slots hold."""
    with opened(options) as device:
        found = device.info()
    if as_json:
        print_json(found)
        return
    from gossamer._tables import columns, printable

    for key in ("host", "machine", "isa", "system", "cpus", "runtime_version", "rollback_counter", "root"):
        if key in found:
            click.echo(f"{key.replace('_', ' '):<17} {printable(str(found[key]))}")
    for key in ("memory_bytes", "agent_rss_bytes", "disk_free_bytes"):
        if key in found:
            click.echo(f"{key.removesuffix('_bytes').replace('_', ' '):<17} {found[key] / 1e6:.1f} MB")
    if "uptime_s" in found:
        click.echo(f"{'uptime':<17} {found['uptime_s']:.0f} s")
    if "trusted_keys" in found:
        click.echo(f"{'trusted keys':<17} {', '.join(found['trusted_keys']) or 'none'}")
    rows = [
        [s["slot"], s["status"], s.get("name", ""), s.get("version", ""), str(s.get("rollback_counter", "")),
         str(s.get("size_bytes") or ""), s.get("sha256", "")[:16]]
        for s in found["slots"]
    ]  # fmt: skip
    click.echo(columns(["slot", "status", "name", "version", "counter", "bytes", "sha256"], rows, left={0, 1, 2, 3, 6}))
    if found["problem"]:
        click.echo(printable(f"problem: {found['problem']}"))


@command.command("flash", epilog="\b\nExample:\n  gossamer device flash model.goss -d pi\n")
@click.argument("bundle", type=PATH)
@click.option("--stage", is_flag=True, help="Upload and verify only; 'gossamer device activate' goes on.")
@click.option("-i", "--trial-input", type=PATH, help="Picture or array that the trial runs on. [default: zeros]")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@device_options
@json_option
def flash(bundle: Path, stage: bool, trial_input: Path | None, quiet: bool, as_json: bool, **options: Any) -> int:
    """Put BUNDLE on a device: upload (going on where an earlier try broke off), verify, try, commit or fall back.

    Exit code 19 when the device runs that bundle already, 20 when its trial failed and the one before it runs.
    """
    from gossamer.cli._transfer import TransferBar

    inputs = inputs_of_file(bundle, trial_input)
    with opened(options) as device, TransferBar("flash", quiet=quiet or as_json) as bar:
        done = device.flash(bundle, stage_only=stage, inputs=inputs, progress=bar)
    return _tell(done, str(bundle), as_json)


@command.command("activate", epilog="\b\nExample:\n  gossamer device activate -d pi\n")
@device_options
@json_option
def activate(as_json: bool, **options: Any) -> int:
    """Try and commit the bundle that was flashed with --stage."""
    with opened(options) as device:
        done = device.activate()
    return _tell(done, "the staged bundle", as_json)


@command.command("rollback", epilog="\b\nExample:\n  gossamer device rollback -d pi\n")
@device_options
@json_option
def rollback(as_json: bool, **options: Any) -> int:
    """Go back to the bundle that ran before."""
    with opened(options) as device:
        done = device.rollback()
    return _tell(done, "the bundle before", as_json)


@command.command("run", epilog="\b\nExample:\n  gossamer device run -d pi -i cat.jpg\n")
@click.option("-i", "--input", "inputs", type=PATH, multiple=True, required=True, help="Pictures, folders, .npy, .npz.")
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Classes to show.")
@click.option("-o", "--output", type=PATH, help="Save raw outputs: an .npz of arrays, samples along axis 0.")
@device_options
@json_option
def run(inputs: tuple[Path, ...], top: int, output: Path | None, as_json: bool, **options: Any) -> None:
    """Run the device's bundle on pictures or arrays and show labels or values. The time is the inference's there."""
    import numpy as np

    from gossamer import _atomic
    from gossamer.cli._inputs import named_samples
    from gossamer.cli.run import describe, save, show

    if output is not None:
        _atomic.check_target(output)
    results: list[dict[str, Any]] = []
    with opened(options) as device:
        manifest = manifest_of(device)
        raw: dict[str, list[Any]] = {p.name: [] for p in manifest.outputs}
        ports = {p.name: p for p in manifest.outputs}
        for name, sample in named_samples(list(inputs), list(manifest.inputs)):
            us, outputs = device.run([sample[p.name].tobytes() for p in manifest.inputs])
            record: dict[str, Any] = {"input": name, "latency_us": us, "outputs": {}}
            for out in outputs:
                values = np.frombuffer(out.data, out.dtype).reshape(out.shape)
                raw.setdefault(out.name, []).append(values)
                record["outputs"][out.name] = describe(values, ports.get(out.name), top)
            results.append(record)
    if output is not None:
        save(output, raw)
    if as_json:
        print_json({"results": results, "output": str(output) if output else None})
        return
    show(results)


command.add_command(profile)


@command.command("logs", epilog="\b\nExample:\n  gossamer device logs -d pi --follow\n")
@click.option("-n", "--limit", type=click.IntRange(0), default=0, help="Latest records to show. [default: all kept]")
@click.option("-f", "--follow", is_flag=True, help="Wait for new ones; Ctrl-C ends.")
@device_options
@json_option
def logs(limit: int, follow: bool, as_json: bool, **options: Any) -> None:
    """Show the log of a device's agent; with --json one object a line. Devices without an agent have none."""
    import json
    from datetime import UTC, datetime

    from gossamer._tables import printable

    with opened(options) as device:
        for record in device.logs(limit=limit, follow=follow):
            if as_json:
                click.echo(json.dumps(record))
            else:
                when = datetime.fromtimestamp(record["time_s"], UTC).strftime("%Y-%m-%d %H:%M:%SZ")
                click.echo(printable(f"{when} {record['level']:<7} {record['message']}"))


@command.command("doctor", epilog="\b\nExample:\n  gossamer device doctor -d pi\n")
@device_options
@json_option
def doctor(as_json: bool, **options: Any) -> int:
    """Check a device: reached, versions, keys, slots, space. The exit code is that of the first check that fails."""
    from gossamer.cli._device_checks import check_device

    with contextlib.ExitStack() as stack:
        checks = check_device(lambda: stack.enter_context(opened(options)))
    if as_json:
        print_json({"checks": checks})
    else:
        for c in checks:
            click.echo(f"{'ok  ' if c['ok'] else 'FAIL'}  {c['check']:<15} {c['detail']}")
    return next((int(c["exit_code"]) for c in checks if not c["ok"]), 0)


def _running(info: dict[str, Any]) -> str:
    active = next((s for s in info["slots"] if s["status"] == "active"), None)
    return (
        f"{active['name']} {active['version']}".strip() if active else f"nothing: {info['problem'] or 'no bundle yet'}"
    )


def _tell(done: Flashed, what: str, as_json: bool) -> int:
    """Say what came of it; returns the exit code."""
    from gossamer._errors import EXIT_NOTHING_TO_DO

    code = EXIT_NOTHING_TO_DO if done.status == "unchanged" else 0
    if as_json:
        print_json({**asdict(done), "exit_code": code})
        return code
    said = {
        "committed": f"committed {what} in slot {done.slot}" if done.slot else f"committed {what}",
        "staged": f"staged {what} in slot {done.slot}; 'gossamer device activate' tries and commits it",
        "unchanged": f"nothing to do: the device runs {what}",
        "waiting": f"wrote {what} to slot {done.slot}; the device tries it when it starts",
    }[done.status]
    click.echo(f"{said} ({done.seconds:.2f} s" + (f", trial {done.trial_us:.0f} us" if done.trial_us else "") + ")")
    if done.resumed_at:
        click.echo(f"went on from byte {done.resumed_at}")
    return code
