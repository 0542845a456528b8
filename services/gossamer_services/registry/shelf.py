"""Where finished blobs stand, by digest. A blob on the shelf is whole: it comes there verified, by one rename."""

from __future__ import annotations

import re
from typing import BinaryIO, Protocol

from gossamer_services.registry.files import FileInfo, Files

BLOBS, UPLOADS = "blobs", "uploads"
"""Folders of the store."""

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Shelf(Protocol):
    """Blobs by SHA-256 in 64 lower-case hexadecimal digits; thread-safe. All methods raise OSError."""

    def info(self, digest: str) -> FileInfo | None:
        """Size and time of last use; None when there is no such blob."""

    def open(self, digest: str) -> BinaryIO:
        """A blob for reading; FileNotFoundError when there is none."""

    def take(self, part: str, digest: str) -> None:
        """Move a verified and synced file of the uploads here; durable on return. It may be here already."""

    def touch(self, digest: str) -> None:
        """Set the time of last use to now."""

    def list(self) -> list[str]:
        """All digests."""

    def remove(self, digest: str) -> None:
        """Remove a blob."""


class FolderShelf:
    """Blobs as files of one folder beside the uploads."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def info(self, digest: str) -> FileInfo | None:
        return self._files.info(f"{BLOBS}/{digest}")

    def open(self, digest: str) -> BinaryIO:
        return self._files.open(f"{BLOBS}/{digest}")

    def take(self, part: str, digest: str) -> None:
        self._files.rename(part, f"{BLOBS}/{digest}")
        self._files.sync_folder(BLOBS)

    def touch(self, digest: str) -> None:
        self._files.touch(f"{BLOBS}/{digest}")

    def list(self) -> list[str]:
        return [name for name in self._files.list(BLOBS) if _DIGEST.fullmatch(name)]

    def remove(self, digest: str) -> None:
        self._files.remove(f"{BLOBS}/{digest}")
