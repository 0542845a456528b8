"""What pull mode decides: what is tried again and what not, power cuts at every disk operation, clocks, renewal."""

from __future__ import annotations

import errno

import pytest

from gossamer_runtime._errors import SignatureError, SlotError
from gossamer_runtime.agent import _identity, _pull
from gossamer_runtime.agent._proto import fleet_pb2 as pb
from gossamer_runtime.agent._reasons import RunError, ServerAccessError, ServerError, ServerUnreachableError
from gossamer_runtime.agent._slots import Slots
from tests.agent.conftest import Here, digest
from tests.agent.memdisk import MODES, MemoryDisk
from tests.agent.pullkit import DAY, IDENTITY, KEY, NOW, Opened, World, agent, certificate, settle
from tests.agent.test_power_cut import cuts, with_old

State = pb.DeviceState
EMPTY, RUNNING = State.DEVICE_STATE_EMPTY, State.DEVICE_STATE_RUNNING
UPDATING, FELL_BACK = State.DEVICE_STATE_UPDATING, State.DEVICE_STATE_FELL_BACK


@pytest.fixture
def world():
    return World()


def test_heartbeats_of_an_update(world, bundles):
    one, two = bundles("1"), bundles("2")
    device, pull = agent(MemoryDisk(), world)
    assert 9 <= pull.visit() <= 10
    world.desire(one)
    settle(pull)
    world.desire(two)
    settle(pull)
    assert [s.state for s in world.said] == [EMPTY, EMPTY, UPDATING, RUNNING, RUNNING, UPDATING, RUNNING]
    assert (world.said[2].bundle_sha256, world.said[-2].bundle_sha256) == ("", digest(one))
    last = world.said[-1]
    assert (last.bundle_sha256, last.previous_sha256, last.failed_sha256) == (digest(two), digest(one), "")
    assert world.facts == 1 and len(world.addresses) == 1
    assert device.slots.bundle() == two


def test_progress_is_told_while_bytes_come(world, bundles, monkeypatch):
    ticks = iter(range(0, 10_000_000, 4))
    monkeypatch.setattr(_pull.time, "monotonic", lambda: float(next(ticks)))
    data = bundles("1", pad=40_000)
    world.desire(data)
    _, pull = agent(MemoryDisk(), world)
    settle(pull)
    seen = [s.progress_percent for s in world.said if s.state == UPDATING]
    assert seen == sorted(seen) and seen[0] == 0 and len(seen) >= 5 and 60 < seen[-1] <= 100


def test_another_wish_ends_a_download(world, bundles, monkeypatch):
    ticks = iter(range(0, 10_000_000, 11))
    monkeypatch.setattr(_pull.time, "monotonic", lambda: float(next(ticks)))
    first, second = bundles("1", pad=40_000), bundles("2")
    world.desire(first)
    device, pull = agent(MemoryDisk(), world)
    world.before_chunk = lambda: world.desire(second) if len(world.said) >= 4 else None
    settle(pull)
    assert device.slots.bundle() == second
    assert device.slots.uploads.offset(digest(first)) == 0
    assert all(not s.failed_sha256 for s in world.said)


def test_a_cut_download_goes_on_where_it_was(world, bundles):
    data = bundles("1", pad=40_000)
    world.desire(data)
    device, pull = agent(MemoryDisk(), world)
    world.cut_after = 3 * world.chunk
    assert pull.visit() <= 1
    assert pull.status().failure_reason == "SERVER_UNREACHABLE" and pull.status().state == UPDATING
    assert device.slots.uploads.offset(digest(data)) == 3 * world.chunk
    settle(pull)
    assert [r[1] for r in world.reads] == [0, 3 * world.chunk]
    assert device.slots.bundle() == data


def test_connections_that_carry_little_are_asked_for_little(world, bundles):
    data = bundles("1", pad=40_000)
    world.desire(data)
    world.chunk = 20_000
    _, pull = agent(MemoryDisk(), world)
    for _ in range(5):
        world.cut_after = 0
        pull.visit()
        pull._try_at = 0.0
    assert [limit for _, _, limit in world.reads] == [0, 1 << 18, 1 << 16, 1 << 14, 1 << 12]
    settle(pull)
    assert {limit for _, _, limit in world.reads[5:]} == {1 << 12}


