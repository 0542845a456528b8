"""The one seam between the blob store and the disk: every operation that a crash can fall between, or that can fail."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol


@dataclass(frozen=True)
class FileInfo:
    """Size in bytes, and Unix time of the last change or :meth:`Files.touch`."""

    size: int
    modified_s: float


class Files(Protocol):
    """Files below a root, by relative path of at most one folder. All methods raise OSError; all are thread-safe.

    What is written is on the disk after ``sync``; what is created, renamed or removed after ``sync_folder``.
    """

    def make_folder(self, name: str) -> None:
        """Make a folder of the root, if it is missing, and sync the root."""

    def info(self, path: str) -> FileInfo | None:
        """None when there is no such file."""

    def list(self, folder: str) -> list[str]:
        """Names in a folder."""

    def read(self, path: str) -> bytes:
        """All of a small file."""

    def open(self, path: str) -> BinaryIO:
        """A file for reading."""

    def create(self, path: str) -> None:
        """Make a file empty, or empty the one that is there."""

    def truncate(self, path: str, size: int) -> None:
        """Cut a file to a size."""

    def append(self, path: str, data: bytes) -> None:
        """Write at the end."""

    def sync(self, path: str) -> None:
        """Bring a file's bytes to the disk."""

    def rename(self, source: str, target: str) -> None:
        """Rename a file; a file of the target's name is replaced."""

    def remove(self, path: str) -> None:
        """Remove a file; nothing when it is missing."""

    def sync_folder(self, folder: str) -> None:
        """Bring a folder's entries to the disk."""

    def touch(self, path: str) -> None:
        """Set the time of the last change to now."""

    def free_bytes(self) -> int:
        """Room on the disk."""


class DiskFiles:
    """:class:`Files` of a real folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def make_folder(self, name: str) -> None:
        (self.root / name).mkdir(exist_ok=True)
        _sync_folder(self.root)

    def info(self, path: str) -> FileInfo | None:
        try:
            found = (self.root / path).stat()
        except FileNotFoundError:
            return None
        return FileInfo(found.st_size, found.st_mtime)

    def list(self, folder: str) -> list[str]:
        return sorted(entry.name for entry in os.scandir(self.root / folder))

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def open(self, path: str) -> BinaryIO:
        return (self.root / path).open("rb")

    def create(self, path: str) -> None:
        os.close(os.open(self.root / path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600))

    def truncate(self, path: str, size: int) -> None:
        os.truncate(self.root / path, size)

    def append(self, path: str, data: bytes) -> None:
        # Opened each time: a chunk is a megabyte, and no handle outlives a client that went away.
        handle = os.open(self.root / path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(handle, view) :]
        finally:
            os.close(handle)

    def sync(self, path: str) -> None:
        handle = os.open(self.root / path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, source: str, target: str) -> None:
        (self.root / source).replace(self.root / target)

    def remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self.root / path).unlink()

    def sync_folder(self, folder: str) -> None:
        _sync_folder(self.root / folder)

    def touch(self, path: str) -> None:
        os.utime(self.root / path)

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.root).free


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
