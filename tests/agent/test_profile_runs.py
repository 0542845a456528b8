"""Profiles over the fleet: who holds a device behind a NAT asks, the device answers with its next heartbeats."""

from __future__ import annotations

import json
import time

import pytest

from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer_runtime.agent import _facts
from gossamer_runtime.agent._profile_record import record
from gossamer_runtime.agent._proto import fleet_pb2
from gossamer_runtime.agent._reasons import ServerError, ServerUnreachableError
from gossamer_runtime.agent._trial import Facts
from tests.agent.conftest import digest
from tests.agent.fleetkit import fleet, puller, wait
from tests.agent.memdisk import MemoryDisk
from tests.agent.pullkit import Opened, World, agent
from tests.agent.test_power_cut import with_old

DONE, FAILED = pb.PROFILE_RUN_STATE_DONE, pb.PROFILE_RUN_STATE_FAILED


@pytest.fixture
def served(tmp_path, work):
    with fleet(tmp_path / "data") as made:
        yield made


class Holder:
    """Somebody who holds the only device."""

    def __init__(self, served) -> None:
        self._fleet = served.fleet
        request = pb.AcquireDeviceRequest()
        request.time_to_live.FromSeconds(60)
        self.lease = served.fleet.AcquireDevice(request).lease

    def ask(self, version: str = "", **options) -> str:
        return self._fleet.CreateProfileRun(
            pb.CreateProfileRunRequest(lease=self.lease, version=version, **options)
        ).profile_run.name

    def answer(self, run: str) -> pb.ProfileRun:
        return wait(
            lambda: self._fleet.GetProfileRun(pb.GetProfileRunRequest(name=run)).profile_run,
            lambda found: found.state in (DONE, FAILED),
        )

    def profile(self, version: str = "", **options):
        found = self.answer(self.ask(version, **options))
        assert found.state == DONE, found
        return self._fleet.GetProfile(pb.GetProfileRequest(name=found.profile)).profile


def test_what_runs_is_profiled(served, tmp_path, bundles, capsys):
    root, one = tmp_path / "slots", bundles("1", 5)
    name = served.enroll(root, capsys)
    first = served.publish(one, "1")
    with puller(root):
        holder = Holder(served)
        nothing = holder.answer(holder.ask())
        assert (nothing.state, nothing.failure_reason) == (FAILED, "SLOT_FAILED")
        assert "no bundle runs" in nothing.failure_message
        served.desire(name, first)
        served.runs(name, one)

        found = holder.profile(runs=7, warmup_runs=3)
        assert (found.device, found.bundle_sha256) == (name, digest(one))
        assert (found.model_version, found.latency.runs, found.warmup_runs) == ("1", 7, 3)
        facts = served.device(name).facts
        assert (found.machine.arch, found.machine.cpu, found.machine.isa) == (facts.arch, facts.cpu, facts.isa)
        assert (found.machine.threads, found.machine.runtime_version) == (1, facts.runtime_version)
        assert 0 < found.latency.min_us <= found.latency.median_us <= found.latency.p90_us <= found.latency.max_us
        assert {op.kind for op in found.ops} >= {"Conv", "Gemm"} and [op.index for op in found.ops] == list(
            range(len(found.ops))
        )
        assert sum(op.share_percent for op in found.ops) == pytest.approx(100)
        assert abs(found.start_time.seconds - served.device(name).heartbeat_time.seconds) < 60
        assert found.init_us > 0 and found.arena_bytes > 0


