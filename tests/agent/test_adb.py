"""``gossamer device`` over adb: a stand-in for adb and the phone's files, the real static profiler under qemu."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gossamer._errors import InputError, UnreachableError
from gossamer.device import _adb_shell
from gossamer.device.book import Place
from tests.agent.benchkit import life, measures, need, slots
from tests.agent.fake_device import MACHINES


@pytest.fixture
def phone(own, tmp_path, monkeypatch):
    """Folder of an aarch64 phone, which is reached as ``--adb PHONE1``; its file ``machine`` makes it another."""
    need("aarch64")
    folder, programs = tmp_path / "phone", tmp_path / "bin"
    (folder / "tmp").mkdir(parents=True)
    (folder / "machine").write_text("aarch64")
    programs.mkdir()
    adb = programs / "adb"
    adb.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {Path(__file__).with_name("fake_adb.py")} "$@"\n')
    adb.chmod(0o755)
    monkeypatch.setenv("GOSSAMER_FAKE_PHONE", str(folder))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return folder


@pytest.mark.parametrize("machine", ["aarch64", "armv7", "x86_64"])
def test_life(cli, phone, files, machine):
    program = need(machine)
    (phone / "machine").write_text(machine)
    added = cli("device", "add", "phone", "--adb", "PHONE1")
    assert added.code == 0 and added.out == f"added phone: adb:PHONE1 ({MACHINES[machine].abi})\n"
    assert cli("device", "list", "--json").json["devices"][0]["transport"] == "adb"
    life(cli, files, phone / "tmp/gossamer")
    assert (phone / "tmp/gossamer/gossamer-profile").read_bytes() == program
    info = cli("device", "info", "--json").json
    assert (info["machine"], info["host"], info["system"]) == (MACHINES[machine].abi, "Fake 1", "Android 14")


@pytest.mark.parametrize(("machine", "isa"), [("aarch64", "neon"), ("armv7", "neon"), ("x86_64", "")])
def test_run_and_profile(cli, phone, files, work, tmp_path, machine, isa):
    need(machine)
    (phone / "machine").write_text(machine)
    assert cli("device", "add", "phone", "--adb", "PHONE1").code == 0
    assert cli("device", "flash", files[0]).code == 0
    measures(cli, work, files[0], isa, tmp_path)


def test_what_fails_leaves_the_one_before(cli, phone, files, tmp_path, bundles, other_key):
    one, two, _ = files
    assert cli("device", "add", "phone", "--adb", "PHONE1").code == 0
    assert cli("device", "flash", one).code == 0
    (phone / "corrupt").touch()
    ran = cli("device", "flash", two)
    assert ran.code == 17 and "the copy on the device differs" in ran.err
    (phone / "corrupt").unlink()
    (phone / "crash").touch()
    ran = cli("device", "flash", two)
    assert ran.code == 20 and "the profiler ended with code 139" in ran.err
    (phone / "crash").unlink()
    assert cli("device", "flash", two, "--stage").code == 0
    assert slots(cli)[1] == ("b", "staged", "2")
    (phone / "crash").touch()
    assert cli("device", "activate").code == 20
    assert cli("device", "profile").code == 22  # not on trial: the device is at fault, and nothing to fall back from
    (phone / "crash").unlink()
    assert cli("device", "activate").code == 22  # what failed is forgotten
    unknown = tmp_path / "unknown.goss"
    unknown.write_bytes(bundles("4", 1, key=other_key))
    before = (phone / "calls").read_text()
    assert cli("device", "flash", unknown).code == 9
    assert (phone / "calls").read_text() == before  # refused here, nothing was sent
    assert slots(cli) == [("a", "active", "1"), ("b", "empty", None)]
    file = phone / "tmp/gossamer/a.goss"  # someone with a shell changes a byte: the signature does not fit
    data = bytearray(file.read_bytes())
    data[300] ^= 1
    file.write_bytes(data)
    ran = cli("device", "profile", "--runs", 1)
    assert ran.code == 18 and "was changed after it was signed" in ran.err


def test_an_older_profiler_is_replaced_before_it_measures(cli, phone, files):
    assert cli("device", "add", "phone", "--adb", "PHONE1").code == 0
    assert cli("device", "flash", files[0]).code == 0
    program = phone / "tmp/gossamer/gossamer-profile"
    program.write_text("#!/bin/sh\n")
    assert cli("device", "profile", "--runs", 1).code == 0
    assert program.read_bytes() == need("aarch64")


def test_an_answer_that_is_none(cli, phone, files, tmp_path):
    answering = tmp_path / "answering"
    (phone / "machine").write_text("x86_64")
    assert cli("device", "add", "phone", "--adb", "PHONE1", "--profiler", answering).code == 0
    for answer, said in (("", "is no JSON"), ("{}", "tells no time: 'inference'"), ("[]", "tells no time")):
        answering.write_text(f"#!/bin/sh\necho '{answer}'\n")
        ran = cli("device", "flash", files[0])
        assert ran.code == 22 and f"the profiler's answer {said}" in ran.err, answer
    assert slots(cli) == [("a", "empty", None), ("b", "empty", None)]
    answering.write_text("""#!/bin/sh\necho '{"inference": {"median_us": 5}}'\n""")
    assert cli("device", "flash", files[0]).code == 0
    ran = cli("device", "profile", "--runs", 1)
    assert ran.code == 22 and "the profiler's answer is no profile: 'warmup_ns'" in ran.err
    real = tmp_path / "real"
    real.write_bytes(need("x86_64"))
    real.chmod(0o755)
    command = [real, files[0], "--json", "--each", "--runs", "2"]
    whole = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    no_run = {**whole["inference"], "runs_ns": []}
    for wrong in ({"inference": no_run}, {"operators": [3]}, {"load_us": "soon"}):
        answering.write_text(f"#!/bin/sh\necho '{json.dumps(whole | wrong)}'\n")
        ran = cli("device", "profile", "--runs", 1)
        assert ran.code == 22 and "the profiler's answer is no profile: " in ran.err, wrong


