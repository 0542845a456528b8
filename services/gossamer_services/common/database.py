"""The database: SQLAlchemy on SQLite by default, made to survive kills and power cuts, or another by URL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from gossamer_services.common.errors import Code, ServiceError


def database_url(url: str, folder: Path, name: str) -> str:
    """``url``, or that of the SQLite file ``name`` in ``folder`` when it is empty."""
    return url or f"sqlite:///{folder / name}"


def open_database(url: str, tables: sa.MetaData) -> sa.Engine:
    """Connect and make the tables that are missing.

    SQLite: a write-ahead log synced at every commit; transactions take the write lock as they begin, so that none
    fails halfway because another wrote in between.

    Raises:
        ServiceError: UNAVAILABLE (NO_DATABASE) with the reason.
    """
    try:
        engine = sa.create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _prepare)
            sa.event.listen(engine, "begin", _begin)
        tables.create_all(engine)
    except (sa.exc.SQLAlchemyError, ImportError, ValueError) as e:
        raise ServiceError(
            Code.UNAVAILABLE,
            "NO_DATABASE",
            f"the database cannot be opened: {getattr(e, 'orig', None) or e}",
            where=_safe(url),
            hint="check that it runs, or that its folder exists and can be written",
        ) from e
    return engine


def _safe(url: str) -> str:
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return "state.database"


def _prepare(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's own BEGIN below, not the driver's late one
    for pragma in ("busy_timeout=10000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    reads = connection.get_execution_options().get("reads")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
