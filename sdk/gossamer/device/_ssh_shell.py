"""A shell through the system's ``ssh``: one login for all commands, files through ``cat``.

Small boards often have an ssh server without sftp; ``cat`` they all have.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import IO

from gossamer._errors import SlotError
from gossamer.device._shell import Done, Shell, execute, said
from gossamer.device._ssh_login import Login, refusal
from gossamer.device.book import Place

_OWN_FAILURE = 255
"""Exit code with which ssh says that it failed itself."""


class SshShell(Shell):
    """The shell that ``ssh place.ssh`` gives.

    Raises:
        UnreachableError, AccessError: see ``Login``.
    """

    def __init__(self, place: Place) -> None:
        self.where = place.shown
        self._login = Login(place)

    def script(self, line: str) -> Done:
        """See ``Shell``."""
        return self._run(line)

    def push(self, local: Path, remote: str) -> None:
        """See ``Shell``."""
        with local.open("rb") as source:
            done = self._run(f"cat > {shlex.quote(remote)}", stdin=source)
        if done.returncode != 0:
            raise SlotError(f"the file cannot be written: {said(done)}", where=f"{self.where}:{remote}")

    def pull(self, remote: str, local: Path) -> None:
        """See ``Shell``."""
        with local.open("wb") as into:
            done = self._run(f"cat {shlex.quote(remote)}", stdout=into)
        if done.returncode != 0:
            raise SlotError(f"the file cannot be read: {said(done)}", where=f"{self.where}:{remote}")

    def close(self) -> None:
        """Log out."""
        self._login.close()

    def _run(self, line: str, *, stdin: IO[bytes] | int = subprocess.DEVNULL, stdout: IO[bytes] | None = None) -> Done:
        # a shell of its own, for the login's may be none of POSIX; "exit $?", for ssh does not tell which signal ended
        # what the shell would else become
        script = shlex.quote(f"{line}\nexit $?")
        done = execute(self._login.session(f"exec sh -c {script}"), self.where, stdin=stdin, stdout=stdout)
        if done.returncode == _OWN_FAILURE:
            raise refusal(done.stderr.strip() or "the connection broke", self.where)
        return done
