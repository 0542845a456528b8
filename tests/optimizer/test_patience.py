"""Jobs whose registry is away: they wait, no attempt is lost by it, and the leases of their blobs are renewed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

pytest.importorskip("grpc", reason="grpcio is missing: pip install -e ./services")
pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install -e ./services")

from gossamer_services.common.errors import Code, ServiceError
from gossamer_services.optimizer.blobs import FolderBlobs
from gossamer_services.optimizer.engine import Settings
from gossamer_services.optimizer.jobs import State
from gossamer_services.optimizer.keeping import Keeper
from gossamer_services.upstream.connection import UpstreamError


class Away(FolderBlobs):
    """Blobs that cannot be had while ``fetching`` or ``putting`` is away."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.fetching = self.putting = True
        self.asked = 0
        self.error = UpstreamError(Code.UNAVAILABLE, "REGISTRY_UNREACHABLE", "the registry does not answer")

    def fetch(self, digest: str, target: Path) -> None:
        self._check(self.fetching)
        super().fetch(digest, target)

    def put(self, source: Path) -> str:
        self._check(self.putting)
        return super().put(source)

    def _check(self, away: bool) -> None:
        if away:
            self.asked += 1
            raise self.error


@pytest.fixture
def away(bench) -> Away:
    return Away(bench.path / "blobs")


def start(bench, away, **settings):
    job, _ = bench.store.submit(bench.spec())
    bench.blobs = away
    return job, bench.engine(settings=Settings(**{"lease_s": 10.0, "poll_s": 0.02, "patience_s": 0.1, **settings}))


def asked(away: Away, times: int) -> None:
    end = time.monotonic() + 30
    while away.asked < times:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_job_waits_for_its_inputs_and_for_the_store_of_its_results(bench, away):
    job, engine = start(bench, away)
    with engine:
        asked(away, 5)
        waits = bench.store.get(job.id)
        assert (waits.state, waits.stage, waits.spent_s) == (State.RUNNING, "fetch", 0.0)
        away.fetching, away.asked = False, 0
        away.error = UpstreamError(Code.INTERNAL, "REGISTRY_REFUSES", "the registry refuses this server")
        asked(away, 5)
        waits = bench.store.get(job.id)
        assert (waits.state, waits.stage) == (State.RUNNING, "store")
        away.putting = False
        done = bench.wait(job)
    assert (done.state, done.attempt, done.crashes, done.interruptions) == (State.SUCCEEDED, 1, 0, 0)
    assert done.spent_s == waits.spent_s  # waiting is no time that the job ran
    assert bench.ends(job) == [State.SUCCEEDED]


def test_a_job_that_waits_can_be_cancelled(bench, away):
    job, engine = start(bench, away)
    with engine:
        asked(away, 2)
        bench.store.cancel(job.id)
        assert bench.wait(job).state is State.CANCELLED
    assert bench.ends(job) == [State.CANCELLED]


def test_an_ending_engine_puts_a_job_that_waits_back(bench, away):
    job, engine = start(bench, away)
    with engine:
        asked(away, 2)
    waits = bench.store.get(job.id)
    assert (waits.state, waits.crashes, waits.interruptions) == (State.QUEUED, 0, 0)
    away.fetching = away.putting = False
    with bench.engine():
        assert bench.wait(job).state is State.SUCCEEDED


def test_blobs_that_take_longer_than_a_lease(bench, away):
    away.fetching = away.putting = False

    def slow(digest: str, target: Path) -> None:
        time.sleep(2.2)
        FolderBlobs.fetch(away, digest, target)

    away.fetch = slow
    job, engine = start(bench, away, slots=2, lease_s=1.5)
    with engine:
        done = bench.wait(job)
    assert (done.state, done.attempt, done.interruptions) == (State.SUCCEEDED, 1, 0)


def test_leases_are_renewed_while_jobs_refer_to_blobs(bench):
    now, leased, broken = 1000.0, [], False

    def lease(digest: str) -> bool:
        if broken and len(leased) == 1:
            raise ServiceError(Code.UNAVAILABLE, "REGISTRY_UNREACHABLE", "the registry does not answer")
        leased.append(digest)
        return True

    bench.store.clock = lambda: now
    spec, other = bench.spec(), bench.spec(seed=1)
    job, _ = bench.store.submit(spec)
    keeper = Keeper(bench.store, lease, 800.0)
    assert keeper.renew() == 1 and leased == [spec.model.digest]
    assert keeper.renew() == 0
    now += 399
    assert keeper.renew() == 0
    bench.store.submit(spec)  # the same model again is no other blob
    bench.store.submit(other)
    now += 2
    leased.clear()
    broken = True
    with pytest.raises(ServiceError):
        keeper.renew()
    assert leased == [other.model.digest]  # which had none is most urgent
    broken = False
    assert keeper.renew() == 1 and leased == [other.model.digest, spec.model.digest]
    bench.store.cancel(job.id)
    now += 401
    assert keeper.renew() == 2  # the other job reads it still
    for found in bench.store.list().jobs:
        bench.store.cancel(found.id)
    now += 10_000
    assert keeper.renew() == 0


def test_the_keeper_outlives_a_registry_that_is_away(bench):
    bench.store.submit(bench.spec())
    calls = []

    def lease(digest: str) -> bool:
        calls.append(digest)
        if len(calls) < 3:
            raise ServiceError(Code.UNAVAILABLE, "REGISTRY_UNREACHABLE", "the registry does not answer")
        return len(calls) > 3  # it was lost: noted, and not asked for all the time

    keeper = Keeper(bench.store, lease, 60.0, round_s=0.02)
    keeper.start()
    end = time.monotonic() + 10
    while len(calls) < 3:
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(0.1)
    keeper.stop()
    assert len(calls) == 3
