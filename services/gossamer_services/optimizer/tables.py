"""The tables of the job store, and how its database is opened."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from gossamer._errors import InputError

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

VETTED = sa.Table(
    "vetted_blobs",
    META,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("role", sa.String(16), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
)
"""Blobs that were looked into and found harmless; those that are not leave no trace."""


def open_database(url: str) -> sa.Engine:
    """The database behind ``url``, with its tables.

    Args:
        url: of SQLAlchemy: ``sqlite:////var/lib/gossamer/jobs.db``, ``postgresql+psycopg://...``.

    Raises:
        InputError: the URL is wrong, its driver is missing, or the database cannot be opened or written to.
    """
    try:
        engine = sa.create_engine(url, connect_args={"timeout": 30.0} if url.startswith("sqlite") else {})
        if engine.dialect.name == "sqlite":
            _sqlite(engine)
        META.create_all(engine)
    except (sa.exc.SQLAlchemyError, ImportError) as e:
        reason = str(e).splitlines()[0]
        safe = sa.engine.make_url(url).render_as_string() if "://" in url else url
        raise InputError(
            f"the job store cannot be opened: {reason}", where=safe, hint="check the URL, and who may write there"
        ) from e
    return engine


def _sqlite(engine: sa.Engine) -> None:
    """Real transactions: the driver's own start late and would let two writers read the same row first."""

    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        # Each commit is on the disk when it returns: a job that was accepted survives a power cut.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        reads = connection.get_execution_options().get("reads", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
