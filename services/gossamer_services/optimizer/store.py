"""The job store: what was accepted, who runs it now, how it ended. The one authority on all three.

A job that runs is leased: ``claim`` gives the claimer a fencing token (the attempt's number) and a time until which it
must renew. Every later write names the token and changes nothing when the job has moved on, so of two runners that both
believe to own a job only one can end it (Kleppmann, Designing Data-Intensive Applications, chapter 8, fencing tokens).
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from gossamer_services.common.database import open_database, repeated
from gossamer_services.optimizer.errors import (
    ChangedError,
    ConflictError,
    QueueFullError,
    UnfinishedError,
)
from gossamer_services.optimizer.jobs import Job, JobError, JobResult, JobSpec, Reason, State
from gossamer_services.optimizer.queries import JobQueries, read_job
from gossamer_services.optimizer.tables import BLOBS, EVENTS, JOBS, META

_FINAL = tuple(state for state in State if state.final)


@dataclass(frozen=True)
class Retry:
    """How often a job is tried.

    Attributes:
        interruptions: attempts that may end because the service went away; no fault of the job's.
        delay_s: wait after the first crash; it doubles with each.
    """

    interruptions: int = 20
    delay_s: float = 1.0


@dataclass(frozen=True)
class Claim:
    """The right to run one attempt of a job. ``token`` is the attempt's number, ``owner`` who claimed it."""

    job: Job
    token: int
    owner: str


