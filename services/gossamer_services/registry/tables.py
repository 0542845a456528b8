"""Tables of the registry's metadata."""

from __future__ import annotations

import sqlalchemy as sa

TABLES = sa.MetaData()

VERSIONS = sa.Table(
    "registry_versions",
    TABLES,
    # Grows with every version: the order of lists, and what page tokens hold.
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("bundle", sa.String(64), nullable=False),
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False, index=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("labels", sa.Text, nullable=False),
    sa.Column("model_name", sa.Text, nullable=False),
    sa.Column("model_version", sa.Text, nullable=False),
    sa.Column("key_fingerprint", sa.String(64), nullable=False),
    sa.Column("created_s", sa.Float, nullable=False),
    sa.Column("creator", sa.String(128), nullable=False),
    sa.Column("etag", sa.String(32), nullable=False),
    sa.UniqueConstraint("bundle", "version"),
    sqlite_autoincrement=True,
)

CHANNELS = sa.Table(
    "registry_channels",
    TABLES,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("bundle", sa.String(64), nullable=False),
    sa.Column("channel", sa.String(16), nullable=False),
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("updated_s", sa.Float, nullable=False),
    sa.Column("etag", sa.String(32), nullable=False),
    sa.UniqueConstraint("bundle", "channel"),
    sa.ForeignKeyConstraint(["bundle", "version"], ["registry_versions.bundle", "registry_versions.version"]),
    sqlite_autoincrement=True,
)

LEASES = sa.Table(
    "registry_leases",
    TABLES,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(128), primary_key=True),
    sa.Column("expires_s", sa.Float, nullable=False),
)

REQUESTS = sa.Table(
    "registry_requests",
    TABLES,
    sa.Column("caller", sa.String(128), primary_key=True),
    sa.Column("request_id", sa.String(64), primary_key=True),
    # Digest of the request without its id, and what it made.
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("bundle", sa.String(64), nullable=False),
    sa.Column("version", sa.String(64), nullable=False),
)
