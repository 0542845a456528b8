"""``gossamer serve`` and ``gossamer tokens`` as programs: settings, refusals, SIGTERM, and kill -9 under upload."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("grpc", reason="grpcio is missing: pip install -e ./services")
pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install -e ./services")

import grpc
import yaml

from gossamer._proto.v1 import registry_pb2 as pb
from gossamer._proto.v1 import registry_pb2_grpc as rpc
from gossamer_services import config as configuration
from gossamer_services.common.errors import SettingsError
from gossamer_services.config import Config
from tests.services.kit import download, upload


def gossamer(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gossamer", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@contextlib.contextmanager
def serving(data: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server process and its port; killed at the end where it still runs."""
    log = (data.parent / "log").open("a")
    command = [sys.executable, "-m", "gossamer", "serve", "registry", "--data", str(data), "--bind", "127.0.0.1:0"]
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"serving gossamer\.v1\.RegistryService on 127\.0\.0\.1:(\d+)\n", line)
        assert found, line + (data.parent / "log").read_text()
        yield process, int(found[1])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        log.close()


def test_print_config_shows_every_setting_and_reads_back(tmp_path):
    ran = gossamer("serve", "--print-config", "--bind", "127.0.0.1:7", "--set", "registry.grace_s=5")
    assert ran.returncode == 0, ran.stderr
    values = yaml.safe_load(ran.stdout)
    assert values["server"]["bind"] == "127.0.0.1:7"
    assert values["registry"]["grace_s"] == 5
    (tmp_path / "c.yaml").write_text(ran.stdout)
    assert configuration.render(configuration.load(tmp_path / "c.yaml")) == ran.stdout
    for name, field in Config.model_fields.items():
        assert set(values[name]) == set(field.annotation.model_fields)
        for setting, about in field.annotation.model_fields.items():
            assert about.description, f"{name}.{setting} has no meaning written beside it"
            assert " ".join(about.description.split()) in ran.stdout


def test_wrong_settings(tmp_path):
    for text, message in (
        ("server.bint=1", "server.bint: Extra inputs are not permitted"),
        ("nothing.x=1", "nothing: Extra inputs are not permitted"),
        ("server.call_s=-1", "server.call_s: Input should be greater than or equal to 0"),
        ("server.call_s=.inf", "server.call_s: Input should be a finite number"),
        ("server", "'server' is not section.setting=value"),
        ("server.bind=[", "the value of server.bind is not YAML"),
    ):
        with pytest.raises(SettingsError) as caught:
            configuration.load(None, [text])
        assert message in caught.value.message
    for content, message in (("[1]", "not a mapping"), ("a: [", "cannot be read"), ("server: 3", "server:")):
        (tmp_path / "c.yaml").write_text(content)
        with pytest.raises(SettingsError, match=message):
            configuration.load(tmp_path / "c.yaml")
    with pytest.raises(SettingsError, match="No such file"):
        configuration.load(tmp_path / "missing.yaml")


