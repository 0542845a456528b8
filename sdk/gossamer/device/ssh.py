"""A device behind ssh: the system's ``ssh`` forwards a private socket to the agent's port on the device's loopback.

The agent then needs neither TLS nor an open port. Whose device it is, ssh's host key check says; it is on and never
asks (``BatchMode``): the first login is the user's own, by hand. The socket lies in a folder of mode 0700, out of
reach of this machine's other users.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from gossamer._errors import AccessError, UnreachableError
from gossamer.device.book import Place
from gossamer.device.remote import Remote

AGENT = "127.0.0.1:50061"
"""Where an agent listens when it is not told otherwise."""
_CONNECT_SECONDS = 15
_REFUSED = ("Permission denied", "Host key verification failed", "REMOTE HOST IDENTIFICATION HAS CHANGED")


class Ssh(Remote):
    """The agent of the device that ``ssh place.ssh`` reaches.

    Raises:
        UnreachableError: ssh is not installed, or does not get there.
        AccessError: the host key is unknown or changed, or the login is refused.
        InputError, UnsupportedError: see ``Remote``.
    """

    def __init__(self, place: Place) -> None:
        self._tunnel = _Tunnel(place)
        try:
            super().__init__(place, target=self._tunnel.target)
        except BaseException:
            self._tunnel.close()
            raise

    def close(self) -> None:
        """Close the connection, then the forwarding."""
        super().close()
        self._tunnel.close()


class _Tunnel:
    """A running ``ssh -N -L SOCKET:ADDRESS``; ``target`` is the socket as gRPC names it."""

    def __init__(self, place: Place) -> None:
        program = shutil.which("ssh")
        if program is None:
            raise UnreachableError("ssh is not installed", where=place.shown, hint="install OpenSSH's client")
        self._folder = tempfile.TemporaryDirectory(prefix="gossamer-ssh-")  # mode 0700
        socket = Path(self._folder.name, "agent")
        self.target = f"unix:{socket}"
        command: list[str] = [program, "-N", "-T"]
        if place.ssh_config:
            command += ["-F", place.ssh_config]
        for option in (
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "ExitOnForwardFailure=yes",
            "ServerAliveInterval=15",
            "ServerAliveCountMax=2",
            "ControlMaster=no",
            "ControlPath=none",
            f"ConnectTimeout={_CONNECT_SECONDS}",
        ):
            command += ["-o", option]
        command += ["-L", f"{socket}:{place.address or AGENT}", "--", place.ssh]
        self._log = Path(self._folder.name, "log")
        with self._log.open("wb") as log:
            self._process: subprocess.Popen[Any] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._wait(socket, place)
        except BaseException:
            self.close()
            raise

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

    def _wait(self, socket: Path, place: Place) -> None:
        """Until the socket is there; ssh makes it after the login."""
        deadline = time.monotonic() + 2 * _CONNECT_SECONDS
        while not socket.exists():
            ended = self._process.poll()
            if ended is None and time.monotonic() < deadline:
                time.sleep(0.01)
                continue
            text = self._log.read_text(errors="replace").strip()
            said = (
                text.splitlines()[-1] if text else f"ssh ended with code {ended}" if ended is not None else "no answer"
            )
            if any(words in text for words in _REFUSED):
                raise AccessError(
                    f"ssh was refused: {said}", where=place.shown,
                    hint="log in once by hand, with a key that needs no password, and check the host key",
                )  # fmt: skip
            raise UnreachableError(f"ssh does not get there: {said}", where=place.shown)