def test_waits_grow_and_end_with_progress(world, bundles):
    data = bundles("1", pad=40_000)
    world.desire(data)
    _, pull = agent(MemoryDisk(), world)
    waits = []
    for _ in range(12):
        world.cut_after = 0
        pull.visit()
        waits.append(pull._try_at - _pull.time.monotonic())
        pull._try_at = 0.0
    for i, seconds in enumerate(waits):
        longest = min(0.2 * 2**i, 300)
        assert longest / 2 - 0.5 <= seconds <= longest, i
    world.cut_after = 2 * world.chunk
    pull.visit()
    assert pull._try_at - _pull.time.monotonic() <= 0.2


def test_a_full_disk_is_told_and_tried_again(world, bundles):
    data = bundles("1")
    world.desire(data)
    disk = MemoryDisk()
    disk.free_bytes = lambda: 100
    device, pull = agent(disk, world)
    assert pull.visit() == 0  # to tell it
    status = pull.status()
    assert (status.state, status.failure_reason, status.failed_sha256) == (UPDATING, "DISK_FULL", "")
    assert 0 < pull.visit() < 5 and "bytes are to come and 100 are free" in device.problem
    disk.free_bytes = lambda: 1 << 30
    settle(pull)
    assert device.slots.bundle() == data and device.problem == ""
    assert pull.status().failure_reason == ""


def test_another_change_that_goes_on_is_waited_for(world, bundles, monkeypatch):
    from gossamer_runtime.agent import _device

    monkeypatch.setattr(_device, "_CHANGE_WAIT_SECONDS", 0.01)
    data = bundles("1")
    world.desire(data)
    device, pull = agent(MemoryDisk(), world)
    with device.changing():
        assert pull.visit() == 0
        assert pull.status().failure_reason == "BUSY" and not world.reads
    settle(pull)
    assert device.slots.bundle() == data


def test_a_process_that_cannot_be_started_is_tried_again(world, bundles):
    data = bundles("1")
    world.desire(data)
    device, pull = agent(MemoryDisk(), world)

    def none_left():
        raise RunError("the process for bundles cannot be started: Cannot allocate memory")

    device.child = none_left
    pull.visit()
    status = pull.status()
    assert (status.state, status.failure_reason, status.failed_sha256) == (UPDATING, "RUN_FAILED", "")
    device.child = Opened
    settle(pull)
    assert device.slots.bundle() == data


def test_the_process_for_a_large_bundle_starts_near_its_end(world, bundles):
    data = bundles("1", pad=2_500_000)
    world.desire(data)
    world.chunk = 100_000
    device, pull = agent(MemoryDisk(), world)
    started = []

    def child() -> Opened:
        started.append(device.slots.uploads.offset(digest(data)))
        return Opened()

    device.child = child
    world.cut_after = 1_000_000
    pull.visit()
    assert not started
    pull._try_at = 0.0
    settle(pull)
    (at,) = started
    assert len(data) - (1 << 20) - world.chunk <= at < len(data) and device.slots.bundle() == data


class Hangs(Opened):
    def run(self, inputs=()):
        raise RunError("it took longer than 10 s and was stopped")


def test_a_failed_trial_is_not_tried_again_until_another_bundle_was_desired(world, bundles):
    old, bad = bundles("1"), bundles("2")
    disk = with_old(old)
    device, pull = agent(disk, world, opened=Hangs)
    world.desire(bad)
    settle(pull)
    status = world.said[-1]
    assert (status.state, status.failed_sha256, status.failure_reason) == (FELL_BACK, digest(bad), "ROLLED_BACK")
    assert status.bundle_sha256 == digest(old) and "it took longer than 10 s" in status.failure_message
    reads = len(world.reads)
    settle(pull)
    device, pull = agent(disk.after_cut("lost"), world)  # after a restart as well
    settle(pull)
    assert len(world.reads) == reads and world.said[-1] == status
    world.desire(old)
    settle(pull)
    settle(pull)
    assert (world.said[-1].state, world.said[-1].failed_sha256) == (RUNNING, "")
    world.desire(bad)
    settle(pull)
    assert device.slots.bundle() == bad and len(world.reads) == reads + 1


