"""Devices in the database: enrolment, heartbeats, changes by people, leases."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer_services.common.database import repeated
from gossamer_services.common.digests import digest_of
from gossamer_services.common.errors import Code, ServiceError
from gossamer_services.common.etags import check_etag, new_etag
from gossamer_services.fleet import profile_runs, selector
from gossamer_services.fleet.authority import Authority
from gossamer_services.fleet.tables import DEVICES, ENROLLMENTS, MEMBERS, PROFILE_RUNS


def not_found(device: str) -> ServiceError:
    """NOT_FOUND (DEVICE_NOT_FOUND)."""
    return ServiceError(
        Code.NOT_FOUND, "DEVICE_NOT_FOUND", "there is no such device", where=f"devices/{device}", hint="enrol it"
    )


class Devices:
    """The enrolled devices; thread-safe. Rows are those of :data:`gossamer_services.fleet.tables.DEVICES`.

    Heartbeats that say nothing new are kept in memory, and written by :meth:`flush`.

    Args:
        engine: a database with the fleet's tables.
        clock: Unix time in seconds.
    """

    def __init__(self, engine: sa.Engine, clock: Callable[[], float] = time.time) -> None:
        self.engine, self.clock = engine, clock
        self._reader = engine.execution_options(reads=True)
        self._lock = threading.Lock()
        self._heard: dict[str, float] = {}
        self._last: dict[str, bytes] = {}
        self._changes = 0

    @property
    def changes(self) -> int:
        """Another number whenever :meth:`acquire` may find what it did not find before, but for leases that end."""
        return self._changes

    def _changed(self) -> None:
        with self._lock:
            self._changes += 1

    @repeated
    def create_token(self, labels: Mapping[str, str], lifetime_s: float) -> tuple[str, float]:
        """A one-time token for enrolment, and when it ends; its SHA-256 alone is kept."""
        token = f"enrol_{secrets.token_urlsafe(32)}"
        ends = self.clock() + lifetime_s
        row = {
            "sha256": _sha256(token),
            "labels": json.dumps(dict(labels)),
            "expires_s": ends,
            "device": "",
            "request": "",
            "certificate": "",
        }
        with self.engine.begin() as db:
            db.execute(sa.delete(ENROLLMENTS).where(ENROLLMENTS.c.expires_s <= self.clock()))
            db.execute(sa.insert(ENROLLMENTS).values(row))
        return token, ends

    @repeated
    def enrol(self, request: pb.EnrollDeviceRequest, authority: Authority, days: int) -> tuple[Any, str]:
        """Trade a token for a certificate: the device's row, and the certificate in PEM.

        Raises:
            ServiceError: UNAUTHENTICATED (TOKEN_INVALID), INVALID_ARGUMENT.
        """
        digest = digest_of(request, "facts")
        with self._reader.begin() as db:  # strangers may ask: they take no write lock
            self._enrollment(db, request.token, digest)
        with self.engine.begin() as db:
            token = self._enrollment(db, request.token, digest)
            if token.device:  # the answer was lost on the way
                return self._row(db, token.device), token.certificate
            device = secrets.token_hex(8)
            certificate, ends = authority.sign(request.certificate_request_pem, device, days)
            db.execute(
                sa.insert(DEVICES).values(
                    id=device,
                    display_name="",
                    labels=token.labels,
                    facts=request.facts.SerializeToString(),
                    status=b"",
                    desired="",
                    enrolled_s=self.clock(),
                    heartbeat_s=0.0,
                    certificate_ends_s=ends.timestamp(),
                    lease="",
                    holder="",
                    lease_ends_s=0.0,
                    etag=new_etag(),
                )
            )
            used = sa.update(ENROLLMENTS).where(ENROLLMENTS.c.sha256 == token.sha256)
            db.execute(used.values(device=device, request=digest, certificate=certificate))
            row = self._row(db, device)
        self._changed()
        return row, certificate

    def _enrollment(self, db: sa.Connection, token: str, digest: str) -> Any:
        row = db.execute(sa.select(ENROLLMENTS).where(ENROLLMENTS.c.sha256 == _sha256(token))).first()
        if row is None or row.expires_s <= self.clock() or (row.device and row.request != digest):
            raise ServiceError(
                Code.UNAUTHENTICATED,
                "TOKEN_INVALID",
                "the token is unknown, has expired, or was used",
                hint="make another with CreateEnrollmentToken",
            )
        return row

    @repeated
    def renew(self, device: str, request_pem: str, authority: Authority, days: int) -> tuple[str, float]:
        """Another certificate for a device, in PEM, and when it ends, in Unix seconds.

        Raises:
            ServiceError: NOT_FOUND (DEVICE_NOT_FOUND), INVALID_ARGUMENT.
        """
        certificate, ends = authority.sign(request_pem, device, days)
        with self.engine.begin() as db:
            self._row(db, device)
            mine = sa.update(DEVICES).where(DEVICES.c.id == device)
            db.execute(mine.values(certificate_ends_s=ends.timestamp()))
        return certificate, ends.timestamp()

    @repeated
    def known(self, device: str) -> bool:
        """True when the device is enrolled, and so its certificate not revoked."""
        with self._reader.begin() as db:
            return db.execute(sa.select(DEVICES.c.number).where(DEVICES.c.id == device)).first() is not None

    @repeated
    def get(self, device: str) -> Any:
        """A device's row.

        Raises:
            ServiceError: NOT_FOUND (DEVICE_NOT_FOUND).
        """
        with self._reader.begin() as db:
            return self._row(db, device)

    @repeated
    def list(self, terms: tuple[selector.Term, ...], after: int | None, limit: int) -> list[Any]:
        """At most ``limit`` rows that fit, in the order of enrolment, after number ``after``."""
        query = sa.select(DEVICES).order_by(DEVICES.c.number)
        if after is not None:
            query = query.where(DEVICES.c.number > after)
        found: list[Any] = []
        with self._reader.begin() as db:
            for row in db.execute(query):
                if fits(terms, row):
                    found.append(row)
                    if len(found) == limit:
                        break
        return found

    @repeated
    def heartbeat(self, request: pb.HeartbeatRequest, device: str) -> tuple[Any, bytes]:
        """Note what a device says of itself; its row, and what of it is new, for :meth:`took`; empty: nothing.

        Raises:
            ServiceError: NOT_FOUND (DEVICE_NOT_FOUND).
        """
        now = self.clock()
        said = pb.HeartbeatRequest()
        said.CopyFrom(request)
        said.status.uptime_seconds = 0  # grows all the time and is news to nobody
        news = said.SerializeToString(deterministic=True)
        with self._lock:
            self._heard[device] = now
            same = self._last.get(device) == news
        if same:
            return self.get(device), b""
        values: dict[str, Any] = {"status": request.status.SerializeToString(), "heartbeat_s": now}
        if request.HasField("facts"):
            values["facts"] = request.facts.SerializeToString()
        with self.engine.begin() as db:
            before = self._row(db, device)
            db.execute(sa.update(DEVICES).where(DEVICES.c.id == device).values(values))
            row = self._row(db, device)
        if row.facts != before.facts:
            self._changed()
        return row, news

    def took(self, device: str, news: bytes) -> None:
        """Everybody took note of the news that a device told; before that, the same words are news again."""
        with self._lock:
            self._last[device] = news

    def heard_s(self, row: Any) -> float:
        """When a device was heard of last; 0: never."""
        with self._lock:
            return max(float(row.heartbeat_s), self._heard.get(row.id, 0.0))

    @repeated
    def flush(self) -> None:
        """Write the times of heartbeats."""
        with self._lock:
            heard = dict(self._heard)
        if heard:
            change = sa.update(DEVICES).where(DEVICES.c.id == sa.bindparam("device"))
            rows = [{"device": device, "at": at} for device, at in heard.items()]
            with self.engine.begin() as db:
                db.execute(change.values(heartbeat_s=sa.bindparam("at")), rows)
        with self._lock:
            for device, at in heard.items():
                if self._heard.get(device) == at:
                    del self._heard[device]

    @repeated
    def update(self, device: str, given: str, changes: Mapping[str, Any]) -> Any:
        """Change columns of a device; its row.

        Raises:
            ServiceError: NOT_FOUND (DEVICE_NOT_FOUND), ABORTED (ETAG_MISMATCH).
        """
        with self.engine.begin() as db:
            check_etag(given, self._row(db, device).etag)
            db.execute(sa.update(DEVICES).where(DEVICES.c.id == device).values(**changes, etag=new_etag()))
            row = self._row(db, device)
        self._changed()
        return row

    @repeated
    def delete(self, device: str, given: str) -> None:
        """Remove a device; its certificate is good for nothing from now on.

        Raises:
            ServiceError: NOT_FOUND (DEVICE_NOT_FOUND), ABORTED (ETAG_MISMATCH).
        """
        with self.engine.begin() as db:
            check_etag(given, self._row(db, device).etag)
            db.execute(sa.delete(MEMBERS).where(MEMBERS.c.device == device))
            db.execute(sa.delete(ENROLLMENTS).where(ENROLLMENTS.c.device == device))
            db.execute(sa.delete(DEVICES).where(DEVICES.c.id == device))
            asked = sa.and_(PROFILE_RUNS.c.device == device, PROFILE_RUNS.c.lease_ends_s > self.clock())
            profile_runs.end(db, asked, "DEVICE_REMOVED", "the device was removed from the fleet")
        self._changed()
        with self._lock:
            self._heard.pop(device, None)
            self._last.pop(device, None)

    @repeated
    def acquire(self, terms: tuple[selector.Term, ...], caller: str, lifetime_s: float, key: str) -> Any | None:
        """Hold a free device that fits, the longest enrolled first; None: all that fit are held.

        Args:
            key: repeats with the same key get the same lease; empty: none.

        Raises:
            ServiceError: NOT_FOUND (NO_SUCH_DEVICE).
        """
        now = self.clock()
        lease = hashlib.sha256(f"{caller}\0{key}".encode()).hexdigest()[:32] if key else secrets.token_hex(16)
        with self.engine.begin() as db:
            fitting = [row for row in db.execute(sa.select(DEVICES).order_by(DEVICES.c.number)) if fits(terms, row)]
            if not fitting:
                raise ServiceError(Code.NOT_FOUND, "NO_SUCH_DEVICE", "no enrolled device matches", where="selector")
            for row in fitting:
                if row.lease == lease and is_held(row, now):
                    return row
            for row in fitting:
                if not is_held(row, now):
                    holder = caller or "anybody"
                    values = {"lease": lease, "holder": holder, "lease_ends_s": now + lifetime_s}
                    db.execute(sa.update(DEVICES).where(DEVICES.c.number == row.number).values(values))
                    return self._row(db, row.id)
        return None

    @repeated
    def free_s(self, terms: tuple[selector.Term, ...]) -> float:
        """When the first of the devices that fit is free if nobody gives it back, in Unix seconds."""
        with self._reader.begin() as db:
            ends = [row.lease_ends_s for row in db.execute(sa.select(DEVICES)) if fits(terms, row)]
        return min(ends, default=0.0)

    @repeated
    def release(self, lease: str) -> None:
        """Give a held device back; its profile runs that have not ended fail."""
        with self.engine.begin() as db:
            asked = sa.and_(PROFILE_RUNS.c.lease == lease, PROFILE_RUNS.c.lease_ends_s > self.clock())
            profile_runs.end(db, asked, "CANCELLED", "the device was given back")
            free = sa.update(DEVICES).where(DEVICES.c.lease == lease)
            db.execute(free.values(lease="", holder="", lease_ends_s=0.0))
        self._changed()

    @staticmethod
    def _row(db: sa.Connection, device: str) -> Any:
        row = db.execute(sa.select(DEVICES).where(DEVICES.c.id == device)).first()
        if row is None:
            raise not_found(device)
        return row


def is_held(row: Any, now: float) -> bool:
    """Whether somebody holds the device of this row at a Unix time."""
    return bool(row.lease) and row.lease_ends_s > now


def fits(terms: tuple[selector.Term, ...], row: Any) -> bool:
    """Whether a device's row fits a selector."""
    return not terms or selector.fits(terms, json.loads(row.labels), pb.DeviceFacts.FromString(row.facts))


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
