"""``gossamer device`` over ssh to a board without an agent: a real sshd, the real static profiler."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

import pytest

from gossamer._errors import InputError
from gossamer.device.book import Place
from tests.agent.benchkit import life, measures, need, slots
from tests.agent.fake_device import MACHINES
from tests.agent.sshkit import own, serve, sshd

__all__ = ["own", "sshd"]
FAKE = Path(__file__).with_name("fake_device.py")


@pytest.fixture(autouse=True)
def _shell(request):
    account = pwd.getpwuid(os.geteuid())
    if account.pw_shell.endswith(("/nologin", "/false")) and {"sshd", "folder"} & set(request.fixturenames):
        pytest.skip(f"{account.pw_name} has no shell to log in to")


@pytest.fixture
def folder(tmp_path):
    """Where the board keeps its things; blanks, a quote and a backslash in its name must not matter."""
    return tmp_path / "it's a \\ board"


def as_machine(machine: str, folder: Path) -> str:
    """A line for sshd's configuration: whoever logs in is on another machine."""
    program = str(folder / "gossamer-profile").replace("'", "'\\''")
    return f"ForceCommand {sys.executable} -I -S {FAKE} {machine} '{program}'"


def add(cli, server, folder, *more):
    return cli("device", "add", "pi", *server.place, "--no-agent", "--folder", folder, *more)


@pytest.mark.slow  # many logins; over adb the same is quick
def test_life(cli, own, sshd, files, folder):
    program = need("x86_64")
    added = add(cli, sshd, folder)
    assert added.code == 0 and added.out == "added pi: ssh:device (x86_64)\n", added.err
    assert cli("device", "list", "--json").json["devices"][0]["transport"] == "ssh-profiler"
    life(cli, files, folder)
    assert (folder / "gossamer-profile").read_bytes() == program
    info = cli("device", "info", "--json").json
    assert (info["root"], info["machine"]) == (str(folder), "x86_64") and info["system"].startswith("Linux ")


@pytest.mark.slow
@pytest.mark.parametrize(("machine", "isa"), [("x86_64", ""), ("aarch64", "neon"), ("armv7", "neon")])
def test_run_and_profile(cli, own, files, folder, work, tmp_path, machine, isa):
    program = need(machine)
    with serve(as_machine(machine, folder)) as server:
        assert add(cli, server, folder).out == f"added pi: ssh:device ({MACHINES[machine].uname})\n"
        assert cli("device", "flash", files[0]).code == 0
        assert (folder / "gossamer-profile").read_bytes() == program
        measures(cli, work, files[0], isa, tmp_path)


def test_the_folder_is_in_the_home_by_default(cli, own, sshd):
    assert cli("device", "add", "pi", *sshd.place, "--no-agent").code == 0
    assert cli("device", "info", "--json").json["root"] == str(Path("~").expanduser() / ".gossamer")


@pytest.mark.slow
def test_what_fails_leaves_the_one_before(cli, own, sshd, files, folder, tmp_path, bundles, other_key):
    need("x86_64")
    one, two, _ = files
    assert add(cli, sshd, folder).code == 0
    assert cli("device", "flash", one).code == 0
    crashing = tmp_path / "crashing"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n")
    assert add(cli, sshd, folder, "--profiler", crashing).code == 0
    ran = cli("device", "flash", two)
    assert ran.code == 20 and "the profiler ended with code 139" in ran.err
    wrong = tmp_path / "wrong"
    wrong.write_bytes(need("aarch64"))
    assert add(cli, sshd, folder, "--profiler", wrong).code == 0
    ran = cli("device", "flash", two)
    assert ran.code == 18 and "the device cannot start the profiler" in ran.err
    assert slots(cli) == [("a", "active", "1"), ("b", "empty", None)]
    assert add(cli, sshd, folder).code == 0
    unknown = tmp_path / "unknown.goss"
    unknown.write_bytes(bundles("4", 1, key=other_key))
    assert cli("device", "flash", unknown).code == 9
    assert cli("device", "flash", two).code == 0  # the right profiler is put back
    (folder / "b.goss").unlink()
    ran = cli("device", "profile", "--runs", 1)
    assert ran.code == 18 and "No such file" in ran.err


