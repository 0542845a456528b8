"""Members of a rollout: the devices that it is for, each in a state.

They are in an order drawn from the rollout's id and theirs. A member waits, is told (its desired version is set), and
then runs the version or has failed; both by its heartbeats.

::

    waiting -> told -> updated or failed
    told -> waiting                    by a halt
    told, updated, failed -> back      by a rollback
    back -> home, home -> back         it runs the version no more, or again
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer_services.common.etags import new_etag
from gossamer_services.fleet.tables import DEVICES, MEMBERS

WAITING, TOLD, UPDATED, FAILED, BACK, HOME = "waiting", "told", "updated", "failed", "back", "home"


@dataclass(frozen=True)
class Counts:
    """Members by state."""

    waiting: int = 0
    told: int = 0
    updated: int = 0
    failed: int = 0
    back: int = 0
    home: int = 0

    @property
    def all(self) -> int:
        """All members."""
        return self.waiting + self.reached

    @property
    def reached(self) -> int:
        """Members that were told, whatever became of them."""
        return self.told + self.updated + self.failed + self.back + self.home


def count(db: sa.Connection, rollout: str) -> Counts:
    """The members of a rollout by state."""
    query = sa.select(MEMBERS.c.state, sa.func.count().label("number")).where(MEMBERS.c.rollout == rollout)
    return Counts(**{row.state: row.number for row in db.execute(query.group_by(MEMBERS.c.state))})


def has(db: sa.Connection, rollout: str, state: str) -> bool:
    """Whether a member is in this state."""
    one = sa.select(MEMBERS.c.place).where(MEMBERS.c.rollout == rollout, MEMBERS.c.state == state)
    return db.execute(one.limit(1)).first() is not None


def outcome(status: pb.DeviceStatus, sha256: str) -> str | None:
    """The state of a member that was told to run this bundle, by what it says; None: nothing came of it yet."""
    if status.bundle_sha256 == sha256:
        return UPDATED
    return FAILED if status.failed_sha256 == sha256 else None


def move(db: sa.Connection, member: Any, state: str) -> None:
    """Set the state of a member, given its row."""
    mine = sa.update(MEMBERS).where(MEMBERS.c.rollout == member.rollout, MEMBERS.c.device == member.device)
    db.execute(mine.values(state=state))


def desire(db: sa.Connection, device: str, version: str) -> None:
    """Set what a device is to run."""
    db.execute(sa.update(DEVICES).where(DEVICES.c.id == device).values(desired=version, etag=new_etag()))


def give_back(db: sa.Connection, rollout: str, moves: Mapping[str, str]) -> None:
    """Members in the states of ``moves`` are to run what they were to run before, and change their state by it."""
    query = sa.select(MEMBERS).where(MEMBERS.c.rollout == rollout, MEMBERS.c.state.in_(moves))
    for member in db.execute(query).all():
        desire(db, member.device, member.before)
        move(db, member, moves[member.state])


def send_home(db: sa.Connection, rollout: Any) -> None:
    """Of those on their way back, the ones that no rollback waits for: they do not run the version, or stay with it."""
    query = sa.select(MEMBERS, DEVICES.c.status).join(DEVICES, DEVICES.c.id == MEMBERS.c.device)
    for member in db.execute(query.where(MEMBERS.c.rollout == rollout.id, MEMBERS.c.state == BACK)).all():
        runs = pb.DeviceStatus.FromString(member.status).bundle_sha256 == rollout.sha256
        if not runs or stays(member, rollout):
            move(db, member, HOME)


def stays(member: Any, rollout: Any) -> bool:
    """Whether a member has nothing to go back to but what it runs; both by their rows."""
    return member.before in ("", pb.Rollout.FromString(rollout.wanted).version)
