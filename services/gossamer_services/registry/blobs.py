"""The blob store: find, read, put, and collect what nobody refers to."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from gossamer_services.common.copies import fetch
from gossamer_services.common.errors import Code, ServiceError
from gossamer_services.registry.files import FileInfo, Files
from gossamer_services.registry.shelf import UPLOADS, FolderShelf, Shelf

CHUNK = 1 << 20
"""Bytes read or copied at a time."""


def not_found(digest: str) -> ServiceError:
    """NOT_FOUND (BLOB_NOT_FOUND)."""
    return ServiceError(
        Code.NOT_FOUND,
        "BLOB_NOT_FOUND",
        "there is no such blob",
        where=digest,
        hint="upload it first",
        metadata={"sha256": digest},
    )


class BlobStore:
    """Blobs by SHA-256 (64 lower-case hexadecimal digits); thread-safe.

    Args:
        files: the disk; folders for blobs and uploads are made there.
        shelf: where finished blobs stand; a folder of ``files`` by default.
        clock: Unix time in seconds.
    """

    def __init__(self, files: Files, shelf: Shelf | None = None, clock: Callable[[], float] = time.time) -> None:
        self.files, self.shelf, self.clock = files, shelf or FolderShelf(files), clock
        self.pin = threading.RLock()
        """Held while a reference to a blob is made, and while one without references is removed."""
        for folder in ("blobs", UPLOADS):
            files.make_folder(folder)

    def info(self, digest: str) -> FileInfo | None:
        """Size and last use; None when there is no such blob.

        Raises:
            ServiceError: UNAVAILABLE (STORAGE_FAILED), here as in every method.
        """
        with faults():
            return self.shelf.info(digest)

    def size(self, digest: str) -> int | None:
        """Bytes of a blob; None when there is none."""
        found = self.info(digest)
        return None if found is None else found.size

    def open(self, digest: str) -> BinaryIO:
        """A blob for reading.

        Raises:
            ServiceError: NOT_FOUND (BLOB_NOT_FOUND).
        """
        try:
            return self.shelf.open(digest)
        except FileNotFoundError:
            raise not_found(digest) from None
        except OSError as e:
            raise storage_failed(e) from e

    def fetch(self, digest: str, target: Path) -> None:
        """Write a blob to a local file, whole or not at all; the folder is not synced.

        Raises:
            ServiceError: NOT_FOUND (BLOB_NOT_FOUND), DATA_LOSS (DIGEST_MISMATCH): its bytes are others.
        """
        with self.open(digest) as stream:
            fetch(stream, digest, target)

    def missing(self, digests: list[str]) -> list[str]:
        """Those that do not exist, in order, once each. The others count as used now."""
        return [digest for digest in dict.fromkeys(digests) if not self.use(digest)]

    def use(self, digest: str) -> bool:
        """True when the blob exists; it counts as used now, so that garbage collection waits its grace period."""
        with self.pin, faults():
            if self.shelf.info(digest) is None:
                return False
            self.shelf.touch(digest)
            return True

    def put(self, source: Path) -> str:
        """Store a local file's bytes durably and return their digest.

        Raises:
            ServiceError: RESOURCE_EXHAUSTED (STORAGE_FULL).
        """
        part = f"{UPLOADS}/{secrets.token_hex(16)}.put"
        sha = hashlib.sha256()
        try:
            self.files.create(part)
            with source.open("rb") as stream:
                while data := stream.read(CHUNK):
                    self.files.append(part, data)
                    sha.update(data)
            digest = sha.hexdigest()
            if not self.use(digest):
                self.files.sync(part)
                self.shelf.take(part, digest)
        except OSError as e:
            raise storage_failed(e) from e
        finally:
            self.files.remove(part)
        return digest

    def collect(self, referenced: Callable[[str], bool], grace_s: float, *, dry: bool) -> tuple[int, int]:
        """Remove blobs that nothing refers to and nobody used for ``grace_s`` seconds; returns their number and bytes.

        Args:
            referenced: whether something refers to a blob; asked under :attr:`pin`, right before the removal.
            dry: count only.
        """
        count = total = 0
        with faults():
            digests = self.shelf.list()
        for digest in digests:
            with self.pin, faults():
                found = self.shelf.info(digest)
                if found is None or self.clock() - found.modified_s < grace_s or referenced(digest):
                    continue
                if not dry:
                    self.shelf.remove(digest)
            count += 1
            total += found.size
        return count, total


@contextlib.contextmanager
def faults() -> Iterator[None]:
    """The disk's errors as :func:`storage_failed` has them."""
    try:
        yield
    except OSError as e:
        raise storage_failed(e) from e


def storage_failed(error: OSError) -> ServiceError:
    """A full disk as RESOURCE_EXHAUSTED (STORAGE_FULL), any other fault of it as UNAVAILABLE (STORAGE_FAILED)."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ServiceError(
            Code.RESOURCE_EXHAUSTED,
            "STORAGE_FULL",
            "the server's disk is full",
            hint="collect garbage or free space there, then go on with the upload",
        )
    return ServiceError(
        Code.UNAVAILABLE,
        "STORAGE_FAILED",
        f"the server's disk failed: {error.strerror or error}",
        hint="try again later",
    )