def test_the_board_refuses_the_folder_or_a_file(cli, own, sshd, files, folder):
    need("x86_64")
    folder.write_text("a file")
    assert add(cli, sshd, folder).code == 0
    ran = cli("device", "flash", files[0])
    assert ran.code == 22 and "cannot make the folder: mkdir:" in ran.err
    folder.unlink()
    folder.mkdir()
    (folder / "a.goss").symlink_to("/dev/full")
    ran = cli("device", "flash", files[0])
    assert ran.code == 22 and "the file cannot be written: cat: write error: No space left on device" in ran.err
    assert slots(cli) == [("a", "empty", None), ("b", "empty", None)]


def test_out_of_reach(cli, own, sshd, files, folder, tmp_path, monkeypatch):
    need("x86_64")
    assert add(cli, sshd, folder).code == 0
    assert cli("device", "flash", files[0]).code == 0
    known = sshd.folder / "known"
    right = known.read_text()
    known.write_text("")
    ran = cli("device", "info")
    assert ran.code == 23 and "Host key verification failed" in ran.err
    known.write_text(right)
    (sshd.folder / "authorized").write_text((sshd.folder / "stranger.pub").read_text())
    ran = cli("device", "info")
    assert ran.code == 23 and "Permission denied" in ran.err
    sshd.stop()
    ran = cli("device", "info")
    assert ran.code == 17 and "Connection refused" in ran.err
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = cli("device", "info")
    assert ran.code == 17 and "ssh is not installed" in ran.err


@pytest.mark.slow
def test_a_connection_that_breaks_during_a_run(cli, own, files, folder, tmp_path):
    need("x86_64")
    cutting = tmp_path / "cutting"  # ends the sshd of its own session, as a pulled cable would
    cutting.write_text("#!/bin/sh\nread -r _ _ _ parent _ < /proc/$PPID/stat\nkill -9 $parent\nsleep 1\n")
    with serve() as server:
        assert add(cli, server, folder).code == 0
        assert cli("device", "flash", files[0]).code == 0
        assert add(cli, server, folder, "--profiler", cutting).code == 0
        ran = cli("device", "flash", files[1])
        assert ran.code == 17 and "ssh does not get there" in ran.err
        assert slots(cli) == [("a", "active", "1"), ("b", "empty", None)]


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("ForceCommand echo welcome", 22, "the login does not say what machine it is on: welcome"),
        ("ForceCommand exit 3", 22, "exit code 3"),
    ],
)
def test_a_login_that_runs_no_commands(cli, own, folder, line, code, words):
    with serve(line) as server:
        ran = add(cli, server, folder)
        assert ran.code == code and words in ran.err and "its start files must print nothing" in ran.err


def test_a_board_without_a_profiler_for_it(cli, own, files, folder):
    with serve(as_machine("riscv64", folder)) as server:
        assert add(cli, server, folder).code == 0
        ran = cli("device", "flash", files[0])
        assert ran.code == 4 and "there is no static profiler for riscv64" in ran.err


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"address": "h:1", "no_agent": True}, "--no-agent needs --ssh"),
        ({"ssh": "h", "no_agent": True, "address": "h:1"}, "neither the agent's --address nor a token"),
        ({"ssh": "h", "no_agent": True, "token_file": "t"}, "neither the agent's --address nor a token"),
        ({"ssh": "h", "folder": "/f"}, "--folder needs --no-agent"),
        ({"ssh": "h", "no_agent": True, "folder": "f"}, "'f' is no absolute path"),
        ({"ssh": "h", "no_agent": True, "folder": "/a\nb"}, "is no absolute path"),
        ({"ssh": "h", "profiler": "p"}, "--profiler needs --adb or --no-agent"),
    ],
)
def test_places_that_cannot_be(fields, message):
    with pytest.raises(InputError) as caught:
        Place("pi", **fields).check()
    assert message in caught.value.message
