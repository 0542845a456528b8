"""Tokens: 256 random bits each, stored as their SHA-256 alone, with scopes, an end, and revocation.

A fast hash is right here because nobody can guess 256 random bits; a slow one would let strangers make the server work.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from gossamer_services.common.database import repeated
from gossamer_services.common.errors import Code, ServiceError

SCOPES = ("read", "submit", "flash", "admin")
"""What a token may do; admin includes the others."""

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", re.ASCII)

TABLES = sa.MetaData()
_TOKENS = sa.Table(
    "tokens",
    TABLES,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("scopes", sa.String(64), nullable=False),
    sa.Column("created_s", sa.Float, nullable=False),
    sa.Column("expires_s", sa.Float),
    sa.Column("revoked", sa.Boolean, nullable=False),
)


@dataclass(frozen=True)
class Token:
    """What is known of a token; never the token itself. Times are Unix seconds; ``expires_s`` None: it does not end."""

    name: str
    scopes: frozenset[str]
    created_s: float
    expires_s: float | None
    revoked: bool


class TokenStore:
    """The tokens of a database whose tables :data:`TABLES` exist."""

    def __init__(self, engine: sa.Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine, self._clock = engine, clock

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def create(self, name: str, scopes: Iterable[str], lifetime_s: float | None = None) -> str:
        """Make a token and return it; it is shown this once.

        Raises:
            ServiceError: the name is malformed or taken, a scope is unknown, none is given, or the lifetime is not
                positive.
        """
        wanted = frozenset(scopes)
        if not _NAME.fullmatch(name):
            raise _refused(f"{name!r} is not a name of 1 to 64 of A-Z a-z 0-9 . _ -", "name")
        if not wanted or wanted - set(SCOPES):
            raise _refused(f"scopes must be some of {', '.join(SCOPES)}", "scopes")
        if lifetime_s is not None and not lifetime_s > 0:
            raise _refused("the lifetime must be positive", "lifetime")
        token = f"goss_{secrets.token_urlsafe(32)}"
        now = self._clock()
        row = {
            "name": name,
            "sha256": _digest(token),
            "scopes": ",".join(sorted(wanted)),
            "created_s": now,
            "expires_s": None if lifetime_s is None else now + lifetime_s,
            "revoked": False,
        }
        try:
            with self._engine.begin() as db:
                db.execute(sa.insert(_TOKENS).values(row))
        except sa.exc.IntegrityError:
            raise _refused(f"there is a token called {name!r}", "name") from None
        return token

    def revoke(self, name: str) -> None:
        """Refuse a token from now on.

        Raises:
            ServiceError: NOT_FOUND.
        """
        with self._engine.begin() as db:
            changed = db.execute(sa.update(_TOKENS).where(_TOKENS.c.name == name).values(revoked=True)).rowcount
        if not changed:
            raise ServiceError(Code.NOT_FOUND, "TOKEN_NOT_FOUND", f"there is no token called {name!r}")

    def list(self) -> list[Token]:
        """All tokens by name."""
        with self._engine.execution_options(reads=True).begin() as db:
            return [_token(row) for row in db.execute(sa.select(_TOKENS).order_by(_TOKENS.c.name))]

    @repeated
    def check(self, token: str) -> Token:
        """The token's record.

        Raises:
            ServiceError: UNAUTHENTICATED (TOKEN_UNKNOWN, TOKEN_REVOKED, TOKEN_EXPIRED).
        """
        with self._engine.execution_options(reads=True).begin() as db:
            # The database compares digests, whose prefix tells nothing about a token that would fit.
            row = db.execute(sa.select(_TOKENS).where(_TOKENS.c.sha256 == _digest(token))).first()
        if row is None:
            raise ServiceError(Code.UNAUTHENTICATED, "TOKEN_UNKNOWN", "the token is not known here")
        found = _token(row)
        if found.revoked:
            raise ServiceError(Code.UNAUTHENTICATED, "TOKEN_REVOKED", f"the token {found.name!r} was revoked")
        if found.expires_s is not None and self._clock() >= found.expires_s:
            raise ServiceError(Code.UNAUTHENTICATED, "TOKEN_EXPIRED", f"the token {found.name!r} has expired")
        return found


def _token(row: sa.Row[tuple[object, ...]]) -> Token:
    return Token(row.name, frozenset(row.scopes.split(",")), row.created_s, row.expires_s, bool(row.revoked))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _refused(message: str, field: str) -> ServiceError:
    return ServiceError(Code.INVALID_ARGUMENT, "BAD_FIELD", message, where=field, fields=[(field, message)])
