"""What grows with every request is forgotten after its time, and nothing else is; databases of earlier versions."""

from __future__ import annotations

import asyncio
import functools
import time

import pytest

pytest.importorskip("grpc", reason="grpcio is missing: pip install -e ./services")
pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install -e ./services")

import sqlalchemy as sa

from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer._proto.v1 import profile_pb2
from gossamer_services.common.database import open_database
from gossamer_services.common.errors import ServiceError
from gossamer_services.fleet.forgetting import forget_profiles, forget_runs
from gossamer_services.fleet.profile_runs import ProfileRuns
from gossamer_services.fleet.profiles import Profiles
from gossamer_services.fleet.tables import DEVICES, MEMBERS, PROFILE_OPS, PROFILE_RUNS, PROFILES, REQUESTS, TABLES
from tests.services.fleet.fleetkit import World
from tests.services.fleet.test_profile_runs import SHA, answer, ask, hold, look
from tests.services.postgres import empty, url

__all__ = ["url"]

DEVICE, LEASE = "d" * 16, "e" * 32


class Book:
    """A fleet's profiles, runs and requests, of one device that is held until 5000, and a clock that says 1000."""

    def __init__(self, url: str) -> None:
        self.now = 1000.0
        self.engine = open_database(url, TABLES)
        self.runs = ProfileRuns(self.engine, lambda: self.now)
        self.profiles = Profiles(self.engine, self.runs)
        texts = {"display_name": "", "labels": "{}", "desired": "", "holder": "me", "etag": "1"}
        times = {"enrolled_s": 0.0, "heartbeat_s": 0.0, "certificate_ends_s": 0.0, "lease_ends_s": 5000.0}
        with self.engine.begin() as db:
            row = {"id": DEVICE, "lease": LEASE, "facts": b"", "status": b"", **texts, **times}
            db.execute(sa.insert(DEVICES).values(row))

    def run(self, request_id: str) -> pb.ProfileRun:
        wanted = pb.ProfileRun(lease=f"leases/{LEASE}", runs=1, warmup_runs=0)
        return self.runs.create(wanted, caller="me", request_id=request_id, digest="x")

    def record(self, request_id: str = "") -> str:
        record = profile_pb2.ProfileRecord(bundle_sha256=SHA)
        record.ops.add(name="a")
        record.ops.add(name="b")
        return self.profiles.create(record, DEVICE, run="", request_id=request_id, digest="x").name

    def count(self, table: sa.Table) -> int:
        with self.engine.begin() as db:
            return db.scalar(sa.select(sa.func.count()).select_from(table))


@pytest.fixture(params=["sqlite", "postgres"])
def book(tmp_path, request):
    found = f"sqlite:///{tmp_path / 'fleet.db'}"
    if request.param == "postgres":
        pytest.importorskip("psycopg", reason="psycopg is missing: pip install -e './services[postgres]'")
        found = empty(request.getfixturevalue("url"))
    made = Book(found)
    yield made
    made.engine.dispose()


def test_runs_and_request_ids(book):
    old = book.run("1")
    profile = book.record("2")
    book.now = 2000.0
    young = book.run("3")
    assert forget_runs(book.engine, 1500.0, book.now) == 2  # the ids "1" and "2"; the lease of the runs goes on
    assert book.runs.get(old.name[12:]) == old
    book.now = 6000.0
    assert forget_runs(book.engine, 1000.0, book.now) == 0
    assert forget_runs(book.engine, 1500.0, book.now) == 1
    with pytest.raises(ServiceError) as caught:
        book.runs.get(old.name[12:])
    assert caught.value.reason == "PROFILE_RUN_NOT_FOUND"
    assert book.runs.get(young.name[12:]).name == young.name
    assert book.record("2") != profile and book.profiles.get(profile[9:]).device == f"devices/{DEVICE}"
    assert (book.count(PROFILE_RUNS), book.count(REQUESTS), book.count(PROFILES)) == (1, 2, 2)


def test_profiles(book):
    for _ in range(3):
        book.record()
    book.now = 2000.0
    last = book.record()
    assert forget_profiles(book.engine, 1500.0, book.now) == 3
    assert forget_profiles(book.engine, 1500.0, book.now) == 0
    assert (book.count(PROFILES), book.count(PROFILE_OPS)) == (1, 2)
    assert book.profiles.get(last[9:]).name == last


def test_a_database_of_before(book):
    """Its tables know no times: what is in them counts as of today."""
    name = book.record("1")
    url = book.engine.url
    for table in (PROFILES, REQUESTS):
        with book.engine.begin() as db:
            db.execute(sa.text(f"ALTER TABLE {table.name} DROP COLUMN created_s"))
    with book.engine.begin() as db:
        db.execute(sa.text("DROP INDEX fleet_members_by_state"))
    for _ in range(2):
        book.engine.dispose()
        book.engine = open_database(url.render_as_string(hide_password=False), TABLES)
        indexes = sa.inspect(book.engine).get_indexes(MEMBERS.name)
        assert [i["name"] for i in indexes].count("fleet_members_by_state") == 1
        columns = sa.inspect(book.engine).get_columns(PROFILES.name)
        assert [c["name"] for c in columns].count("created_s") == 1
    assert forget_profiles(book.engine, 1500.0, 2000.0) == forget_runs(book.engine, 1500.0, 2000.0) == 0
    assert Profiles(book.engine, book.runs).get(name[9:]).name == name
    assert forget_profiles(book.engine, 2500.0, 3000.0) == forget_runs(book.engine, 2500.0, 3000.0) == 1


def test_the_server_forgets(tmp_path):
    world = World(tmp_path)

    async def main():
        async with world.fleet("fleet.keep_runs_s=0.2", "fleet.keep_profiles_s=0.2") as (server, fleet):
            member = await world.enrol(fleet)
            run = await ask(world, fleet, lease := await hold(world, fleet), request_id="1")
            async with world.device(server, member) as me:
                await me.CreateProfile(answer(run))
            await fleet.ReleaseDevice(pb.ReleaseDeviceRequest(lease=lease), metadata=world.admin)
            listed = functools.partial(fleet.ListProfiles, pb.ListProfilesRequest(), metadata=world.reader)
            end = time.monotonic() + 20
            while (await listed()).profiles:
                assert time.monotonic() < end
                await asyncio.sleep(0.05)
            assert (await look(world, fleet, run)).name == run.name  # until its lease would have ended

    asyncio.run(main())
