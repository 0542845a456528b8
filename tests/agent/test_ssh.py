"""``gossamer device`` through ssh: a real sshd on loopback in front of a real agent."""

from __future__ import annotations

import pytest

from gossamer._errors import InputError
from gossamer.device.book import Place
from tests.agent.agentkit import agent
from tests.agent.sshkit import own, sshd

__all__ = ["own", "sshd"]


def test_flash_run_profile(cli, own, sshd, tmp_path, bundles, work):
    bundle = tmp_path / "one.goss"
    bundle.write_bytes(bundles("1", 1))
    with agent(tmp_path / "slots") as made:
        added = cli("device", "add", "pi", *sshd.place, "--address", made.address)
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
    add = ["device", "add", "pi", *sshd.place]
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
    sshd.stop()
    ran = cli(*add)
    assert ran.code == 17 and "Connection refused" in ran.err


def test_ssh_is_missing(cli, own, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = cli("device", "add", "pi", "--ssh", "device")
    assert ran.code == 17 and "ssh is not installed" in ran.err and "install OpenSSH's client" in ran.err
    assert cli("device", "list", "--json").json == {"devices": []}


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
