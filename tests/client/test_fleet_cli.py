"""``gossamer fleet``, ``gossamer registry`` and ``gossamer device profile --any``: what they say, JSON, exit codes."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import stat
import threading
import time

import pytest

from gossamer.cli._server import Duration
from tests.services.common.certificates import Authority
from tests.shellkit import spawn


@pytest.fixture
def call(cli, fleet):
    """A command line with the options that reach the server."""
    return lambda *arguments: cli(*arguments, *fleet.options)


@pytest.fixture
def pushed(call, bundles, tmp_path):
    """Pushes a bundle as NAME/VERSION; its bytes' SHA-256."""

    def push(version, *options, data=None):
        path = tmp_path / f"{version.replace('/', '-')}.goss"
        path.write_bytes(data or bundles(version.rpartition("/")[2]))
        ran = call("registry", "push", path, version, *options)
        assert ran.code == 0, ran.err
        return hashlib.sha256(path.read_bytes()).hexdigest()

    return push


def error(ran):
    return json.loads(ran.err)["error"]


def test_registry(call, bundles, tmp_path):
    path = tmp_path / "model.goss"
    path.write_bytes(bundles("1"))
    digest, size = hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size
    ran = call("registry", "push", path, "reg-cli/1", "--channel", "canary", "--description", "first", "--label", "a=b")
    assert ran.code == 0 and ran.out == f"pushed reg-cli/1: {size} bytes, {digest}\nreg-cli@canary names 1\n"
    assert ran.err.startswith(f"push: {size} bytes in ")
    ran = call("registry", "push", path, "reg-cli/1", "--channel", "canary")
    assert ran.code == 19 and ran.out == "reg-cli/1 is there already\nreg-cli@canary names 1 already\n"
    ran = call("registry", "push", path, "reg-cli/1", "--channel", "stable", "--json")
    assert ran.code == 0 and (ran.json["new"], ran.json["channel_moved"], ran.err) == (False, True, "")
    path.write_bytes(bundles("2"))
    ran = call("registry", "push", path, "reg-cli/1", "--json")
    assert ran.code == 10 and f"its SHA-256 is {digest[:16]}" in error(ran)["hint"]
    assert error(ran)["where"] == "bundles/reg-cli/versions/1"
    ran = call("registry", "push", path, "reg-cli/2", "-q", "--json")
    assert ran.json["version"]["name"] == "bundles/reg-cli/versions/2" and ran.json["exit_code"] == 0

    ran = call("registry", "channel", "reg-cli@canary", "2")
    assert (ran.code, ran.out) == (0, "reg-cli@canary names reg-cli/2, before reg-cli/1\n")
    assert call("registry", "channel", "reg-cli@canary", "reg-cli/2").code == 19
    ran = call("registry", "channel", "reg-cli@stable", "--json")
    assert ran.json["channel"]["version"] == "bundles/reg-cli/versions/1"
    ran = call("registry", "list", "reg-cli", "--json")
    assert [v["name"].rpartition("/")[2] for v in ran.json["versions"]] == ["2", "1"]
    assert [v["labels"] for v in ran.json["versions"]] == [{}, {"a": "b"}] and len(ran.json["channels"]) == 2
    rows = call("registry", "list", "reg-cli").out.splitlines()
    assert " ".join(rows[0].split()) == "version channels size sha256 model key created creator description"
    assert rows[2].split()[:2] == ["reg-cli/2", "canary"] and rows[3].split()[:2] == ["reg-cli/1", "stable"]
    assert call("registry", "list", "none").out.endswith("no versions; 'gossamer registry push' makes one\n")
    ran = call("registry", "channel", "reg-cli2@stable")
    assert ran.code == 10 and "names nothing yet" in ran.err
    assert call("registry", "channel", "reg-cli@stable", "9").code == 10
    path.write_bytes(b"no bundle")
    assert call("registry", "push", path, "reg-cli/3").code == 8
    assert call("registry", "push", tmp_path / "none", "reg-cli/3").code == 10


def test_tokens_enrol_devices(call, tmp_path):
    ran = call("fleet", "token", "--label", "site=lab", "--ttl", "15m")
    assert ran.code == 0 and len(ran.out.strip()) >= 32
    out = tmp_path / "pi.token"
    ran = call("fleet", "token", "--out", out, "--json")
    assert ran.json["out"] == str(out) and "token" not in ran.json
    assert stat.S_IMODE(out.stat().st_mode) == 0o600 and len(out.read_text().strip()) >= 32
    kept = out.read_bytes()
    assert call("fleet", "token", "--out", out).code == 11 and out.read_bytes() == kept
    assert call("fleet", "token", "--ttl", "40d").code == 10
    assert call("fleet", "token", "--out", tmp_path / "none" / "x").code == 11


