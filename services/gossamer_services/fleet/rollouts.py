"""Rollouts: a version reaches a growing share of devices, halts by itself when too many fail, and can be taken back.

The devices that match when a rollout is created are its members; see :mod:`gossamer_services.fleet.members`. Where a
rollout halts, those told or failed are to run again what they were to run before.

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
from typing import Any, TypeVar

import sqlalchemy as sa

from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer_services.common.database import repeated
from gossamer_services.common.errors import Code, ServiceError
from gossamer_services.common.etags import check_etag, new_etag
from gossamer_services.common.times import seconds_of, timestamp
from gossamer_services.fleet import members, requests, selector
from gossamer_services.fleet.devices import fits
from gossamer_services.fleet.members import BACK, FAILED, HOME, TOLD, UPDATED, WAITING
from gossamer_services.fleet.tables import DEVICES, MEMBERS, ROLLOUTS

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
                members.give_back(db, rollout, dict.fromkeys((TOLD, UPDATED, FAILED), BACK))
                members.send_home(db, row)
                self._end_roll_back(db, rollout)
            return self._read(db, rollout)

    def heard(self, device: str, status: pb.DeviceStatus) -> None:
        """Take note of what a device says that it runs."""
        for rollout, state in self._heard(device, status).items():
            if state == FAILED or not self._has(rollout, TOLD):  # else nothing can have come of it
                self._try(rollout)

    @repeated
    def _heard(self, device: str, status: pb.DeviceStatus) -> Mapping[str, str]:
        """Note it; returns the member's new state in rollouts that may go on by it."""
        told = {}
        with self.engine.begin() as db:
            query = sa.select(MEMBERS, ROLLOUTS.c.sha256, ROLLOUTS.c.state.label("phase"))
            query = query.join(ROLLOUTS, ROLLOUTS.c.id == MEMBERS.c.rollout)
            query = query.where(MEMBERS.c.device == device, ROLLOUTS.c.state.not_in(ENDED))
            for member in db.execute(query).all():
                if member.phase == pb.ROLLOUT_STATE_ROLLING_BACK:
                    self._heard_going_back(db, member, status.bundle_sha256 == member.sha256)
                    continue
                state = members.outcome(status, member.sha256)
                if member.state == TOLD and state is not None:
                    members.move(db, member, state)
                    told[str(member.rollout)] = state
        return told

    def _heard_going_back(self, db: sa.Connection, member: Any, runs: bool) -> None:
        if member.state == BACK and not runs:
            members.move(db, member, HOME)
            self._end_roll_back(db, member.rollout)
        elif member.state == HOME and runs and not members.stays(member, self._row(db, member.rollout)):
            members.move(db, member, BACK)

    def tick(self) -> None:
        """Begin the stages whose time has come, and end what waits for nobody any more."""
        for rollout in self._with_state(pb.ROLLOUT_STATE_ACTIVE):
            self._try(rollout)
        for rollout in self._with_state(pb.ROLLOUT_STATE_ROLLING_BACK):
            if not self._has(rollout, BACK):
                self._go_back(rollout)

    def _try(self, rollout: str) -> None:
        try:
            self._named(functools.partial(self._go_on, rollout))
        except ServiceError as e:
            if e.code is not Code.UNAVAILABLE:
                raise
            _LOG.warning("a rollout goes on later: %s", e.message, extra={"rollout": rollout})

    @repeated
    def _with_state(self, state: int) -> Sequence[str]:
        with self._reader.begin() as db:
            return db.scalars(sa.select(ROLLOUTS.c.id).where(ROLLOUTS.c.state == state)).all()

    @repeated
    def _has(self, rollout: str, state: str) -> bool:
        """Whether a member is in this state."""
        with self._reader.begin() as db:
            return members.has(db, rollout, state)

    @repeated
    def _go_back(self, rollout: str) -> None:
        with self.engine.begin() as db:
            self._end_roll_back(db, rollout)

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
            wanted, counts = pb.Rollout.FromString(row.wanted), members.count(db, rollout)
            if counts.failed * 100 > wanted.failure_limit_percent * counts.reached:
                message = f"{counts.failed} of {counts.reached} devices failed"
                self._set(db, rollout, state=pb.ROLLOUT_STATE_HALTED, message=message)
                members.give_back(db, rollout, {TOLD: WAITING, FAILED: FAILED})
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
            # One that failed already has failed: a device tries nothing again that failed there last.
            state = members.outcome(says[device.id], sha256) or TOLD
            mine = sa.update(MEMBERS).where(MEMBERS.c.rollout == rollout, MEMBERS.c.device == device.id)
            db.execute(mine.values(state=state, before=before))
            members.desire(db, device.id, version)

    def _end_roll_back(self, db: sa.Connection, rollout: str) -> None:
        """The end of a rollback, if no member is on its way back any more."""
        if self._row(db, rollout).state == pb.ROLLOUT_STATE_ROLLING_BACK and not members.has(db, rollout, BACK):
            self._set(db, rollout, state=pb.ROLLOUT_STATE_ROLLED_BACK)

    def _set(self, db: sa.Connection, rollout: str, **values: Any) -> None:
        change = sa.update(ROLLOUTS).where(ROLLOUTS.c.id == rollout)
        db.execute(change.values(**values, updated_s=self.clock(), etag=new_etag()))

    @staticmethod
    def _row(db: sa.Connection, rollout: str) -> Any:
        row = db.execute(sa.select(ROLLOUTS).where(ROLLOUTS.c.id == rollout)).first()
        if row is None:
            raise ServiceError(
                Code.NOT_FOUND, "ROLLOUT_NOT_FOUND", "there is no such rollout", where=f"rollouts/{rollout}"
            )
        return row

    def _read(self, db: sa.Connection, rollout: str) -> pb.Rollout:
        row, counts = self._row(db, rollout), members.count(db, rollout)
        found: pb.Rollout = pb.Rollout.FromString(row.wanted)
        found.name, found.state, found.stage = f"rollouts/{row.id}", row.state, row.stage
        found.message, found.etag = row.message, row.etag
        found.matching_devices, found.reached_devices = counts.all, counts.reached
        found.updated_devices, found.failed_devices = counts.updated, counts.failed
        found.create_time.CopyFrom(timestamp(row.created_s))
        found.update_time.CopyFrom(timestamp(row.updated_s))
        return found
