"""The shell of a device without an agent, however it is reached: what ``workbench`` needs of it."""

from __future__ import annotations

import shlex
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from gossamer._errors import UnreachableError

TIMEOUT_S = 600.0
Done = subprocess.CompletedProcess[str]


class Shell(ABC):
    """A POSIX shell and files on a device. ``where`` names it in errors.

    Every method raises ``UnreachableError`` when the device does not answer.
    """

    where: str

    @abstractmethod
    def script(self, line: str) -> Done:
        """Run a line of shell; the exit code is the line's own."""

    def call(self, *words: str) -> Done:
        """Run words, each quoted."""
        return self.script(shlex.join(words))

    @abstractmethod
    def push(self, local: Path, remote: str) -> None:
        """Copy a file there.

        Raises:
            SlotError: the device refuses it, such as for a full disk.
        """

    @abstractmethod
    def pull(self, remote: str, local: Path) -> None:
        """Copy a file from there.

        Raises:
            SlotError: the device refuses it.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the device."""


def execute(
    command: Sequence[str], where: str, *, stdin: IO[bytes] | int = subprocess.DEVNULL, stdout: IO[bytes] | None = None
) -> Done:
    """Run a program of this machine that talks to a device; its output as text, or into a file.

    Raises:
        UnreachableError: it does not end, or cannot be started.
    """
    try:
        return subprocess.run(
            command, stdin=stdin, stdout=stdout or subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, errors="replace", check=False, timeout=TIMEOUT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired as e:
        raise UnreachableError(f"{Path(command[0]).name} did not end within {TIMEOUT_S:.0f} s", where=where) from e
    except OSError as e:
        raise UnreachableError(f"{Path(command[0]).name} cannot be started: {e.strerror}", where=where) from e


def said(done: Done) -> str:
    """The last line that a command said, or its exit code."""
    lines = (done.stderr.strip() or (done.stdout or "").strip()).splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"