def test_devices(call, fleet, pushed):
    assert call("fleet", "list").out.endswith("no devices; 'gossamer fleet token' lets one enrol\n")
    digest = pushed("fleet-cli/1", "--channel", "stable")
    device, other = fleet.device(site="lab"), fleet.device(site="roof", cpu="cortex-a55")
    ran = call("fleet", "list")
    assert ran.code == 0 and [row.split()[0] for row in ran.out.splitlines()[2:]] == [device.id, other.id]
    assert "cortex-a55" in ran.out and "site=roof" in ran.out
    ran = call("fleet", "list", "cpu=cortex-a76,site!=roof", "--json")
    assert [d["name"] for d in ran.json["devices"]] == [device.name]
    assert call("fleet", "list", "site=none").out.endswith("no device matches\n")
    assert call("fleet", "list", "nonsense", "--json").code == 10

    ran = call("fleet", "label", device.id, "owner=me", "site-", "--name", "kitchen", "--json")
    assert (ran.json["device"]["labels"], ran.json["device"]["display_name"]) == ({"owner": "me"}, "kitchen")
    ran = call("fleet", "set", device.id, "fleet-cli@stable")
    assert (ran.code, ran.out) == (0, f"{device.id}: fleet-cli/1\n")
    ran = call("fleet", "set", device.name, "fleet-cli/1")
    assert (ran.code, ran.out) == (19, f"nothing to do: {device.id} should run fleet-cli/1\n")
    assert call("fleet", "set", device.id, "fleet-cli/2").code == 10
    ends = time.monotonic() + 10
    while f"runs              {digest}" not in (ran := call("fleet", "show", device.id)).out:
        assert time.monotonic() < ends, ran.out
    assert "should run        fleet-cli/1\n" in ran.out and "name              kitchen\n" in ran.out
    assert "cpu               cortex-a76 (aarch64, neon_dotprod, 4 cores)\n" in ran.out
    ran = call("fleet", "set", device.id, "--clear", "--json")
    assert (ran.json["device"]["desired_version"], ran.json["exit_code"]) == ("", 0)

    ran = call("fleet", "remove", other.id)
    assert (ran.code, ran.out) == (0, f"removed {other.id}\n")
    assert [call("fleet", what, other.id).code for what in ("show", "remove")] == [10, 10]


def test_what_devices_say_does_not_steer_the_terminal(call, fleet, bundles):
    device = fleet.device(cpu="c\x1b[2J\nm\x9b", bundle=bundles("1"), mood="deaf")
    for ran in (
        call("fleet", "list"),
        call("fleet", "show", device.id),
        call("device", "profile", "--any", "", "--hold", "0.3"),
    ):
        said = ran.out + ran.err
        assert "c\ufffd[2J" in said and all(c.isprintable() or c == "\n" for c in said)
    rows = call("fleet", "list").out.splitlines()
    assert len(rows) == 3 and "c\ufffd[2J\ufffdm\ufffd" in rows[2]
    assert call("fleet", "list", "--json").json["devices"][0]["facts"]["cpu"] == "c\x1b[2J\nm\x9b"


