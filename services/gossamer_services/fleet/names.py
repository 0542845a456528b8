"""What the fleet's calls share: resource names, whom a device may speak for, times in messages."""

from __future__ import annotations

import re

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

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


def seconds_of(duration: Duration) -> float:
    """A duration in seconds."""
    return float(duration.seconds) + float(duration.nanos) / 1e9


def timestamp(seconds: float) -> Timestamp:
    """A timestamp of Unix seconds, in whole milliseconds."""
    stamp = Timestamp()
    stamp.FromMilliseconds(round(seconds * 1000))
    return stamp
