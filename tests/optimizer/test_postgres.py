"""The job store's tests again, in a real PostgreSQL."""

from __future__ import annotations

import pytest

pytest.importorskip("psycopg", reason="psycopg is missing: pip install -e './services[postgres]'")

import sqlalchemy as sa

from gossamer_services.common.database import open_database
from gossamer_services.optimizer.store import JobStore, Retry
from gossamer_services.optimizer.tables import META
from tests.optimizer.test_store import (
    clock,
    test_a_job_goes_from_the_queue_to_its_result,
    test_a_job_that_ended_is_deleted_with_all_that_tells_of_it,
    test_a_late_owner_cannot_end_what_was_taken_over,
    test_a_request_id_makes_one_job_for_its_submitter,
    test_a_worker_may_die_as_often_as_the_job_says_with_growing_waits,
    test_an_engine_that_died_costs_the_job_no_attempt_but_is_bounded,
    test_cancelling_in_every_state,
    test_claims_from_many_threads_never_meet,
    test_jobs_that_ended_long_ago_are_deleted,
    test_pages_cover_all_jobs_once_even_when_new_ones_come,
    test_the_same_request_from_many_threads_makes_one_job,
    test_what_jobs_need_is_kept_from_garbage_collection,
    test_what_workers_say_is_kept_whatever_it_holds,
)
from tests.services.postgres import url

__all__ = [
    "clock",
    "test_a_job_goes_from_the_queue_to_its_result",
    "test_a_job_that_ended_is_deleted_with_all_that_tells_of_it",
    "test_a_late_owner_cannot_end_what_was_taken_over",
    "test_a_request_id_makes_one_job_for_its_submitter",
    "test_a_worker_may_die_as_often_as_the_job_says_with_growing_waits",
    "test_an_engine_that_died_costs_the_job_no_attempt_but_is_bounded",
    "test_cancelling_in_every_state",
    "test_claims_from_many_threads_never_meet",
    "test_jobs_that_ended_long_ago_are_deleted",
    "test_pages_cover_all_jobs_once_even_when_new_ones_come",
    "test_the_same_request_from_many_threads_makes_one_job",
    "test_what_jobs_need_is_kept_from_garbage_collection",
    "test_what_workers_say_is_kept_whatever_it_holds",
    "url",
]


@pytest.fixture
def store(url, clock):
    engine = open_database(url, META)
    with engine.begin() as db:
        for table in reversed(META.sorted_tables):
            db.execute(sa.delete(table))
    engine.dispose()
    made = JobStore(url, retry=Retry(interruptions=2, delay_s=4.0), clock=clock)
    yield made
    made.close()
