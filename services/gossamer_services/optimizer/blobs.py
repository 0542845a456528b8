"""What the optimizer needs of a blob store: bytes by their SHA-256."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import BinaryIO, Protocol

from gossamer_services.common.copies import copy, fetch, sync_folder
from gossamer_services.common.errors import Code, ServiceError


class Blobs(Protocol):
    """Bytes by digest; safe for many threads. Digests are SHA-256 in 64 lower-case hex digits."""

    def size(self, digest: str) -> int | None:
        """Bytes of a blob; None when it is not there."""

    def use(self, digest: str) -> bool:
        """Whether a blob is there; if it is, garbage collection leaves it alone for a while.

        That is the grace period, or the time of a lease where the registry is elsewhere.
        """

    def open(self, digest: str) -> BinaryIO:
        """A blob for reading; a bundle or a report, for it may be held in memory.

        Raises:
            ServiceError: NOT_FOUND (BLOB_NOT_FOUND).
        """

    def fetch(self, digest: str, target: Path) -> None:
        """Write a blob to a file, whole or not at all; the folder is not synced.

        Raises:
            ServiceError: NOT_FOUND (BLOB_NOT_FOUND), DATA_LOSS (DIGEST_MISMATCH): its bytes are others.
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

    def fetch(self, digest: str, target: Path) -> None:
        with self.open(digest) as stream:
            fetch(stream, digest, target)

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
