"""Tables of the fleet. Messages that are only stored and given back are kept serialized."""

from __future__ import annotations

import sqlalchemy as sa

TABLES = sa.MetaData()

ENROLLMENTS = sa.Table(
    "fleet_enrollments",
    TABLES,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("labels", sa.Text, nullable=False),
    sa.Column("expires_s", sa.Float, nullable=False),
    # Of the device that used the token; empty until then.
    sa.Column("device", sa.String(32), nullable=False),
    sa.Column("request", sa.String(64), nullable=False),
    sa.Column("certificate", sa.Text, nullable=False),
)

DEVICES = sa.Table(
    "fleet_devices",
    TABLES,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(32), nullable=False, unique=True),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("labels", sa.Text, nullable=False),
    sa.Column("facts", sa.LargeBinary, nullable=False),
    sa.Column("status", sa.LargeBinary, nullable=False),
    sa.Column("desired", sa.String(160), nullable=False),
    sa.Column("enrolled_s", sa.Float, nullable=False),
    sa.Column("heartbeat_s", sa.Float, nullable=False),
    sa.Column("certificate_ends_s", sa.Float, nullable=False),
    sa.Column("lease", sa.String(32), nullable=False),
    sa.Column("holder", sa.String(128), nullable=False),
    sa.Column("lease_ends_s", sa.Float, nullable=False),
    sa.Column("etag", sa.String(32), nullable=False),
    sqlite_autoincrement=True,
)

ROLLOUTS = sa.Table(
    "fleet_rollouts",
    TABLES,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(32), nullable=False, unique=True),
    sa.Column("bundle", sa.String(64), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    # A gossamer.v1.Rollout without name, state, stage, counts, times and etag.
    sa.Column("wanted", sa.LargeBinary, nullable=False),
    sa.Column("state", sa.Integer, nullable=False, index=True),
    sa.Column("stage", sa.Integer, nullable=False),
    sa.Column("stage_began_s", sa.Float, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("created_s", sa.Float, nullable=False),
    sa.Column("updated_s", sa.Float, nullable=False),
    sa.Column("etag", sa.String(32), nullable=False),
    sqlite_autoincrement=True,
)

MEMBERS = sa.Table(
    "fleet_members",
    TABLES,
    sa.Column("rollout", sa.String(32), primary_key=True),
    sa.Column("device", sa.String(32), primary_key=True, index=True),
    # Order in which the rollout reaches them.
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("state", sa.String(8), nullable=False),
    # What it was to run before, or ran.
    sa.Column("before", sa.String(160), nullable=False),
    sa.Index("fleet_members_by_state", "rollout", "state"),
)

PROFILES = sa.Table(
    "fleet_profiles",
    TABLES,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(32), nullable=False, unique=True),
    sa.Column("device", sa.String(32), nullable=False, index=True),
    sa.Column("model_name", sa.Text, nullable=False, index=True),
    sa.Column("record", sa.LargeBinary, nullable=False),
    # Null: by a server that did not note it.
    sa.Column("created_s", sa.Float),
    sqlite_autoincrement=True,
)

PROFILE_OPS = sa.Table(
    "fleet_profile_ops",
    TABLES,
    sa.Column("profile", sa.Integer, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("kernel", sa.Text, nullable=False, index=True),
    sa.Column("layer", sa.Text, nullable=False, index=True),
)

PROFILE_RUNS = sa.Table(
    "fleet_profile_runs",
    TABLES,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(32), nullable=False, unique=True),
    sa.Column("lease", sa.String(32), nullable=False, index=True),
    # Of the lease: a run that has not ended then has failed.
    sa.Column("lease_ends_s", sa.Float, nullable=False),
    sa.Column("device", sa.String(32), nullable=False, index=True),
    sa.Column("version", sa.String(160), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("runs", sa.Integer, nullable=False),
    sa.Column("warmup_runs", sa.Integer, nullable=False),
    sa.Column("state", sa.Integer, nullable=False),
    sa.Column("profile", sa.String(32), nullable=False),
    sa.Column("failure_reason", sa.String(64), nullable=False),
    sa.Column("failure_message", sa.Text, nullable=False),
    sa.Column("created_s", sa.Float, nullable=False),
    sqlite_autoincrement=True,
)

REQUESTS = sa.Table(
    "fleet_requests",
    TABLES,
    sa.Column("caller", sa.String(128), primary_key=True),
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("request_id", sa.String(64), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("made", sa.String(32), nullable=False),
    # As for profiles.
    sa.Column("created_s", sa.Float),
)
