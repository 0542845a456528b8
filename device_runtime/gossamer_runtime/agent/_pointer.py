"""The pointer record: which slot runs, which is on trial, and the anti-rollback counter. Checksummed, replaced whole.

Two lines of text: the SHA-256 of the second line in hexadecimal, and canonical JSON. It is written beside itself,
synced, and renamed over the old one, so that a power cut leaves the old or the new record.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, replace

from gossamer_runtime._errors import SlotError
from gossamer_runtime.agent._disk import Disk

NAME = "pointer"
NEXT = "pointer.new"
SLOTS = ("a", "b")
FORMAT = 1
MOST_BYTES = 1 << 16
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """The bundle in one slot. ``state``: ``committed`` (has run), ``staged`` (verified), or ``failed`` (its trial)."""

    sha256: str
    size: int
    name: str = ""
    version: str = ""
    rollback_counter: int = 0
    state: str = "staged"


@dataclass(frozen=True)
class Pointer:
    """What the record says.

    ``active``: the slot that runs, or None. ``trial``: the slot being tried. ``attempts``: trials of it that were
    begun, this one included. ``counter``: the highest rollback counter ever committed. ``problem``: why the last trial
    failed, or empty.
    """

    active: str | None = None
    trial: str | None = None
    attempts: int = 0
    counter: int = 0
    entries: dict[str, Entry] = field(default_factory=dict)
    problem: str = ""
    generation: int = 0

    def with_entry(self, slot: str, entry: Entry | None) -> Pointer:
        """The record with one slot's bundle replaced or, with None, forgotten."""
        entries = {k: v for k, v in self.entries.items() if k != slot}
        if entry is not None:
            entries[slot] = entry
        return replace(self, entries=entries)


def other(slot: str | None) -> str:
    """The slot that is not this one; for None the first."""
    return "b" if slot == "a" else "a"


def encode(pointer: Pointer) -> bytes:
    """The record's bytes."""
    body = json.dumps({"format": FORMAT, **asdict(pointer)}, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body + b"\n"


def decode(data: bytes, where: str = NAME) -> Pointer:
    """The record of these bytes.

    Raises:
        SlotError: the checksum is wrong, it is of a newer format, or a field is not what it should be.
    """
    hint = "copy the bundles elsewhere, empty the slot folder and flash again; the anti-rollback counter starts anew"
    lines = data.split(b"\n")
    if len(lines) != 3 or lines[2] or hashlib.sha256(lines[1]).hexdigest().encode() != lines[0]:
        raise SlotError("the pointer record is damaged", where=where, hint=hint)
    try:
        value = json.loads(lines[1])
        if value["format"] != FORMAT:
            raise SlotError(
                f"the pointer record has format {value['format']}, this agent reads {FORMAT}",
                where=where,
                hint="update gossamer-runtime",
            )
        pointer = Pointer(
            active=value["active"],
            trial=value["trial"],
            attempts=value["attempts"],
            counter=value["counter"],
            entries={slot: Entry(**entry) for slot, entry in value["entries"].items()},
            problem=value["problem"],
            generation=value["generation"],
        )
        _check(pointer)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise SlotError(f"the pointer record makes no sense: {e}", where=where, hint=hint) from e
    return pointer


def _check(pointer: Pointer) -> None:
    for slot in (pointer.active, pointer.trial):
        if slot is not None and slot not in pointer.entries:
            raise ValueError(f"slot {slot!r} has no bundle")
    for slot, entry in pointer.entries.items():
        if slot not in SLOTS or not _DIGEST.fullmatch(entry.sha256) or not isinstance(entry.size, int):
            raise ValueError(f"slot {slot!r}")
    for number in (pointer.attempts, pointer.counter, pointer.generation):
        if not isinstance(number, int) or number < 0:
            raise ValueError(f"{number!r} is no count")


def read(disk: Disk) -> Pointer:
    """The folder's record; an empty one in a new folder.

    Raises:
        SlotError: the record is damaged or cannot be read.
    """
    size = disk.size(NAME)
    if size is None:
        return Pointer()
    return decode(disk.read(NAME, 0, min(size, MOST_BYTES)))


def write(disk: Disk, pointer: Pointer) -> Pointer:
    """Replace the folder's record; returns it with its new generation. Durable when this returns.

    Raises:
        SlotError: the disk is full or failed; the old record stands.
    """
    pointer = replace(pointer, generation=pointer.generation + 1, problem=pointer.problem[:1000])
    disk.remove(NEXT)
    disk.write(NEXT, 0, encode(pointer))
    disk.sync(NEXT)
    disk.rename(NEXT, NAME)
    disk.sync_folder()
    return pointer
