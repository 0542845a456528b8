"""Pull mode with real processes: agents that serve no port, and the fleet and registry of `gossamer serve`."""

from __future__ import annotations

import contextlib
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer.device.book import Place
from gossamer.device.remote import Remote
from gossamer_runtime._errors import SlotError
from gossamer_runtime.agent import _identity, _watch, active_bundle
from gossamer_runtime.agent._child import Child
from gossamer_runtime.agent._device import Device
from gossamer_runtime.agent._disk import FolderDisk
from gossamer_runtime.agent._pull import Pull
from gossamer_runtime.agent._slots import open_folder
from tests.agent.agentkit import Agent, CuttingProxy, agent, cpu_seconds, rss_bytes
from tests.agent.conftest import digest
from tests.agent.fleetkit import Fleet, fleet, puller, wait
from tests.agent.test_access import Authority

State = pb.DeviceState


@pytest.fixture
def served(tmp_path, work):
    with fleet(tmp_path / "data") as made:
        yield made


@pytest.fixture
def root(tmp_path):
    return tmp_path / "slots"


def running(root: Path) -> bytes:
    return Path(active_bundle(root)).read_bytes()


def log_of(made: Agent) -> str:
    return made.log.read_text()


def test_a_device_runs_what_is_desired(served, root, bundles, capsys):
    one, two = bundles("1", 1), bundles("2", 1)
    name = served.enroll(root, capsys, site="lab")
    first, second = served.publish(one, "1"), served.publish(two, "2")
    with puller(root):
        found = served.wait(name, lambda d: d.status.state == State.DEVICE_STATE_EMPTY)
        assert found.labels["site"] == "lab" and found.facts.isa and found.facts.cores >= 1
        assert found.status.uptime_seconds < 60
        served.desire(name, first)
        assert served.runs(name, one).status.previous_sha256 == ""
        served.desire(name, second)
        status = served.runs(name, two).status
        assert (status.previous_sha256, status.failed_sha256) == (digest(one), "")
        served.desire(name, first)  # back, by the fleet
        served.runs(name, one)
        served.desire(name, "")
        time.sleep(0.5)
        assert served.runs(name, one)
    assert running(root) == one


