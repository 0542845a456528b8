"""Etags: what changes carry so that a change of what changed meanwhile is refused."""

from __future__ import annotations

import secrets

from gossamer_services.common.errors import Code, ServiceError


def new_etag() -> str:
    """A new one."""
    return secrets.token_hex(8)


def check_etag(given: str, current: str) -> None:
    """Refuse a change of what changed meanwhile; an empty ``given`` asks for no check.

    Raises:
        ServiceError: ABORTED (ETAG_MISMATCH).
    """
    if given and given != current:
        raise ServiceError(
            Code.ABORTED,
            "ETAG_MISMATCH",
            "it changed since it was read",
            where="etag",
            hint="read it again and decide anew",
            metadata={"etag": current},
        )
