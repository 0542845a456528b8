"""The database: SQLAlchemy on SQLite by default, made to survive kills and power cuts, or PostgreSQL by URL."""

from __future__ import annotations

import functools
import logging
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import sqlalchemy as sa

from gossamer_services.common.errors import Code, ServiceError

_LOG = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")


def database_url(url: str, folder: Path, name: str) -> str:
    """``url``, or that of the SQLite file ``name`` in ``folder`` when it is empty."""
    return url or f"sqlite:///{folder / name}"


def open_database(url: str, tables: sa.MetaData) -> sa.Engine:
    """Connect, and make the tables that are missing, and columns and indexes that those of an earlier version lack.

    SQLite: a write-ahead log synced at every commit; transactions take the write lock as they begin, so that none
    fails halfway because another wrote in between. Others: transactions are serializable, and those that lose against
    another are to be repeated; see :func:`repeated`.

    Raises:
        ServiceError: UNAVAILABLE (NO_DATABASE) with the reason.
    """
    try:
        sqlite = url.startswith("sqlite")
        isolation = {} if sqlite else {"isolation_level": "SERIALIZABLE"}
        engine = sa.create_engine(url, pool_pre_ping=not sqlite, hide_parameters=True, **isolation)
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _prepare)
            sa.event.listen(engine, "begin", _begin)
        tables.create_all(engine)
        _extend(engine, tables)
    except (sa.exc.SQLAlchemyError, ImportError, ValueError) as e:
        raise ServiceError(
            Code.UNAVAILABLE,
            "NO_DATABASE",
            f"the database cannot be opened: {getattr(e, 'orig', None) or e}",
            where=_safe(url),
            hint="check that it runs, or that its folder exists and can be written",
        ) from e
    return engine


def repeated(method: Callable[P, R]) -> Callable[P, R]:
    """Repeat a method that is one transaction while it loses against others (serialization failure, deadlock, or the
    same key inserted at the same time), a few times.

    Raises:
        ServiceError: UNAVAILABLE (DATABASE_BUSY) when it went on losing, or the database is gone.
    """

    @functools.wraps(method)
    def run(*arguments: P.args, **options: P.kwargs) -> R:
        for attempt in range(_ATTEMPTS):
            try:
                return method(*arguments, **options)
            except sa.exc.DBAPIError as e:
                if getattr(e.orig, "sqlstate", None) not in _LOST:
                    if isinstance(e, sa.exc.OperationalError):
                        raise _busy(e) from e
                    raise
                lost = e
            time.sleep(random.uniform(0, 0.005 * 2**attempt))
        raise _busy(lost) from lost

    return run


_ATTEMPTS = 10
# SQLSTATE: serialization_failure, deadlock_detected, unique_violation.
_LOST = ("40001", "40P01", "23505")


def _extend(engine: sa.Engine, tables: sa.MetaData) -> None:
    """Columns, which may be null, and indexes that came after their table."""
    found = sa.inspect(engine)
    for table in tables.sorted_tables:
        columns = {column["name"] for column in found.get_columns(table.name)}
        indexes = {index["name"] for index in found.get_indexes(table.name)}
        with engine.connect() as db:
            for column in table.columns:
                if column.name not in columns and column.nullable:
                    kind = column.type.compile(engine.dialect)
                    db.execute(sa.text(f'ALTER TABLE "{table.name}" ADD COLUMN "{column.name}" {kind}'))
            for index in table.indexes:
                if index.name not in indexes:
                    index.create(db)
            db.commit()


def _busy(error: sa.exc.DBAPIError) -> ServiceError:
    _LOG.warning("the database does not answer: %s", error.orig)  # which is not for clients: it names host and user
    return ServiceError(Code.UNAVAILABLE, "DATABASE_BUSY", "the database does not answer", hint="try again later")


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
