"""What the optimizer needs of a blob store: bytes by their SHA-256."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import BinaryIO, Protocol

from gossamer_services.common.errors import Code, ServiceError

CHUNK = 1 << 20


class Blobs(Protocol):
    """Bytes by digest; safe for many threads. Digests are SHA-256 in 64 lower-case hex digits."""

    def size(self, digest: str) -> int | None:
        """Bytes of a blob; None when it is not there."""

    def use(self, digest: str) -> bool:
        """Whether a blob is there; if it is, garbage collection leaves it alone for its grace period."""

    def open(self, digest: str) -> BinaryIO:
        """A blob for reading.

        Raises:
            ServiceError: NOT_FOUND (BLOB_NOT_FOUND).
        """

    def put(self, source: Path) -> str:
        """Store a file's bytes, durably, and return their digest; storing them again changes nothing."""


class FolderBlobs:
    """Blobs as files of one folder, named by digest: for engines that run without a registry.

    A blob appears under its name by a rename, after its bytes are on the disk.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def size(self, digest: str) -> int | None:
        try:
            return (self.folder / digest).stat().st_size
        except FileNotFoundError:
            return None

    def use(self, digest: str) -> bool:
        return self.size(digest) is not None

    def open(self, digest: str) -> BinaryIO:
        try:
            return (self.folder / digest).open("rb")
        except FileNotFoundError:
            raise ServiceError(
                Code.NOT_FOUND, "BLOB_NOT_FOUND", "there is no such blob", where=digest, hint="upload it first"
            ) from None

    def put(self, source: Path) -> str:
        part = self.folder / f".{secrets.token_hex(8)}.part"
        try:
            with source.open("rb") as stream:
                digest = copy(stream, part)
            part.replace(self.folder / digest)
            sync_folder(self.folder)
        finally:
            part.unlink(missing_ok=True)
        return digest


def copy(stream: BinaryIO, target: Path) -> str:
    """Write a stream into a new file, synced; returns its SHA-256."""
    sha = hashlib.sha256()
    with target.open("wb") as out:
        while chunk := stream.read(CHUNK):
            sha.update(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    return sha.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
