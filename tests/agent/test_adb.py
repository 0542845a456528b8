"""``gossamer device`` over adb: a stand-in for adb and the phone's files, the real static profiler under qemu."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from gossamer._errors import InputError
from gossamer.device.book import Place

PROFILER = Path(__file__).parents[2] / "build" / "native" / "aarch64-profiler" / "gossamer-profile"


@pytest.fixture
def phone(work, tmp_path, monkeypatch):
    """Folder of the phone; its device is added as ``phone``."""
    if shutil.which("qemu-aarch64-static") is None:
        pytest.skip("qemu-aarch64-static is not installed")
    if not PROFILER.exists():
        pytest.skip("no static profiler: python -m tools.build_native --target aarch64-profiler")
    home, folder, programs = tmp_path / "home", tmp_path / "phone", tmp_path / "bin"
    shutil.copytree(work.home, home)
    (folder / "tmp").mkdir(parents=True)
    programs.mkdir()
    adb = programs / "adb"
    adb.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("fake_adb.py")} "$@"\n')
    adb.chmod(0o755)
    monkeypatch.setenv("GOSSAMER_HOME", str(home))
    monkeypatch.setenv("GOSSAMER_FAKE_PHONE", str(folder))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def files(tmp_path, bundles):
    """Versions 1 and 2 with counter 1, and an older one with 0."""
    paths = [tmp_path / "one.goss", tmp_path / "two.goss", tmp_path / "old.goss"]
    for path, data in zip(paths, (bundles("1", 1), bundles("2", 1), bundles("3", 0)), strict=True):
        path.write_bytes(data)
    return paths


def _slots(cli) -> list[tuple[str, str, str | None]]:
    return [(s["slot"], s["status"], s.get("version")) for s in cli("device", "info", "--json").json["slots"]]


def test_flash_and_rollback(cli, phone, files):
    one, two, old = files
    added = cli("device", "add", "phone", "--adb", "PHONE1")
    assert added.code == 0 and added.out == "added phone: adb:PHONE1\n"
    assert cli("device", "list", "--json").json["devices"][0]["transport"] == "adb"
    assert cli("device", "profile").code == 22  # nothing runs yet
    ran = cli("device", "flash", one)
    assert ran.code == 0 and ran.out.startswith(f"committed {one} in slot a (")
    assert (phone / "tmp/gossamer/a.goss").read_bytes() == one.read_bytes()
    assert cli("device", "flash", one).code == 19
    assert cli("device", "rollback").code == 22
    assert cli("device", "flash", two).code == 0
    assert _slots(cli) == [("a", "previous", "1"), ("b", "active", "2")]
    assert cli("device", "rollback").code == 0
    assert _slots(cli) == [("a", "active", "1"), ("b", "previous", "2")]
    ran = cli("device", "flash", old)
    assert ran.code == 21 and "the bundle's rollback counter is 0, the device's 1" in ran.err
    info = cli("device", "info", "--json").json
    assert (info["machine"], info["host"], info["system"]) == ("arm64-v8a", "Fake 1", "Android 14")
    assert info["disk_free_bytes"] > 0 and info["rollback_counter"] == 1
    assert cli("device", "doctor").code == 0
    for command in (["activate"], ["logs"], ["flash", two, "--stage"]):
        assert cli("device", *command).code == 4


def test_run_and_profile(cli, phone, files, work, tmp_path):
    one = files[0]
    assert cli("device", "add", "phone", "--adb", "PHONE1").code == 0
    assert cli("device", "flash", one).code == 0
    photo = work.photos / "picture0.png"
    here, there = cli("run", one, "-i", photo, "--json").json, cli("device", "run", "-i", photo, "--json").json
    assert there["results"][0]["outputs"] == here["results"][0]["outputs"]  # int8: the same bits on x86 and aarch64
    ran = cli("device", "profile", "--runs", 3, "--json")
    assert ran.json["runs"] == 3 and ran.json["isa"].startswith("neon")
    assert "median us" in cli("device", "profile", "--runs", 2, "-i", photo).out
    assert cli("device", "profile", "--perfetto", tmp_path / "t.json").code == 4
    local = cli("profile", one, "--runs", 1, "--json").json
    ran = cli("profile", "compare", one, "device:phone", "--runs", 3, "--json")
    assert ran.code == 0 and ran.json["b"]["model"] == ran.json["a"]["model"]
    assert [op["a"]["name"] for op in ran.json["ops"] if op["a"]] == [op["name"] for op in local["ops"]]


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
    unknown = tmp_path / "unknown.goss"
    unknown.write_bytes(bundles("4", 1, key=other_key))
    before = (phone / "calls").read_text()
    assert cli("device", "flash", unknown).code == 9
    assert (phone / "calls").read_text() == before  # refused here, nothing was sent
    assert _slots(cli) == [("a", "active", "1"), ("b", "empty", None)]
    file = phone / "tmp/gossamer/a.goss"  # someone with a shell changes a byte: the signature does not fit
    data = bytearray(file.read_bytes())
    data[300] ^= 1
    file.write_bytes(data)
    ran = cli("device", "profile", "--runs", 1)
    assert ran.code == 18 and "was changed after it was signed" in ran.err
    (phone / "tmp/gossamer/record.json").write_text('{"active": "a", "slots": {"a": {}}}')
    assert cli("device", "info").code == 22


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
        ({"address": "h:1", "profiler": "p"}, "--profiler needs --adb"),
        ({"adb": "x", "token_file": "t"}, "a phone over adb takes neither certificates nor tokens"),
    ],
)
def test_places_that_cannot_be(fields, message):
    with pytest.raises(InputError) as caught:
        Place("phone", **fields).check()
    assert message in caught.value.message