def test_rollouts(call, fleet, pushed):
    pushed("ro-cli/1")
    assert call("fleet", "rollout", "start", "ro-cli/1", "site=lab").code == 19
    for _ in range(2):
        fleet.device(site="lab")
    ran = call("fleet", "rollout", "start", "ro-cli/1", "site=lab", "--dry-run")
    assert (ran.code, ran.out) == (0, "would reach 2 devices\n")
    start = ("fleet", "rollout", "start", "ro-cli/1", "site=lab", "--stage", "50:0.1", "--stage", "100")
    ran = call(*start, "--wait", "--timeout", "20s")
    assert ran.code == 0 and ran.out.splitlines()[0].endswith(": ro-cli/1 of devices with site=lab: completed")
    assert ran.out.splitlines()[1] == "stage 2 of 2; devices: 2 updated, 0 failed, 2 reached, 2 matching"
    assert ran.err.splitlines()[-1].startswith("stage 2 of 2 (100%): ")
    name = ran.out.partition(":")[0]
    ran = call("fleet", "rollout", "show", name, "--json")
    assert ran.json["rollout"]["state"] == "COMPLETED" and ran.json["rollout"]["stages"][0] == {
        "percent": 50.0, "soak_s": 0.1,
    }  # fmt: skip
    assert call("fleet", "rollout", "list", "-n", "1").out.splitlines()[2].split()[0] == name.partition("/")[2]
    assert call("fleet", "rollout", "list", "--json", "-n", "1").json["rollouts"][0]["name"] == name
    assert call("fleet", "rollout", "pause", name).code == 10
    assert call("fleet", "rollout", "back", name, "--wait", "--timeout", "10").code == 0

    pushed("ro-cli/2")
    fleet.device(site="bad", mood="refusing")
    ran = call("fleet", "rollout", "start", "ro-cli/2", "site=bad", "--wait", "--json")
    assert (ran.code, ran.json["rollout"]["state"], ran.json["exit_code"]) == (20, "HALTED", 20)
    halted = ran.json["rollout"]["name"]
    assert "halted: 1 of 1 devices failed\n" in call("fleet", "rollout", "show", halted).out
    assert call("fleet", "rollout", "start", "ro-cli/1", "site=lab").code == 10
    assert call("fleet", "rollout", "resume", halted, "--wait").code == 20
    ran = call("fleet", "rollout", "resume", halted, "--failure-limit", "100", "--wait", "--timeout", "10", "--json")
    assert (ran.code, ran.json["rollout"]["state"], ran.json["rollout"]["failed_devices"]) == (0, "COMPLETED", 1)
    ran = call("fleet", "rollout", "back", halted, "--wait", "--timeout", "10")
    assert ran.code == 0 and "rolled back" in ran.out

    ran = call("fleet", "rollout", "start", "ro-cli/2", "site=lab", "--stage", "50:1h", "--stage", "100", "--json")
    name = ran.json["rollout"]["name"]
    assert call("fleet", "rollout", "pause", name).out.splitlines()[0].endswith(": paused")
    ran = call("fleet", "rollout", "resume", name, "--wait", "--timeout", "0.3", "--json")
    assert ran.code == 17 and "goes on still after 0.3 s" in error(ran)["message"]
    assert call("fleet", "rollout", "back", name).code == 0
    assert call("fleet", "rollout", "show", "0" * 16).code == 10


def test_profiles_of_the_fleet(call, cli, fleet, pushed, bundles, work, tmp_path):
    running = bundles("7")
    device = fleet.device(bundle=running)
    digest = pushed("prof-cli/2")
    ran = call("device", "profile", "--any", "cpu=cortex-a76", "--runs", "12", "--warmup", "2")
    assert ran.code == 0, ran.err
    table, _, summary = ran.out.partition("\n\n")
    local = cli("profile", work.bundle, "--runs", "3").out
    assert table.splitlines()[0].split() == local.splitlines()[0].split()
    assert "Timings (microseconds): count=12 " in summary and f"Device: {device.name} (cortex-a76, " in summary
    assert ran.err.splitlines()[:2] == [
        f"holding {device.name} (cortex-a76)",
        "asked it to profile what it runs (12 runs after 2): its next heartbeat tells it",
    ]
    ran = call("device", "profile", "--any", "cpu=cortex-a76", "--bundle", "prof-cli/2", "--runs", "5", "--json")
    assert ran.code == 0 and ran.err == ""
    assert (ran.json["bundle_sha256"], ran.json["device"], ran.json["latency"]["runs"]) == (digest, device.name, 5)
    assert "warm_up" not in ran.json and ran.json["ops"][1]["kernel"]
    there = tmp_path / "there.json"
    there.write_text(ran.out)

    compared = cli("profile", "compare", there, work.bundle, "--runs", "12", "--json")
    assert compared.code == 0, compared.err
    a, b = compared.json["a"], compared.json["b"]
    assert (a["model"], a["runs"], a["first_run_us"], b["runs"]) == ("small", 5, None, 12)
    assert [op["a"]["kind"] for op in compared.json["ops"]] == [op["b"]["kind"] for op in compared.json["ops"]]
    assert "A: " in cli("profile", "compare", there, there).out

    ran = call("fleet", "profiles", "--device", device.id)
    rows = [row.split() for row in ran.out.splitlines()[2:]]
    assert [row[1:6] for row in rows] == [
        [device.id, "cortex-a76", "small", "2", digest[:12]],
        [device.id, "cortex-a76", "small", "7", hashlib.sha256(running).hexdigest()[:12]],
    ]
    ran = call("fleet", "profiles", "--device", device.id, "--json")
    assert ran.json["profiles"][0] == json.loads(there.read_text())
    one = ran.json["profiles"][0]
    assert call("fleet", "profiles", one["profile"], "--json").json == one
    assert "median us" in call("fleet", "profiles", rows[0][0]).out
    layer = next(op for op in one["ops"] if op["kind"] == "Conv")
    ran = call("fleet", "profiles", "--device", device.id, "--layer", layer["name"], "--kernel", layer["kernel"])
    assert ran.out.splitlines()[2].split()[-1] == f"{layer['median_us']:.1f}"
    assert call("fleet", "profiles", "--layer", "none").out.endswith("no profiles fit\n")
    assert call("fleet", "profiles", one["profile"], "--layer", "x").code == 2
    assert call("fleet", "profiles", "0" * 16).code == 10
    assert fleet_holder(fleet, device) == ""


