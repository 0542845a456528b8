"""Rollouts by their numbers: who is told when, what halts them, taking back; selectors; leases; heartbeats."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("grpc", reason="grpcio is missing: pip install -e ./services")
pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install -e ./services")

import sqlalchemy as sa

from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer_services.common.database import open_database
from gossamer_services.common.errors import Code, ServiceError
from gossamer_services.common.etags import new_etag
from gossamer_services.fleet import selector
from gossamer_services.fleet.devices import Devices
from gossamer_services.fleet.rollouts import Rollouts
from gossamer_services.fleet.tables import DEVICES, TABLES
from tests.services.postgres import url

__all__ = ["url"]

OLD, NEW = "a" * 64, "b" * 64
OLD_NAME, NEW_NAME = "bundles/m/versions/1", "bundles/m/versions/2"
ACTIVE, PAUSED, HALTED = pb.ROLLOUT_STATE_ACTIVE, pb.ROLLOUT_STATE_PAUSED, pb.ROLLOUT_STATE_HALTED


class World:
    """A fleet of ``count`` devices that run OLD, and a clock."""

    def __init__(self, url: str, count: int) -> None:
        self.now = 1000.0
        self.engine = open_database(url, TABLES)
        self.devices = Devices(self.engine, lambda: self.now)
        self.rollouts = Rollouts(self.engine, lambda sha: OLD_NAME if sha == OLD else "", lambda: self.now)
        self.ids = [f"{i:016x}" for i in range(count)]
        with self.engine.begin() as db:
            for i, device in enumerate(self.ids):
                facts = pb.DeviceFacts(arch="aarch64" if i % 2 else "armv7", cores=4)
                empty = {"display_name": "", "desired": "", "lease": "", "holder": "", "lease_ends_s": 0.0}
                db.execute(
                    sa.insert(DEVICES).values(
                        id=device,
                        labels=f'{{"site": "s{i % 5}"}}',
                        facts=facts.SerializeToString(),
                        status=pb.DeviceStatus(bundle_sha256=OLD).SerializeToString(),
                        enrolled_s=0.0,
                        heartbeat_s=0.0,
                        certificate_ends_s=0.0,
                        etag=new_etag(),
                        **empty,
                    )
                )

    def start(self, *percents: float, soak: int = 0, limit: float = 0.0, **options) -> pb.Rollout:
        wanted = pb.Rollout(version=NEW_NAME, failure_limit_percent=limit, **options)
        for percent in percents:
            wanted.stages.add(percent=percent).soak.seconds = soak
        made = self.rollouts.create(wanted, "m", NEW, caller="", request_id="", digest="", dry=False)
        return self.rollouts.get(made.name.removeprefix("rollouts/"))

    def told(self) -> list[str]:
        return [d for d in self.ids if self.devices.get(d).desired == NEW_NAME]

    def beat(self, device: str, **status) -> None:
        said = pb.DeviceStatus(**{"bundle_sha256": OLD, **status})
        _, news = self.devices.heartbeat(pb.HeartbeatRequest(name=f"devices/{device}", status=said), device)
        if news:
            self.rollouts.heard(device, said)
            self.devices.took(device, news)

    def counts(self, rollout: pb.Rollout) -> tuple[int, int, int, int, int, int]:
        r = self.rollouts.get(rollout.name.removeprefix("rollouts/"))
        return r.state, r.stage, r.matching_devices, r.reached_devices, r.updated_devices, r.failed_devices


@pytest.fixture
def world(tmp_path):
    made = World(f"sqlite:///{tmp_path / 'fleet.db'}", 20)
    yield made
    made.engine.dispose()


def test_a_registry_that_is_away_loses_no_news(world):
    away = False

    def version_of(sha: str) -> str:
        assert world.engine.pool.checkedout() == 0  # no transaction waits for the answer
        if away:
            raise ServiceError(Code.UNAVAILABLE, "REGISTRY_UNREACHABLE", "the registry does not answer")
        return OLD_NAME if sha == OLD else ""

    world.rollouts = Rollouts(world.engine, version_of, lambda: world.now)
    rollout = world.start(10, 20, 100)
    first = world.told()
    assert len(first) == 2
    away = True
    for device in first:
        world.beat(device, bundle_sha256=NEW)
    assert world.counts(rollout) == (ACTIVE, 0, 20, 2, 2, 0)
    world.rollouts.tick()
    assert world.counts(rollout) == (ACTIVE, 0, 20, 2, 2, 0)
    away = False
    world.rollouts.tick()
    assert world.counts(rollout) == (ACTIVE, 1, 20, 4, 2, 0)
    world.rollouts.roll_back(rollout.name.removeprefix("rollouts/"), "")
    assert {world.devices.get(d).desired for d in first} == {OLD_NAME}


def test_on_postgres(url):
    """The same tables and transactions there, with heartbeats of all devices at the same time."""
    pytest.importorskip("psycopg", reason="psycopg is missing: pip install -e './services[postgres]'")
    world = World(url, 12)
    try:
        rollout = world.start(50, 100)
        six = world.told()
        assert len(six) == 6
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda device: world.beat(device, bundle_sha256=NEW), six))
        assert world.counts(rollout) == (ACTIVE, 1, 12, 12, 6, 0)
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda device: world.beat(device, bundle_sha256=NEW), world.ids))
        assert world.counts(rollout) == (pb.ROLLOUT_STATE_COMPLETED, 1, 12, 12, 12, 0)
        with ThreadPoolExecutor(6) as pool:
            held = list(pool.map(lambda _: world.devices.acquire((), "me", 60.0, ""), range(6)))
        assert len({row.id for row in held}) == 6
        world.now += 60
        world.beat(six[0], bundle_sha256=NEW)
        world.devices.flush()
        assert world.devices.get(six[0]).heartbeat_s == world.now
    finally:
        world.engine.dispose()


def test_stages_reach_a_growing_share(world):
    rollout = world.start(5, 50, 100, soak=60)
    assert world.counts(rollout) == (ACTIVE, 0, 20, 1, 0, 0)
    (first,) = world.told()
    world.beat(first, state=pb.DEVICE_STATE_UPDATING)
    assert world.counts(rollout) == (ACTIVE, 0, 20, 1, 0, 0)
    world.beat(first, bundle_sha256=NEW)
    assert world.counts(rollout) == (ACTIVE, 0, 20, 1, 1, 0)  # still soaking
    world.now += 59
    world.rollouts.tick()
    assert len(world.told()) == 1
    world.now += 1
    world.rollouts.tick()
    assert world.counts(rollout) == (ACTIVE, 1, 20, 10, 1, 0)
    world.now += 1000
    world.rollouts.tick()  # time alone is not enough: nine have not updated
    assert world.counts(rollout) == (ACTIVE, 1, 20, 10, 1, 0)
    for device in world.told():
        world.beat(device, bundle_sha256=NEW)
    assert world.counts(rollout) == (ACTIVE, 2, 20, 20, 10, 0)
    for device in world.ids:
        world.beat(device, bundle_sha256=NEW)
    assert world.counts(rollout) == (pb.ROLLOUT_STATE_COMPLETED, 2, 20, 20, 20, 0)


def test_halts_when_failures_pass_the_limit(world):
    rollout = world.start(50, 100, limit=20.0)
    ten = world.told()
    assert len(ten) == 10
    for device in ten[:2]:  # 2 of 10 is the limit, not past it
        world.beat(device, failed_sha256=NEW)
    assert world.counts(rollout) == (ACTIVE, 0, 20, 10, 0, 2)
    world.beat(ten[2], bundle_sha256=NEW)
    world.beat(ten[3], failed_sha256=NEW)
    assert world.counts(rollout) == (HALTED, 0, 20, 4, 1, 3)
    assert world.rollouts.get(rollout.name[9:]).message == "3 of 10 devices failed"
    assert world.told() == [ten[2]]  # those told but not there yet, and those that failed, are to run what they ran
    assert world.devices.get(ten[5]).desired == OLD_NAME
    for device in world.ids:
        world.beat(device, bundle_sha256=NEW)
    world.now += 1000
    world.rollouts.tick()
    assert world.counts(rollout)[0] == HALTED
    assert world.told() == [ten[2]]


def test_a_device_that_failed_before_has_failed(world):
    """It tries no bundle again that failed there last, so it would say nothing new, ever."""
    device = world.ids[0]
    world.beat(device, bundle_sha256="", failed_sha256=NEW)
    rollout = world.start(100, limit=10.0)
    assert world.counts(rollout) == (ACTIVE, 0, 20, 20, 0, 1)
    for other in world.ids[1:]:
        world.beat(other, bundle_sha256=NEW)
    assert world.counts(rollout) == (pb.ROLLOUT_STATE_COMPLETED, 0, 20, 20, 19, 1)


def test_the_first_failure_halts_by_default(world):
    rollout = world.start(10, 100)
    world.beat(world.told()[0], failed_sha256=NEW)
    assert world.counts(rollout) == (HALTED, 0, 20, 1, 0, 1)


def test_halted_rollout_goes_on_when_a_person_raises_the_limit(world):
    rollout = world.start(10, 100)
    world.beat(world.told()[0], failed_sha256=NEW)

    def change(wanted):
        wanted.failure_limit_percent = 100
        return ACTIVE

    world.rollouts.update(rollout.name[9:], "", change, dry=True)
    assert world.counts(rollout)[0] == HALTED
    world.rollouts.update(rollout.name[9:], "", change, dry=False)
    assert world.counts(rollout) == (ACTIVE, 0, 20, 2, 0, 1)
    world.beat(world.told()[0], bundle_sha256=NEW)
    assert world.counts(rollout) == (ACTIVE, 1, 20, 20, 1, 1)
    with pytest.raises(ServiceError) as caught:
        world.rollouts.update(rollout.name[9:], rollout.etag, change, dry=False)
    assert (caught.value.code, caught.value.reason) == (Code.ABORTED, "ETAG_MISMATCH")


def test_paused_rollout_tells_nobody(world):
    rollout = world.start(5, 100)
    world.rollouts.update(rollout.name[9:], "", lambda wanted: PAUSED, dry=False)
    world.beat(world.told()[0], bundle_sha256=NEW)
    world.rollouts.tick()
    assert world.counts(rollout) == (PAUSED, 0, 20, 1, 1, 0)
    world.rollouts.update(rollout.name[9:], "", lambda wanted: ACTIVE, dry=False)
    assert world.counts(rollout) == (ACTIVE, 1, 20, 20, 1, 0)


def test_rollback(world):
    rollout = world.start(50, 100)
    ten = world.told()
    world.beat(ten[0], bundle_sha256=NEW)
    world.beat(ten[1], bundle_sha256=NEW)
    found = world.rollouts.roll_back(rollout.name[9:], "")
    assert found.state == pb.ROLLOUT_STATE_ROLLING_BACK
    assert world.told() == []
    assert {world.devices.get(d).desired for d in ten} == {OLD_NAME}
    assert {world.devices.get(d).desired for d in world.ids if d not in ten} == {""}
    world.beat(ten[0], bundle_sha256=OLD)
    assert world.counts(rollout)[0] == pb.ROLLOUT_STATE_ROLLING_BACK
    world.beat(ten[1], bundle_sha256=OLD)
    assert world.counts(rollout)[0] == pb.ROLLOUT_STATE_ROLLED_BACK
    assert world.rollouts.roll_back(rollout.name[9:], "").state == pb.ROLLOUT_STATE_ROLLED_BACK
    with pytest.raises(ServiceError, match="the rollout has ended"):
        world.rollouts.update(rollout.name[9:], "", lambda wanted: ACTIVE, dry=False)
    assert world.start(100).reached_devices == 20  # the bundle is free for another rollout


def test_rollback_waits_for_devices_that_install_it_late(world):
    rollout = world.start(50, 100)
    first, second, *_ = world.told()
    world.beat(first, bundle_sha256=NEW)
    assert world.rollouts.roll_back(rollout.name[9:], "").state == pb.ROLLOUT_STATE_ROLLING_BACK
    world.beat(second, bundle_sha256=NEW)  # it was at it
    world.beat(first)
    world.rollouts.tick()
    assert world.counts(rollout) == (pb.ROLLOUT_STATE_ROLLING_BACK, 0, 20, 10, 0, 0)
    world.beat(second)
    assert world.counts(rollout)[0] == pb.ROLLOUT_STATE_ROLLED_BACK


def test_removed_devices_hold_nothing_up(world):
    rollout = world.start(10, 100)
    first, second = world.told()
    world.beat(first, bundle_sha256=NEW)
    world.devices.delete(second, "")
    world.ids.remove(second)
    world.rollouts.tick()
    assert world.counts(rollout) == (ACTIVE, 0, 19, 2, 1, 0)  # another in its place, as 10% of 19 are over one
    world.devices.delete((set(world.told()) - {first}).pop(), "")
    world.rollouts.tick()
    assert world.counts(rollout) == (ACTIVE, 0, 18, 2, 1, 0)
    world.rollouts.roll_back(rollout.name[9:], "")
    world.devices.delete(first, "")
    world.rollouts.tick()
    assert world.counts(rollout)[0] == pb.ROLLOUT_STATE_ROLLED_BACK


def test_rollback_of_devices_with_nothing_to_go_back_to(world):
    for device in world.ids:
        world.beat(device, bundle_sha256="")
    rollout = world.start(100)
    for device in world.ids[1:]:
        world.beat(device, bundle_sha256=NEW)
    assert world.rollouts.roll_back(rollout.name[9:], "").state == pb.ROLLOUT_STATE_ROLLED_BACK
    assert world.told() == []


def test_one_rollout_of_a_bundle_at_a_time(world):
    world.start(5, 100)
    with pytest.raises(ServiceError) as caught:
        world.start(100)
    assert (caught.value.code, caught.value.reason) == (Code.FAILED_PRECONDITION, "ROLLOUT_ACTIVE")


def test_only_devices_that_match_are_reached_and_some_run_it_already(world):
    world.beat(world.ids[1], bundle_sha256=NEW)
    rollout = world.start(100, selector="arch=aarch64,site!=s3")
    told = world.told()
    assert told == [d for i, d in enumerate(world.ids) if i % 2 and i % 5 != 3]
    assert world.counts(rollout) == (ACTIVE, 0, 8, 8, 1, 0)


def test_rollout_of_nobody_completes(world):
    assert world.start(50, 100, selector="arch=none").state == pb.ROLLOUT_STATE_COMPLETED


def test_selectors():
    facts = pb.DeviceFacts(arch="aarch64", cores=4)

    def fits(text: str) -> bool:
        return selector.fits(selector.parse(text), {"site": "lab", "arch": "a lie"}, facts)

    assert fits("")
    assert fits("site=lab, arch=aarch64,cores=4")
    assert not fits("arch=a lie")
    assert fits("other!=x")
    assert not fits("other=x")
    assert not fits("site=lab,arch!=aarch64")
    for bad in ("site", "=x", "!=x", "a=b,,c=d", ","):
        with pytest.raises(ServiceError) as caught:
            selector.parse(bad)
        assert caught.value.fields[0][0] == "selector"


def test_leases(world):
    terms = selector.parse("site=s1")
    held = [world.devices.acquire(terms, "me", 60.0, "") for _ in range(4)]
    assert [row.id for row in held] == [d for i, d in enumerate(world.ids) if i % 5 == 1]
    assert world.devices.acquire(terms, "you", 60.0, "") is None
    world.devices.release(held[2].lease)
    mine = world.devices.acquire(terms, "you", 60.0, "key")
    assert (mine.id, mine.holder) == (held[2].id, "you")
    assert world.devices.acquire(terms, "you", 60.0, "key").lease == mine.lease
    assert world.devices.acquire(terms, "me", 60.0, "key") is None
    world.now += 61
    assert world.devices.acquire(terms, "me", 60.0, "").id == held[0].id
    with pytest.raises(ServiceError, match="no enrolled device matches"):
        world.devices.acquire(selector.parse("site=nowhere"), "me", 60.0, "")


def test_heartbeats_without_news_are_written_later(world):
    device = world.ids[0]
    world.beat(device, uptime_seconds=1)
    world.now += 60
    world.beat(device, uptime_seconds=61)
    row = world.devices.get(device)
    assert (row.heartbeat_s, world.devices.heard_s(row)) == (1000.0, 1060.0)
    world.devices.flush()
    assert world.devices.get(device).heartbeat_s == 1060.0
    assert Devices(world.engine).heard_s(world.devices.get(device)) == 1060.0
