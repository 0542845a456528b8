"""An sshd of the test's own on a free port of loopback: own host key, own configuration, as the current user."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class Server:
    """A running sshd: ``config`` is the client's, with its host alias ``device``."""

    folder: Path
    config: Path
    process: subprocess.Popen[bytes]

    @property
    def place(self) -> list[object]:
        """The options of ``gossamer device add`` that lead here."""
        return ["--ssh", "device", "--ssh-config", self.config]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


@contextlib.contextmanager
def serve(*lines: str) -> Iterator[Server]:
    """Serve with more lines of configuration; skips where OpenSSH is missing."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("sshd is not installed: apt-get install openssh-server")
    if shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        pytest.skip("ssh is not installed: apt-get install openssh-client")
    root = os.geteuid() == 0
    if root:  # root's sshd wants its empty folder, which its service makes at every start of the machine
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="gossamer-sshd-"))
    for name in ("host", "user", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    (folder / "authorized").write_text((folder / "user.pub").read_text())
    settings = [
        "ListenAddress 127.0.0.1", f"Port {port}", f"HostKey {folder}/host", "PidFile none", "StrictModes no",
        f"AuthorizedKeysFile {folder}/authorized", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
        "PermitRootLogin prohibit-password",
        # without PAM an sshd that may not read /etc/shadow takes every account for locked
        f"UsePAM {'no' if root else 'yes'}", *lines,
    ]  # fmt: skip
    (folder / "sshd_config").write_text("\n".join(settings) + "\n")
    key = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known").write_text(f"[127.0.0.1]:{port} {key}\n")
    config = folder / "ssh_config"
    config.write_text(
        f"Host device\n HostName 127.0.0.1\n Port {port}\n User {pwd.getpwuid(os.geteuid()).pw_name}\n"
        f" IdentityFile {folder}/user\n IdentitiesOnly yes\n"
        f" UserKnownHostsFile {folder}/known\n GlobalKnownHostsFile none\n"
    )
    with (folder / "log").open("wb") as log:
        command = [program, "-D", "-e", "-f", str(folder / "sshd_config")]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    server = Server(folder, config, process)
    try:
        deadline = time.monotonic() + 10
        while b"Server listening" not in (folder / "log").read_bytes():
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.02)
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture
def sshd() -> Iterator[Server]:
    """A server that takes the key ``user`` and gives a shell of this machine."""
    with serve() as server:
        yield server


@pytest.fixture
def own(own, monkeypatch):
    """The home of other tests of devices; and logins leave nothing."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # a socket's path has 108 bytes at most
        monkeypatch.setattr(tempfile, "tempdir", short)
        yield own
        assert list(Path(short).iterdir()) == []
