"""The job store alone: one end for each job, leases and fencing tokens, pages, request ids."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from gossamer_services.common.errors import ServiceError
from gossamer_services.optimizer.errors import (
    ChangedError,
    ConflictError,
    NotFoundError,
    QueueFullError,
    UnfinishedError,
)
from gossamer_services.optimizer.jobs import Blob, JobError, JobResult, JobSpec, Kind, Limits, Reason, State
from gossamer_services.optimizer.store import JobStore, Retry

SPEC = JobSpec(Blob("a" * 64, Kind.ONNX), "{}", limits=Limits(attempts=3))
RESULT = JobResult("b" * 64, "c" * 64, 10, 20, 5, 75.0, {"load": 0.1})


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    made = JobStore(f"sqlite:///{tmp_path / 'jobs.db'}", retry=Retry(interruptions=2, delay_s=4.0), clock=clock)
    yield made
    made.close()


def test_a_job_goes_from_the_queue_to_its_result(store, clock):
    job, new = store.submit(SPEC, submitter="ann")
    assert new and job.state is State.QUEUED and job.spec == SPEC and job.created_s == 1000.0
    clock.now += 5
    claim = store.claim("one", 30)
    assert claim.token == 1 and claim.job.id == job.id and claim.job.started_s == 1005.0
    assert store.claim("two", 30) is None
    clock.now += 2
    now = store.renew(claim, 30, "prune", 40.0, 2.0)
    assert (now.stage, now.percent, now.spent_s) == ("prune", 40.0, 2.0)
    assert store.renew(claim, 30, "load", 10.0, 2.5).percent == 40.0  # never back
    assert store.succeed(claim, RESULT)
    done = store.get(job.id)
    assert done.state is State.SUCCEEDED and done.result == RESULT and done.percent == 100.0 and done.ended_s == 1007.0
    assert [e.state for e in store.events(job.id)] == [State.QUEUED, State.RUNNING, State.SUCCEEDED]
    assert store.counts() == {
        State.QUEUED: 0,
        State.RUNNING: 0,
        State.SUCCEEDED: 1,
        State.FAILED: 0,
        State.CANCELLED: 0,
    }


def test_a_late_owner_cannot_end_what_was_taken_over(store, clock):
    job, _ = store.submit(SPEC)
    old = store.claim("one", 30)
    clock.now += 31
    new = store.claim("two", 30)
    assert new.job.id == job.id and new.token == 2 and new.job.interruptions == 1
    error = JobError(Reason.INTERNAL, "X", "x")
    assert store.renew(old, 30, "sign", 99.0, 1.0) is None
    assert not store.succeed(old, RESULT) and not store.fail(old, error) and not store.stopped(old)
    assert not store.crashed(old, "died") and not store.release(old, "why")
    assert store.get(job.id).state is State.RUNNING and store.get(job.id).percent == 0.0
    assert store.succeed(new, RESULT) and not store.succeed(new, RESULT)
    assert [e.state for e in store.events(job.id)].count(State.SUCCEEDED) == 1


def test_a_worker_may_die_as_often_as_the_job_says_with_growing_waits(store, clock):
    job, _ = store.submit(SPEC)
    for crash, wait in ((1, 4.0), (2, 8.0)):
        assert store.crashed(store.claim("one", 30), "was killed by SIGKILL")
        now = store.get(job.id)
        assert (
            now.state is State.QUEUED
            and now.crashes == crash
            and now.last_failure == "the worker was killed by SIGKILL"
        )
        clock.now += wait - 0.5
        assert store.claim("one", 30) is None
        clock.now += 1
    assert store.crashed(store.claim("one", 30), "was killed by SIGSEGV")
    failed = store.get(job.id)
    assert failed.state is State.FAILED and failed.error.reason is Reason.WORKER_DIED and failed.crashes == 3
    assert failed.error.message == "the worker died in 3 attempts; the last one was killed by SIGSEGV"


def test_an_engine_that_died_costs_the_job_no_attempt_but_is_bounded(store):
    job, _ = store.submit(SPEC)
    for count in (1, 2):
        store.claim("one", 30)
        assert store.recover("other") == 0
        assert store.recover("one") == 1
        assert store.get(job.id).interruptions == count and store.get(job.id).crashes == 0
    store.claim("one", 30)
    store.recover("one")
    assert store.get(job.id).error.reason is Reason.INTERRUPTED


def test_cancelling_in_every_state(store, clock):
    waits, _ = store.submit(SPEC)
    assert store.cancel(waits.id).state is State.CANCELLED and store.claim("one", 30) is None
    runs, _ = store.submit(SPEC)
    claim = store.claim("one", 30)
    before = store.get(runs.id)
    with pytest.raises(ChangedError, match="the job changed since it was read"):
        store.cancel(runs.id, revision=before.revision - 1)
    asked = store.cancel(runs.id, revision=before.revision)
    assert asked.state is State.RUNNING and asked.cancelling and store.cancel(runs.id).revision == asked.revision
    assert store.renew(claim, 30, "", 0.0, 1.0).cancelling and store.stopped(claim)
    assert store.get(runs.id).state is State.CANCELLED
    ended, _ = store.submit(SPEC)
    store.succeed(store.claim("one", 30), RESULT)
    assert store.cancel(ended.id).state is State.SUCCEEDED
    crashed, _ = store.submit(SPEC)
    claim = store.claim("one", 30)
    store.cancel(crashed.id)
    clock.now += 31
    assert store.claim("two", 30) is None and store.get(crashed.id).state is State.CANCELLED
    with pytest.raises(NotFoundError, match="there is no such job"):
        store.cancel("f" * 32)


def test_a_request_id_makes_one_job_for_its_submitter(store):
    job, new = store.submit(SPEC, submitter="ann", request_id="r1")
    again, second = store.submit(SPEC, submitter="ann", request_id="r1")
    assert new and not second and again.id == job.id
    other, _ = store.submit(SPEC, submitter="bob", request_id="r1")
    assert other.id != job.id
    changed = JobSpec(Blob("d" * 64, Kind.ONNX), "{}")
    with pytest.raises(ConflictError, match="the request id was used for another job"):
        store.submit(changed, submitter="ann", request_id="r1")
    assert store.submit(SPEC)[0].id != store.submit(SPEC, request_id="")[0].id


def test_the_same_request_from_many_threads_makes_one_job(store):
    ids, gate = [], threading.Barrier(8)

    def submit():
        gate.wait()
        ids.append(store.submit(SPEC, request_id="same")[0].id)

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8 and len(set(ids)) == 1


def test_claims_from_many_threads_never_meet(store):
    jobs = {store.submit(SPEC)[0].id for _ in range(40)}
    claimed, gate = [], threading.Barrier(6)

    def claim(name):
        gate.wait()
        while (found := store.claim(name, 30)) is not None:
            claimed.append(found.job.id)

    threads = [threading.Thread(target=claim, args=(f"owner-{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == 40 and set(claimed) == jobs


def test_pages_cover_all_jobs_once_even_when_new_ones_come(store):
    ids = [store.submit(SPEC, submitter="ann")[0].id for _ in range(7)]
    store.submit(SPEC, submitter="bob")
    first = store.list(submitter="ann", page_size=3)
    store.submit(SPEC, submitter="ann")
    second = store.list(submitter="ann", page_size=3, page_token=first.next_token)
    third = store.list(submitter="ann", page_size=3, page_token=second.next_token)
    assert [j.id for page in (first, second, third) for j in page.jobs] == ids[::-1] and third.next_token == ""
    assert store.list(states=[State.RUNNING]).jobs == [] and len(store.list().jobs) == 9
    for token, message in (("%%%", "not a page token"), (first.next_token, "belongs to another question")):
        with pytest.raises(ServiceError, match=message):
            store.list(submitter="bob", page_token=token)


def test_a_full_queue_refuses_and_keeps_what_it_has(tmp_path):
    store = JobStore(f"sqlite:///{tmp_path / 'jobs.db'}", queue_limit=2)
    for _ in range(2):
        store.submit(SPEC)
    with pytest.raises(QueueFullError, match="2 jobs wait already"):
        store.submit(SPEC)
    assert store.counts()[State.QUEUED] == 2
    store.close()


def test_what_jobs_need_is_kept_from_garbage_collection(store):
    store.submit(SPEC)
    assert [store.refers_to(c * 64) for c in "abcd"] == [True, False, False, False]
    store.succeed(store.claim("one", 30), RESULT)
    assert [store.refers_to(c * 64) for c in "abcd"] == [False, True, True, False]


def test_a_job_that_ended_is_deleted_with_all_that_tells_of_it(store):
    job, _ = store.submit(SPEC, submitter="ann", request_id="1")
    with pytest.raises(UnfinishedError, match="the job is QUEUED"):
        store.delete(job.id)
    claim = store.claim("one", 30)
    with pytest.raises(UnfinishedError, match="the job is RUNNING"):
        store.delete(job.id)
    store.succeed(claim, RESULT)
    other, _ = store.submit(SPEC)
    store.succeed(store.claim("one", 30), replace(RESULT, report="e" * 64))
    heard = []
    store.listen(heard.append)
    store.delete(job.id)
    assert heard == [job.id]
    assert [store.refers_to(c * 64) for c in "bce"] == [True, False, True]  # both made the bundle
    assert store.events(job.id) == [] and len(store.events(other.id)) == 3
    for call in (store.get, store.delete, store.cancel):
        with pytest.raises(NotFoundError):
            call(job.id)
    assert [j.id for j in store.list().jobs] == [other.id]
    again, new = store.submit(SPEC, submitter="ann", request_id="1")
    assert new and again.id != job.id


def test_jobs_that_ended_long_ago_are_deleted(store, clock):
    jobs = []
    for _ in range(5):
        jobs.append(store.submit(SPEC)[0].id)
        store.succeed(store.claim("one", 30), RESULT)
        clock.now += 10
    jobs += [store.submit(SPEC)[0].id for _ in range(2)]
    store.cancel(jobs[6])
    clock.now += 1000
    assert store.delete_ended(1000.0, 10) == 0  # the first ended then, and not before
    assert store.delete_ended(1030.0, 2) == 2
    assert store.delete_ended(1030.0, 2) == 1
    assert store.delete_ended(1030.0, 2) == 0
    assert [j.id for j in store.list().jobs] == jobs[:2:-1]
    assert store.delete_ended(9999.0, 10) == 3
    assert [j.id for j in store.list().jobs] == [jobs[5]]  # it waits still


@pytest.mark.parametrize("url", ["sqlite:////proc/none/jobs.db", "nonsense", "postgresql+nodriver://x/y"])
def test_a_database_that_cannot_be_opened_says_so(url):
    with pytest.raises(ServiceError, match="the database cannot be opened") as caught:
        JobStore(url)
    assert caught.value.reason == "NO_DATABASE"


def test_what_workers_say_is_kept_whatever_it_holds(store, clock):
    job, _ = store.submit(SPEC)
    store.crashed(store.claim("one", 30), "wrote \0 last")
    assert store.get(job.id).last_failure == "the worker wrote \\0 last"
    clock.now += 10
    error = JobError(Reason.REFUSED, "ModelError", "there is no operator 'a\0b'")
    assert store.fail(store.claim("one", 30), error)
    assert store.get(job.id).error == error
    assert store.events(job.id)[-1].note == "REFUSED: there is no operator 'a\\0b'"


def test_pages_of_large_jobs_are_short(store):
    for i in range(5):
        store.submit(replace(SPEC, recipe=f'"{i}{"x" * 900_000}"'))
    pages, token = [], None
    while token != "":
        page = store.list(page_size=100, page_token=token or "")
        pages.append([job.spec.recipe[1] for job in page.jobs])
        token = page.next_token
    assert pages == [["4", "3"], ["2", "1"], ["0"]]


def test_jobs_outlive_the_store_object(tmp_path):
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    first = JobStore(url)
    job, _ = first.submit(SPEC)
    first.close()
    second = JobStore(url)
    assert second.get(job.id) == job
    second.close()