class JobStore(JobQueries):
    """Jobs in a database; safe for any number of threads and processes.

    Args:
        url: of SQLAlchemy: ``sqlite:////var/lib/gossamer/jobs.db``, ``postgresql+psycopg://...``.
        retry: how often jobs are tried.
        queue_limit: jobs that may wait at a time.
        clock: Unix time in seconds.

    Raises:
        ServiceError: UNAVAILABLE (NO_DATABASE): the database cannot be opened.
    """

    def __init__(
        self,
        url: str,
        *,
        retry: Retry | None = None,
        queue_limit: int = 10_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.retry, self.queue_limit, self.clock = retry or Retry(), queue_limit, clock
        engine = open_database(url, META)
        if engine.dialect.name != "sqlite":
            # Rows are locked where they are read to be changed, and skipped where another claims them: serializable
            # transactions would gain nothing, and make claims lose against each other.
            engine = engine.execution_options(isolation_level="READ COMMITTED")
        super().__init__(engine)
        self._listeners: list[Callable[[str], None]] = []

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def listen(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with a job's id after every change that this object makes, from the changing thread."""
        self._listeners.append(listener)

    @contextlib.contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        """A transaction; who listens hears of the jobs that it changed once it is through."""
        with self._engine.begin() as db:
            changed: set[str] = set()
            db.info["changed"] = changed
            yield db
        for job in changed:
            for listener in self._listeners:
                listener(job)

    @repeated
    def submit(self, spec: JobSpec, *, submitter: str = "", request_id: str | None = None) -> tuple[Job, bool]:
        """Accept a job; returns it and whether it is new.

        Args:
            submitter: who; request ids of different submitters never meet.
            request_id: the same id again gives the same job back; empty or None: every call is a new job.

        Raises:
            ConflictError: the request id was used for another specification.
            QueueFullError: too many jobs wait.
        """
        text = spec.to_json()
        with self._write() as db:
            earlier = self.find_request(submitter, request_id, db) if request_id else None
            if earlier is not None:
                if earlier.spec.to_json() != text:
                    raise ConflictError(
                        f"the request id was used for another job ({earlier.id})",
                        where="request_id",
                        hint="make a new id for every new job",
                    )
                return earlier, False
            waiting = db.scalar(sa.select(sa.func.count()).where(JOBS.c.state == State.QUEUED))
            if waiting is not None and waiting >= self.queue_limit:
                raise QueueFullError(f"{waiting} jobs wait already", hint="try again later")
            job = secrets.token_hex(16)
            db.execute(
                JOBS.insert().values(
                    id=job,
                    submitter=submitter,
                    request_id=request_id or None,
                    spec=text,
                    sweep=spec.sweep,
                    state=State.QUEUED,
                    created_s=self.clock(),
                    updated_s=self.clock(),
                )
            )
            self._refer(db, job, {role: blob.digest for role, blob in spec.blobs().items()})
            db.info["changed"].add(job)
            self._log(db, job, State.QUEUED, 0, "accepted")
            return self._get(db, job), True

    @repeated
    def cancel(self, job: str, *, revision: int | None = None) -> Job:
        """Ask a job to stop: one that waits ends at once, one that runs ends soon, one that ended stays as it is.

        Args:
            revision: cancel only if the job has not changed since it was this; None: whatever it is.

        Raises:
            NotFoundError: there is none.
            ChangedError: it is of another revision.
        """
        with self._write() as db:
            found = self._get(db, job, lock=True)
            if revision is not None and found.revision != revision:
                raise ChangedError("the job changed since it was read", where="etag", hint="read it again")
            if found.state is State.QUEUED:
                self._end(db, job, found.attempt, State.CANCELLED, "cancelled while it waited", cancelling=True)
            elif found.state is State.RUNNING and not found.cancelling:
                self._change(db, job, cancelling=True)
            return self._get(db, job)

    @repeated
    def delete(self, job: str) -> None:
        """Forget a job that ended: its record, its events, and what it refers to, so that this may be collected.

        Its request id makes a new job from then on.

        Raises:
            NotFoundError: there is none.
            UnfinishedError: it has not ended.
        """
        with self._write() as db:
            found = self._get(db, job, lock=True)
            if not found.state.final:
                raise UnfinishedError(
                    f"the job is {found.state}: only one that ended can be deleted",
                    where=f"jobs/{job}",
                    hint="cancel it, and delete it once it ended",
                )
            self._forget(db, [job])

    @repeated
    def delete_ended(self, before_s: float, limit: int) -> int:
        """Forget at most ``limit`` jobs that ended before a time, as :meth:`delete` does; returns how many."""
        query = sa.select(JOBS.c.id).where(JOBS.c.state.in_(_FINAL), JOBS.c.ended_s < before_s)
        query = query.order_by(JOBS.c.number).limit(limit)
        with self._reader.connect() as db:  # most calls find nothing: they take no write lock
            if db.scalar(query.limit(1)) is None:
                return 0
        with self._write() as db:
            jobs = db.scalars(query.with_for_update(skip_locked=True)).all()
            self._forget(db, jobs)
        return len(jobs)

    @repeated
    def claim(self, owner: str, lease_s: float) -> Claim | None:
        """The oldest job that waits, to be run by the caller; None when there is none.

        Jobs whose lease ran out are put back into the queue first.
        """
        with self._reader.connect() as db:  # most calls find nothing: they take no write lock
            if db.scalar(sa.select(JOBS.c.id).where(self._claimable()).limit(1)) is None:
                return None
        with self._write() as db:
            late = sa.select(JOBS).where(JOBS.c.state == State.RUNNING, JOBS.c.lease_until_s < self.clock())
            for lapsed in db.execute(late.with_for_update(skip_locked=True)).all():
                self._interrupted(db, read_job(lapsed), f"the lease of {lapsed.owner} ran out")
            query = sa.select(JOBS).where(JOBS.c.state == State.QUEUED, JOBS.c.not_before_s <= self.clock())
            first = query.order_by(JOBS.c.number).limit(1).with_for_update(skip_locked=True)
            row = db.execute(first).one_or_none()
            if row is None:
                return None
            token = row.attempt + 1
            self._change(
                db,
                row.id,
                state=State.RUNNING,
                attempt=token,
                owner=owner,
                lease_until_s=self.clock() + lease_s,
                started_s=self.clock() if row.started_s is None else row.started_s,
            )
            self._log(db, row.id, State.RUNNING, token, f"claimed by {owner}")
            return Claim(self._get(db, row.id), token, owner)

    @repeated
    def renew(self, claim: Claim, lease_s: float, stage: str, percent: float, ran_s: float) -> Job | None:
        """Keep a claim for ``lease_s`` more and store progress; None: the claim is void, stop the attempt.

        ``percent`` never falls: an attempt that starts over is behind until it has caught up. ``ran_s``: seconds that
        this attempt has run.
        """
        with self._write() as db:
            now = self._held(db, claim)
            if now is None:
                return None
            values: dict[str, Any] = {
                "lease_until_s": self.clock() + lease_s,
                "spent_s": max(now.spent_s, claim.job.spent_s + ran_s),
            }
            if stage != now.stage or percent > now.percent:
                self._change(db, now.id, stage=stage, percent=max(percent, now.percent), **values)
            else:
                db.execute(JOBS.update().where(JOBS.c.id == now.id).values(**values))
            return self._get(db, now.id)

    @repeated
    def succeed(self, claim: Claim, result: JobResult) -> bool:
        """End a job with its result; False: the claim is void, and nothing changed."""
        with self._write() as db:
            if self._held(db, claim) is None:
                return False
            text = json.dumps(asdict(result))
            self._end(db, claim.job.id, claim.token, State.SUCCEEDED, "finished", result=text, percent=100.0)
            self._refer(db, claim.job.id, result.blobs())
            return True

    @repeated
    def fail(self, claim: Claim, error: JobError) -> bool:
        """End a job with an error; False: the claim is void, and nothing changed."""
        with self._write() as db:
            if self._held(db, claim) is None:
                return False
            self._fail(db, claim.job.id, claim.token, error)
            return True

    @repeated
    def stopped(self, claim: Claim) -> bool:
        """End a job that was asked to stop; False: the claim is void, and nothing changed."""
        with self._write() as db:
            if self._held(db, claim) is None:
                return False
            self._end(db, claim.job.id, claim.token, State.CANCELLED, "cancelled while it ran")
            return True

    @repeated
    def crashed(self, claim: Claim, how: str) -> bool:
        """The worker of an attempt died: queue the job again, or fail it after too many; False: the claim is void."""
        with self._write() as db:
            now = self._held(db, claim)
            if now is None:
                return False
            crashes = now.crashes + 1
            if crashes >= now.spec.limits.attempts:
                error = JobError(
                    Reason.WORKER_DIED,
                    "WorkerDied",
                    f"the worker died in {crashes} attempts; the last one {how}",
                    hint="raise the job's memory limit, or see the service's log of this job",
                )
                self._fail(db, now.id, claim.token, error, crashes=crashes)
                return True
            wait = self.retry.delay_s * 2 ** (crashes - 1)
            self._requeue(db, now, f"the worker {how}", crashes=crashes, not_before_s=self.clock() + wait)
            return True

    @repeated
    def release(self, claim: Claim, why: str) -> bool:
        """Give a claim back unfinished, as an ending service does; False: the claim is void."""
        with self._write() as db:
            now = self._held(db, claim)
            if now is None:
                return False
            self._requeue(db, now, why, not_before_s=0.0)
            return True

    @repeated
    def recover(self, owner: str) -> int:
        """Put back what ``owner`` ran before it died; only for who knows that no other process goes by that name."""
        with self._write() as db:
            query = sa.select(JOBS).where(JOBS.c.state == State.RUNNING, JOBS.c.owner == owner)
            rows = db.execute(query.with_for_update()).all()
            for row in rows:
                self._interrupted(db, read_job(row), f"{owner} went away")
            return len(rows)

    def _claimable(self) -> sa.ColumnElement[bool]:
        now = self.clock()
        return sa.or_(
            sa.and_(JOBS.c.state == State.QUEUED, JOBS.c.not_before_s <= now),
            sa.and_(JOBS.c.state == State.RUNNING, JOBS.c.lease_until_s < now),
        )

    def _held(self, db: sa.Connection, claim: Claim) -> Job | None:
        """The job if the claim still holds it: a late owner whose job nobody took over may go on."""
        query = sa.select(JOBS).where(
            JOBS.c.id == claim.job.id,
            JOBS.c.state == State.RUNNING,
            JOBS.c.attempt == claim.token,
            JOBS.c.owner == claim.owner,
        )
        row = db.execute(query.with_for_update()).one_or_none()
        return None if row is None else read_job(row)

    def _interrupted(self, db: sa.Connection, job: Job, why: str) -> None:
        if job.cancelling:
            self._end(db, job.id, job.attempt, State.CANCELLED, f"cancelled; {why}")
            return
        count = job.interruptions + 1
        if count > self.retry.interruptions:
            error = JobError(
                Reason.INTERRUPTED,
                "Interrupted",
                f"the service went away under this job {count} times",
                hint="find out why the service ends, then submit the job again",
            )
            self._fail(db, job.id, job.attempt, error, interruptions=count)
            return
        self._requeue(db, job, why, interruptions=count, not_before_s=0.0)

    def _requeue(self, db: sa.Connection, job: Job, why: str, **values: Any) -> None:
        if job.cancelling:
            self._end(db, job.id, job.attempt, State.CANCELLED, f"cancelled; {why}")
            return
        self._change(db, job.id, state=State.QUEUED, owner="", lease_until_s=0.0, last_failure=_plain(why), **values)
        self._log(db, job.id, State.QUEUED, job.attempt, why)

    def _fail(self, db: sa.Connection, job: str, attempt: int, error: JobError, **values: Any) -> None:
        text = json.dumps(asdict(error), sort_keys=True)
        self._end(db, job, attempt, State.FAILED, f"{error.reason}: {error.message}", error=text, **values)

    def _end(self, db: sa.Connection, job: str, attempt: int, state: State, note: str, **values: Any) -> None:
        self._change(db, job, state=state, owner="", lease_until_s=0.0, ended_s=self.clock(), **values)
        self._refer(db, job, {})
        self._log(db, job, state, attempt, note)

    def _refer(self, db: sa.Connection, job: str, digests: Mapping[str, str]) -> None:
        """Refer to these blobs, by role, and to no others."""
        db.execute(BLOBS.delete().where(BLOBS.c.job == job))
        for role, digest in digests.items():
            db.execute(BLOBS.insert().values(job=job, role=role, digest=digest))

    def _forget(self, db: sa.Connection, jobs: Sequence[str]) -> None:
        for table, column in ((BLOBS, BLOBS.c.job), (EVENTS, EVENTS.c.job), (JOBS, JOBS.c.id)):
            db.execute(table.delete().where(column.in_(jobs)))
        db.info["changed"].update(jobs)

    def _change(self, db: sa.Connection, job: str, **values: Any) -> None:
        values |= {"updated_s": self.clock(), "revision": JOBS.c.revision + 1}
        db.info["changed"].add(job)
        db.execute(JOBS.update().where(JOBS.c.id == job).values(**values))

    def _log(self, db: sa.Connection, job: str, state: State, attempt: int, note: str) -> None:
        db.execute(EVENTS.insert().values(job=job, at_s=self.clock(), state=state, attempt=attempt, note=_plain(note)))


def _plain(text: str) -> str:
    """What a worker or a library said, which may hold anything, as the database takes it: PostgreSQL stores no NUL."""
    return text.replace("\0", "\\0")[:2000]