def fleet_holder(fleet, device):
    with fleet.client() as client:
        return client.fleet.device(device.id).holder


def test_any_refusals(call, fleet, bundles, pushed, other_key, tmp_path):
    any_ = ("device", "profile", "--any")
    ran = call(*any_, "cpu=cortex-a76", "--json")
    assert ran.code == 10 and error(ran)["message"] == "no enrolled device matches"
    assert call(*any_, "nonsense").code == 10
    device = fleet.device(mood="deaf")
    ran = call(*any_, "cpu=cortex-a76", "--hold", "0.4", "--json")
    assert ran.code == 17 and device.name in error(ran)["where"]
    with fleet.client() as client, client.fleet.acquire(hold_s=60):
        ran = call(*any_, "cpu=cortex-a76", "--wait", "1.2")
        assert ran.code == 17 and "all devices that match stayed held for 1.2 s" in ran.err
        assert ran.err.startswith(
            "waiting for at most 1.2 s for a device with cpu=cortex-a76: "
            f"{device.name} (cortex-a76) held by tokens/admin\n"
        )
    file = tmp_path / "x.goss"
    file.write_bytes(bundles("1"))
    for given in (file, tmp_path / "none.goss"):
        ran = call(*any_, "", "--bundle", given)
        assert ran.code == 10 and f"do:    'gossamer registry push {given} NAME/VERSION'" in ran.err
    ran = call(*any_, "", "--bundle", "none/1")
    assert ran.code == 10 and "no such version" in ran.err
    assert call(*any_, "", "--bundle", "a b").code == 10
    fleet.device(cpu="willing")
    pushed("unknown-cli/1", data=bundles("1", key=other_key))
    ran = call(*any_, "cpu=willing", "--bundle", "unknown-cli/1", "--json")
    assert ran.code == 9 and "signed by key" in error(ran)["message"]
    assert {fleet_holder(fleet, d) for d in fleet.devices} == {""}


def test_waiting_ends_when_the_device_is_given_back(call, fleet, bundles):
    fleet.device(bundle=bundles("1"))
    held = threading.Event()

    def hold():
        with fleet.client() as client, client.fleet.acquire(hold_s=60):
            held.set()
            time.sleep(1.4)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    ran = call("device", "profile", "--any", "", "--runs", "2")
    thread.join()
    assert ran.code == 0 and ran.err.startswith("waiting for a device with anything: devices/")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_give_the_device_back(fleet, number, code):
    device = fleet.device(mood="deaf")
    process = spawn("device", "profile", "--any", "cpu=cortex-a76", *fleet.options)
    assert process.stderr.readline() == f"holding {device.name} (cortex-a76)\n"
    assert process.stderr.readline().startswith("asked it to profile")
    assert fleet_holder(fleet, device) == "tokens/admin"
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == code, err
    assert fleet_holder(fleet, device) == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_while_waiting(fleet, number, code):
    device = fleet.device(mood="deaf")
    with fleet.client() as client, client.fleet.acquire(hold_s=60):
        process = spawn("device", "profile", "--any", "", *fleet.options)
        assert process.stderr.readline().startswith("waiting for a device with anything: ")
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
        assert process.returncode == code, err
    assert fleet_holder(fleet, device) == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fleet", "label", "x"], "nothing to change"),
        (["fleet", "label", "x", "a"], "'a' is not KEY=VALUE or KEY-"),
        (["fleet", "token", "--label", "a"], "'a' is not KEY=VALUE"),
        (["fleet", "token", "--ttl", "soon"], "'soon' is not a duration"),
        (["fleet", "set", "x"], "give VERSION or --clear"),
        (["fleet", "set", "x", "a/1", "--clear"], "give VERSION or --clear"),
        (["fleet", "rollout", "start", "a/1", "--timeout", "3"], "--timeout needs --wait"),
        (["fleet", "rollout", "start", "a/1", "--wait", "--dry-run"], "exclude each other"),
        (["fleet", "rollout", "start", "a/1", "--stage", "x"], "is not PERCENT or PERCENT:SOAK"),
        (["registry", "push", "x.goss", "person"], "'person' is not NAME/VERSION"),
        (["registry", "push", "x.goss", "a/b/c"], "'a/b/c' is not NAME/VERSION"),
        (["registry", "channel", "person"], "'person' is not NAME@CHANNEL"),
        (["registry", "push", "x.goss", "a/1", "--channel", "nightly"], "nightly"),
        (["device", "profile", "--any", "a=b", "-d", "pi"], "--any and --device exclude each other"),
        (["device", "profile", "--any", "a=b", "-i", "x.png"], "--any and -i exclude each other"),
        (["device", "profile", "--bundle", "a/1"], "--bundle needs --any"),
        (["device", "profile", "--wait", "3"], "--wait needs --any"),
    ],
)
def test_wrong_usage(cli, home, arguments, words):
    ran = cli(*arguments)
    assert ran.code == 2 and words in ran.err


