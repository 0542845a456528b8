"""The pointer record: which slot runs, which is on trial, the anti-rollback counter, the last update that failed."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from gossamer_runtime._errors import SlotError
from gossamer_runtime.agent import _record
from gossamer_runtime.agent._disk import Disk

NAME = "pointer"
SLOTS = ("a", "b")
FORMAT = 1
MOST_PROBLEM = 1000
"""Characters of a sentence that is kept."""
_WHAT = "the pointer record"
_HINT = "copy the bundles elsewhere, empty the slot folder and flash again; the anti-rollback counter starts anew"
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
class Failure:
    """An update that failed: the bundle's digest, the reason in capitals, and a sentence for people."""

    sha256: str
    reason: str
    message: str


@dataclass(frozen=True)
class Pointer:
    """What the record says.

    ``active``: the slot that runs, or None. ``trial``: the slot being tried. ``attempts``: trials of it that were
    begun, this one included. ``counter``: the highest rollback counter ever committed. ``problem``: why the last trial
    failed, or empty. ``failed``: the last update that failed; None when none did since the last good one.
    """

    active: str | None = None
    trial: str | None = None
    attempts: int = 0
    counter: int = 0
    entries: dict[str, Entry] = field(default_factory=dict)
    problem: str = ""
    generation: int = 0
    failed: Failure | None = None

    def with_entry(self, slot: str, entry: Entry | None) -> Pointer:
        """The record with one slot's bundle replaced or, with None, forgotten."""
        entries = {k: v for k, v in self.entries.items() if k != slot}
        if entry is not None:
            entries[slot] = entry
        return replace(self, entries=entries)


def is_digest(text: str) -> bool:
    """Whether it is a SHA-256 as the agent writes them: 64 lower-case hexadecimal digits."""
    return _DIGEST.fullmatch(text) is not None


def other(slot: str | None) -> str:
    """The slot that is not this one; for None the first."""
    return "b" if slot == "a" else "a"


def encode(pointer: Pointer) -> bytes:
    """The record's bytes."""
    return _record.encode(_plain(pointer))


def _plain(pointer: Pointer) -> dict[str, Any]:
    return {"format": FORMAT, **asdict(pointer)}


def decode(data: bytes, where: str = NAME) -> Pointer:
    """The record of these bytes.

    Raises:
        SlotError: the checksum is wrong, it is of a newer format, or a field is not what it should be.
    """
    return _pointer(_record.decode(data, _WHAT, where, _HINT), where)


def _pointer(value: Any, where: str) -> Pointer:
    try:
        if value["format"] != FORMAT:
            raise SlotError(
                f"{_WHAT} has format {value['format']}, this agent reads {FORMAT}",
                where=where,
                hint="update gossamer-runtime",
            )
        failed = value.get("failed")  # an older agent wrote none
        pointer = Pointer(
            active=value["active"],
            trial=value["trial"],
            attempts=value["attempts"],
            counter=value["counter"],
            entries={slot: Entry(**entry) for slot, entry in value["entries"].items()},
            problem=value["problem"],
            generation=value["generation"],
            failed=None if failed is None else Failure(**failed),
        )
        _check(pointer)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise SlotError(f"{_WHAT} makes no sense: {e}", where=where, hint=_HINT) from e
    return pointer


def _check(pointer: Pointer) -> None:
    for slot in (pointer.active, pointer.trial):
        if slot is not None and slot not in pointer.entries:
            raise ValueError(f"slot {slot!r} has no bundle")
    for slot, entry in pointer.entries.items():
        if slot not in SLOTS or not is_digest(entry.sha256) or not isinstance(entry.size, int):
            raise ValueError(f"slot {slot!r}")
    if pointer.failed is not None and not is_digest(pointer.failed.sha256):
        raise ValueError("failed")
    for number in (pointer.attempts, pointer.counter, pointer.generation):
        if not isinstance(number, int) or number < 0:
            raise ValueError(f"{number!r} is no count")


def read(disk: Disk) -> Pointer:
    """The folder's record; an empty one in a new folder.

    Raises:
        SlotError: the record is damaged or cannot be read.
    """
    value = _record.read(disk, NAME, _WHAT, _HINT)
    return Pointer() if value is None else _pointer(value, NAME)


def write(disk: Disk, pointer: Pointer) -> Pointer:
    """Replace the folder's record; returns it with its new generation. Durable when this returns.

    Raises:
        SlotError: the disk is full or failed; the old record stands.
    """
    pointer = replace(pointer, generation=pointer.generation + 1, problem=pointer.problem[:MOST_PROBLEM])
    _record.write(disk, NAME, _plain(pointer))
    return pointer
