"""Profile records: stored whole, found by model, device, kernel and layer."""

from __future__ import annotations

import math
import secrets
from typing import Any

import sqlalchemy as sa

from gossamer._proto.v1 import profile_pb2 as pb
from gossamer_services.common.database import repeated
from gossamer_services.common.errors import Code, ServiceError, bad_field
from gossamer_services.common.times import LATEST_S, seconds_of
from gossamer_services.fleet import requests
from gossamer_services.fleet.profile_runs import ProfileRuns
from gossamer_services.fleet.tables import PROFILE_OPS, PROFILES

MAX_OPS = 10_000
MAX_BYTES = 4 << 20
MAX_NAME_BYTES = 2000
"""Of what is looked for, in UTF-8; PostgreSQL's indexes take little more."""


def check(record: pb.ProfileRecord) -> None:
    """Refuse records with impossible numbers, or names that are too long.

    Raises:
        ServiceError: INVALID_ARGUMENT.
    """
    if record.ByteSize() > MAX_BYTES:
        raise bad_field("profile", f"has {record.ByteSize()} bytes; at most {MAX_BYTES} are kept")
    if len(record.ops) > MAX_OPS:
        raise bad_field("profile.ops", f"{len(record.ops)} operators; {MAX_OPS} are allowed")
    groups: list[tuple[str, Any]] = [("profile", record), ("profile.latency", record.latency)]
    groups += [(f"profile.ops[{i}]", op) for i, op in enumerate(record.ops)]
    for where, message in groups:
        for field, value in message.ListFields():
            if field.name.endswith("_us") and not (math.isfinite(value) and value >= 0):
                raise bad_field(f"{where}.{field.name}", "a time is negative or not a number")
    names = [("profile.model_name", record.model_name)]
    for i, op in enumerate(record.ops):
        names += [(f"profile.ops[{i}].name", op.name), (f"profile.ops[{i}].kernel", op.kernel)]
    for where, name in names:
        if len(name.encode()) > MAX_NAME_BYTES:
            raise bad_field(where, f"has more than {MAX_NAME_BYTES} bytes")
    if not 0 <= seconds_of(record.start_time) < LATEST_S:
        raise bad_field("profile.start_time", "is before 1970, or after 9998")


class Profiles:
    """The records; thread-safe.

    Args:
        engine: a database with the fleet's tables.
        runs: profile runs of the same database, which records may answer.
    """

    def __init__(self, engine: sa.Engine, runs: ProfileRuns) -> None:
        self.engine, self._reader, self._runs = engine, engine.execution_options(reads=True), runs

    @repeated
    def create(
        self, record: pb.ProfileRecord, device: str, *, run: str, request_id: str, digest: str
    ) -> pb.ProfileRecord:
        """Store a record in the name of a device.

        Args:
            run: the profile run that it answers, or already did; empty: none.

        Raises:
            ServiceError: FAILED_PRECONDITION (REQUEST_ID_REUSED, PROFILE_RUN_ENDED), NOT_FOUND (PROFILE_RUN_NOT_FOUND),
                PERMISSION_DENIED (NOT_THIS_DEVICE), INVALID_ARGUMENT: it is of another bundle than the run asked for.
        """
        with self.engine.begin() as db:
            made = requests.earlier(db, device, "profile", request_id, digest)
            if made is not None:
                return self._read(db, made)
            if run:
                made = self._runs.answer(db, run, device, record.bundle_sha256)
                if made:
                    return self._read(db, made)
            stored, profile = pb.ProfileRecord(), secrets.token_hex(8)
            stored.CopyFrom(record)
            stored.name, stored.device = f"profiles/{profile}", f"devices/{device}"
            now = self._runs.clock()
            row = {"id": profile, "device": device, "model_name": record.model_name, "created_s": now}
            added = db.execute(sa.insert(PROFILES).values(**row, record=stored.SerializeToString()))
            number = added.inserted_primary_key
            assert number is not None  # an autoincremented one
            if record.ops:
                ops = [
                    {"profile": number[0], "position": i, "kernel": op.kernel, "layer": op.name}
                    for i, op in enumerate(record.ops)
                ]
                db.execute(sa.insert(PROFILE_OPS), ops)
            if run:
                self._runs.finish(db, run, profile)
            requests.remember(db, device, "profile", request_id, digest, profile, now)
            return stored

    @repeated
    def get(self, profile: str) -> pb.ProfileRecord:
        """A record.

        Raises:
            ServiceError: NOT_FOUND (PROFILE_NOT_FOUND).
        """
        with self._reader.begin() as db:
            return self._read(db, profile)

    @repeated
    def list(
        self, *, model_name: str, device: str, kernel: str, layer: str, before: int | None, limit: int
    ) -> list[tuple[int, pb.ProfileRecord]]:
        """At most ``limit`` records with their numbers, newest first, older than ``before``; empty filters fit all."""
        query = sa.select(PROFILES.c.number, PROFILES.c.record).order_by(PROFILES.c.number.desc()).limit(limit)
        if before is not None:
            query = query.where(PROFILES.c.number < before)
        if model_name:
            query = query.where(PROFILES.c.model_name == model_name)
        if device:
            query = query.where(PROFILES.c.device == device)
        for column, value in ((PROFILE_OPS.c.kernel, kernel), (PROFILE_OPS.c.layer, layer)):
            if value:
                query = query.where(PROFILES.c.number.in_(sa.select(PROFILE_OPS.c.profile).where(column == value)))
        with self._reader.begin() as db:
            return [(row.number, pb.ProfileRecord.FromString(row.record)) for row in db.execute(query)]

    @staticmethod
    def _read(db: sa.Connection, profile: str) -> pb.ProfileRecord:
        data = db.execute(sa.select(PROFILES.c.record).where(PROFILES.c.id == profile)).scalar()
        if data is None:
            raise ServiceError(
                Code.NOT_FOUND, "PROFILE_NOT_FOUND", "there is no such profile", where=f"profiles/{profile}"
            )
        found: pb.ProfileRecord = pb.ProfileRecord.FromString(data)
        return found