def test_what_the_program_says_of_a_device_is_not_adbs(cli, phone, files, tmp_path):
    refusing = tmp_path / "refusing"
    (phone / "machine").write_text("x86_64")
    assert cli("device", "add", "phone", "--adb", "PHONE1", "--profiler", refusing).code == 0
    for said in ("a.raw: No space left on device", "device memory is short", "closed connection of a daemon"):
        refusing.write_text(f"#!/bin/sh\necho 'error: {said}' >&2\nexit 1\n")
        ran = cli("device", "flash", files[0])
        assert ran.code == 18 and f"the device cannot run the bundle: error: {said}" in ran.err


@pytest.mark.parametrize(
    ("said", "unreached"),
    [
        ("adb: device 'PHONE1' not found", True),
        ("error: device 'PHONE1' not found", True),
        ("error: device offline", True),
        ("error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set", True),
        ("error: device still authorizing", True),
        ("adb: no devices/emulators found", True),
        ("error: closed", True),
        ("error: protocol fault (couldn't read status): Success", True),
        (
            "* daemon not running; starting now\nadb: failed to check server version: cannot connect to daemon",
            True,
        ),
        ("error: cannot connect to daemon at tcp:5037: Connection refused", True),
        ("error: a.goss: No space left on device", False),
        ("sh: error: device", False),
    ],
)
def test_what_adb_says_itself(phone, monkeypatch, said, unreached):
    done = subprocess.CompletedProcess([], 1, "", said + "\n")
    monkeypatch.setattr(_adb_shell, "execute", lambda *_: done)
    shell = _adb_shell.AdbShell("PHONE1")
    if not unreached:
        assert shell.script("x") is done
        return
    with pytest.raises(UnreachableError) as caught:
        shell.script("x")
    assert caught.value.message in said and caught.value.message.startswith(("adb: ", "error: "))


@pytest.mark.parametrize(
    "record",
    [
        "{",
        "[]",
        '{"active": "a", "slots": {"a": {}}}',
        '{"active": "b", "slots": {}}',
        '{"active": "", "slots": {"c": {}}}',
    ],
)
def test_a_damaged_record_is_told(cli, phone, record):
    assert cli("device", "add", "phone", "--adb", "PHONE1").code == 0
    (phone / "tmp/gossamer").mkdir()
    (phone / "tmp/gossamer/record.json").write_text(record)
    ran = cli("device", "info")
    assert ran.code == 22 and "the record is damaged" in ran.err and "flash anew" in ran.err


def test_a_phone_without_a_profiler_for_it(cli, phone, files):
    (phone / "machine").write_text("riscv64")
    assert cli("device", "add", "phone", "--adb", "PHONE1").code == 0
    ran = cli("device", "flash", files[0])
    assert ran.code == 4 and "there is no static profiler for riscv64" in ran.err
    (phone / "machine").write_text("x86_64")
    wrong = phone / "wrong"
    wrong.write_bytes(need("aarch64"))
    assert cli("device", "add", "phone", "--adb", "PHONE1", "--profiler", wrong).code == 0
    ran = cli("device", "flash", files[0])
    assert ran.code == 18 and "the device cannot start the profiler" in ran.err


def test_out_of_reach(cli, phone, files, monkeypatch, tmp_path):
    ran = cli("device", "add", "phone", "--adb", "GONE", "--json")
    assert ran.code == 17 and "device 'GONE' not found" in json.loads(ran.err)["error"]["message"]
    ran = cli("device", "add", "phone", "--adb", "PHONE1", "--profiler", tmp_path / "none")
    assert ran.code == 0
    assert cli("device", "flash", files[0]).code == 10
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = cli("device", "info")
    assert ran.code == 17 and "adb is not installed" in ran.err


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"adb": "-s"}, "'-s' is not a serial number"),
        ({"adb": "a b"}, "'a b' is not a serial number"),
        ({"adb": "x", "address": "h:1"}, "one of them"),
        ({}, "one of them"),
        ({"address": "h:1", "profiler": "p"}, "--profiler needs --adb or --no-agent"),
        ({"adb": "x", "no_agent": True}, "--no-agent needs --ssh"),
        ({"adb": "x", "token_file": "t"}, "a phone over adb takes neither certificates nor tokens"),
    ],
)
def test_places_that_cannot_be(fields, message):
    with pytest.raises(InputError) as caught:
        Place("phone", **fields).check()
    assert message in caught.value.message