def test_who_may_and_who_answers(cli, fleet, tmp_path, monkeypatch):
    reader = str(fleet.folder / "reader.token")
    there = ["--server", fleet.address, "--ca", fleet.ca]
    assert cli("fleet", "list", *there, "--token-file", reader).code == 0
    ran = cli("fleet", "token", *there, "--token-file", reader, "--json")
    assert ran.code == 23 and "needs the scope 'admin'" in error(ran)["message"]
    assert cli("fleet", "list", *there).code == 23
    monkeypatch.setenv("GOSSAMER_TOKEN", fleet.token)
    monkeypatch.setenv("GOSSAMER_SERVER", fleet.address)
    assert cli("fleet", "list", "--ca", fleet.ca, "--json").json == {"devices": []}
    assert cli("fleet", "list", "--ca", tmp_path / "none").code == 12
    assert cli("fleet", "list", "--ca", fleet.ca, "--token-file", tmp_path / "none").code == 10
    (tmp_path / "others.crt").write_bytes(Authority("others").certificate)
    ran = cli("fleet", "list", "--ca", tmp_path / "others.crt", "--json")
    assert ran.code == 23 and error(ran)["message"].startswith("the server's certificate is not trusted: unable to get")
    ran = cli("fleet", "list")  # without TLS
    assert ran.code == 17 and "does it ask for TLS?" in ran.err
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    ran = cli("registry", "list", "--server", address)
    assert ran.code == 17 and f"where: {address}" in ran.err


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"", "it is empty"), (b"secret\nmore", "one line of ASCII"), (b"secret\xff", "one line of ASCII")],
)
def test_files_that_hold_no_token(cli, home, tmp_path, monkeypatch, data, said):
    monkeypatch.setenv("GOSSAMER_TOKEN", "another")  # which must not be taken instead
    file = tmp_path / "token"
    file.write_bytes(data)
    for command in (["fleet", "list"], ["device", "info", "-d", "h:1"]):
        ran = cli(*command, "--token-file", file)
        assert ran.code == 10 and said in ran.err and f"where: {file}" in ran.err and "secret" not in ran.err


def test_a_variable_that_holds_no_token(cli, monkeypatch):
    monkeypatch.setenv("GOSSAMER_TOKEN", "secret\nmore")
    ran = cli("fleet", "list")
    assert ran.code == 10 and "where: GOSSAMER_TOKEN" in ran.err and "secret" not in ran.err


@pytest.mark.parametrize(
    "command",
    [
        ["fleet", "list"],
        ["fleet", "rollout", "start", "a/1", "--stage", "10"],
        ["registry", "push", "x.goss", "a/1"],
        ["device", "profile", "--any", "", "--bundle", "a/1"],
    ],
)
def test_without_the_packages_for_servers(command, tmp_path):
    (tmp_path / "grpc.py").write_text("raise ModuleNotFoundError(\"No module named 'grpc'\", name='grpc')")
    process = spawn(*command, env={"PYTHONPATH": str(tmp_path)})
    _, err = process.communicate(timeout=20)
    assert process.returncode == 13 and "no module grpc" in err and "pip install 'gossamer[client]'" in err


def test_durations():
    convert = Duration().convert
    assert [convert(t, None, None) for t in ("90", "1.5s", "15m", "2h", "7d")] == [90, 1.5, 900, 7200, 604800]
