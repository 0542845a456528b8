"""From a client's call to profiles of devices, as ``make demo-fleet`` has it: real services and agents, equal bits."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gossamer._errors import OutputError, SignatureError
from gossamer.bundle import keys
from gossamer.client import Client, DeviceState, JobState
from gossamer_runtime import Session
from tools import demo_fleet
from tools import fleet_chain as chain
from tools.emulation import parts
from tools.emulation.device import EmulatedDevice
from tools.emulation.parts import UnavailableError

pytest.importorskip("skimage", reason="needs scikit-image: pip install 'gossamer[demo]'")
STAGES = ["load", "prune", "calibrate", "quantize", "lower", "choose", "encode", "emit", "sign"]


@contextlib.contextmanager
def _served(folder: Path):
    """Services, a client, a device on this machine, and the bundle that a job made and published."""
    key = chain.new_key(folder)
    with (
        chain.server(folder, key) as address,
        Client(address) as client,
        chain.local_agent(folder / "local", key) as local,
    ):
        seen = []
        result = chain.optimise(client, chain.calibration_folder(folder), progress=seen.append)
        bundle = result.save(folder / "person.goss")
        assert seen[-1].state is JobState.SUCCEEDED
        assert [s.percent for s in seen] == sorted(s.percent for s in seen)
        yield key, address, client, local, result.numbers, bundle


@pytest.mark.slow
def test_chain_on_this_machine(tmp_path):
    with _served(tmp_path) as (key, _, client, local, numbers, bundle):
        assert list(numbers.stage_seconds) == STAGES
        assert numbers.version == "bundles/person/versions/1"
        assert hashlib.sha256(bundle.read_bytes()).hexdigest() == numbers.bundle_sha256
        assert 45 < numbers.sparsity_percent < 50 and numbers.bundle_bytes < numbers.model_bytes / 4
        stranger = keys.new_key("stranger", tmp_path / "strangers")
        with pytest.raises(SignatureError):
            Session(bundle, trusted_keys=[str(stranger.public_path)])

        assert local.device.flash(bundle).status == "committed"
        (active,) = [slot for slot in local.device.info()["slots"] if slot["status"] == "active"]
        assert (active["name"], active["version"], active["sha256"]) == ("person", "1", numbers.bundle_sha256)

        photo, here = chain.ask_session(bundle, key)
        there = chain.ask_agent(local, photo)
        assert there.outputs == here.outputs and there.isa == here.isa
        assert here.person > 0.5  # it is a portrait

        file = chain.profile(local, tmp_path / "local.json", runs=5)
        report = json.loads(client.read(numbers.report_sha256))
        assert json.loads(file.read_text())["model"] == "person" and report["manifest"]["name"] == "person"


@pytest.mark.slow
def test_chain_with_an_emulated_aarch64_device(tmp_path):
    try:
        machine = EmulatedDevice(tmp_path / "emulated")
    except UnavailableError as error:
        pytest.skip(f"no emulated device: {error}")
    with _served(tmp_path) as (key, address, client, local, numbers, bundle):
        enrolled = chain.enroll(machine, client, address)
        assert (enrolled.facts.arch, enrolled.facts.cpu, enrolled.facts.isa) == ("aarch64", "cortex-a76", "neondot")
        assert enrolled.labels == {"site": "emulated"} and enrolled.heard is None
        with chain.emulated_agent(machine, key) as emulated:
            info = emulated.device.info()
            assert (info["machine"], info["isa"]) == ("aarch64", "neondot")
            assert local.device.flash(bundle).status == "committed"
            rollout = chain.roll_out(client, numbers.version)
            assert (rollout.matching_devices, rollout.updated_devices, rollout.failed_devices) == (1, 1, 0)
            status = client.fleet.device(enrolled.name).status
            assert (status.state, status.bundle_sha256) == (DeviceState.RUNNING, numbers.bundle_sha256)

            photo, here = chain.ask_session(bundle, key)
            assert chain.ask_agent(local, photo).outputs == here.outputs
            assert chain.ask_agent(emulated, photo).outputs == here.outputs

            mine = chain.profile(local, tmp_path / "local.json", runs=3)
            theirs = tmp_path / "emulated.json"
            found = chain.fleet_profile(client, theirs, runs=3)
            assert (found.device, found.bundle_sha256) == (enrolled.name, numbers.bundle_sha256)
            assert client.fleet.device(enrolled.name).holder == ""  # it was given back
            assert [p.name for p in client.fleet.profiles(device=enrolled.name)] == [found.name]
            ops = [json.loads(file.read_text())["ops"] for file in (mine, theirs)]
            assert [op["source"] for op in ops[0]] == [op["source"] for op in ops[1]]
            assert any(op["kernel"].endswith("__neondot") for op in ops[1])
            table = chain.compare(mine, theirs)
            assert "__neondot" in table and f"isa={here.isa}" in table


def test_the_demo_names_what_emulation_lacks_and_goes_on_without(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(parts, "tool", _lacking)
    with demo_fleet._emulated(tmp_path, None, None, "") as agent:
        assert agent is None
    assert capsys.readouterr().out == "skipped: the emulated device: qemu-aarch64-static is missing\n"


def _lacking(name: str, *_: str) -> str:
    raise UnavailableError(f"{name} is missing")


def test_exit_codes_of_the_demo(tmp_path, monkeypatch, capsys):
    for equal, code in ((True, 0), (False, 1)):
        monkeypatch.setattr(demo_fleet, "run", lambda folder, emulated, equal=equal: equal)
        assert demo_fleet.main([]) == code
    assert demo_fleet.main(["--keep", str(tmp_path)]) == OutputError.exit_code
    assert "cannot make the folder" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("end", ["ctrl-c", "kill"])
def test_whatever_ends_the_demo_ends_what_it_started(tmp_path, end):
    folder = tmp_path / "demo"
    demo = subprocess.Popen(
        [sys.executable, "-m", "tools.demo_fleet", "--keep", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert demo.stdout is not None
        for line in demo.stdout:
            if line.startswith("3. "):  # server and devices run; the job begins
                break
        deadline = time.monotonic() + 30
        while not any("worker" in line and "jobs" in line for line in _processes(folder)):
            assert demo.poll() is None and time.monotonic() < deadline, _processes(folder)
            time.sleep(0.05)
        agents = [log for log in folder.glob("*/agent.log") if any(str(log) in line for line in _processes(folder))]
        assert sorted(agents) == sorted(folder.glob("*/agent.log")) != []
        if end == "ctrl-c":
            os.killpg(demo.pid, signal.SIGINT)  # as a terminal does
        else:
            demo.kill()
        _, errors = demo.communicate(timeout=60)
    finally:
        demo.kill()
    assert demo.returncode == (130 if end == "ctrl-c" else -signal.SIGKILL), errors
    assert ("interrupted" in errors) == (end == "ctrl-c") and "Traceback" not in errors
    deadline = time.monotonic() + 20
    while (left := _processes(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
    assert all(log.read_text().endswith(" stopping\n") for log in agents)


def _processes(folder: Path) -> list[str]:
    """Command lines of processes that work in a folder, or write there, and where they do."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            line += f"> {(entry / 'fd' / '1').readlink()}"
            if str(folder) in line:
                found.append(line)
    return found