def test_another_version_is_profiled_and_not_installed(served, tmp_path, bundles, other_key, capsys):
    root, one, two = tmp_path / "slots", bundles("1", 5), bundles("2", 4)
    name = served.enroll(root, capsys)
    served.desire(name, served.publish(one, "1"))
    second, bad = served.publish(two, "2"), served.publish(bundles("3", 5, key=other_key), "3")
    with puller(root) as made:
        served.runs(name, one)
        holder = Holder(served)
        before = (root / "pointer").read_bytes()
        found = holder.profile(second, runs=5)  # older than the counter: it is not installed
        assert (found.bundle_sha256, found.model_version, found.latency.runs) == (digest(two), "2", 5)
        found = holder.profile(second, warmup_runs=0)
        assert (found.latency.runs, found.warmup_runs) == (50, 0)
        assert (root / "pointer").read_bytes() == before
        assert served.device(name).status.bundle_sha256 == digest(one)

        refused = holder.answer(holder.ask(bad))
        assert (refused.state, refused.failure_reason) == (FAILED, "SIGNATURE_REFUSED")
        assert (root / "pointer").read_bytes() == before
        assert not list(root.glob("part-*"))
        served.fleet.ReleaseDevice(pb.ReleaseDeviceRequest(lease=holder.lease))
        assert "profiled for" in made.log.read_text()


def asked(world: World, **fields) -> str:
    """Somebody asks, until an answer came."""
    run = fleet_pb2.ProfileRun(name="profileRuns/1", runs=5, **fields)
    world.answer.profile_run.CopyFrom(run)
    world.answers = []

    def answered(request) -> None:
        world.answers.append(request)
        world.answer.ClearField("profile_run")

    world.CreateProfile = world.FailProfileRun = answered
    return run.name


class Profiled(Opened):
    profiles = 0

    def profile(self, runs, warmup, inputs, trace, seconds):
        type(self).profiles += 1
        assert self._session is not None
        return json.dumps(self._session.profile(runs, warmup).to_json()), "", ""


@pytest.fixture
def world():
    Profiled.profiles = 0
    return World()


def test_an_answer_that_cannot_be_delivered_waits(world, bundles):
    _, pull = agent(with_old(bundles("1")), world, opened=Profiled)
    name = asked(world)
    assert pull.visit() == 0
    world.down = True
    assert pull.visit() > 0 and not world.answers
    world.down = False
    assert pull.visit() >= 9
    (answer,) = world.answers
    assert answer.profile_run == name and answer.profile.latency.runs == 5
    assert pull.visit() >= 9 and Profiled.profiles == 1


def test_an_answer_that_is_never_taken_does_not_keep_updates_waiting(world, bundles):
    device, pull = agent(with_old(bundles("1")), world, opened=Profiled)
    asked(world)
    asks = []

    def too_large(request):
        asks.append(request)
        raise ServerUnreachableError("Sent message larger than max", reason="SERVER_UNREACHABLE")

    world.CreateProfile = too_large
    new = bundles("2")
    world.desire(new)
    for _ in range(12):
        pull.visit()
    assert len(asks) == 8 and device.slots.bundle() == new and device.problem == ""
    assert len(world.said) >= 12 and Profiled.profiles == 1


def test_a_refused_profile_is_no_endless_work(world, bundles):
    _, pull = agent(with_old(bundles("1")), world, opened=Profiled)
    name = asked(world)
    failed = []

    def refuse(request):
        raise ServerError("a time is not a number", reason="BAD_FIELD")

    world.CreateProfile, world.FailProfileRun = refuse, failed.append
    for _ in range(4):
        pull.visit()
    (answer,) = failed
    assert (answer.name, answer.failure_reason) == (name, "BAD_FIELD") and Profiled.profiles == 1

    def ended(request):
        raise ServerError("nobody waits", reason="PROFILE_RUN_ENDED")

    world.answer.profile_run.name = "profileRuns/2"
    world.CreateProfile = ended
    for _ in range(4):
        pull.visit()
    assert len(failed) == 1 and Profiled.profiles == 2


