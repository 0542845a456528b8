"""ARM without ARM hardware: instructions of one inference under qemu-user beside LiteRT's, and llvm-mca's loop cycles.

``python -m tools.bench arm``. Proxies, not times: instructions say how much a core has to do, not how fast it does it,
and llvm-mca knows the pipelines but no memory. Gossamer's profiler (static, aarch64) runs each bundle twice under
qemu-aarch64; the second inference counts. LiteRT (the .tflite of the same graph, dense) runs in an aarch64 Python in
the same emulator; ``--setup`` makes that system once (debootstrap: root or fakeroot, network); a few minutes are spent
counting it and the count is kept. Cortex-A76 has a dot product, Cortex-A72 (a Raspberry Pi 4) has not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import click

from tools.bench import arm_loops, arm_peer, arm_root, models
from tools.bench.arm_count import CountError, Profile, count, emulator
from tools.bench.table import SHORT, targets
from tools.emulation.parts import UnavailableError

MODEL = "mobilenet_v1"
PEER = "litert"
PEER_COUNTS = models.CACHE / "arm-peer.json"


@cache
def profiler() -> Path:
    """Gossamer's program for aarch64, with the names of its functions."""
    from tools.build_native import script

    return Path(script().build("aarch64-profiler", symbols=True))


def gossamer(bundle: Path, cpu: str) -> Profile:
    """What the second inference of a bundle executes."""
    command = [str(profiler()), str(bundle), "--runs", "3", "--warmup", "0"]
    return count(command, cpu=cpu, marker="gs_session_run_timed", stretches=2)[1]


def litert(model: Path, cpu: str) -> dict[str, Any]:
    """What LiteRT's second inference executes: ``instructions`` and the most frequent ones, kept or counted anew.

    Raises:
        CountError: it does not run, or the system that it needs is missing.
    """
    key = f"{hashlib.sha256(model.read_bytes()).hexdigest()[:16]} {cpu} {' '.join(arm_root.PACKAGES)}"
    kept: dict[str, dict[str, Any]] = json.loads(PEER_COUNTS.read_text()) if PEER_COUNTS.exists() else {}
    if key not in kept:
        if missing := arm_root.find():
            raise CountError(missing)
        system = arm_root.set_processor(cpu)
        command = [str(system / "usr" / "bin" / "python3.11"), "-S", str(Path(arm_peer.__file__)), str(model)]
        env = {"PYTHONPATH": str(arm_root.site())}
        found = count(command, cpu=cpu, root=system, marker=arm_peer.MARKER, stretches=2, env=env)[1]
        kept[key] = {"instructions": found.total, "mix": dict(found.mnemonics().most_common(12))}
        PEER_COUNTS.write_text(json.dumps(kept, indent=1) + "\n")
    return kept[key]


def ratio_of(sparsity: float, cpu: str) -> float | None:
    """The number to reach: the peer's instructions over Gossamer's."""
    for target in targets(cpu):
        value = target["ratio"].get(f"{sparsity:g}")
        if value is not None:
            return float(value)
    return None


def instruction_rows(cpus: Sequence[str], sparsity: Sequence[float], pattern: str, peer: bool) -> list[dict[str, Any]]:
    """One row an engine, processor and sparsity; says on the way what it skips."""
    rows: list[dict[str, Any]] = []
    dense = models.export(MODEL, "int8", "dense", 0.0, formats=("tflite",))["tflite"]
    for cpu in cpus:
        base: int | None = None
        if peer:
            try:
                found = litert(dense, cpu)
                base = int(found["instructions"])
                rows.append(_row(PEER, cpu, "dense", 0.0, base, found["mix"]))
            except CountError as error:
                click.echo(f"skipped: {PEER} on {cpu}: {error}")
        for share in (0.0, *sparsity):
            form = pattern if share else "dense"
            bundle = models.export(MODEL, "int8", form, share, formats=("goss",), target="aarch64")["goss"]
            profile = gossamer(bundle, cpu)
            row = _row("gossamer", cpu, form, share, profile.total, dict(profile.mnemonics().most_common(12)))
            row["functions"] = dict(profile.functions().most_common(16))
            row["ratio"] = round(base / profile.total, 3) if base else None
            row["target"] = ratio_of(share, cpu) if form == "1x4" else None
            rows.append(row)
    return rows


def _row(
    engine: str, cpu: str, pattern: str, sparsity: float, instructions: int, mix: dict[str, int]
) -> dict[str, Any]:
    return {
        "host": f"qemu {cpu}",
        "model": MODEL,
        "engine": engine,
        "precision": "int8",
        "pattern": pattern,
        "sparsity": sparsity,
        "threads": 1,
        "instructions": instructions,
        "mix": mix,
    }


