"""What the fleet's calls share: resource names, and whom a device may speak for."""

from __future__ import annotations

import re

from gossamer_services.common.auth import CALLER
from gossamer_services.common.errors import Code, ServiceError, bad_field

_ID = re.compile(r"[0-9a-f]{16,32}", re.ASCII)


def resource_id(name: str, collection: str, field: str = "name") -> str:
    """The id in ``collection/{id}``.

    Raises:
        ServiceError: INVALID_ARGUMENT.
    """
    kind, _, found = name.partition("/")
    if kind != collection or not _ID.fullmatch(found):
        raise bad_field(field, f"not {collection}/{{id}}")
    return found


def own_device(name: str) -> str:
    """The device that ``name`` names, which must be the caller.

    Raises:
        ServiceError: PERMISSION_DENIED (NOT_THIS_DEVICE).
    """
    caller = CALLER.get().name
    device = resource_id(name, "devices") if name.startswith("devices/") else ""
    if not device or caller != name:
        raise ServiceError(
            Code.PERMISSION_DENIED,
            "NOT_THIS_DEVICE",
            f"a device speaks for itself alone; the caller is {caller or 'nobody in particular'}",
            where=name,
            hint="call on the devices' address with the certificate of the enrolment",
        )
    return device