def test_a_refusal_lasts_over_restarts_also_on_a_disk_that_was_full(world, bundles, other_key):
    old, bad = bundles("1"), bundles("2", key=other_key)
    disk = with_old(old)
    device, pull = agent(disk, world)
    world.desire(bad)
    device.slots.remember = _no_room
    settle(pull)
    assert pull.status().failed_sha256 == digest(bad) and len(world.reads) == 1
    settle(pull)
    assert len(world.reads) == 1
    disk = disk.after_cut("lost")
    _, pull = agent(disk, world)  # it was not written down: once more, then it is
    settle(pull)
    assert len(world.reads) == 2 and world.said[-1].failure_reason == "SIGNATURE_REFUSED"
    _, pull = agent(disk.after_cut("lost"), world)
    settle(pull)
    assert len(world.reads) == 2 and world.said[-1].failed_sha256 == digest(bad)


def _no_room(failed):
    raise SlotError("full")


def test_wrong_bytes_are_asked_for_once_more(world, bundles):
    data = bundles("1")
    world.desire(data)
    good, world.blobs[digest(data)] = data, data[:-1] + b"x"
    device, pull = agent(MemoryDisk(), world)
    pull.visit()
    assert pull.status().failure_reason == "DIGEST_MISMATCH" and pull.status().failed_sha256 == ""
    world.blobs[digest(data)] = good
    settle(pull)
    assert device.slots.bundle() == data
    other = bundles("2")
    world.desire(other)
    world.blobs[digest(other)] = other[:-1] + b"x"
    settle(pull)
    assert pull.status().failed_sha256 == digest(other) and pull.status().failure_reason == "DIGEST_MISMATCH"
    assert [r[1] for r in world.reads[-2:]] == [0, 0] and len(world.reads) == 4


def test_odd_answers_of_a_registry(world, bundles):
    data = bundles("1")
    world.desire(data)
    device, pull = agent(MemoryDisk(), world)
    world.blobs = {}
    pull.visit()
    assert pull.status().failure_reason == "BLOB_NOT_FOUND"
    world.blobs = {digest(data): data + b"more"}
    pull._try_at = 0.0
    pull.visit()
    assert pull.status().failure_reason == "BAD_ANSWER"
    assert "the registry sent bytes at 0 of" in pull.status().failure_message
    world.blobs = {digest(data): data}
    pull._try_at = 0.0
    settle(pull)
    assert device.slots.bundle() == data


def test_a_wish_that_is_none(world, bundles):
    old = bundles("1")
    disk = with_old(old)
    device, pull = agent(disk, world)
    before = device.slots.pointer
    world.answer.desired_sha256 = "../../etc/passwd"
    assert 0 < pull.visit() <= 1
    assert device.problem == "the server desires '../../etc/passwd', no SHA-256"
    assert device.slots.pointer == before and not world.reads
    assert Slots(disk.after_cut("lost"), Here).bundle() == old


def test_a_long_story_is_cut(world, bundles):
    disk = with_old(bundles("1"))
    device, pull = agent(disk, world)
    bad = bundles("2")

    class Refuses(Opened):
        def check(self, bundle):
            raise SignatureError("no " * 100_000)

    device.child = Refuses
    world.desire(bad)
    settle(pull)
    again = Slots(disk.after_cut("lost"), Here)
    assert again.pointer.failed.sha256 == digest(bad) and len(again.pointer.failed.message) == 1000


def test_a_bundle_that_is_too_large_is_refused(world, bundles):
    data = bundles("1")
    world.desire(data)
    device, pull = agent(MemoryDisk(), world)
    device.slots.uploads.max_bytes = 1000
    settle(pull)
    assert (world.said[-1].state, world.said[-1].failure_reason) == (EMPTY, "TOO_LARGE")
    assert world.said[-1].failed_sha256 == digest(data) and not world.reads


