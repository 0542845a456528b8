"""Questions to the job store: jobs by id, by request and in pages, their events, how many there are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from gossamer_services.common.database import repeated
from gossamer_services.common.paging import fitting, read_token, write_token
from gossamer_services.optimizer.blob_notes import BlobNotes
from gossamer_services.optimizer.errors import NotFoundError
from gossamer_services.optimizer.jobs import Job, JobError, JobResult, JobSpec, State
from gossamer_services.optimizer.tables import EVENTS, JOBS


@dataclass(frozen=True)
class Event:
    """One change of a job's state."""

    at_s: float
    state: State
    attempt: int
    note: str


@dataclass(frozen=True)
class Page:
    """Some jobs, and the token of the next page; empty after the last one."""

    jobs: list[Job]
    next_token: str


class JobQueries(BlobNotes):
    """What is asked of a database with the job store's tables; thread-safe."""

    @repeated
    def find_request(self, submitter: str, request_id: str, db: sa.Connection | None = None) -> Job | None:
        """The job that this request id made, if any."""
        query = sa.select(JOBS).where(JOBS.c.submitter == submitter, JOBS.c.request_id == request_id)
        if db is not None:
            row = db.execute(query).one_or_none()
        else:
            with self._reader.connect() as db:
                row = db.execute(query).one_or_none()
        return None if row is None else read_job(row)

    @repeated
    def get(self, job: str) -> Job:
        """A job by its id.

        Raises:
            NotFoundError: there is none.
        """
        with self._reader.connect() as db:
            return self._get(db, job)

    @repeated
    def list(
        self,
        *,
        submitter: str | None = None,
        sweep: str = "",
        states: Sequence[State] = (),
        page_size: int = 50,
        page_token: str = "",
    ) -> Page:
        """Jobs, newest first.

        Args:
            submitter: only theirs; None: everybody's.
            sweep: only jobs of this sweep; empty: all.
            states: only jobs in one of these; empty: in any.
            page_size: at most this many.
            page_token: of the page before, with the same filters; empty: the first page.

        Raises:
            ServiceError: INVALID_ARGUMENT: the token is none, or belongs to another question.
        """
        question = [submitter, sweep, sorted(states)]
        query = sa.select(JOBS).order_by(JOBS.c.number.desc()).limit(page_size + 1)
        if submitter is not None:
            query = query.where(JOBS.c.submitter == submitter)
        if sweep:
            query = query.where(JOBS.c.sweep == sweep)
        if states:
            query = query.where(JOBS.c.state.in_(states))
        before = read_token(page_token, question)
        if before is not None:
            query = query.where(JOBS.c.number < before)
        with self._reader.connect() as db:
            rows = db.execute(query).all()
        count = fitting(len(row.spec) + len(row.error or "") + len(row.last_failure) for row in rows[:page_size])
        more = len(rows) > count
        rows = rows[:count]
        return Page([read_job(row) for row in rows], write_token(rows[-1].number, question) if more else "")

    @repeated
    def events(self, job: str) -> Sequence[Event]:
        """What happened to a job, oldest first."""
        query = sa.select(EVENTS).where(EVENTS.c.job == job).order_by(EVENTS.c.number)
        with self._reader.connect() as db:
            return [Event(row.at_s, State(row.state), row.attempt, row.note) for row in db.execute(query)]

    @repeated
    def counts(self) -> dict[State, int]:
        """How many jobs are in each state."""
        query = sa.select(JOBS.c.state, sa.func.count()).group_by(JOBS.c.state)
        with self._reader.connect() as db:
            found = {State(state): int(count) for state, count in db.execute(query)}
        return {state: found.get(state, 0) for state in State}

    def _get(self, db: sa.Connection, job: str, *, lock: bool = False) -> Job:
        query = sa.select(JOBS).where(JOBS.c.id == job)
        row = db.execute(query.with_for_update() if lock else query).one_or_none()
        if row is None:
            raise NotFoundError("there is no such job", where=job[:80], hint="list the jobs to see their ids")
        return read_job(row)


def read_job(row: Any) -> Job:
    return Job(
        id=row.id,
        submitter=row.submitter,
        spec=JobSpec.from_json(row.spec),
        state=State(row.state),
        stage=row.stage,
        percent=row.percent,
        attempt=row.attempt,
        crashes=row.crashes,
        interruptions=row.interruptions,
        spent_s=row.spent_s,
        last_failure=row.last_failure,
        cancelling=row.cancelling,
        created_s=row.created_s,
        updated_s=row.updated_s,
        started_s=row.started_s,
        ended_s=row.ended_s,
        error=JobError.from_plain(json.loads(row.error)) if row.error else None,
        result=JobResult(**json.loads(row.result)) if row.result else None,
        revision=row.revision,
    )
