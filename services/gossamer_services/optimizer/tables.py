"""The tables of the job store."""

from __future__ import annotations

import sqlalchemy as sa

META = sa.MetaData()

JOBS = sa.Table(
    "jobs",
    META,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(32), nullable=False, unique=True),
    sa.Column("submitter", sa.String(200), nullable=False),
    sa.Column("request_id", sa.String(64)),
    sa.Column("spec", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("stage", sa.String(32), nullable=False, default=""),
    sa.Column("percent", sa.Float, nullable=False, default=0.0),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("crashes", sa.Integer, nullable=False, default=0),
    sa.Column("interruptions", sa.Integer, nullable=False, default=0),
    sa.Column("spent_s", sa.Float, nullable=False, default=0.0),
    sa.Column("last_failure", sa.Text, nullable=False, default=""),
    sa.Column("sweep", sa.String(64), nullable=False, default="", index=True),
    sa.Column("cancelling", sa.Boolean, nullable=False, default=False),
    sa.Column("owner", sa.String(200), nullable=False, default=""),
    sa.Column("lease_until_s", sa.Float, nullable=False, default=0.0),
    sa.Column("not_before_s", sa.Float, nullable=False, default=0.0),
    sa.Column("created_s", sa.Float, nullable=False),
    sa.Column("started_s", sa.Float),
    sa.Column("updated_s", sa.Float, nullable=False),
    sa.Column("ended_s", sa.Float),
    sa.Column("error", sa.Text),
    sa.Column("result", sa.Text),
    sa.Column("revision", sa.Integer, nullable=False, default=1),
    sa.UniqueConstraint("submitter", "request_id", name="one_job_a_request"),
    sa.Index("jobs_by_state", "state", "number"),
)

EVENTS = sa.Table(
    "job_events",
    META,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("job", sa.String(32), nullable=False, index=True),
    sa.Column("at_s", sa.Float, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
)
"""Every change of state, in the transaction that makes it: what a job went through, and that it ended once."""

BLOBS = sa.Table(
    "job_blobs",
    META,
    sa.Column("job", sa.String(32), primary_key=True),
    sa.Column("role", sa.String(16), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False, index=True),
)
"""What jobs refer to: their inputs until they end, their artefacts from then on."""

BLOB_LEASES = sa.Table(
    "job_blob_leases",
    META,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("until_s", sa.Float, nullable=False),
)
"""Until when a registry elsewhere keeps what jobs refer to."""

VETTED = sa.Table(
    "vetted_blobs",
    META,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("role", sa.String(16), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
)
"""Blobs that were looked into and found harmless; those that are not leave no trace."""
