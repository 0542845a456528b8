"""The record of a device without an agent: which slot holds what, which is active, which is staged."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from gossamer._errors import SlotError

SLOTS = ("a", "b")
_ENTRY = {
    "sha256": str, "size_bytes": int, "name": str, "version": str, "rollback_counter": int, "key": str,
    "manifest_json": str,
}  # fmt: skip


@dataclass
class Record:
    """``active`` and ``staged`` name a slot or are empty; ``slots`` says what each of them holds."""

    active: str = ""
    staged: str = ""
    slots: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def idle(self) -> str:
        """The slot that is not active, where the next bundle goes."""
        return next(slot for slot in SLOTS if slot != self.active)

    def drop(self, slot: str) -> None:
        """Forget what a slot holds."""
        self.slots.pop(slot, None)
        if self.staged == slot:
            self.staged = ""

    def shown(self, slot: str) -> dict[str, Any]:
        """A slot as ``info`` shows it."""
        entry = self.slots.get(slot)
        if entry is None:
            return {"slot": slot, "status": "empty"}
        status = "active" if slot == self.active else "staged" if slot == self.staged else "previous"
        return {"slot": slot, "status": status, **{k: v for k, v in entry.items() if k not in ("key", "manifest_json")}}


def encode(record: Record) -> str:
    """The record's text."""
    return json.dumps(asdict(record))


def decode(text: str, where: str) -> Record:
    """The record of a text; an empty one of none.

    Raises:
        SlotError: it is damaged.
    """
    if not text.strip():
        return Record()
    try:
        value = json.loads(text)
        record = Record(value["active"], value.get("staged", ""), value["slots"])
        if not set(record.slots) <= set(SLOTS) or not {record.active, record.staged} <= {"", *record.slots}:
            raise ValueError("it names a slot that is not there")
        if record.active and record.active == record.staged:
            raise ValueError("one slot is active and staged")
        for entry in record.slots.values():
            if any(not isinstance(entry[k], kind) for k, kind in _ENTRY.items()):
                raise ValueError("a slot's fields are of the wrong type")
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise SlotError(f"the record is damaged: {e}", where=where, hint="remove that folder, flash anew") from e
    return record