def test_a_download_for_a_profile_goes_on_where_it_was_and_is_kept(world, bundles):
    data = bundles("2", pad=40_000)
    world.blobs[digest(data)] = data
    device, pull = agent(with_old(bundles("1")), world, opened=Profiled)
    asked(world, bundle_sha256=digest(data), bundle_bytes=len(data))
    world.cut_after = 3 * world.chunk
    assert pull.visit() >= 9 and device.problem == ""  # heartbeats go on
    assert pull._profiles._try_at - time.monotonic() <= 0.5
    for _ in range(2):
        pull._profiles._try_at = 0.0
        pull.visit()
    assert [offset for _, offset, _ in world.reads] == [0, 3 * world.chunk]
    assert world.answers[0].profile.bundle_sha256 == digest(data)
    assert device.slots.pointer.entries.keys() == {"a"}
    world.desire(data)
    pull.visit()
    assert device.slots.bundle() == data and len(world.reads) == 2  # nothing had to come again


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("full", "DISK_FULL"), ("missing", "BLOB_NOT_FOUND"), ("wrong", "DIGEST_MISMATCH"), ("crash", "RUN_FAILED")],
)
def test_profiles_that_cannot_be_made(world, bundles, fault, reason, monkeypatch):
    data = bundles("2")
    world.blobs[digest(data)] = data
    disk = with_old(bundles("1"))
    device, pull = agent(disk, world, opened=Profiled)
    asked(world, bundle_sha256=digest(data), bundle_bytes=len(data))
    if fault == "full":
        disk.free_bytes = lambda: 0
    elif fault == "missing":
        world.blobs.clear()
    elif fault == "wrong":
        world.blobs[digest(data)] = data[:-1] + b"x"
    else:
        from gossamer_runtime.agent._reasons import RunError

        def crash(*_):
            raise RunError("its process was ended by SIGSEGV")

        monkeypatch.setattr(Profiled, "profile", crash)
    for _ in range(4):
        pull.visit()
        pull._profiles._try_at = 0.0
    (answer,) = world.answers
    assert answer.failure_reason == reason and answer.failure_message
    assert device.slots.running == "a" and world.said[-1].failed_sha256 == ""


def test_a_device_that_others_use_is_waited_for(world, bundles, monkeypatch):
    from gossamer_runtime.agent import _device

    monkeypatch.setattr(_device, "_RUN_WAIT_SECONDS", 0.01)
    device, pull = agent(with_old(bundles("1")), world, opened=Profiled)
    asked(world)
    with device.running():
        pull.visit()
        assert not world.answers and not Profiled.profiles
    pull._profiles._try_at = 0.0
    pull.visit()
    pull.visit()
    assert len(world.answers) == 1


def test_a_record_has_what_the_profile_says(bundles):
    disk = with_old(bundles("1"))
    device, _ = agent(disk, World(), opened=Profiled)
    with device.opened() as child:
        text = child.profile(4, 2, (), False, 10)[0]
    profile = json.loads(text)
    profile["machine"].update(start_mhz=2400.0, end_mhz=None, start_celsius=41.5, end_celsius=None)
    profile["notes"] = ["warm"]
    machine = _facts.read()
    made = record(profile, "0" * 64, Facts("small", "1", 0), machine, 1_700_000_000.25)
    assert (made.machine.start_mhz, made.machine.end_mhz, made.machine.start_celsius) == (2400, 0, 41.5)
    assert not made.machine.HasField("end_celsius") and list(made.notes) == ["warm"]
    assert made.start_time.ToMilliseconds() == 1_700_000_000_250
    assert (made.model_name, made.model_version, made.machine.isa) == ("small", "1", profile["isa"])
    for name in ("init_us", "warmup_runs", "warmup_mean_us", "arena_bytes", "session_bytes"):
        assert getattr(made, name) == profile[name]
    for name, value in profile["latency"].items():
        assert getattr(made.latency, name) == value
    assert len(made.ops) == len(profile["ops"]) >= 3
    for op, said in zip(made.ops, profile["ops"], strict=True):
        for name, value in said.items():
            if value is None:
                assert not op.HasField(name)
            else:
                assert getattr(op, name) == value, name


def test_nothing_runs(world):
    _, pull = agent(MemoryDisk(), world, opened=Profiled)
    asked(world)
    pull.visit()
    pull.visit()
    (answer,) = world.answers
    assert answer.failure_reason == "SLOT_FAILED" and "no bundle runs" in answer.failure_message
