"""The agent as an ordinary user, and slot folders that it may not write: it says so and leaves them as they are.

Tests that run as root start it as ``nobody``, who may read everything (Python may lie in root's home) and write nothing
but its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.agentkit import agent

ROOT = os.geteuid() == 0
NOBODY = 65534
ALONE = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
READS = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]


def works(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture(scope="module")
def user() -> list[str]:
    """The command that runs another as an ordinary user."""
    if not ROOT:
        return []
    for prefix in (ALONE, [*ALONE, *READS]):
        child = "import gossamer_runtime, subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
        if works([*prefix, sys.executable, "-c", child]):
            return prefix
    pytest.skip("as root, nobody cannot run this Python: setpriv is missing, or CAP_DAC_READ_SEARCH is")


@pytest.fixture
def place(work, monkeypatch) -> Iterator[Path]:
    """A folder of that user; the trust store in it is the shared one."""
    folder = Path(tempfile.mkdtemp(prefix="gossamer-agent-"))
    try:
        (folder / "home").mkdir()
        shutil.copytree(work.home / "trusted", folder / "home" / "trusted")
        monkeypatch.setenv("GOSSAMER_HOME", str(folder / "home"))
        folder.chmod(0o755)
        give(folder)
        yield folder
    finally:
        for path in [p for p in folder.rglob("*") if p.is_dir()]:
            path.chmod(0o755)
        shutil.rmtree(folder)


def give(path: Path) -> None:
    if ROOT:
        os.chown(path, NOBODY, NOBODY)


def take(path: Path) -> None:
    """From now on that user may not write it."""
    if ROOT:
        os.chown(path, 0, 0)
    path.chmod(path.stat().st_mode & ~0o222)


def start(prefix: list[str], root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """An agent that should not start."""
    command = [*prefix, sys.executable, "-m", "gossamer_runtime.agent._main", "--root", str(root), *options]
    return subprocess.run([*command, "--bind", "127.0.0.1:0"], capture_output=True, text=True, check=False, timeout=60)


def test_all_of_it_as_an_ordinary_user(cli, user, place, bundles, tmp_path):
    paths = [tmp_path / "one.goss", tmp_path / "two.goss"]
    for path, version in zip(paths, "12", strict=True):
        path.write_bytes(bundles(version, 1))
    with agent(place / "slots", prefix=user) as made:
        reach = ["-d", made.address]
        assert cli("device", "flash", paths[0], *reach).code == 0
        assert cli("device", "flash", paths[1], *reach).code == 0
        assert cli("device", "rollback", *reach).code == 0
        info = cli("device", "info", "--json", *reach).json
        assert [(s["status"], s["version"]) for s in info["slots"]] == [("active", "1"), ("previous", "2")]
        assert info["problem"] == ""
        assert cli("device", "doctor", *reach).code == 0
    files = sorted((place / "slots").iterdir())
    assert [f.name for f in files] == ["lock", "pointer", "slot-a.goss", "slot-b.goss"]
    if ROOT:
        assert {f.stat().st_uid for f in files} == {NOBODY}
    assert "WARNING" not in made.log.read_text() and "Traceback" not in made.log.read_text()


@pytest.mark.parametrize("there", [True, False], ids=["another's", "missing"])
def test_a_folder_that_it_may_not_write(user, place, there):
    parent = place / "var"
    root = parent / "slots"
    parent.mkdir()
    if there:
        root.mkdir()
        take(root)
    take(parent)
    ran = start(user, root)
    assert ran.returncode == 22
    lines = ran.stderr.splitlines()
    assert lines[0] == "error: cannot use the slot folder: Permission denied"
    assert lines[1:] == [f"  where: {root}", "  do:    the agent needs a folder that it may write: --root"]
    assert [p.name for p in parent.rglob("*")] == ["slots"] * there


def test_a_folder_that_stopped_being_writable(cli, user, place, bundles, tmp_path):
    one, two = tmp_path / "one.goss", tmp_path / "two.goss"
    one.write_bytes(bundles("1", 1))
    two.write_bytes(bundles("2", 1))
    root = place / "slots"
    with agent(root, prefix=user) as made:
        reach = ["-d", made.address]
        assert cli("device", "flash", one, *reach).code == 0
        take(root)
        before = {p.name: p.read_bytes() for p in root.iterdir()}
        ran = cli("device", "flash", two, *reach)
        assert ran.code == 22 and "the slot folder failed: Permission denied" in ran.err
        assert "check the disk and its permissions" in ran.err
        assert {p.name: p.read_bytes() for p in root.iterdir()} == before
        info = cli("device", "info", "--json", *reach).json
        assert [(s["status"], s.get("version")) for s in info["slots"]] == [("active", "1"), ("empty", "")]
        assert cli("device", "profile", "--runs", 2, *reach).code == 0  # what ran goes on running
    for path in root.iterdir():
        take(path)
    ran = start(user, root)
    assert ran.returncode == 22 and "cannot use the slot folder: Permission denied" in ran.stderr


def test_a_port_file_that_it_may_not_write(user, place):
    sealed = place / "sealed"
    sealed.mkdir()
    take(sealed)
    ran = start(user, place / "slots", "--port-file", str(sealed / "port"))
    assert (
        ran.returncode == 10 and f"cannot write the port file: Permission denied\n  where: {sealed}/port" in ran.stderr
    )


@pytest.mark.parametrize("what", ["agent", "card"])
def test_a_read_only_file_system(place, bundles, what):
    root = place / "slots"
    root.mkdir()
    bundle = place / "one.goss"
    bundle.write_bytes(bundles("1", 1))
    if not works(["unshare", "-m", "mount", "--bind", str(root), str(root)]):
        pytest.skip("mounting takes root and CAP_SYS_ADMIN")
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    sealed = ["unshare", "-m", "sh", "-c", script, str(root)]
    if what == "agent":
        ran = start(sealed, root)
    else:
        command = [*sealed, sys.executable, "-m", "gossamer", "device", "flash", str(bundle), "--root", str(root)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    said = {"agent": "cannot use the slot folder: Read-only file system", "card": "the card may not be written"}
    assert ran.returncode == 22 and said[what] in ran.stderr and str(root) in ran.stderr
    assert not list(root.iterdir())


def test_a_card_that_root_wrote_is_its_agents(cli, user, place, bundles, tmp_path):
    if not ROOT:
        pytest.skip("takes root, who writes another's card")
    root = place / "slots"
    root.mkdir()
    give(root)
    one = tmp_path / "one.goss"
    one.write_bytes(bundles("1", 1))
    assert cli("device", "flash", one, "--root", root).code == 0
    assert {p.name: p.stat().st_uid for p in root.iterdir()} == dict.fromkeys(
        ["lock", "pointer", "slot-a.goss"], NOBODY
    )
    with agent(root, prefix=user) as made:
        slots = cli("device", "info", "-d", made.address, "--json").json["slots"]
        assert [(s["status"], s["version"]) for s in slots] == [("active", "1"), ("empty", "")]
