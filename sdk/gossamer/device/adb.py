"""An Android phone on a cable: a workbench in ``/data/local/tmp``, reached by ``adb``."""

from __future__ import annotations

import functools

from gossamer._errors import UnsupportedError
from gossamer.device import _profilers
from gossamer.device._adb_shell import AdbShell
from gossamer.device.book import Place
from gossamer.device.workbench import Workbench

FOLDER = "/data/local/tmp/gossamer"
_PROPERTIES = ("ro.product.model", "ro.product.cpu.abi", "ro.build.version.release")
_MACHINES = {"arm64-v8a": "aarch64", "armeabi-v7a": "armv7", "x86_64": "x86_64"}


class Adb(Workbench):
    """The phone at ``place.adb``, its serial number.

    Raises:
        UnreachableError: there is no ``adb`` on this machine.
    """

    def __init__(self, place: Place) -> None:
        super().__init__(place, AdbShell(place.adb))

    @property
    def folder(self) -> str:
        """The one that every ``adb shell`` may write to and run programs from."""
        return FOLDER

    def description(self) -> dict[str, str]:
        """See ``Workbench``; ``machine`` is Android's name of the ABI."""
        model, abi, release = self._told
        return {"host": model, "machine": abi, "system": f"Android {release}".strip()}

    def profiler(self) -> bytes:
        """See ``Workbench``."""
        abi = self._told[1]
        if abi not in _MACHINES:
            raise UnsupportedError(f"there is no static profiler for {abi or 'an unknown ABI'}", where=self._where)
        return _profilers.load(_MACHINES[abi])

    @functools.cached_property
    def _told(self) -> list[str]:
        """Model, ABI and release; empty what the phone does not tell."""
        done = self._shell.script("; ".join(f"getprop {name}" for name in _PROPERTIES))
        lines = [line.strip() for line in done.stdout.splitlines()]
        return lines if len(lines) == len(_PROPERTIES) else [""] * len(_PROPERTIES)
