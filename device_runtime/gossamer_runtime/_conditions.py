"""Clock and temperature around a measurement, where Linux tells them: cpufreq and thermal zones under ``/sys``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SYS = Path("/sys")


@dataclass(frozen=True)
class Conditions:
    """One reading. ``mhz``, ``max_mhz`` and ``governors`` by CPU number, ``celsius`` by zone; empty: not told."""

    mhz: dict[int, float]
    max_mhz: dict[int, float]
    governors: dict[int, str]
    celsius: dict[str, float]


def read(sys: Path = SYS) -> Conditions:
    """Read what there is. Files that are missing or refuse (a sensor that sleeps) are left out; nothing is raised."""
    mhz: dict[int, float] = {}
    most: dict[int, float] = {}
    governors: dict[int, str] = {}
    for folder in _folders(sys / "devices/system/cpu", "cpu[0-9]*"):
        number = int(folder.name[3:])
        for into, file in ((mhz, "scaling_cur_freq"), (most, "cpuinfo_max_freq")):
            with contextlib.suppress(OSError, ValueError):
                into[number] = int((folder / "cpufreq" / file).read_text()) / 1e3  # kHz
        with contextlib.suppress(OSError, ValueError):
            governors[number] = (folder / "cpufreq/scaling_governor").read_text().strip()
    celsius: dict[str, float] = {}
    for zone in _folders(sys / "class/thermal", "thermal_zone[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            value = int((zone / "temp").read_text()) / 1e3  # millidegrees
            if -50 < value < 200:  # sensors that are off say -274 or the like
                celsius[f"{zone.name} ({(zone / 'type').read_text().strip()})"] = value
    return Conditions(mhz, most, governors, celsius)


def describe(before: Conditions, after: Conditions, sys: Path = SYS) -> tuple[dict[str, Any], list[str]]:
    """What to keep with a profile: the fastest core's clock in MHz and the hottest zone in degrees Celsius, at start
    and end (``None``: not told), and notes on what may have bent the times."""
    machine: dict[str, Any] = {
        "start_mhz": max(before.mhz.values(), default=None),
        "end_mhz": max(after.mhz.values(), default=None),
        "max_mhz": max(after.max_mhz.values(), default=None),
        "start_celsius": max(before.celsius.values(), default=None),
        "end_celsius": max(after.celsius.values(), default=None),
        "governors": sorted(set(after.governors.values())),
    }
    notes = []
    start, end, most = machine["start_mhz"], machine["end_mhz"], machine["max_mhz"]
    if start is None or end is None:
        notes.append(f"clock unknown: this machine shows none under {sys}/devices/system/cpu/cpu*/cpufreq")
    else:
        if end < 0.95 * start:
            notes.append(f"the fastest core's clock fell from {start:.0f} MHz to {end:.0f} MHz: times may have grown")
        if most is not None and end < 0.8 * most:
            notes.append(
                f"the fastest core ended at {end:.0f} MHz of at most {most:.0f} MHz: throttled or saving power"
            )
    slow = [g for g in machine["governors"] if g != "performance"]
    if slow:
        notes.append(f"cpufreq governor {', '.join(slow)}: the clock follows the load")
    if not after.celsius:
        notes.append(f"temperature unknown: this machine shows none under {sys}/class/thermal")
    for zone, value in after.celsius.items():
        if zone in before.celsius and value - before.celsius[zone] >= 5:
            notes.append(f"{zone} rose from {before.celsius[zone]:.1f} °C to {value:.1f} °C")
    return machine, notes


def _folders(parent: Path, pattern: str) -> Iterator[Path]:
    try:
        found = sorted(parent.glob(pattern))
    except OSError:
        return
    yield from found
