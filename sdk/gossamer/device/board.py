"""A board behind ssh that has no agent: a workbench in the login's home, or in a folder of one's choice."""

from __future__ import annotations

import functools

from gossamer._errors import SlotError, UnsupportedError
from gossamer.device import _profilers
from gossamer.device._shell import said
from gossamer.device._ssh_shell import SshShell
from gossamer.device.book import Place
from gossamer.device.workbench import Workbench

FOLDER = ".gossamer"
"""In the login's home, when the place names no other."""
# "armv8l": 32-bit programs alone
_MACHINES = {"aarch64": "aarch64", "arm64": "aarch64", "armv7l": "armv7", "armv8l": "armv7", "x86_64": "x86_64"}


class Board(Workbench):
    """The board that ``ssh place.ssh`` reaches.

    Raises:
        UnreachableError, AccessError: see ``Login``.
    """

    def __init__(self, place: Place) -> None:
        super().__init__(place, SshShell(place))

    @property
    def folder(self) -> str:
        """``place.folder``, or one in the login's home."""
        return self._place.folder or f"{self._told[0]}/{FOLDER}"

    def description(self) -> dict[str, str]:
        """See ``Workbench``; ``machine`` is what ``uname -m`` says."""
        _, host, machine, system = self._told
        return {"host": host, "machine": machine, "system": system}

    def profiler(self) -> bytes:
        """See ``Workbench``."""
        machine = self._told[2]
        if machine not in _MACHINES:
            raise UnsupportedError(f"there is no static profiler for {machine}", where=self._where)
        return _profilers.load(_MACHINES[machine])

    @functools.cached_property
    def _told(self) -> list[str]:
        """Home, host, machine and system."""
        done = self._shell.script("cd && pwd && uname -n && uname -m && uname -sr")
        lines = done.stdout.splitlines()
        if done.returncode != 0 or len(lines) != 4:
            raise SlotError(
                f"the login does not say what machine it is on: {said(done)}", where=self._where,
                hint="its shell must run commands, and its start files must print nothing",
            )  # fmt: skip
        return lines
