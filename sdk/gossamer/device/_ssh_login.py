"""A login that the system's ``ssh`` holds open in the background, with one socket of this machine leading through it.

Whose device it is, ssh's host key check says; it is on and never asks (``BatchMode``): the first login is the user's
own, by hand. The socket lies in a folder of mode 0700, out of reach of this machine's other users.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from gossamer._errors import AccessError, UnreachableError
from gossamer.device.book import Place

_CONNECT_SECONDS = 15
_REFUSED = ("Permission denied", "Host key verification failed", "REMOTE HOST IDENTIFICATION HAS CHANGED")


class Login:
    """A running ``ssh -N`` to ``place.ssh``; ``socket`` is there from the start on.

    Args:
        place: who is reached, and ssh's configuration file.
        forward: HOST:PORT that the socket leads to, as seen from the device. Empty: the socket takes more ssh sessions
            (``session``) over the same login.

    Raises:
        UnreachableError: ssh is not installed, or does not get there.
        AccessError: the host key is unknown or changed, or the login is refused.
    """

    def __init__(self, place: Place, forward: str = "") -> None:
        program = shutil.which("ssh")
        if program is None:
            raise UnreachableError("ssh is not installed", where=place.shown, hint="install OpenSSH's client")
        self._place = place
        self._folder = tempfile.TemporaryDirectory(prefix="gossamer-ssh-")  # mode 0700
        self.socket = Path(self._folder.name, "socket")
        self._control = str(self.socket).replace("%", "%%")
        self._base = [program, "-T", *(["-F", place.ssh_config] if place.ssh_config else [])]
        for option in (
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "ExitOnForwardFailure=yes",
            "ServerAliveInterval=15",
            "ServerAliveCountMax=2",
            "RemoteCommand=none",
            f"ConnectTimeout={_CONNECT_SECONDS}",
        ):
            self._base += ["-o", option]
        through = (
            ["-o", "ControlMaster=no", "-o", "ControlPath=none", "-L", f"{self.socket}:{forward}"]
            if forward
            else ["-o", "ControlMaster=yes", "-o", "ControlPersist=no", "-o", f"ControlPath={self._control}"]
        )
        self._log = Path(self._folder.name, "log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*self._base, "-N", *through, "--", place.ssh], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def session(self, line: str) -> list[str]:
        """The command that runs a line in the login's shell, without logging in again."""
        options = ["-o", "ControlMaster=no", "-o", f"ControlPath={self._control}"]
        return [*self._base, *options, "--", self._place.ssh, line]

    def close(self) -> None:
        """End ssh and remove the socket."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._folder.cleanup()

    def _wait(self) -> None:
        """Until the socket is there; ssh makes it after the login."""
        deadline = time.monotonic() + 2 * _CONNECT_SECONDS
        while not self.socket.exists():
            ended = self._process.poll()
            if ended is None and time.monotonic() < deadline:
                time.sleep(0.01)
                continue
            text = self._log.read_text(errors="replace").strip()
            raise refusal(text or ("no answer" if ended is None else f"ssh ended with code {ended}"), self._place.shown)


def refusal(text: str, where: str) -> AccessError | UnreachableError:
    """What ssh itself said, as the error that it stands for."""
    said = text.splitlines()[-1]
    if any(words in text for words in _REFUSED):
        return AccessError(
            f"ssh was refused: {said}", where=where,
            hint="log in once by hand, with a key that needs no password, and check the host key",
        )  # fmt: skip
    return UnreachableError(f"ssh does not get there: {said}", where=where)
