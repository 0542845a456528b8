"""What the job store notes of blobs: who refers to them, how long a registry elsewhere keeps them, what is harmless."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from gossamer_services.common.database import repeated
from gossamer_services.optimizer.tables import BLOB_LEASES, BLOBS, VETTED


class BlobNotes:
    """Notes of a database with the job store's tables; thread-safe."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine, self._reader = engine, engine.execution_options(reads=True)

    @repeated
    def vetted(self, digest: str, role: str) -> str | None:
        """The kind of a blob that was looked into before, for example ``onnx``; None: it was not."""
        query = sa.select(VETTED.c.kind).where(VETTED.c.digest == digest, VETTED.c.role == role)
        with self._reader.connect() as db:
            kind = db.scalar(query)
        return None if kind is None else str(kind)

    @repeated
    def remember_vetted(self, digest: str, role: str, kind: str) -> None:
        """Note that a blob is harmless in this role."""
        with self._engine.begin() as db:
            db.execute(VETTED.delete().where(VETTED.c.digest == digest, VETTED.c.role == role))
            db.execute(VETTED.insert().values(digest=digest, role=role, kind=kind))

    @repeated
    def refers_to(self, digest: str) -> bool:
        """Whether a job still reads this blob, or made it: garbage collection has to leave it."""
        with self._reader.connect() as db:
            return db.scalar(sa.select(BLOBS.c.job).where(BLOBS.c.digest == digest).limit(1)) is not None

    @repeated
    def unleased(self, until_s: float, limit: int) -> Sequence[str]:
        """At most ``limit`` digests that jobs refer to and that no lease keeps until a time, most urgent first."""
        lease = BLOB_LEASES.c.until_s
        query = sa.select(BLOBS.c.digest).outerjoin(BLOB_LEASES, BLOB_LEASES.c.digest == BLOBS.c.digest)
        query = query.where(sa.or_(lease.is_(None), lease < until_s)).group_by(BLOBS.c.digest, lease)
        with self._reader.connect() as db:
            return list(db.scalars(query.order_by(sa.func.coalesce(lease, 0.0)).limit(limit)))

    @repeated
    def remember_leases(self, digests: Sequence[str], until_s: float) -> None:
        """Note until when these are kept, and forget leases of what no job refers to any more."""
        with self._engine.begin() as db:
            db.execute(BLOB_LEASES.delete().where(BLOB_LEASES.c.digest.in_(digests)))
            if digests:
                db.execute(BLOB_LEASES.insert(), [{"digest": digest, "until_s": until_s} for digest in digests])
            db.execute(BLOB_LEASES.delete().where(BLOB_LEASES.c.digest.not_in(sa.select(BLOBS.c.digest))))
