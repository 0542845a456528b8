"""What tests of devices without an agent share: bundles, profilers, and what each of those devices must do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gossamer._errors import InputError
from gossamer.device import _profilers
from tests.agent.fake_device import MACHINES


def need(machine: str) -> bytes:
    """The static profiler of a machine, or a skip that says what is missing."""
    emulator = MACHINES[machine].emulator
    if emulator and shutil.which(emulator) is None:
        pytest.skip(f"{emulator} is not installed: apt-get install qemu-user-static")
    try:
        return _profilers.load(machine)
    except InputError as e:
        pytest.skip(str(e))


def slots(cli) -> list[tuple[str, str, str | None]]:
    """What ``device info`` says of the only device's slots."""
    return [(s["slot"], s["status"], s.get("version")) for s in cli("device", "info", "--json").json["slots"]]


def life(cli, files, folder: Path) -> None:
    """Flash, stage, activate, roll back: the added device holds nothing yet, ``folder`` is its own."""
    one, two, old = files
    assert cli("device", "profile").code == 22  # nothing runs yet
    ran = cli("device", "activate")
    assert ran.code == 22 and "no bundle is staged" in ran.err
    ran = cli("device", "flash", one)
    assert ran.code == 0 and ran.out.startswith(f"committed {one} in slot a (")
    assert (folder / "a.goss").read_bytes() == one.read_bytes()
    assert cli("device", "flash", one).code == 19
    assert cli("device", "rollback").code == 22
    ran = cli("device", "flash", two, "--stage")
    assert ran.code == 0 and ran.out.startswith(f"staged {two} in slot b;")
    assert slots(cli) == [("a", "active", "1"), ("b", "staged", "2")]
    assert cli("device", "rollback").code == 22  # what is staged never ran
    assert cli("device", "activate").out.startswith("committed the staged bundle in slot b (")
    assert slots(cli) == [("a", "previous", "1"), ("b", "active", "2")]
    assert cli("device", "activate").code == 22
    assert cli("device", "rollback").code == 0
    assert slots(cli) == [("a", "active", "1"), ("b", "previous", "2")]
    ran = cli("device", "flash", old)
    assert ran.code == 21 and "the bundle's rollback counter is 0, the device's 1" in ran.err
    info = cli("device", "info", "--json").json
    assert info["disk_free_bytes"] > 0 and info["rollback_counter"] == 1
    assert cli("device", "doctor").code == 0
    ran = cli("device", "logs")
    assert ran.code == 4 and "there are no logs: the static profiler runs for the length of a command" in ran.err
    assert sorted(p.name for p in folder.iterdir()) == ["a.goss", "b.goss", "gossamer-profile", "record.json"]


def measures(cli, work, bundle: Path, isa: str, tmp_path: Path) -> None:
    """Run, profile, trace and compare: the added device has that bundle."""
    photo = work.photos / "picture0.png"
    here, there = cli("run", bundle, "-i", photo, "--json").json, cli("device", "run", "-i", photo, "--json").json
    assert there["results"][0]["outputs"] == here["results"][0]["outputs"]  # int8: the same bits on every machine
    trace = tmp_path / "trace.json"
    ran = cli("device", "profile", "--runs", 3, "--warmup", 2, "--json", "--perfetto", trace)
    found, local = ran.json, cli("profile", bundle, "--runs", 1, "--json").json
    assert found["isa"].startswith(isa) and found["latency"]["runs"] == 3 and found["warm_up"]["runs"] == 5
    assert found.keys() - {"chrome_trace"} == local.keys() - {"chrome_trace"}
    for op, same in zip(found["ops"], local["ops"], strict=True):
        assert op.keys() == same.keys()
        for key in ("name", "kind", "source", "pattern", "macs", "sparsity_percent", "weight_bytes"):
            assert op[key] == same[key], key
    assert found["latency"]["min_us"] >= found["ops_median_us"] / 3 > 0
    events = [e for e in json.loads(trace.read_text())["traceEvents"] if e["ph"] == "X"]
    runs = [e for e in events if e["name"].startswith("run ")]
    assert len(runs) == 3 and len(events) == 3 * (1 + len(found["ops"]))
    assert sorted(e["dur"] for e in runs)[1] == pytest.approx(found["latency"]["median_us"], abs=1e-3)
    inside = events[1 : 1 + len(found["ops"])]
    assert [e["name"] for e in inside] == [f"{op['kind']} {op['name']}".strip() for op in found["ops"]]
    assert inside[-1]["ts"] + inside[-1]["dur"] <= runs[1]["ts"] + 1e-3
    assert "share %" in cli("device", "profile", "--runs", 2, "-i", photo).out
    name = cli("device", "list", "--json").json["devices"][0]["name"]
    ran = cli("profile", "compare", bundle, f"device:{name}", "--runs", 3, "--json")
    assert ran.code == 0 and ran.json["b"]["model"] == ran.json["a"]["model"]
    assert [op["a"]["name"] for op in ran.json["ops"] if op["a"]] == [op["name"] for op in local["ops"]]