def test_a_registry_that_is_elsewhere(world, bundles):
    world.desire(bundles("1"))
    world.answer.registry_address = ":77"
    _, pull = agent(MemoryDisk(), world)
    settle(pull)
    assert world.addresses == ["127.0.0.1:2", "127.0.0.1:77"]
    world.answer.registry_address = "registry.example.org:443"
    world.desire(bundles("2"))
    settle(pull)
    assert world.addresses[2:] == ["registry.example.org:443"]


@pytest.mark.parametrize("address", ["", ":77"])
def test_an_end_cuts_the_download(world, bundles, address):
    data = bundles("1", pad=40_000)
    world.desire(data)
    world.answer.registry_address = address
    device, pull = agent(MemoryDisk(), world)
    closed = []

    def end() -> None:
        if device.slots.uploads.offset(digest(data)) >= 2 * world.chunk and not closed:
            pull.stop()
            closed.append(world.closed)

    world.before_chunk = end
    assert pull.visit() >= 0
    assert closed == [2 if address else 1]  # every connection that there was
    assert device.slots.uploads.offset(digest(data)) == 3 * world.chunk and device.slots.running is None
    assert pull.visit() == 0 and world.closed == closed[0] + bool(address)


@pytest.mark.parametrize("old_first", [True, False])
def test_every_power_cut_of_a_pull(bundles, old_first):
    old, new = bundles("1", 3), bundles("2", 4)

    def begin() -> MemoryDisk:
        disk = with_old(old) if old_first else MemoryDisk()
        _identity.write(disk, IDENTITY)
        return disk.after_cut("lost")

    def act(disk: MemoryDisk) -> None:
        world = World()
        world.desire(new)
        settle(agent(disk, world)[1])

    count = 0
    for k, disk in cuts(begin, act):
        for mode in (*MODES, 0, 1, 2, 3):
            again = disk.after_cut(mode)
            assert _identity.read(again) == IDENTITY
            world = World()
            world.desire(new)
            device, pull = agent(again, world)
            found = device.slots.bundle() if device.slots.running else None
            assert found in ((old, new) if old_first else (None, new)), (k, mode)
            assert k or found == new
            settle(pull)
            assert device.slots.bundle() == new, (k, mode)
            assert (world.said[-1].bundle_sha256, world.said[-1].failed_sha256) == (digest(new), ""), (k, mode)
            assert Slots(again.after_cut("lost"), Here).bundle() == new, (k, mode)
            count += 1
    assert count >= 80


@pytest.mark.parametrize("fault", ["full", "io"])
def test_a_disk_that_is_full_or_fails_at_every_operation_of_a_pull(bundles, fault):
    old, new = bundles("1"), bundles("2")
    for k in range(1, 100):
        disk, world = with_old(old), World()
        world.desire(new)
        device, pull = agent(disk, world)
        disk.operations = 0
        if fault == "full":
            disk.full_from = k
        else:
            disk.fail_at, disk.fail_with = k, errno.EIO
        for _ in range(4):
            pull.visit()
            pull._try_at = 0.0
        assert device.slots.bundle() in (old, new), k
        reached = disk.operations >= k
        disk.heal()
        settle(pull)
        assert device.slots.bundle() == new, k
        assert world.said[-1].failed_sha256 == "" and world.said[-1].failure_reason == "", k
        if not reached:
            break
    assert 5 < k < 99


# The server, the clock, the certificate


def test_a_server_that_is_away_is_visited_less_and_less(world):
    device, pull = agent(MemoryDisk(), world)
    world.down = True
    waits = [pull.visit() for _ in range(11)]
    for i, seconds in enumerate(waits):
        assert min(2**i, 300) / 2 <= seconds <= min(2**i, 300)
    assert device.problem == "nobody there"
    world.down = False
    assert 9 <= pull.visit() <= 10 and device.problem == ""
    assert len(world.addresses) == 12


