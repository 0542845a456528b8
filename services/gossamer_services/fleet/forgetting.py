"""What the fleet forgets after some time: profile runs, request ids, and, where it is told to, profile records."""

from __future__ import annotations

import sqlalchemy as sa

from gossamer_services.common.database import repeated
from gossamer_services.fleet.tables import PROFILE_OPS, PROFILE_RUNS, PROFILES, REQUESTS

_AT_A_TIME = 500


def forget_runs(engine: sa.Engine, before_s: float, now_s: float) -> int:
    """Delete runs and request ids of before a time; runs whose lease goes on stay. Returns how many of both."""
    _date(engine, REQUESTS, now_s)
    ended = sa.and_(PROFILE_RUNS.c.created_s < before_s, PROFILE_RUNS.c.lease_ends_s <= now_s)
    return _delete(engine, sa.delete(PROFILE_RUNS).where(ended)) + _delete(
        engine, sa.delete(REQUESTS).where(REQUESTS.c.created_s < before_s)
    )


def forget_profiles(engine: sa.Engine, before_s: float, now_s: float) -> int:
    """Delete profile records of before a time; returns how many."""
    _date(engine, PROFILES, now_s)
    total = 0
    while count := _delete_profiles(engine, before_s):
        total += count
    return total


@repeated
def _delete_profiles(engine: sa.Engine, before_s: float) -> int:
    """Some of them: records are large."""
    with engine.begin() as db:
        old = sa.select(PROFILES.c.number).where(PROFILES.c.created_s < before_s).limit(_AT_A_TIME)
        numbers = db.scalars(old).all()
        db.execute(sa.delete(PROFILE_OPS).where(PROFILE_OPS.c.profile.in_(numbers)))
        db.execute(sa.delete(PROFILES).where(PROFILES.c.number.in_(numbers)))
    return len(numbers)


@repeated
def _delete(engine: sa.Engine, which: sa.Delete) -> int:
    with engine.begin() as db:
        return db.execute(which).rowcount


@repeated
def _date(engine: sa.Engine, table: sa.Table, now_s: float) -> None:
    """Rows of a server that noted no time count as made now."""
    with engine.begin() as db:
        db.execute(sa.update(table).where(table.c.created_s.is_(None)).values(created_s=now_s))
