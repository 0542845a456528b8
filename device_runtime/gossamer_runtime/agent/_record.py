"""A record of the slot folder: checksummed JSON, replaced whole, so that a power cut leaves the old or the new one.

Two lines of text: the SHA-256 of the second line in hexadecimal, and canonical JSON. A record is written beside itself
(``NAME.new``), synced, and renamed over the old one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from gossamer_runtime._errors import SlotError
from gossamer_runtime.agent._disk import Disk

MOST_BYTES = 1 << 16


def next_name(name: str) -> str:
    """Where a record is written before it takes its name; what a power cut left there is of no use."""
    return name + ".new"


def encode(value: Mapping[str, Any]) -> bytes:
    """The record's bytes."""
    body = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body + b"\n"


def decode(data: bytes, what: str, where: str, hint: str) -> Any:
    """What these bytes hold. ``what``: the record's name for people.

    Raises:
        SlotError: the checksum is wrong.
    """
    lines = data.split(b"\n")
    if len(lines) != 3 or lines[2] or hashlib.sha256(lines[1]).hexdigest().encode() != lines[0]:
        raise SlotError(f"{what} is damaged", where=where, hint=hint)
    try:
        return json.loads(lines[1])
    except ValueError as e:
        raise SlotError(f"{what} makes no sense: {e}", where=where, hint=hint) from e


def read(disk: Disk, name: str, what: str, hint: str) -> Any | None:
    """The folder's record of that name; None when there is none.

    Raises:
        SlotError: it is damaged or cannot be read.
    """
    size = disk.size(name)
    if size is None:
        return None
    return decode(disk.read(name, 0, min(size, MOST_BYTES)), what, name, hint)


def write(disk: Disk, name: str, value: Mapping[str, Any], *, private: bool = False) -> None:
    """Replace the folder's record. Durable when this returns. ``private``: for the agent's user alone.

    Raises:
        SlotError: the disk is full or failed; the old record stands.
    """
    new = next_name(name)
    disk.remove(new)
    disk.write(new, 0, encode(value), private=private)
    disk.sync(new)
    disk.rename(new, name)
    disk.sync_folder()
