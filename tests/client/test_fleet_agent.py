"""The whole way with a real gossamer-agent in pull mode: token, enrolment, push, rollout, profile, comparison."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gossamer_runtime.agent._main import main
from tests.agent.fleetkit import fleet as serving
from tests.agent.fleetkit import puller


def test_from_token_to_comparison(cli, work, bundles, other_key, tmp_path, monkeypatch, capsys):
    home = tmp_path / "home"
    shutil.copytree(work.home, home)
    monkeypatch.setenv("GOSSAMER_HOME", str(home))
    files = {version: tmp_path / f"{version}.goss" for version in ("1", "2", "3")}
    for version, key in (("1", None), ("2", None), ("3", other_key)):
        files[version].write_bytes(bundles(version, key=key))
    digests = {version: hashlib.sha256(file.read_bytes()).hexdigest() for version, file in files.items()}
    with serving(tmp_path / "data") as served:
        monkeypatch.setenv("GOSSAMER_SERVER", served.address)
        for version, file in files.items():
            assert cli("registry", "push", file, f"person/{version}", "-q").code == 0
        assert cli("device", "profile", "--any", "site=lab").code == 10
        assert cli("fleet", "token", "--label", "site=lab", "--out", tmp_path / "token").code == 0
        root = tmp_path / "slots"
        enroll = ["enroll", "--root", str(root), "--fleet", served.address, "--token-file", str(tmp_path / "token")]
        assert main(enroll) == 0
        capsys.readouterr()
        (device,) = cli("fleet", "list", "site=lab", "--json").json["devices"]
        with puller(root):
            ran = cli("fleet", "rollout", "start", "person/1", "site=lab", "--wait", "--timeout", "60", "--json")
            assert (ran.code, ran.json["rollout"]["updated_devices"]) == (0, 1), ran.err
            shown = cli("fleet", "show", device["name"], "--json").json["device"]
            assert (shown["status"]["bundle_sha256"], shown["status"]["state"]) == (digests["1"], "RUNNING")
            assert (shown["desired_version"], shown["holder"]) == ("bundles/person/versions/1", "")
            any_ = ("device", "profile", "--any", "site=lab", "--runs", "20", "--json")
            profiles = []
            for options, version in (((), "1"), (("--bundle", "person/2"), "2")):
                ran = cli(*any_, *options)
                assert ran.code == 0, ran.err
                assert (ran.json["bundle_sha256"], ran.json["model_version"]) == (digests[version], version)
                assert (ran.json["device"], ran.json["latency"]["runs"]) == (device["name"], 20)
                profiles.append(tmp_path / f"profile-{version}.json")
                profiles[-1].write_text(ran.out)
            ran = cli("profile", "compare", *profiles, "--json")
            assert ran.code == 0 and all(op["a"]["kernel"] == op["b"]["kernel"] for op in ran.json["ops"])
            listed = cli("fleet", "profiles", "--device", device["name"], "--json").json["profiles"]
            assert [p["bundle_sha256"] for p in listed] == [digests["2"], digests["1"]]
            ran = cli(*any_, "--bundle", "person/3")
            assert ran.code == 9 and "signed by key" in json.loads(ran.err)["error"]["message"]
            shown = cli("fleet", "show", device["name"], "--json").json["device"]
            assert (shown["status"]["bundle_sha256"], shown["holder"]) == (digests["1"], "")
            ran = cli("fleet", "rollout", "start", "person/3", "--wait", "--timeout", "60")
            assert ran.code == 20 and "halted: 1 of 1 devices failed" in ran.out
            name = ran.out.partition(":")[0]
            assert cli("fleet", "rollout", "back", name, "--wait", "--timeout", "60").code == 0
            assert cli("fleet", "remove", device["name"]).code == 0
        assert cli(*any_).code == 10


PROGRAMS = {"gossamer": "gossamer", "gossamer-agent": "gossamer_runtime.agent._main"}


@pytest.mark.slow
def test_the_commands_of_the_readme(work, tmp_path):
    text = (Path(__file__).parents[2] / "README.md").read_text()
    blocks = re.findall(r"^```console\n(.*?)^```", text, flags=re.M | re.S)
    (block,) = [b for b in blocks if "gossamer fleet" in b]
    for port in ("50551", "50552"):
        with socket.create_server(("127.0.0.1", 0)) as free:
            block = block.replace(port, str(free.getsockname()[1]))
    lines = [line.removeprefix("$ ").partition("#")[0].strip() for line in block.splitlines()]
    address = re.search(r"localhost:\d+", block)[0]
    shutil.copy(work.bundle, tmp_path / "model.goss")
    environment = {**os.environ, "GOSSAMER_SERVER": address, "GOSSAMER_HOME": str(work.home)}
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((tmp_path / "log").open("w"))
        for line in lines:
            program, _, rest = line.partition(" ")
            command = f"exec {sys.executable} -m {PROGRAMS[program]} {rest}"
            if line.startswith("gossamer serve"):
                command += f" --bind {address} --set fleet.heartbeat_s=0.5"
            elif program == "gossamer-agent" and "enroll" not in rest:
                command += " --bind 127.0.0.1:0 --port-file port"
            options = {"cwd": tmp_path, "env": environment, "stdout": subprocess.PIPE, "stderr": log, "text": True}
            ran = subprocess.Popen(command, shell=True, **options)
            stack.enter_context(ran)
            stack.callback(ran.kill)
            if line.startswith("gossamer serve"):
                assert ran.stdout.readline().startswith("serving ")
            elif "--port-file" not in command:
                assert ran.wait(60) == 0, f"{line}\n{(tmp_path / 'log').read_text()}"
    assert json.loads((tmp_path / "lab.json").read_text())["model"] == "small"
