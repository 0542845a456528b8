"""The cost table: measured times of weighted operators on a machine, in a JSON file of the user's cache folder."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from gossamer import _atomic
from gossamer._errors import OutputError

FORMAT = 1


def cache_folder() -> Path:
    """``GOSSAMER_CACHE``, else the platform's cache folder for users with ``gossamer`` below it."""
    own = os.environ.get("GOSSAMER_CACHE")
    if own:
        return Path(own)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "gossamer"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "gossamer"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "gossamer"


def machine_id(isa: str, threads: int, core_version: str) -> str:
    """What a time belongs to: processor model, instruction set, threads, version and fingerprint of the core."""
    return f"{cpu_model()}, {isa}, {threads} thread{'s' if threads > 1 else ''}, core {core_version}"


def cpu_model() -> str:
    """The processor's name as the system gives it, else its architecture."""
    with contextlib.suppress(OSError):
        fields: dict[str, str] = {}
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
        for key in ("model name", "Hardware"):
            if fields.get(key):
                return fields[key]
        if "CPU part" in fields:
            return f"{platform.machine()} {fields.get('CPU implementer', '?')}/{fields['CPU part']}"
    return platform.processor() or platform.machine() or "unknown processor"


class CostTable:
    """Times in microseconds by machine and operator.

    Args:
        path: the JSON file, or ``None`` to keep times in memory only. A file that is missing or not a table counts as
            empty; it is replaced whole when saved.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._new: dict[str, dict[str, float]] = {}
        self._times = _read(path)

    @classmethod
    def default(cls) -> CostTable:
        """The table in the user's cache folder."""
        return cls(cache_folder() / "cost.json")

    def get(self, machine: str, key: str) -> float | None:
        """Microseconds, or ``None`` when that was never measured there."""
        return self._times.get(machine, {}).get(key)

    def put(self, machine: str, key: str, us: float) -> float:
        """Notes a time; returns it as the table holds it, in whole nanoseconds."""
        rounded = round(us, 3)
        self._times.setdefault(machine, {})[key] = rounded
        self._new.setdefault(machine, {})[key] = rounded
        return rounded

    def save(self) -> None:
        """Writes new times to the file, together with what other processes wrote meanwhile.

        A folder that cannot be written is no error: the times are measured again next time.
        """
        if self.path is None or not self._new:
            return
        merged = _read(self.path)
        for machine, times in self._new.items():
            merged.setdefault(machine, {}).update(times)
        document = {"format": FORMAT, "unit": "us", "machines": merged}
        with contextlib.suppress(OSError, OutputError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _atomic.write_text(self.path, json.dumps(document, indent=1, sort_keys=True) + "\n")
            self._new = {}


def _read(path: Path | None) -> dict[str, dict[str, float]]:
    if path is None:
        return {}
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        return {}
    machines = document.get("machines")
    times: dict[str, dict[str, float]] = {}
    for machine, entries in (machines if isinstance(machines, dict) else {}).items():
        if isinstance(entries, dict):
            times[machine] = {
                k: float(v) for k, v in entries.items() if isinstance(v, (int, float)) and 0 < v < float("inf")
            }
    return times
