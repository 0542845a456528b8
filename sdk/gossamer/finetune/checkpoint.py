"""Checkpoints that survive a crash at any byte: two slots, written in turns, each whole or not at all.

A slot is written beside its place, synced and renamed; the slot before it stays. A file says its SHA-256, so that a
damaged one is known and the other slot is taken. Only tensors and plain values are stored, and nothing else is loaded.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gossamer import _atomic
from gossamer._errors import InputError, OutputError

_MAGIC = b"GSCHECK1"
_HEAD = len(_MAGIC) + 32


class Checkpoints:
    """The checkpoints of one training run in a folder.

    Args:
        folder: made where it is missing.
        identity: plain values that tell this run from another: what a checkpoint was made with has to be equal.

    Raises:
        OutputError: the folder cannot be made or written to.
    """

    def __init__(self, folder: str | os.PathLike[str], identity: Mapping[str, Any]) -> None:
        self.folder, self.identity = Path(folder), dict(identity)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise OutputError(
                f"cannot make the folder of checkpoints: {e.strerror}", where=str(folder), hint="choose another folder"
            ) from e
        for left in self.folder.glob(".checkpoint.[01].*.tmp"):  # of a run that was killed while it wrote one
            left.unlink(missing_ok=True)
        _atomic.check_target(self._slot(0))

    def save(self, state: Mapping[str, Any], number: int) -> Path:
        """Write a state; ``number`` rises from save to save and chooses the slot.

        Raises:
            OutputError: it could not be written; both slots are as they were.
        """
        import torch

        buffer = io.BytesIO()
        torch.save({"identity": self.identity, "number": number, "state": dict(state)}, buffer)
        payload = buffer.getvalue()
        return _atomic.write(self._slot(number), _MAGIC + hashlib.sha256(payload).digest() + payload)

    def load(self) -> dict[str, Any] | None:
        """The newest state that is whole; None when there is no checkpoint.

        Raises:
            InputError: there are checkpoints and none is whole, or they belong to another run; says what differs.
        """
        found, damaged = [], []
        for slot in (0, 1):
            path = self._slot(slot)
            try:
                content = _read(path)
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as e:
                damaged.append(f"{path.name}: {e}")
                continue
            found.append(content)
        if not found:
            if damaged:
                raise InputError(
                    "no checkpoint is whole: " + "; ".join(damaged),
                    where=str(self.folder),
                    hint="remove them to start anew",
                )
            return None
        newest = max(found, key=lambda content: int(content["number"]))
        self._compare(newest["identity"])
        state: dict[str, Any] = newest["state"]
        return state

    def _compare(self, saved: Mapping[str, Any]) -> None:
        for key in (*self.identity, *saved):
            mine, theirs = self.identity.get(key), saved.get(key)
            if mine != theirs:
                raise InputError(
                    f"the checkpoints belong to another run: {key} was {theirs!r}, is {mine!r}",
                    where=str(self.folder),
                    hint="resume with the recipe, model and data that it was started with, or give another folder",
                )

    def _slot(self, number: int) -> Path:
        return self.folder / f"checkpoint.{number % 2}"


def _read(path: Path) -> dict[str, Any]:
    import torch

    data = path.read_bytes()
    if not data.startswith(_MAGIC):
        raise ValueError("not a checkpoint of this version")
    if hashlib.sha256(data[_HEAD:]).digest() != data[len(_MAGIC) : _HEAD]:
        raise ValueError("damaged: its checksum is wrong")
    try:
        content: dict[str, Any] = torch.load(io.BytesIO(data[_HEAD:]), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as e:
        raise ValueError(f"not a checkpoint: {str(e).splitlines()[0]}") from e
    return content
