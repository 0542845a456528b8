"""Versions, channels and leases in the database, with etags and idempotent creation."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from gossamer_services.common.database import repeated
from gossamer_services.common.errors import Code, ServiceError, bad_field, reused_request_id
from gossamer_services.common.etags import check_etag, new_etag
from gossamer_services.registry.blobs import BlobStore, not_found
from gossamer_services.registry.names import channel_name, version_name
from gossamer_services.registry.tables import CHANNELS, LEASES, REQUESTS, VERSIONS

NEW = "new"
"""The etag of what must not exist yet."""


@dataclass(frozen=True)
class Version:
    """A version of a bundle, as in ``gossamer.v1.Version``. ``number`` orders versions by age; times: Unix seconds."""

    bundle: str
    version: str
    sha256: str
    size_bytes: int
    description: str
    labels: Mapping[str, str]
    model_name: str
    model_version: str
    key_fingerprint: str
    creator: str
    created_s: float = 0.0
    etag: str = ""
    number: int = 0


@dataclass(frozen=True)
class Channel:
    """A channel, as in ``gossamer.v1.Channel``; versions by their short names."""

    bundle: str
    channel: str
    version: str
    previous: str
    updated_s: float
    etag: str
    number: int = 0


class Records:
    """The registry's records; thread-safe.

    Args:
        engine: a database with the tables of :mod:`gossamer_services.registry.tables`.
        blobs: blobs that versions and leases refer to.
        clock: Unix time in seconds.
    """

    def __init__(self, engine: sa.Engine, blobs: BlobStore, clock: Callable[[], float] = time.time) -> None:
        self._engine, self._blobs, self.clock = engine, blobs, clock
        self._reader = engine.execution_options(reads=True)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    @repeated
    def create(
        self, wanted: Version, *, caller: str, request_id: str = "", digest: str = "", dry: bool = False
    ) -> Version:
        """Make a version, or give back the one that the same request made before.

        Args:
            caller: who asks; request ids of different callers never meet.
            digest: of the whole request, to tell a repeat from another request with the same id.
            dry: check only.

        Raises:
            ServiceError: NOT_FOUND (BLOB_NOT_FOUND), ALREADY_EXISTS (VERSION_EXISTS), FAILED_PRECONDITION
                (REQUEST_ID_REUSED).
        """
        with self._blobs.pin, self._engine.begin() as db:
            if request_id:
                earlier = db.execute(
                    sa.select(REQUESTS).where(REQUESTS.c.caller == caller, REQUESTS.c.request_id == request_id)
                ).first()
                if earlier is not None:
                    if earlier.digest != digest:
                        raise reused_request_id()
                    return _version(self._row(db, earlier.bundle, earlier.version))
            if self._blobs.size(wanted.sha256) is None:
                raise not_found(wanted.sha256)
            taken = sa.select(VERSIONS.c.number).where(
                VERSIONS.c.bundle == wanted.bundle, VERSIONS.c.version == wanted.version
            )
            if db.execute(taken).first() is not None:
                name = version_name(wanted.bundle, wanted.version)
                raise ServiceError(
                    Code.ALREADY_EXISTS, "VERSION_EXISTS", "the version exists", where=name, hint="choose another"
                )
            row = {k: v for k, v in vars(wanted).items() if k != "number"}
            row |= {"labels": json.dumps(dict(wanted.labels)), "created_s": self.clock(), "etag": new_etag()}
            if dry:
                return _version(type("Row", (), {**row, "number": 0})())
            db.execute(sa.insert(VERSIONS).values(row))
            if request_id:
                db.execute(
                    sa.insert(REQUESTS).values(
                        caller=caller,
                        request_id=request_id,
                        digest=digest,
                        bundle=wanted.bundle,
                        version=wanted.version,
                    )
                )
            return _version(self._row(db, wanted.bundle, wanted.version))

    @repeated
    def version(self, bundle: str, version: str) -> Version:
        """A version.

        Raises:
            ServiceError: NOT_FOUND (VERSION_NOT_FOUND).
        """
        with self._reader.begin() as db:
            return _version(self._row(db, bundle, version))

    @repeated
    def versions(self, bundle: str, before: int | None, limit: int, *, sha256: str = "") -> list[Version]:
        """At most ``limit`` versions, newest first, older than number ``before``.

        Args:
            bundle: of this bundle; empty: of all.
            sha256: with these bytes; empty: whatever their bytes.
        """
        query = sa.select(VERSIONS).order_by(VERSIONS.c.number.desc()).limit(limit)
        if bundle:
            query = query.where(VERSIONS.c.bundle == bundle)
        if sha256:
            query = query.where(VERSIONS.c.sha256 == sha256)
        if before is not None:
            query = query.where(VERSIONS.c.number < before)
        with self._reader.begin() as db:
            return [_version(row) for row in db.execute(query)]

    @repeated
    def update(self, bundle: str, version: str, etag: str, changes: Mapping[str, Any], *, dry: bool = False) -> Version:
        """Change ``description`` or ``labels``.

        Raises:
            ServiceError: NOT_FOUND (VERSION_NOT_FOUND), ABORTED (ETAG_MISMATCH).
        """
        values = dict(changes)
        if "labels" in values:
            values["labels"] = json.dumps(dict(values["labels"]))
        with self._engine.connect() as db, db.begin() as transaction:
            row = self._row(db, bundle, version)
            check_etag(etag, row.etag)
            change = sa.update(VERSIONS).where(VERSIONS.c.number == row.number)
            db.execute(change.values(**values, etag=new_etag()))
            found = _version(self._row(db, bundle, version))
            if dry:
                transaction.rollback()
            return found

    @repeated
    def delete(self, bundle: str, version: str, etag: str, *, dry: bool = False) -> None:
        """Remove a version.

        Raises:
            ServiceError: NOT_FOUND (VERSION_NOT_FOUND), ABORTED (ETAG_MISMATCH), FAILED_PRECONDITION (VERSION_IN_USE).
        """
        with self._engine.begin() as db:
            row = self._row(db, bundle, version)
            check_etag(etag, row.etag)
            used = db.execute(
                sa.select(CHANNELS.c.channel).where(CHANNELS.c.bundle == bundle, CHANNELS.c.version == version)
            ).scalars()
            names = sorted(used)
            if names:
                raise ServiceError(
                    Code.FAILED_PRECONDITION,
                    "VERSION_IN_USE",
                    f"channels name this version: {', '.join(names)}",
                    where=version_name(bundle, version),
                    hint="point them at another version first",
                )
            if not dry:
                made = (REQUESTS.c.bundle == bundle, REQUESTS.c.version == version)
                db.execute(sa.delete(REQUESTS).where(*made))
                db.execute(sa.delete(VERSIONS).where(VERSIONS.c.number == row.number))

    @repeated
    def channel(self, bundle: str, channel: str) -> Channel:
        """A channel.

        Raises:
            ServiceError: NOT_FOUND (CHANNEL_NOT_FOUND).
        """
        with self._reader.begin() as db:
            found = _find_channel(db, bundle, channel)
        if found is None:
            raise ServiceError(
                Code.NOT_FOUND,
                "CHANNEL_NOT_FOUND",
                "nothing was published there",
                where=channel_name(bundle, channel),
                hint="point the channel at a version first",
            )
        return found

    @repeated
    def channels(self, bundle: str, after: int | None, limit: int) -> list[Channel]:
        """At most ``limit`` channels of a bundle (empty: of all), oldest first, after number ``after``."""
        query = sa.select(CHANNELS).order_by(CHANNELS.c.number).limit(limit)
        if bundle:
            query = query.where(CHANNELS.c.bundle == bundle)
        if after is not None:
            query = query.where(CHANNELS.c.number > after)
        with self._reader.begin() as db:
            return [Channel(**row._mapping) for row in db.execute(query)]

    @repeated
    def point(self, bundle: str, channel: str, version: str, etag: str, *, dry: bool = False) -> Channel:
        """Point a channel at a version of its bundle, making the channel where it is missing.

        Raises:
            ServiceError: NOT_FOUND (VERSION_NOT_FOUND), ABORTED (ETAG_MISMATCH).
        """
        with self._engine.connect() as db, db.begin() as transaction:
            self._row(db, bundle, version)
            earlier = _find_channel(db, bundle, channel)
            check_etag(etag, NEW if earlier is None else earlier.etag)
            values = {"version": version, "updated_s": self.clock(), "etag": new_etag()}
            if earlier is None:
                db.execute(sa.insert(CHANNELS).values(bundle=bundle, channel=channel, previous="", **values))
            elif earlier.version != version:
                change = sa.update(CHANNELS).where(CHANNELS.c.number == earlier.number)
                db.execute(change.values(previous=earlier.version, **values))
            found = _find_channel(db, bundle, channel)
            assert found is not None  # made or found above, in this transaction
            if dry:
                transaction.rollback()
            return found

    @repeated
    def lease(self, sha256: str, owner: str, expires_s: float) -> float:
        """Keep a blob until a time; a lease of the same owner is never shortened. Returns when it ends.

        Raises:
            ServiceError: NOT_FOUND (BLOB_NOT_FOUND).
        """
        mine = (LEASES.c.sha256 == sha256, LEASES.c.owner == owner)
        with self._blobs.pin, self._engine.begin() as db:
            if self._blobs.size(sha256) is None:
                raise not_found(sha256)
            earlier = db.execute(sa.select(LEASES.c.expires_s).where(*mine)).scalar()
            if earlier is None:
                db.execute(sa.insert(LEASES).values(sha256=sha256, owner=owner, expires_s=expires_s))
            elif earlier < expires_s:
                db.execute(sa.update(LEASES).where(*mine).values(expires_s=expires_s))
        return expires_s if earlier is None else max(earlier, expires_s)

    @repeated
    def release(self, owner: str) -> None:
        """End all leases of an owner."""
        with self._engine.begin() as db:
            db.execute(sa.delete(LEASES).where(LEASES.c.owner == owner))

    @repeated
    def refers_to(self, sha256: str) -> bool:
        """True when a version or a lease that has not ended refers to the blob."""
        with self._reader.begin() as db:
            if db.execute(sa.select(VERSIONS.c.number).where(VERSIONS.c.sha256 == sha256).limit(1)).first():
                return True
            live = sa.select(LEASES.c.owner).where(LEASES.c.sha256 == sha256, LEASES.c.expires_s > self.clock())
            return db.execute(live.limit(1)).first() is not None

    def name_of(self, sha256: str) -> str:
        """Resource name of the newest version with these bytes; empty: there is none."""
        newest = self.versions("", None, 1, sha256=sha256)
        return version_name(newest[0].bundle, newest[0].version) if newest else ""

    @repeated
    def end_leases(self) -> None:
        """Remove leases that have ended."""
        with self._engine.begin() as db:
            db.execute(sa.delete(LEASES).where(LEASES.c.expires_s <= self.clock()))

    @repeated
    def forget_requests(self, before_s: float) -> None:
        """Forget the request ids of versions made before a time: repeats end with ALREADY_EXISTS from then on."""
        old = sa.exists().where(
            VERSIONS.c.bundle == REQUESTS.c.bundle,
            VERSIONS.c.version == REQUESTS.c.version,
            VERSIONS.c.created_s < before_s,
        )
        with self._engine.begin() as db:
            db.execute(sa.delete(REQUESTS).where(old))

    @staticmethod
    def _row(db: sa.Connection, bundle: str, version: str) -> Any:
        row = db.execute(sa.select(VERSIONS).where(VERSIONS.c.bundle == bundle, VERSIONS.c.version == version)).first()
        if row is None:
            raise ServiceError(
                Code.NOT_FOUND,
                "VERSION_NOT_FOUND",
                "there is no such version",
                where=version_name(bundle, version),
                hint="ListVersions tells which there are",
            )
        return row


def check_labels(labels: Mapping[str, str], field: str) -> dict[str, str]:
    """At most 64 labels, keys of 1 to 64 and values of at most 256 characters.

    Raises:
        ServiceError: INVALID_ARGUMENT.
    """
    if len(labels) > 64:
        raise bad_field(field, f"{len(labels)} labels; 64 are allowed")
    for key, value in labels.items():
        if not 0 < len(key) <= 64 or len(value) > 256:
            raise bad_field(field, "keys have 1 to 64 characters and values at most 256")
    return dict(labels)


def _find_channel(db: sa.Connection, bundle: str, channel: str) -> Channel | None:
    row = db.execute(sa.select(CHANNELS).where(CHANNELS.c.bundle == bundle, CHANNELS.c.channel == channel)).first()
    return None if row is None else Channel(**row._mapping)


def _version(row: Any) -> Version:
    return Version(
        **{name: getattr(row, name) for name in Version.__dataclass_fields__ if name != "labels"},
        labels=json.loads(row.labels),
    )
