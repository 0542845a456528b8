"""Rollouts: a version reaches a growing share of devices, halts by itself when too many fail, and can be taken back.

The devices that match when a rollout is created are its members, in an order drawn from the rollout's id and theirs. A
member waits, is told (its desired version is set), and then runs the version or has failed; both by its heartbeats.

::

    waiting -> told -> updated or failed
    told -> waiting                    by a halt
    told, updated, failed -> back      by a rollback

Where a rollout halts, those told or failed are to run again what they were to run before.

A stage ends when all its members updated or failed, and its soak time is over.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer_services.common.database import repeated
from gossamer_services.common.errors import Code, ServiceError
from gossamer_services.common.etags import check_etag, new_etag
from gossamer_services.common.times import seconds_of, timestamp
from gossamer_services.fleet import requests, selector
from gossamer_services.fleet.devices import fits
from gossamer_services.fleet.tables import DEVICES, MEMBERS, ROLLOUTS

WAITING, TOLD, UPDATED, FAILED, BACK = "waiting", "told", "updated", "failed", "back"

ENDED = (pb.ROLLOUT_STATE_COMPLETED, pb.ROLLOUT_STATE_ROLLED_BACK)

VersionOf = Callable[[str], str]
"""Resource name of a version with these bytes (SHA-256); empty: there is none."""
Names = dict[str, str]
"""What ``VersionOf`` answered."""
T = TypeVar("T")
_LOG = logging.getLogger(__name__)


class _UnknownError(Exception):
    """A transaction needs names of versions that were not asked for yet."""

    def __init__(self, digests: set[str]) -> None:
        super().__init__(len(digests))
        self.digests = digests


@dataclass(frozen=True)
class Counts:
    """Members by state."""

    waiting: int = 0
    told: int = 0
    updated: int = 0
    failed: int = 0
    back: int = 0

    @property
    def all(self) -> int:
        """All members."""
        return self.waiting + self.told + self.updated + self.failed + self.back

    @property
    def reached(self) -> int:
        """Members that were told, whatever became of them."""
        return self.all - self.waiting


class Rollouts:
    """The rollouts; thread-safe.

    Args:
        engine: a database with the fleet's tables.
        version_of: finds the version that a device runs, to go back to where it had no desired one. It is asked in no
            transaction, for it may take its time; after UNAVAILABLE the rollout goes on at a later :meth:`tick`.
        clock: Unix time in seconds.
    """

    def __init__(self, engine: sa.Engine, version_of: VersionOf, clock: Callable[[], float] = time.time) -> None:
        self.engine, self.clock, self._version_of = engine, clock, version_of
        self._reader = engine.execution_options(reads=True)

    def _named(self, work: Callable[[Names], T]) -> T:
        """What a transaction returns that needs names of versions, begun again with those that it lacked."""
        names: Names = {}
        while True:
            try:
                return work(names)
            except _UnknownError as e:
                names |= {digest: self._version_of(digest) for digest in sorted(e.digests)}

    def create(
        self, wanted: pb.Rollout, bundle: str, sha256: str, *, caller: str, request_id: str, digest: str, dry: bool
    ) -> pb.Rollout:
        """Make a rollout and begin its first stage.

        Raises:
            ServiceError: FAILED_PRECONDITION (ROLLOUT_ACTIVE, REQUEST_ID_REUSED), INVALID_ARGUMENT.
        """
        return self._named(lambda names: self._create(names, wanted, bundle, sha256, caller, request_id, digest, dry))

    @repeated
    def _create(
        self,
        names: Names,
        wanted: pb.Rollout,
        bundle: str,
        sha256: str,
        caller: str,
        request_id: str,
        digest: str,
        dry: bool,
    ) -> pb.Rollout:
        terms = selector.parse(wanted.selector, "rollout.selector")
        with self.engine.connect() as db, db.begin() as transaction:
            made = requests.earlier(db, caller, "rollout", request_id, digest)
            if made is not None:
                return self._read(db, made)
            active = sa.select(ROLLOUTS.c.id).where(ROLLOUTS.c.bundle == bundle, ROLLOUTS.c.state.not_in(ENDED))
            other = db.execute(active).scalar()
            if other is not None:
                raise ServiceError(
                    Code.FAILED_PRECONDITION,
                    "ROLLOUT_ACTIVE",
                    "another rollout of this bundle has not ended",
                    where=f"rollouts/{other}",
                    hint="wait for it, or roll it back",
                )
            now, rollout = self.clock(), secrets.token_hex(8)
            db.execute(
                sa.insert(ROLLOUTS).values(
                    id=rollout,
                    bundle=bundle,
                    sha256=sha256,
                    wanted=wanted.SerializeToString(),
                    state=pb.ROLLOUT_STATE_ACTIVE,
                    stage=0,
                    stage_began_s=now,
                    message="",
                    created_s=now,
                    updated_s=now,
                    etag=new_etag(),
                )
            )
            rows = [row for row in db.execute(sa.select(DEVICES)) if fits(terms, row)]
            rows.sort(key=lambda row: hashlib.sha256(f"{rollout}/{row.id}".encode()).digest())
            if rows:
                places = [
                    {"rollout": rollout, "device": row.id, "place": i, "state": WAITING, "before": ""}
                    for i, row in enumerate(rows)
                ]
                db.execute(sa.insert(MEMBERS), places)
            if not dry:
                self._advance(db, rollout, names)
                requests.remember(db, caller, "rollout", request_id, digest, rollout, now)
            found = self._read(db, rollout)
            if dry:
                transaction.rollback()
                found.name = ""
            return found

    @repeated
    def get(self, rollout: str) -> pb.Rollout:
        """A rollout.

        Raises:
            ServiceError: NOT_FOUND (ROLLOUT_NOT_FOUND).
        """
        with self._reader.begin() as db:
            return self._read(db, rollout)

    @repeated
    def list(self, before: int | None, limit: int) -> list[tuple[int, pb.Rollout]]:
        """At most ``limit`` rollouts with their numbers, newest first, older than number ``before``."""
        query = sa.select(ROLLOUTS.c.number, ROLLOUTS.c.id).order_by(ROLLOUTS.c.number.desc()).limit(limit)
        if before is not None:
            query = query.where(ROLLOUTS.c.number < before)
        with self._reader.begin() as db:
            return [(row.number, self._read(db, row.id)) for row in db.execute(query).all()]

    def update(self, rollout: str, given: str, change: Callable[[pb.Rollout], int | None], *, dry: bool) -> pb.Rollout:
        """Change a rollout that has not ended: ``change`` changes what is wanted, and returns the new state, if any.

        Raises:
            ServiceError: NOT_FOUND (ROLLOUT_NOT_FOUND), ABORTED (ETAG_MISMATCH), FAILED_PRECONDITION (ROLLOUT_ENDED).
        """
        return self._named(lambda names: self._update(names, rollout, given, change, dry))

    @repeated
    def _update(
        self, names: Names, rollout: str, given: str, change: Callable[[pb.Rollout], int | None], dry: bool
    ) -> pb.Rollout:
        with self.engine.connect() as db, db.begin() as transaction:
            row = self._row(db, rollout)
            check_etag(given, row.etag)
            if row.state in (*ENDED, pb.ROLLOUT_STATE_ROLLING_BACK):
                raise ServiceError(
                    Code.FAILED_PRECONDITION, "ROLLOUT_ENDED", "the rollout has ended", where=f"rollouts/{rollout}"
                )
            wanted = pb.Rollout.FromString(row.wanted)
            state = change(wanted)
            message = "" if state == pb.ROLLOUT_STATE_ACTIVE else row.message
            self._set(db, rollout, wanted=wanted.SerializeToString(), state=state or row.state, message=message)
            self._advance(db, rollout, names)
            found = self._read(db, rollout)
            if dry:
                transaction.rollback()
            return found

    @repeated
    def roll_back(self, rollout: str, given: str) -> pb.Rollout:
        """Give every device that was reached its version of before back; nothing when that is done or under way.

        Raises:
            ServiceError: NOT_FOUND (ROLLOUT_NOT_FOUND), ABORTED (ETAG_MISMATCH).
        """
        with self.engine.begin() as db:
            row = self._row(db, rollout)
            check_etag(given, row.etag)
            if row.state not in (pb.ROLLOUT_STATE_ROLLING_BACK, pb.ROLLOUT_STATE_ROLLED_BACK):
                self._set(db, rollout, state=pb.ROLLOUT_STATE_ROLLING_BACK, message="")
                self._give_back(db, rollout, dict.fromkeys((TOLD, UPDATED, FAILED), BACK))
                self._end_roll_back(db, rollout)
            return self._read(db, rollout)

    def heard(self, device: str, status: pb.DeviceStatus) -> None:
        """Take note of what a device says that it runs."""
        for rollout in self._heard(device, status):
            self._try(rollout)

    @repeated
    def _heard(self, device: str, status: pb.DeviceStatus) -> Sequence[str]:
        """Note it; returns the rollouts that may go on by it."""
        told = []
        with self.engine.begin() as db:
            query = sa.select(MEMBERS.c.rollout, MEMBERS.c.state, ROLLOUTS.c.sha256, ROLLOUTS.c.state.label("phase"))
            query = query.join(ROLLOUTS, ROLLOUTS.c.id == MEMBERS.c.rollout)
            query = query.where(MEMBERS.c.device == device, ROLLOUTS.c.state.not_in(ENDED))
            for member in db.execute(query).all():
                if member.phase == pb.ROLLOUT_STATE_ROLLING_BACK:
                    self._end_roll_back(db, member.rollout)
                    continue
                state = _outcome(status, member.sha256)
                if member.state == TOLD and state is not None:
                    mine = sa.update(MEMBERS).where(MEMBERS.c.rollout == member.rollout, MEMBERS.c.device == device)
                    db.execute(mine.values(state=state))
                    told.append(str(member.rollout))
        return told

    def tick(self) -> None:
        """Begin the stages whose time has come."""
        for rollout in self._active():
            self._try(rollout)

    def _try(self, rollout: str) -> None:
        try:
            self._named(functools.partial(self._go_on, rollout))
        except ServiceError as e:
            if e.code is not Code.UNAVAILABLE:
                raise
            _LOG.warning("a rollout goes on later: %s", e.message, extra={"rollout": rollout})

    @repeated
    def _active(self) -> Sequence[str]:
        with self._reader.begin() as db:
            return db.scalars(sa.select(ROLLOUTS.c.id).where(ROLLOUTS.c.state == pb.ROLLOUT_STATE_ACTIVE)).all()

    @repeated
    def _go_on(self, rollout: str, names: Names) -> None:
        with self.engine.begin() as db:
            self._advance(db, rollout, names)

    def _advance(self, db: sa.Connection, rollout: str, names: Names) -> None:
        """Halt, begin the next stage, or complete, as far as it goes now."""
        while True:
            row = self._row(db, rollout)
            if row.state != pb.ROLLOUT_STATE_ACTIVE:
                return
            wanted, counts = pb.Rollout.FromString(row.wanted), self._counts(db, rollout)
            if counts.failed * 100 > wanted.failure_limit_percent * counts.reached:
                message = f"{counts.failed} of {counts.reached} devices failed"
                self._set(db, rollout, state=pb.ROLLOUT_STATE_HALTED, message=message)
                self._give_back(db, rollout, {TOLD: WAITING, FAILED: FAILED})
                return
            stage = wanted.stages[min(row.stage, len(wanted.stages) - 1)]
            target = math.ceil(stage.percent * counts.all / 100 - 1e-9)
            if counts.reached < target:
                self._tell(db, rollout, wanted.version, row.sha256, target - counts.reached, names)
                continue
            if counts.told:
                return
            if row.stage + 1 >= len(wanted.stages):
                self._set(db, rollout, state=pb.ROLLOUT_STATE_COMPLETED)
                return
            if self.clock() - row.stage_began_s < seconds_of(stage.soak):
                return
            self._set(db, rollout, stage=row.stage + 1, stage_began_s=self.clock())

    def _tell(self, db: sa.Connection, rollout: str, version: str, sha256: str, count: int, names: Names) -> None:
        query = sa.select(DEVICES.c.id, DEVICES.c.desired, DEVICES.c.status)
        query = query.join(MEMBERS, MEMBERS.c.device == DEVICES.c.id)
        query = query.where(MEMBERS.c.rollout == rollout, MEMBERS.c.state == WAITING)
        devices = db.execute(query.order_by(MEMBERS.c.place).limit(count)).all()
        says = {device.id: pb.DeviceStatus.FromString(device.status) for device in devices}
        lacking = {says[device.id].bundle_sha256 for device in devices if not device.desired} - {"", *names}
        if lacking:
            raise _UnknownError(lacking)
        for device in devices:
            digest = says[device.id].bundle_sha256
            before = device.desired or (names[digest] if digest else "")
            state = _outcome(says[device.id], sha256) or TOLD  # a device tries nothing again that failed there last
            mine = sa.update(MEMBERS).where(MEMBERS.c.rollout == rollout, MEMBERS.c.device == device.id)
            db.execute(mine.values(state=state, before=before))
            self._desire(db, device.id, version)

    def _give_back(self, db: sa.Connection, rollout: str, moves: Mapping[str, str]) -> None:
        """Devices in the states of ``moves`` are to run what they were to run before, and change their state by it."""
        query = sa.select(MEMBERS).where(MEMBERS.c.rollout == rollout, MEMBERS.c.state.in_(moves))
        for member in db.execute(query).all():
            self._desire(db, member.device, member.before)
            mine = sa.update(MEMBERS).where(MEMBERS.c.rollout == rollout, MEMBERS.c.device == member.device)
            db.execute(mine.values(state=moves[member.state]))

    def _end_roll_back(self, db: sa.Connection, rollout: str) -> None:
        """The end of a rollback: no device that has something to go back to runs the version any more."""
        row = self._row(db, rollout)
        query = sa.select(DEVICES.c.status).join(MEMBERS, MEMBERS.c.device == DEVICES.c.id)
        query = query.where(MEMBERS.c.rollout == rollout, MEMBERS.c.state == BACK, MEMBERS.c.before != "")
        target = pb.Rollout.FromString(row.wanted).version
        query = query.where(MEMBERS.c.before != target)
        statuses = (pb.DeviceStatus.FromString(data) for data in db.execute(query).scalars())
        if not any(status.bundle_sha256 == row.sha256 for status in statuses):
            self._set(db, rollout, state=pb.ROLLOUT_STATE_ROLLED_BACK)

    def _set(self, db: sa.Connection, rollout: str, **values: Any) -> None:
        change = sa.update(ROLLOUTS).where(ROLLOUTS.c.id == rollout)
        db.execute(change.values(**values, updated_s=self.clock(), etag=new_etag()))

    @staticmethod
    def _desire(db: sa.Connection, device: str, version: str) -> None:
        db.execute(sa.update(DEVICES).where(DEVICES.c.id == device).values(desired=version, etag=new_etag()))

    @staticmethod
    def _counts(db: sa.Connection, rollout: str) -> Counts:
        query = sa.select(MEMBERS.c.state, sa.func.count().label("number")).where(MEMBERS.c.rollout == rollout)
        return Counts(**{row.state: row.number for row in db.execute(query.group_by(MEMBERS.c.state))})

    @staticmethod
    def _row(db: sa.Connection, rollout: str) -> Any:
        row = db.execute(sa.select(ROLLOUTS).where(ROLLOUTS.c.id == rollout)).first()
        if row is None:
            raise ServiceError(
                Code.NOT_FOUND, "ROLLOUT_NOT_FOUND", "there is no such rollout", where=f"rollouts/{rollout}"
            )
        return row

    def _read(self, db: sa.Connection, rollout: str) -> pb.Rollout:
        row, counts = self._row(db, rollout), self._counts(db, rollout)
        found: pb.Rollout = pb.Rollout.FromString(row.wanted)
        found.name, found.state, found.stage = f"rollouts/{row.id}", row.state, row.stage
        found.message, found.etag = row.message, row.etag
        found.matching_devices, found.reached_devices = counts.all, counts.reached
        found.updated_devices, found.failed_devices = counts.updated, counts.failed
        found.create_time.CopyFrom(timestamp(row.created_s))
        found.update_time.CopyFrom(timestamp(row.updated_s))
        return found


def _outcome(status: pb.DeviceStatus, sha256: str) -> str | None:
    if status.bundle_sha256 == sha256:
        return UPDATED
    return FAILED if status.failed_sha256 == sha256 else None
