"""One Android device through the system's ``adb``: commands, files, and its refusals as our errors."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from gossamer._errors import UnreachableError
from gossamer.device._shell import Done, Shell, execute, said

# what adb says of itself; programs of the device say "error: " too, and "device"
_UNREACHED = re.compile(
    r"^(?:adb|error): (?:device (?:'[^']*' not found|offline|unauthorized|still)|no devices|more than one|closed$"
    r"|protocol fault|cannot connect|failed to (?:check server|get feature|connect)|insufficient permissions).*$",
    re.MULTILINE,
)


class AdbShell(Shell):
    """``adb -s SERIAL``.

    Raises:
        UnreachableError: there is no ``adb`` on this machine.
    """

    def __init__(self, serial: str) -> None:
        self.where = f"adb:{serial}"
        program = shutil.which("adb")
        if program is None:
            raise UnreachableError(
                "adb is not installed",
                where=self.where,
                hint="install Android's platform tools and put adb in PATH",
            )
        self._command = [program, "-s", serial]

    def script(self, line: str) -> Done:
        """See ``Shell``."""
        return self._adb("shell", line)

    def push(self, local: Path, remote: str) -> None:
        """See ``Shell``; ``adb`` does not tell a device's refusal from a broken cable, so both are unreachable."""
        self._copied(self._adb("push", str(local), remote), "push")

    def pull(self, remote: str, local: Path) -> None:
        """See ``push``."""
        self._copied(self._adb("pull", remote, str(local)), "pull")

    def close(self) -> None:
        """Nothing is held."""

    def _copied(self, done: Done, verb: str) -> None:
        if done.returncode != 0:
            raise UnreachableError(f"adb {verb} failed: {said(done)}", where=self.where)

    def _adb(self, *arguments: str) -> Done:
        done = execute([*self._command, *arguments], self.where)
        own = _UNREACHED.search(done.stderr) if done.returncode != 0 else None
        if own is not None:
            raise UnreachableError(
                own[0], where=self.where,
                hint="'adb devices' lists what is attached; allow debugging on the device's screen",
            )  # fmt: skip
        return done