def refusals(bundles, other_key) -> dict[str, bytes]:
    flipped = bytearray(bundles("3", 5))
    flipped[len(flipped) // 2] ^= 1
    return {
        "OLDER_BUNDLE": bundles("2", 4),
        "SIGNATURE_REFUSED": bundles("2", 5, key=other_key),
        "ROLLED_BACK": bundles("4", 5),
        "DIGEST_MISMATCH": bundles("5", 5),
    }


@pytest.mark.parametrize("reason", ["OLDER_BUNDLE", "SIGNATURE_REFUSED", "ROLLED_BACK", "DIGEST_MISMATCH"])
def test_a_bundle_that_fails_is_reported_once_and_not_tried_again(served, root, bundles, other_key, capsys, reason):
    good, bad, better = bundles("1", 5), refusals(bundles, other_key)[reason], bundles("9", 5)
    name = served.enroll(root, capsys)
    versions = [served.publish(data, str(i)) for i, data in enumerate((good, bad, better))]
    if reason == "DIGEST_MISMATCH":  # the registry's disk changed a byte of it
        (blob,) = [p for p in (served.folder).rglob(digest(bad) + "*") if p.is_file() and p.stat().st_size == len(bad)]
        blob.chmod(0o644)
        blob.write_bytes(bad[:-1] + bytes([bad[-1] ^ 1]))
    with puller(root):
        served.desire(name, versions[0])
        served.runs(name, good)
    options = ("--run-seconds", "0.0000001") if reason == "ROLLED_BACK" else ()  # no trial is as quick as that
    with puller(root, *options) as made:
        served.desire(name, versions[1])
        status = served.wait(name, lambda d: d.status.failed_sha256 != "").status
        assert (status.state, status.failed_sha256) == (State.DEVICE_STATE_FELL_BACK, digest(bad))
        assert (status.failure_reason, status.bundle_sha256) == (reason, digest(good))
        assert status.failure_message
        time.sleep(0.6)  # some heartbeats
        tries = log_of(made).count("is desired")
        made.kill()
        made.start()  # it is known after a restart as well
        status = served.wait(name, lambda d: d.status.failed_sha256 and d.status.uptime_seconds <= 1).status
        assert (status.failed_sha256, status.failure_reason) == (digest(bad), reason)
        time.sleep(0.6)
        assert log_of(made).count("is desired") == tries == 2  # the good one, and the bad one once
    with puller(root):
        served.desire(name, versions[2])
        assert served.runs(name, better).status.failed_sha256 == ""
    assert running(root) == better


def test_a_rollout_halts_at_a_bad_bundle_and_devices_fall_back(served, tmp_path, bundles, other_key, capsys):
    good, bad = bundles("1"), bundles("2", key=other_key)
    names = [served.enroll(tmp_path / f"slots{i}", capsys, lab="a") for i in range(3)]
    versions = served.publish(good, "1"), served.publish(bad, "2")
    with contextlib.ExitStack() as stack:
        for i in range(3):
            stack.enter_context(puller(tmp_path / f"slots{i}"))

        def roll(version: str, *states: int) -> pb.Rollout:
            wanted = pb.Rollout(
                version=version, selector="lab=a", stages=[pb.RolloutStage(percent=p) for p in (30, 100)]
            )
            made = served.fleet.CreateRollout(pb.CreateRolloutRequest(rollout=wanted)).rollout.name
            return wait(
                lambda: served.fleet.GetRollout(pb.GetRolloutRequest(name=made)).rollout, lambda r: r.state in states
            )

        done = roll(versions[0], pb.ROLLOUT_STATE_COMPLETED)
        assert (done.matching_devices, done.updated_devices, done.failed_devices) == (3, 3, 0)
        halted = roll(versions[1], pb.ROLLOUT_STATE_HALTED)
        assert (halted.failed_devices, halted.reached_devices) == (1, 1)
        assert halted.updated_devices == 0
        states = [served.device(name).status for name in names]
        assert {s.bundle_sha256 for s in states} == {digest(good)}
        failed = [s for s in states if s.failed_sha256 == digest(bad)]
        assert len(failed) == 1
        assert {s.failure_reason for s in failed} == {"SIGNATURE_REFUSED"}
        back = served.fleet.RollBackRollout(pb.RollBackRolloutRequest(name=halted.name)).rollout
        assert back.state in (pb.ROLLOUT_STATE_ROLLING_BACK, pb.ROLLOUT_STATE_ROLLED_BACK)
        wait(
            lambda: served.fleet.GetRollout(pb.GetRolloutRequest(name=halted.name)).rollout.state,
            lambda state: state == pb.ROLLOUT_STATE_ROLLED_BACK,
        )
    for i in range(3):
        assert running(tmp_path / f"slots{i}") == good


@contextlib.contextmanager
def behind_proxy(tmp_path: Path, allow: int):
    proxy = CuttingProxy(0, allow, down=True)
    with fleet(tmp_path / "data", f'server.device_address=":{proxy.port}"') as served:
        proxy.target = served.device_port
        yield served, proxy
    proxy.close()


@pytest.mark.parametrize("allow", [25_000, pytest.param(12_000, marks=pytest.mark.slow)])
def test_a_connection_that_is_cut_all_the_time_ends_with_equal_bytes(tmp_path, work, root, bundles, capsys, allow):
    data = bundles("1", pad=80_000)
    with behind_proxy(tmp_path, allow) as (served, proxy):
        name = served.enroll(root, capsys)
        served.desire(name, served.publish(data, "1"))
        with puller(root) as made:
            served.runs(name, data, 60)
            assert log_of(made).count("is desired") == 1
    assert proxy.cuts >= len(data) // allow
    assert running(root) == data
    assert sorted(p.name for p in root.iterdir()) == ["identity", "lock", "pointer", "slot-a.goss"]


def pulls_through_kills(served: Fleet, root: Path, name: str, versions: list[tuple[str, bytes]], rounds: int) -> None:
    rng = random.Random(7)
    made = Agent(root, "--bind", "none", "--fleet")
    known = {data for _, data in versions}
    try:
        for i in range(rounds):
            version, _ = versions[i % len(versions)]
            served.desire(name, version)
            time.sleep(rng.uniform(0, 0.35))
            made.kill()
            with contextlib.suppress(SlotError):  # none yet
                assert running(root) in known
            made.start()
        version, data = versions[0]
        served.desire(name, version)
        served.runs(name, data, 60)
    finally:
        made.stop()
    assert running(root) == data


def test_kill_9_while_pulling(served, root, bundles, capsys):
    name = served.enroll(root, capsys)
    versions = [(served.publish(d, str(i)), d) for i, d in enumerate(bundles(str(i), pad=400_000) for i in range(2))]
    pulls_through_kills(served, root, name, versions, 3)


@pytest.mark.slow
def test_kill_9_while_pulling_many_times(served, root, bundles, capsys):
    name = served.enroll(root, capsys)
    versions = [(served.publish(d, str(i)), d) for i, d in enumerate(bundles(str(i), pad=2_000_000) for i in range(3))]
    pulls_through_kills(served, root, name, versions, 100)


def test_a_restart_goes_on_with_what_came(tmp_path, work, root, bundles, capsys):
    data = bundles("1", pad=300_000)
    with behind_proxy(tmp_path, 100_000) as (served, proxy):
        name = served.enroll(root, capsys)
        served.desire(name, served.publish(data, "1"))
        part = root / f"part-{digest(data)}"
        made = Agent(root, "--bind", "none", "--fleet")
        wait(lambda: part.exists() and part.stat().st_size, lambda size: size)
        made.kill()
        there = part.stat().st_size
        assert 0 < there < len(data)
        proxy.allow = 1 << 30
        made.start()
        served.runs(name, data)
        assert made.stop() == 0
    assert running(root) == data


def test_an_end_in_the_middle_of_a_download(tmp_path, work, root, bundles, capsys):
    data = bundles("1", pad=3_000_000)
    with behind_proxy(tmp_path, 1 << 30) as (served, proxy):
        name = served.enroll(root, capsys)
        served.desire(name, served.publish(data, "1"))
        proxy.stall_after = 2_000_000  # then nothing comes, and nothing breaks
        with puller(root) as made:
            part = root / f"part-{digest(data)}"
            wait(lambda: part.exists() and part.stat().st_size, lambda size: size)
            assert served.device(name).status.state == State.DEVICE_STATE_UPDATING
            began = time.monotonic()
            assert made.stop() == 0
            assert time.monotonic() - began < 5
        assert 0 < part.stat().st_size < len(data)


def test_a_download_that_goes_silent_is_ended_and_goes_on(tmp_path, work, root, bundles, capsys, monkeypatch):
    monkeypatch.setattr(_watch, "IDLE_SECONDS", 0.4)
    data = bundles("1", pad=3_000_000)
    with behind_proxy(tmp_path, 1 << 30) as (served, proxy):
        name = served.enroll(root, capsys)
        served.desire(name, served.publish(data, "1"))
        proxy.stall_after = 2_000_000
        device = Device(open_folder(root, Child), Child)
        pull = Pull(device, _identity.read(device.slots.disk))
        pull.visit()
        status = pull.status()
        assert (status.state, status.failure_reason) == (State.DEVICE_STATE_UPDATING, "SERVER_UNREACHABLE")
        came = device.slots.uploads.offset(digest(data))
        assert 0 < came < len(data) and status.progress_percent == pytest.approx(100 * came / len(data))
        proxy.stall_after = None
        wait(lambda: (pull.visit(), pull.status().state)[1], lambda state: state == State.DEVICE_STATE_RUNNING)
        pull.stop()
        device.close()
    assert running(root) == data


def test_a_server_that_goes_and_comes_back(served, root, bundles, capsys):
    data = bundles("1")
    name = served.enroll(root, capsys)
    version = served.publish(data, "1")
    with puller(root) as made:
        served.wait(name, lambda d: d.status.state == State.DEVICE_STATE_EMPTY)
        served.stop()
        wait(lambda: log_of(made), lambda text: "the server does not answer" in text)
        served.start()
        served.desire(name, version)
        served.runs(name, data)
        assert "the fleet answers again" in log_of(made)


def test_a_removed_device_says_so_and_runs_on(served, root, bundles, capsys):
    data = bundles("1")
    name = served.enroll(root, capsys)
    served.desire(name, served.publish(data, "1"))
    with agent(root, "--fleet") as made:
        served.runs(name, data)
        served.fleet.DeleteDevice(pb.DeleteDeviceRequest(name=name))
        device = Remote(Place("here", address=made.address))
        said = wait(lambda: device.info()["problem"], bool)
        assert said.startswith("the fleet does not know this device any more (CERTIFICATE_REVOKED)")
        time.sleep(0.7)
        assert log_of(made).count("CERTIFICATE_REVOKED") == 1
        assert device.run([])[0] > 0
        device.close()
    assert running(root) == data


@pytest.mark.parametrize(
    ("server_days", "device_days", "words"),
    [
        ((3, 9), (-2, 9), "and the server's certificate begins at"),
        ((-2, -1), (-2, 9), "and the server's certificate ended at"),
        ((-2, 9), (-2, -1), "and its certificate ended at"),
    ],
)
def test_times_that_do_not_fit_are_named(root, tmp_path, work, server_days, device_days, words):
    ours = Authority(tmp_path, "ours")
    server, mine = (
        ours.make(name, days=days[1], begins=days[0]) for name, days in (("s", server_days), ("d", device_days))
    )
    pem = {k: Path(v).read_text() for k, v in mine.items()}
    pair = [(Path(server["key"]).read_bytes(), Path(server["cert"]).read_bytes())]
    authority = ours.path.read_bytes()
    listener = grpc.server(ThreadPoolExecutor(1))
    port = listener.add_secure_port("localhost:0", grpc.ssl_server_credentials(pair, authority, True))
    listener.start()
    proxy = CuttingProxy(port, 1 << 20)
    identity = _identity.Identity(
        "devices/1", "", f"localhost:{proxy.port}", authority.decode(), pem["cert"], "", pem["key"]
    )
    disk = FolderDisk(root)
    _identity.write(disk, identity)
    disk.close()
    with agent(root, "--fleet") as made:
        device = Remote(Place("here", address=made.address))
        said = wait(lambda: device.info()["problem"], lambda problem: words in problem)
        assert said.startswith("the device's clock says ") and ": set the clock" in said
        tried = proxy.connections
        wait(lambda: proxy.connections, lambda count: count > tried)  # it goes on trying
        assert log_of(made).count("set the clock") == 1
        device.close()
    listener.stop(0).wait()
    proxy.close()


def test_renewal_at_a_real_fleet(tmp_path, work, root, capsys):
    with fleet(tmp_path / "data", "fleet.certificate_days=1") as served:
        name = served.enroll(root, capsys)
        device = Device(open_folder(root, Child), Child)
        old, ends = _identity.read(device.slots.disk), served.device(name).certificate_expire_time.ToSeconds()
        time.sleep(1.1)  # certificates count whole seconds
        now = [time.time()]
        pull = Pull(device, old, clock=lambda: now[0])
        pull.visit()
        assert _identity.read(device.slots.disk) == old
        now[0] += 9 * 3600  # it began a day ago and ends in a day: two thirds are 32 hours
        pull.visit()
        new = _identity.read(device.slots.disk)
        assert new.certificate != old.certificate and (new.key, new.device) == (old.key, old.device)
        assert served.device(name).certificate_expire_time.ToSeconds() > ends
        heard = served.device(name).heartbeat_time.ToNanoseconds()
        pull._server._renew_at = float("inf")
        pull.visit()  # with the new one
        assert served.device(name).heartbeat_time.ToNanoseconds() > heard and device.problem == ""
        pull.stop()
        device.close()
        assert (root / "identity").stat().st_mode & 0o777 == 0o600


def test_a_flash_by_hand_and_a_pull_share_the_slots(served, root, tmp_path, bundles, capsys):
    pulled, flashed = bundles("1"), bundles("2")
    name = served.enroll(root, capsys)
    version = served.publish(pulled, "1")
    with agent(root, "--fleet") as made:
        device = Remote(Place("here", address=made.address))
        path = tmp_path / "b.goss"
        path.write_bytes(flashed)
        assert device.flash(path).status == "committed"
        assert served.runs(name, flashed).desired_version == ""
        served.desire(name, version)
        served.runs(name, pulled)
        device.rollback()  # whoever desires something else puts it back
        served.runs(name, pulled)
        device.close()


@pytest.mark.parametrize("options", [("--fleet",), ("--fleet", "--bind", "none")], ids=["port", "no port"])
def test_memory_and_time_when_idle(served, root, bundles, capsys, options):
    """Under 45 MB and half a percent of a core, with heartbeats far more often than they are; room for coarse ticks."""
    data = bundles("1", pad=980_000)
    name = served.enroll(root, capsys)
    served.desire(name, served.publish(data, "1"))
    with agent(root, *options) as made:
        served.runs(name, data)
        began, cpu = time.monotonic(), cpu_seconds(made.process.pid)
        time.sleep(2)
        share = (cpu_seconds(made.process.pid) - cpu) / (time.monotonic() - began)
        assert rss_bytes(made.process.pid) < 45e6
        assert share <= 0.02