@pytest.mark.parametrize("reason", ["CERTIFICATE_REVOKED", "DEVICE_NOT_FOUND", "NOT_THIS_DEVICE"])
def test_a_removed_device_hardly_asks_any_more(world, bundles, reason):
    data = bundles("1")
    device, pull = agent(with_old(data), world)
    world.refuse = ServerAccessError("not enrolled any more", reason=reason)
    assert 1800 <= pull.visit() <= 3600
    assert device.problem == f"the fleet does not know this device any more ({reason}): not enrolled any more"
    assert device.slots.bundle() == data
    world.refuse = None
    settle(pull)
    assert device.problem == ""


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (NOW - 400 * DAY, "its certificate begins at"),
        (NOW - 5 * DAY, "its certificate begins at"),
        (NOW + 400 * DAY, "its certificate ended at"),
    ],
)
def test_a_clock_that_is_wrong_is_named(world, says, words):
    device, pull = agent(MemoryDisk(), world, clock=says.timestamp)
    world.down = True
    assert pull.visit() <= 1
    edge = NOW - DAY if "begins" in words else NOW + 299 * DAY
    shown = [f"{t:%Y-%m-%dT%H:%M:%SZ}" for t in (says, edge)]
    assert device.problem.startswith(f"the device's clock says {shown[0]}, and {words} {shown[1]}: set the clock")
    assert pull.visit() <= 2
    world.down = False
    world.renewed = lambda: "nonsense"
    assert pull.visit() >= 9 and device.problem == ""  # the server may see it otherwise


def test_renewal_at_two_thirds_of_a_life(world):
    now = [NOW.timestamp()]
    disk = MemoryDisk()
    _, pull = agent(disk, world, clock=lambda: now[0])
    pull.visit()
    made = certificate(KEY, NOW + 198 * DAY, NOW + 900 * DAY)
    now[0] += (198 * DAY).total_seconds()  # of 300 days, one day of which was over
    pull.visit()  # would ask, and fail
    world.renewed = lambda: made
    now[0] += DAY.total_seconds()
    pull.visit()
    renewed = _identity.read(disk)
    assert renewed is not None and renewed.certificate == made
    assert (renewed.key, renewed.device) == (IDENTITY.key, IDENTITY.device)
    assert len(world.addresses) == 2  # a new connection with it
    world.renewed = None
    pull.visit()


@pytest.mark.parametrize("bad", ["nonsense", "another key", "no later", "refused", "the server fails"])
def test_a_renewal_that_fails_changes_nothing(world, bad, monkeypatch):
    from cryptography.hazmat.primitives.asymmetric import ec

    now = NOW + 250 * DAY
    disk = MemoryDisk()
    _identity.write(disk, IDENTITY)
    _, pull = agent(disk, world, clock=now.timestamp)
    asked = []

    def renewed() -> str:
        asked.append(1)
        if bad == "the server fails":
            raise ServerUnreachableError("a fault of the server", reason="INTERNAL")
        if bad == "refused":
            raise ServerError("no", reason="BAD_FIELD")
        if bad == "another key":
            return certificate(ec.generate_private_key(ec.SECP256R1()), now, now + 900 * DAY)
        return certificate(KEY, now, NOW + 299 * DAY) if bad == "no later" else bad

    world.renewed = renewed
    for _ in range(3):
        assert pull.visit() >= 9
    assert len(asked) == 1  # and again in an hour
    assert _identity.read(disk) == IDENTITY and len(world.said) == 3


def test_every_power_cut_of_a_renewal(bundles):
    now = NOW + 250 * DAY
    made = certificate(KEY, now, now + 900 * DAY)

    def begin() -> MemoryDisk:
        disk = MemoryDisk()
        _identity.write(disk, IDENTITY)
        return disk.after_cut("lost")

    def act(disk: MemoryDisk) -> None:
        world = World()
        world.renewed = lambda: made
        agent(disk, world, clock=now.timestamp)[1].visit()

    seen = set()
    for k, disk in cuts(begin, act):
        for mode in (*MODES, 0, 1, 2):
            found = _identity.read(disk.after_cut(mode))
            assert found is not None and found.certificate in (IDENTITY.certificate, made), (k, mode)
            assert k or found.certificate == made
            seen.add(found.certificate)
    assert len(seen) == 2
