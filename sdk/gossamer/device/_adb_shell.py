"""One Android device through the system's ``adb``: commands, files, and its refusals as our errors."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

from gossamer._errors import UnreachableError

_UNREACHED = ("device", "devices", "daemon", "connect", "closed", "transport")
_TIMEOUT_S = 600.0


class AdbShell:
    """``adb -s SERIAL``.

    Raises:
        UnreachableError: there is no ``adb`` on this machine.
    """

    def __init__(self, serial: str) -> None:
        program = shutil.which("adb")
        if program is None:
            raise UnreachableError(
                "adb is not installed",
                where=f"adb:{serial}",
                hint="install Android's platform tools and put adb in PATH",
            )
        self._command = [program, "-s", serial]
        self._where = f"adb:{serial}"

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run words on the device, each quoted; the exit code is the command's own.

        Raises:
            UnreachableError: the device does not answer.
        """
        return self.script(shlex.join(words))

    def script(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line of the device's shell."""
        return self._adb("shell", line)

    def push(self, local: Path, remote: str) -> None:
        """Copy a file there.

        Raises:
            UnreachableError: it did not arrive.
        """
        done = self._adb("push", str(local), remote)
        if done.returncode != 0:
            raise UnreachableError(f"adb push failed: {_said(done)}", where=self._where)

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file from there.

        Raises:
            UnreachableError: it did not arrive.
        """
        done = self._adb("pull", remote, str(local))
        if done.returncode != 0:
            raise UnreachableError(f"adb pull failed: {_said(done)}", where=self._where)

    def _adb(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            done = subprocess.run(
                [*self._command, *arguments],
                capture_output=True, text=True, errors="replace", check=False,
                stdin=subprocess.DEVNULL, timeout=_TIMEOUT_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired as e:
            raise UnreachableError(f"adb did not end within {_TIMEOUT_S:.0f} s", where=self._where) from e
        except OSError as e:
            raise UnreachableError(f"adb cannot be started: {e.strerror}", where=self._where) from e
        said = done.stderr.strip()
        # adb's own refusals look like this ("adb: device 'x' not found"); those of a remote command do not
        if done.returncode != 0 and said.startswith(("adb: ", "error: ")) and any(w in said for w in _UNREACHED):
            raise UnreachableError(
                said.splitlines()[0], where=self._where,
                hint="'adb devices' lists what is attached; allow debugging on the device's screen",
            )  # fmt: skip
        return done


def _said(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"
