"""``gossamer device`` through ssh: a real sshd on loopback in front of a real agent."""

from __future__ import annotations

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

from gossamer._errors import InputError
from gossamer.device.book import Place
from tests.agent.agentkit import agent


@dataclass
class Server:
    """A running sshd: ``config`` is the client's, with its host alias ``device``."""

    folder: Path
    config: Path
    process: subprocess.Popen[bytes]


@pytest.fixture
def sshd() -> Iterator[Server]:
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("sshd is not installed: apt-get install openssh-server")
    if shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        pytest.skip("ssh is not installed")
    # as root sshd wants an account and a folder of its own: nobody serves as well, and may log in as nobody alone
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    folder = Path(tempfile.mkdtemp(prefix="gossamer-sshd-"))
    for name in ("host", "user", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    (folder / "authorized").write_text((folder / "user.pub").read_text())
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\nPidFile none\nUsePAM yes\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/authorized\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
    )
    # with PAM, for without it an sshd that may not read /etc/shadow takes every account for locked
    key = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known").write_text(f"[127.0.0.1]:{port} {key}\n")
    config = folder / "ssh_config"
    config.write_text(
        f"Host device\n HostName 127.0.0.1\n Port {port}\n User {user.pw_name}\n IdentityFile {folder}/user\n"
        f" IdentitiesOnly yes\n UserKnownHostsFile {folder}/known\n GlobalKnownHostsFile none\n"
    )
    client_owned = {"user", "stranger", "ssh_config", "known"}
    for path in [folder, *(p for p in folder.iterdir() if p.name not in client_owned)]:
        os.chown(path, user.pw_uid, user.pw_gid)
    folder.chmod(0o755)
    extra = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    with (folder / "log").open("wb") as log:
        command = [program, "-D", "-e", "-f", str(folder / "sshd_config")]
        process = subprocess.Popen(command, stdout=log, stderr=log, **extra)
    try:
        deadline = time.monotonic() + 10
        while b"Server listening" not in (folder / "log").read_bytes():
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.02)
        yield Server(folder, config, process)
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


@pytest.fixture
def own(work, tmp_path, monkeypatch):
    home = tmp_path / "home"
    shutil.copytree(work.home, home)
    monkeypatch.setenv("GOSSAMER_HOME", str(home))
    monkeypatch.setenv("TMPDIR", "/tmp")  # a socket's path has 108 bytes at most
    return home


def test_flash_run_profile(cli, own, sshd, tmp_path, bundles, work):
    bundle = tmp_path / "one.goss"
    bundle.write_bytes(bundles("1", 1))
    with agent(tmp_path / "slots") as made:
        place = ["--ssh", "device", "--ssh-config", sshd.config, "--address", made.address]
        added = cli("device", "add", "pi", *place)
        assert added.code == 0 and added.out.startswith("added pi: ssh:device ("), added.err
        assert cli("device", "list", "--json").json["devices"][0]["transport"] == "ssh"
        ran = cli("device", "flash", bundle)
        assert ran.code == 0 and ran.out.startswith(f"committed {bundle} in slot a (")
        assert cli("device", "info", "--json").json["address"] == "ssh:device"
        photo = work.photos / "picture0.png"
        here, there = cli("run", bundle, "-i", photo, "--json").json, cli("device", "run", "-i", photo, "--json").json
        assert there["results"][0]["outputs"] == here["results"][0]["outputs"]
        assert cli("device", "profile", "--runs", 3, "--json").json["latency"]["runs"] == 3
    assert cli("device", "info").code == 17  # ssh gets there, no agent answers


def test_refusals(cli, own, sshd):
    add = ["device", "add", "pi", "--ssh", "device", "--ssh-config", sshd.config]
    known = sshd.folder / "known"
    right = known.read_text()
    stranger = " ".join((sshd.folder / "stranger.pub").read_text().split()[:2])
    known.write_text(f"{right.split()[0]} {stranger}\n")
    ran = cli(*add)
    assert ran.code == 23 and "Host key verification failed" in ran.err
    known.write_text("")
    ran = cli(*add)  # unknown: nobody is asked, it is refused
    assert ran.code == 23 and "Host key verification failed" in ran.err
    assert known.read_text() == ""
    known.write_text(right)
    (sshd.folder / "authorized").write_text((sshd.folder / "stranger.pub").read_text())
    ran = cli(*add)
    assert ran.code == 23 and "Permission denied" in ran.err
    sshd.process.terminate()
    sshd.process.wait()
    ran = cli(*add)
    assert ran.code == 17 and "Connection refused" in ran.err
    assert not list(Path("/tmp").glob("gossamer-ssh-*/agent"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ssh": "-oProxyCommand=id"}, "is not [USER@]HOST"),
        ({"ssh": "a@-b"}, "is not [USER@]HOST"),
        ({"ssh": "h", "root": "/r"}, "one of them"),
        ({"ssh": "h", "ca": "system"}, "over ssh there is no TLS"),
        ({"address": "h:1", "ssh_config": "c"}, "--ssh-config needs --ssh"),
    ],
)
def test_places_that_cannot_be(fields, message):
    with pytest.raises(InputError) as caught:
        Place("pi", **fields).check()
    assert message in caught.value.message
