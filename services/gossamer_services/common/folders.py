"""The data folder: made where it is missing, and locked for one process."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from gossamer_services.common.errors import SettingsError


def unusable(folder: Path, error: OSError) -> SettingsError:
    """A folder of the state cannot be made or written."""
    return SettingsError(
        f"the data folder cannot be used: {error.strerror}", where=str(folder), hint="give a folder that can be written"
    )


def make_folder(folder: Path) -> Path:
    """Make a folder, for its owner alone, where it is missing.

    Raises:
        SettingsError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as e:
        raise unusable(folder, e) from e
    return folder


@contextlib.contextmanager
def state_folder(folder: Path) -> Iterator[Path]:
    """Make the folder and lock it for this process.

    Raises:
        SettingsError: it cannot be made or written, or another server has it.
    """
    make_folder(folder)
    try:
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as e:
        raise unusable(folder, e) from e
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise SettingsError(
                "another server uses the data folder", where=str(folder), hint="stop it, or give another --data"
            ) from e
        yield folder
    finally:
        os.close(handle)
