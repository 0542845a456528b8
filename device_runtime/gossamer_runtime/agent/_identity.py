"""Who this device is to its fleet: key, certificate, authority, address; in the slot folder whole or not at all.

Two records, both for the agent's user alone. ``enrolment`` is written before the server is asked, so that a lost answer
is asked for again with the same key and request; ``identity`` when it has answered.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from gossamer_runtime._errors import SlotError
from gossamer_runtime.agent import _certificate, _record
from gossamer_runtime.agent._disk import Disk

NAME = "identity"
REQUEST_NAME = "enrolment"
FORMAT = 1
_HINT = "forget it with 'gossamer-agent forget' and enroll anew"


@dataclass(frozen=True)
class Request:
    """An enrolment that is under way. ``token_sha256``: which token it was begun with; ``key`` and ``csr`` in PEM."""

    fleet: str
    token_sha256: str
    request_id: str
    csr: str
    key: str = field(repr=False)


@dataclass(frozen=True)
class Identity:
    """An enrolled device.

    ``device``: its name, "devices/{id}". ``fleet``: HOST:PORT where it enrolled. ``address``: HOST:PORT where it calls
    with its certificate. ``authority`` (whom it trusts there), ``certificate``, ``csr`` and ``key`` in PEM.
    """

    device: str
    fleet: str
    address: str
    authority: str
    certificate: str
    csr: str
    key: str = field(repr=False)


def read(disk: Disk) -> Identity | None:
    """The folder's identity; None when the device is not enrolled.

    Raises:
        SlotError: the record is damaged or cannot be read.
    """
    value = _read(disk, NAME)
    try:
        identity = None if value is None else Identity(**value)
        if identity is not None:
            _certificate.parse(identity.certificate)
            _certificate.parse(identity.authority)
    except (TypeError, ValueError) as e:
        raise SlotError(f"the device's identity makes no sense: {e}", where=NAME, hint=_HINT) from e
    return identity


def write(disk: Disk, identity: Identity) -> None:
    """Keep an identity; the enrolment that led to it has ended. Durable when this returns.

    Raises:
        SlotError: the disk is full or failed; what was there before still is.
    """
    _record.write(disk, NAME, {"format": FORMAT, **asdict(identity)}, private=True)
    disk.remove(REQUEST_NAME)


def read_request(disk: Disk) -> Request | None:
    """The enrolment that is under way, if any.

    Raises:
        SlotError: the record is damaged or cannot be read.
    """
    value = _read(disk, REQUEST_NAME)
    try:
        return None if value is None else Request(**value)
    except TypeError as e:
        raise SlotError(f"the enrolment that was begun makes no sense: {e}", where=REQUEST_NAME, hint=_HINT) from e


def write_request(disk: Disk, request: Request) -> None:
    """Keep an enrolment before the server is asked. Durable when this returns.

    Raises:
        SlotError: the disk is full or failed.
    """
    _record.write(disk, REQUEST_NAME, {"format": FORMAT, **asdict(request)}, private=True)


def forget(disk: Disk) -> bool:
    """Remove both records; False when there was none. The bundles stay. Durable when this returns.

    Raises:
        SlotError: the disk failed.
    """
    names = set(disk.names())
    found = [n for name in (REQUEST_NAME, NAME) for n in (_record.next_name(name), name) if n in names]
    for name in found:
        disk.remove(name)
    disk.sync_folder()
    return bool(found)


def _read(disk: Disk, name: str) -> dict[str, Any] | None:
    value = _record.read(disk, name, f"the record {name!r}", _HINT)
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(v, str) for k, v in value.items() if k != "format"):
        raise SlotError(f"the record {name!r} makes no sense", where=name, hint=_HINT)
    if value.pop("format", None) != FORMAT:
        raise SlotError(f"the record {name!r} is of another agent", where=name, hint="update gossamer-runtime")
    return value