def test_refusals_of_the_command(tmp_path):
    for arguments, message in (
        (["serve", "--bind", "0.0.0.0:1", "--data", str(tmp_path)], "there is no certificate"),
        (["serve", "optimizer", "--data", str(tmp_path)], "the optimizer needs the registry"),
        (["serve", "registry", "console", "--data", str(tmp_path)], "no such service: console"),
    ):
        ran = gossamer(*arguments)
        assert ran.returncode != 0
        assert message in ran.stderr
        assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("mount", "arguments", "code", "message"),
    [
        ("ro", ["serve", "registry", "--bind", "127.0.0.1:0"], 2, "cannot be used: Read-only file system"),
        ("ro", ["tokens", "create", "a", "--scope", "read"], 1, "the database cannot be opened: unable to open"),
        ("size=4k", ["serve", "registry", "--bind", "127.0.0.1:0"], 1, "database or disk is full"),
    ],
)
def test_read_only_and_full_disks(tmp_path, mount, arguments, code, message):
    """Real ones, in a mount namespace of its own."""
    space = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
    (tmp_path / "disk").mkdir()
    probe = subprocess.run([*space, "mount -t tmpfs tmpfs disk"], cwd=tmp_path, capture_output=True)
    if probe.returncode:
        pytest.skip("user namespaces with mounts are not allowed here")
    command = f"{sys.executable} -m gossamer {' '.join(arguments)} --data disk/data"
    script = f"mount -t tmpfs tmpfs disk; mkdir disk/data; mount -o remount,{mount} disk; exec {command}"
    ran = subprocess.run([*space, script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (code, ""), ran.stderr
    assert message in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "this is a defect" not in ran.stderr


def test_services_that_are_not_installed(tmp_path):
    hide = "import sys; sys.modules['gossamer_services.config'] = None\n"
    code = f"{hide}from gossamer.cli._main import run\nsys.exit(run(['serve', '--print-config']))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 13
    assert "the services are not installed" in ran.stderr
    assert "pip install gossamer-services" in ran.stderr


def test_tokens_command(tmp_path):
    data = str(tmp_path / 'a "folder\\" \N{SNOWMAN}\N{GRINNING FACE}')
    made = gossamer("tokens", "create", "ci", "--scope", "submit", "--scope", "read", "--days", "1", "--data", data)
    assert made.returncode == 0, made.stderr
    assert re.fullmatch(r"goss_[A-Za-z0-9_-]{43}\n", made.stdout)
    assert gossamer("tokens", "create", "ci", "--scope", "read", "--data", data).returncode != 0
    assert gossamer("tokens", "revoke", "ci", "--data", data).stdout == "revoked ci\n"
    listed = json.loads(gossamer("tokens", "list", "--json", "--data", data).stdout)["tokens"]
    assert [(t["name"], t["scopes"], t["revoked"]) for t in listed] == [("ci", ["read", "submit"], True)]
    assert [str(path) for path in tmp_path.iterdir()] == [data]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_drain(tmp_path, number):
    with serving(tmp_path / "data", "--set", "server.drain_delay_s=0.1") as (process, _port):
        process.send_signal(number)
        assert process.wait(20) == 0
    records = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [r["message"] for r in records] == ["serving", "draining", "stopped"]


def kill_rounds(folder: Path, rounds: int, size: int, seed: int) -> int:
    """Upload one blob through a server that is killed at random moments; returns how often it was."""
    rng = random.Random(seed)
    data = rng.randbytes(size)
    digest = hashlib.sha256(data).hexdigest()
    kept = b"acknowledged before"

    async def attempt(port: int, process: subprocess.Popen[str] | None, first: bool) -> bool:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = rpc.RegistryServiceStub(channel)
            if first:
                await upload(stub, kept, "kept")
            assert await download(stub, hashlib.sha256(kept).hexdigest()) == kept
            try:
                offset = (await stub.GetUpload(pb.GetUploadRequest(ref="ref"))).offset
            except grpc.aio.AioRpcError as e:
                assert e.code() is grpc.StatusCode.NOT_FOUND
                offset = 0
            killer = None
            if process is not None:
                killer = asyncio.get_running_loop().call_later(rng.uniform(0, 0.06), process.kill)
            try:
                await upload(stub, data, offset=offset, chunk=1 << 16)
            except grpc.aio.AioRpcError as e:
                assert process is not None, e
                return False
            finally:
                if killer is not None:
                    killer.cancel()
            assert await download(stub, digest) == data
            return True

    kills = 0
    for i in range(rounds):
        with serving(folder / "data") as (process, port):
            try:
                done = asyncio.run(attempt(port, process, i == 0))
            except grpc.aio.AioRpcError as e:  # killed while it was asked something else
                assert e.code() is grpc.StatusCode.UNAVAILABLE, e
                done = False
        for blob in (folder / "data" / "blobs").iterdir():
            assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
        if done:
            break
        kills += 1
    with serving(folder / "data") as (_process, port):
        assert asyncio.run(attempt(port, None, False))
    assert sorted(p.name for p in (folder / "data" / "blobs").iterdir()) == sorted(
        [digest, hashlib.sha256(kept).hexdigest()]
    )
    return kills


def test_kill_during_upload(tmp_path):
    assert kill_rounds(tmp_path, 1, 64 << 20, 0) == 1


@pytest.mark.slow
def test_kill_during_upload_again_and_again(tmp_path):
    kills = 0
    for seed in range(5):
        (tmp_path / str(seed)).mkdir()
        kills += kill_rounds(tmp_path / str(seed), 8, 160 << 20, seed)
    assert kills >= 10
