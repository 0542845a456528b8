"""Copies of bytes into files: hashed, and on the disk when they are said to be."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from gossamer_services.common.errors import Code, ServiceError

CHUNK = 1 << 20


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


def fetch(stream: BinaryIO, digest: str, target: Path) -> None:
    """Write a stream that must have this SHA-256 into a file, whole or not at all; the folder is not synced.

    Raises:
        ServiceError: DATA_LOSS (DIGEST_MISMATCH).
    """
    part = target.with_name(f".{target.name}.part")
    try:
        found = copy(stream, part)
        if found != digest:
            raise ServiceError(
                Code.DATA_LOSS,
                "DIGEST_MISMATCH",
                f"the blob's bytes have the digest {found}",
                where=digest,
                hint="upload it again",
            )
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