def loop_rows() -> list[dict[str, Any]]:
    """Every NEON inner loop that multiplies, then XNNPACK's two, with cycles per product on both models.

    Raises:
        ToolError: LLVM's tools are missing.
    """
    loops = arm_loops.kernel_loops(profiler())
    rows: list[dict[str, Any]] = [
        {"loop": loop.function, "mix": arm_loops.show_mix(loop.mix), "macs": loop.macs, "spills": len(loop.spills)}
        for loop in loops
    ]
    listings = [(f"loop{n}", loop.text(f"loop{n}")) for n, loop in enumerate(loops)]
    for name, mix, text, macs in arm_loops.published():
        rows.append({"loop": name, "mix": mix, "macs": macs, "spills": 0})
        listings.append((name.replace(" ", "_"), text))
    for processor in arm_loops.PROCESSORS:
        for row, cycles in zip(rows, arm_loops.cycles(listings, processor), strict=True):
            row[f"{processor}_cycles_per_mac"] = round(cycles / row["macs"], 4)
    return rows


def _show_instructions(rows: Sequence[dict[str, Any]], functions: bool) -> None:
    click.echo(f"\nInstructions of one inference, {MODEL} 1.0/224 int8, one thread, under qemu-user [millions]")
    click.echo(
        f"{'processor':12s} {'engine':9s} {'pattern':8s} {'sparsity':>8s} {'M':>8s} {'ratio':>6s} {'target':>6s}"
    )
    for row in rows:
        ratio, target = row.get("ratio"), row.get("target")
        mark = "" if ratio is None or target is None else "ok" if ratio >= target else SHORT
        click.echo(
            f"{row['host'][5:]:12s} {row['engine']:9s} {row['pattern']:8s} {row['sparsity']:8.0%} "
            f"{row['instructions'] / 1e6:8.2f} {f'{ratio:.2f}' if ratio else '':>6s} "
            f"{f'{target:.2f}' if target else '':>6s} {mark}".rstrip()
        )
        for name, n in list(row.get("functions", {}).items()) if functions else []:
            click.echo(f"    {name or 'other':40s} {n / 1e6:8.3f} {n / row['instructions']:6.1%}")


def _show_loops(rows: Sequence[dict[str, Any]]) -> None:
    click.echo("\nInner loops: cycles per product by llvm-mca, stack accesses, instructions of one iteration")
    click.echo(
        f"{'loop':32s} {'MACs':>6s} {'instr/MAC':>9s} " + " ".join(f"{p:>12s}" for p in arm_loops.PROCESSORS) + " stack"
    )
    for row in rows:
        size = int(str(row["mix"]).partition(":")[0])
        cycles = " ".join(f"{row[f'{p}_cycles_per_mac']:12.4f}" for p in arm_loops.PROCESSORS)
        click.echo(
            f"{row['loop'].removeprefix('gs_'):32s} {row['macs']:6.0f} {size / row['macs']:9.3f} {cycles} "
            f"{row['spills']:5d}  {row['mix']}"
        )


def _numbers(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[float, ...]:
    return tuple(float(part) for part in value.split(",") if part)


@click.command(help=__doc__)
@click.option("--setup", is_flag=True, help="Make the aarch64 system of the peer and stop.")
@click.option("--sparsity", default="0.5,0.75,0.9", show_default=True, callback=_numbers, help="Shares of zeros.")
@click.option("--pattern", default="1x4", show_default=True, help="Of Gossamer's sparse weights.")
@click.option("--cpus", default="cortex-a76,cortex-a72", show_default=True, help="Processors of qemu.")
@click.option("--functions", is_flag=True, help="Show the functions that execute most.")
@click.option("--no-peer", is_flag=True, help="Count Gossamer alone.")
@click.option("--loops/--no-loops", default=True, show_default=True, help="The llvm-mca table.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the rows here.")
def main(
    setup: bool, sparsity: tuple[float, ...], pattern: str, cpus: str, functions: bool, no_peer: bool, loops: bool,
    json_file: Path | None,
) -> None:  # fmt: skip
    if setup:
        try:
            arm_root.make(say=click.echo)
        except UnavailableError as error:
            raise click.ClickException(str(error)) from error
        return
    click.echo("Proxies under emulation: no ARM hardware was met.")
    found: dict[str, Any] = {"instructions": [], "loops": []}
    try:
        emulator()
        found["instructions"] = instruction_rows(cpus.split(","), sparsity, pattern, not no_peer)
        _show_instructions(found["instructions"], functions)
    except CountError as error:
        click.echo(f"skipped: instructions: {error}")
    if loops:
        try:
            found["loops"] = loop_rows()
            _show_loops(found["loops"])
        except arm_loops.ToolError as error:
            click.echo(f"skipped: llvm-mca: {error}")
    if json_file:
        json_file.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
