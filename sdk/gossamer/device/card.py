"""A mounted card: the slots of a device that is off, written by the same code that its agent uses.

Signature, digest and counter are checked here. What only the device can tell, whether the bundle opens and runs there,
is left to it: the record says ``trial``, and the agent tries, commits or falls back when the device starts. Root
writes cards too, and leaves what it wrote to the folder's owner, as whom the agent runs.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gossamer._errors import InputError, SlotError, UnsupportedError
from gossamer.bundle.sign import read
from gossamer.device.target import Flashed, Output, Progress
from gossamer_runtime.agent._disk import FolderDisk
from gossamer_runtime.agent._pointer import SLOTS
from gossamer_runtime.agent._slots import Slots, slot_file
from gossamer_runtime.agent._trial import Facts

_CHUNK = 1 << 20


class _Signed:
    """Checks what can be checked away from the device; a ``gossamer_runtime.agent._trial.Trial``."""

    def check(self, bundle: str | bytes) -> Facts:
        from gossamer.bundle import container, manifest, verify
        from gossamer.compile.plan import Section

        assert isinstance(bundle, str)
        data = read(bundle)
        verify.verify(data, where=bundle)
        info = next(s for s in container.sections(data) if s.kind == Section.MANIFEST)
        m = manifest.loads(container.section_bytes(data, info))
        return Facts(m.name, m.version, m.rollback_counter)

    def run(self, inputs: Sequence[bytes] = ()) -> float:
        raise UnsupportedError("a card is not tried here")

    def close(self) -> None:
        pass


class Card:
    """The slot folder of a card that is mounted on this machine.

    Raises:
        InputError: there is no such folder.
        SlotError: another process uses it, it may not be written, it holds links, or its record is damaged.
    """

    def __init__(self, root: str) -> None:
        if not Path(root).is_dir():
            raise InputError(
                "there is no such folder", where=root, hint="mount the card; the folder is the agent's --root"
            )
        if not os.access(root, os.W_OK):
            raise SlotError(
                "the card may not be written",
                where=root,
                hint="mount it writable, or go on as the folder's owner or root",
            )
        for name, info in _entries(root):
            if stat.S_ISLNK(info.st_mode) or (stat.S_ISREG(info.st_mode) and info.st_nlink > 1):
                raise SlotError(
                    f"the card's {name} is a link: what is written there would change a file elsewhere",
                    where=root,
                    hint="remove it; agents make none",
                )
        self._root = root
        self._slots = Slots(FolderDisk(root), _Signed, try_here=False)

    def info(self, *, manifest: bool = False) -> dict[str, Any]:
        """The slots; what the device is, only the device knows."""
        pointer = self._slots.pointer
        return {
            "root": self._root,
            "rollback_counter": pointer.counter,
            "disk_free_bytes": self._slots.disk.free_bytes(),
            "problem": self._slots.problem,
            "slots": [self._state(slot) for slot in SLOTS],
        }

    def flash(
        self, path: Path, *, stage_only: bool = False, inputs: Sequence[bytes] = (), progress: Progress | None = None
    ) -> Flashed:
        """Write a bundle into the slot that is not active, for the device to try."""
        if inputs:
            raise UnsupportedError("inputs of a trial cannot be left on a card", hint="flash over the network")
        started = time.monotonic()
        data = read(path)
        sha = hashlib.sha256(data).hexdigest()
        pointer = self._slots.pointer
        if pointer.active and pointer.trial is None and pointer.entries[pointer.active].sha256 == sha:
            return Flashed("unchanged", pointer.active, time.monotonic() - started)
        offset = self._slots.uploads.offset(sha)
        upload = self._slots.uploads.receive(sha, len(data), offset if offset <= len(data) else 0)
        resumed = upload.at
        while upload.at < len(data):
            self._slots.uploads.write(upload, data[upload.at : upload.at + _CHUNK])
            if progress is not None:
                progress(upload.at, len(data))
        slot, _ = self._slots.flash(upload, stage_only=stage_only)
        status = "staged" if stage_only else "waiting"
        return Flashed(status, slot, time.monotonic() - started, 0.0, resumed, len(data) - resumed)

    def activate(self) -> Flashed:
        """Let the device try the staged bundle."""
        started = time.monotonic()
        slot, _ = self._slots.activate()
        return Flashed("waiting", slot, time.monotonic() - started)

    def rollback(self) -> Flashed:
        """Let the device go back to the bundle before."""
        started = time.monotonic()
        slot, _ = self._slots.rollback()
        return Flashed("waiting", slot, time.monotonic() - started)

    def run(self, inputs: Sequence[bytes]) -> tuple[float, list[Output]]:
        """Refused: see ``_not_here``."""
        raise self._not_here("run")

    def profile(
        self, *, runs: int, warmup: int, inputs: Sequence[bytes] = (), trace: bool = False
    ) -> tuple[str, str, str]:
        """Refused: see ``_not_here``."""
        raise self._not_here("profile")

    def logs(self, *, limit: int = 0, follow: bool = False) -> Iterator[dict[str, Any]]:
        """Refused: an agent keeps its records in memory and in the journal."""
        raise UnsupportedError("a card holds no logs", hint="start the device, or read its journal")

    def close(self) -> None:
        """Give the folder back."""
        try:
            self._hand_over()
        finally:
            self._slots.close()

    def _hand_over(self) -> None:
        owner = Path(self._root).stat()
        if os.geteuid() != 0 or owner.st_uid == 0:
            return
        for name, info in _entries(self._root):
            if stat.S_ISREG(info.st_mode) and info.st_uid == 0:
                os.chown(Path(self._root, name), owner.st_uid, owner.st_gid, follow_symlinks=False)

    def _not_here(self, what: str) -> UnsupportedError:
        slot = self._slots.pointer.active
        file = Path(self._root) / slot_file(slot) if slot else "BUNDLE"
        return UnsupportedError(
            f"a card cannot {what} anything: its device is off",
            where=self._root,
            hint=f"on this machine: gossamer {what} {file}",
        )

    def _state(self, slot: str) -> dict[str, Any]:
        pointer = self._slots.pointer
        entry = pointer.entries.get(slot)
        if entry is None:
            return {"slot": slot, "status": "empty"}
        status = {"committed": "previous"}.get(entry.state, entry.state)
        status = "trial" if slot == pointer.trial else "active" if slot == pointer.active else status
        return {
            "slot": slot,
            "status": status,
            "name": entry.name,
            "version": entry.version,
            "rollback_counter": entry.rollback_counter,
            "sha256": entry.sha256,
            "size_bytes": entry.size,
        }


def _entries(root: str) -> list[tuple[str, os.stat_result]]:
    """Names in a folder, and what they are themselves, where they are links."""
    with os.scandir(root) as entries:
        return [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
