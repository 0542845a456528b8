"""Creation that may be repeated: what a request id made before is given back."""

from __future__ import annotations

import sqlalchemy as sa

from gossamer_services.common.errors import reused_request_id
from gossamer_services.fleet.tables import REQUESTS


def earlier(db: sa.Connection, caller: str, kind: str, request_id: str, digest: str) -> str | None:
    """The id of what this request made before; None: nothing.

    Raises:
        ServiceError: FAILED_PRECONDITION (REQUEST_ID_REUSED).
    """
    if not request_id:
        return None
    found = db.execute(
        sa.select(REQUESTS).where(
            REQUESTS.c.caller == caller, REQUESTS.c.kind == kind, REQUESTS.c.request_id == request_id
        )
    ).first()
    if found is None:
        return None
    if found.digest != digest:
        raise reused_request_id()
    return str(found.made)


def remember(db: sa.Connection, caller: str, kind: str, request_id: str, digest: str, made: str, now_s: float) -> None:
    """Note what a request made."""
    if request_id:
        key = {"caller": caller, "kind": kind, "request_id": request_id}
        db.execute(sa.insert(REQUESTS).values(**key, digest=digest, made=made, created_s=now_s))
