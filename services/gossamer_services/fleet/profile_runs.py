"""Profile runs: profiles that somebody who holds a device asks it for, and what became of them.

::

    waiting -> running                 the device was told
    waiting, running -> done           it sent the profile
    waiting, running -> failed         it said that it cannot, or it was given back or removed, or the lease ended

The end of a lease is never written: a run that has not ended by then reads as failed.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer_services.common.database import repeated
from gossamer_services.common.errors import Code, ServiceError, bad_field
from gossamer_services.common.times import timestamp
from gossamer_services.fleet import requests
from gossamer_services.fleet.tables import DEVICES, PROFILE_RUNS

WAITING, RUNNING = pb.PROFILE_RUN_STATE_WAITING, pb.PROFILE_RUN_STATE_RUNNING
DONE, FAILED = pb.PROFILE_RUN_STATE_DONE, pb.PROFILE_RUN_STATE_FAILED

_KIND = "profileRun"


class ProfileRuns:
    """The runs; thread-safe.

    Args:
        engine: a database with the fleet's tables.
        clock: Unix time in seconds.
    """

    def __init__(self, engine: sa.Engine, clock: Callable[[], float] = time.time) -> None:
        self.engine, self.clock = engine, clock
        self._reader = engine.execution_options(reads=True)

    @repeated
    def earlier(self, caller: str, request_id: str, digest: str) -> pb.ProfileRun | None:
        """What the same request made before; None: nothing.

        Raises:
            ServiceError: FAILED_PRECONDITION (REQUEST_ID_REUSED).
        """
        with self._reader.begin() as db:
            made = requests.earlier(db, caller, _KIND, request_id, digest)
            return None if made is None else self._read(db, made)

    @repeated
    def create(self, wanted: pb.ProfileRun, *, caller: str, request_id: str, digest: str) -> pb.ProfileRun:
        """Leave a run for the device that is held under ``wanted.lease``, or give back what the same request made.

        Args:
            wanted: lease, version, bundle_sha256, bundle_bytes, runs and warmup_runs.

        Raises:
            ServiceError: NOT_FOUND (LEASE_NOT_FOUND), FAILED_PRECONDITION (REQUEST_ID_REUSED).
        """
        lease, now = wanted.lease.removeprefix("leases/"), self.clock()
        with self.engine.begin() as db:
            made = requests.earlier(db, caller, _KIND, request_id, digest)
            if made is not None:
                return self._read(db, made)
            held = db.execute(sa.select(DEVICES).where(DEVICES.c.lease == lease, DEVICES.c.lease_ends_s > now)).first()
            if held is None:
                raise ServiceError(
                    Code.NOT_FOUND,
                    "LEASE_NOT_FOUND",
                    "nobody holds a device under this lease: it was given back, or has expired",
                    where=wanted.lease,
                    hint="hold one with AcquireDevice",
                )
            run = secrets.token_hex(8)
            db.execute(
                sa.insert(PROFILE_RUNS).values(
                    id=run,
                    lease=lease,
                    lease_ends_s=held.lease_ends_s,
                    device=held.id,
                    version=wanted.version,
                    sha256=wanted.bundle_sha256,
                    size_bytes=wanted.bundle_bytes,
                    runs=wanted.runs,
                    warmup_runs=wanted.warmup_runs,
                    state=WAITING,
                    profile="",
                    failure_reason="",
                    failure_message="",
                    created_s=now,
                )
            )
            requests.remember(db, caller, _KIND, request_id, digest, run, now)
            return self._read(db, run)

    @repeated
    def get(self, run: str, device: str = "") -> pb.ProfileRun:
        """A run; ``device``: whose it must be, empty: whoever's.

        Raises:
            ServiceError: NOT_FOUND (PROFILE_RUN_NOT_FOUND), PERMISSION_DENIED (NOT_THIS_DEVICE).
        """
        with self._reader.begin() as db:
            return self._message(find(db, run, device))

    @repeated
    def tell(self, device: str) -> pb.ProfileRun | None:
        """The oldest run that waits for a device's answer, noted as told; None: none does."""
        open_runs = sa.select(PROFILE_RUNS).where(
            PROFILE_RUNS.c.device == device,
            PROFILE_RUNS.c.state.in_((WAITING, RUNNING)),
            PROFILE_RUNS.c.lease_ends_s > self.clock(),
        )
        with self._reader.begin() as db:
            found = db.execute(open_runs.order_by(PROFILE_RUNS.c.number).limit(1)).first()
        if found is None:
            return None
        if found.state == RUNNING:
            return self._message(found)
        with self.engine.begin() as db:
            waits = sa.update(PROFILE_RUNS).where(PROFILE_RUNS.c.id == found.id, PROFILE_RUNS.c.state == WAITING)
            db.execute(waits.values(state=RUNNING))
            told = self._read(db, found.id)
        return told if told.state == RUNNING else None  # else it ended in between

    @repeated
    def fail(self, run: str, device: str, reason: str, message: str) -> pb.ProfileRun:
        """Note that a device cannot make the profile; a run that has ended stays as it is.

        Raises:
            ServiceError: NOT_FOUND (PROFILE_RUN_NOT_FOUND), PERMISSION_DENIED (NOT_THIS_DEVICE).
        """
        with self.engine.begin() as db:
            row = find(db, run, device)
            if self._state(row) in (WAITING, RUNNING):
                end(db, PROFILE_RUNS.c.id == run, reason, message)
            return self._read(db, run)

    def answer(self, db: sa.Connection, run: str, device: str, sha256: str) -> str:
        """Whether a device may answer a run with a profile of this bundle: the profile that did; empty: none yet.

        Raises:
            ServiceError: as :meth:`fail`; FAILED_PRECONDITION (PROFILE_RUN_ENDED); INVALID_ARGUMENT: another bundle was
                asked for.
        """
        row = find(db, run, device)
        if self._state(row) == FAILED:
            raise ServiceError(
                Code.FAILED_PRECONDITION,
                "PROFILE_RUN_ENDED",
                "nobody waits for this profile any more",
                where=f"profileRuns/{run}",
            )
        if row.sha256 and row.sha256 != sha256:
            raise bad_field("profile.bundle_sha256", f"the profile run asked for the bundle {row.sha256}")
        return str(row.profile)

    @staticmethod
    def finish(db: sa.Connection, run: str, profile: str) -> None:
        """Note the profile that answers a run."""
        mine = sa.update(PROFILE_RUNS).where(PROFILE_RUNS.c.id == run)
        db.execute(mine.values(state=DONE, profile=profile))

    def _read(self, db: sa.Connection, run: str) -> pb.ProfileRun:
        return self._message(find(db, run))

    def _message(self, row: Any) -> pb.ProfileRun:
        found = pb.ProfileRun(
            name=f"profileRuns/{row.id}",
            lease=f"leases/{row.lease}",
            device=f"devices/{row.device}",
            version=row.version,
            bundle_sha256=row.sha256,
            bundle_bytes=row.size_bytes,
            runs=row.runs,
            warmup_runs=row.warmup_runs,
            state=self._state(row),
            profile=f"profiles/{row.profile}" if row.profile else "",
            failure_reason=row.failure_reason,
            failure_message=row.failure_message,
        )
        if found.state == FAILED and row.state != FAILED:
            found.failure_reason, found.failure_message = "LEASE_EXPIRED", "the lease ended before the profile came"
        found.create_time.CopyFrom(timestamp(row.created_s))
        return found

    def _state(self, row: Any) -> pb.ProfileRunState:
        expired = row.state in (WAITING, RUNNING) and row.lease_ends_s <= self.clock()
        return FAILED if expired else row.state


def find(db: sa.Connection, run: str, device: str = "") -> Any:
    """A run's row; ``device``: whose it must be, empty: whoever's.

    Raises:
        ServiceError: NOT_FOUND (PROFILE_RUN_NOT_FOUND), PERMISSION_DENIED (NOT_THIS_DEVICE).
    """
    row = db.execute(sa.select(PROFILE_RUNS).where(PROFILE_RUNS.c.id == run)).first()
    where = f"profileRuns/{run}"
    if row is None:
        raise ServiceError(Code.NOT_FOUND, "PROFILE_RUN_NOT_FOUND", "there is no such profile run", where=where)
    if device and row.device != device:
        raise ServiceError(
            Code.PERMISSION_DENIED, "NOT_THIS_DEVICE", "another device was asked for this profile", where=where
        )
    return row


def end(db: sa.Connection, which: sa.ColumnElement[bool], reason: str, message: str) -> None:
    """Fail the runs among ``which`` that have not ended."""
    change = sa.update(PROFILE_RUNS).where(which, PROFILE_RUNS.c.state.in_((WAITING, RUNNING)))
    db.execute(change.values(state=FAILED, failure_reason=reason, failure_message=message))
