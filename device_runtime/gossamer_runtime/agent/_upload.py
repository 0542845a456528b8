"""Bundles on their way in: a file each, named by its digest, so that an upload goes on where it broke off."""

from __future__ import annotations

from dataclasses import dataclass

from gossamer_runtime.agent._disk import Disk
from gossamer_runtime.agent._pointer import is_digest
from gossamer_runtime.agent._reasons import DigestFormError, FullError, OffsetError, StreamError, TooLargeError

PART = "part-"
MAX_BUNDLE_BYTES = 1 << 31
_MARGIN_BYTES = 1 << 16


@dataclass
class Upload:
    """A bundle on its way in. ``at``: bytes that are there."""

    sha256: str
    total: int
    at: int

    @property
    def file(self) -> str:
        """Where its bytes go."""
        return PART + self.sha256


class Uploads:
    """The uploads of one folder; one at a time is kept.

    Args:
        disk: the folder.
        max_bytes: largest bundle taken.
    """

    def __init__(self, disk: Disk, max_bytes: int = MAX_BUNDLE_BYTES) -> None:
        self._disk = disk
        self.max_bytes = max_bytes

    def offset(self, sha256: str) -> int:
        """Bytes of that bundle that are there, 0 for none.

        Raises:
            InputError: not a SHA-256.
        """
        if not is_digest(sha256):
            raise DigestFormError("a digest is 64 lower-case hexadecimal digits", where=sha256[:80])
        return self._disk.size(PART + sha256) or 0

    def receive(self, sha256: str, total: int, offset: int) -> Upload:
        """Begin an upload, or go on with it. What was there of another bundle is discarded.

        Raises:
            InputError: not a SHA-256, or an offset that is neither 0 nor where the upload stands.
            SlotError: larger than ``max_bytes``, or than what is free.
        """
        there = self.offset(sha256)
        if not 0 < total <= self.max_bytes:
            raise TooLargeError(
                f"the bundle has {total} bytes; this device takes 1 to {self.max_bytes}", hint="see --max-bundle-bytes"
            )
        if offset not in (0, there) or offset > total:
            raise OffsetError(f"the upload stands at {there} bytes, not at {offset}", hint="ask again where it stands")
        for name in self._disk.names():
            if name.startswith(PART) and name != PART + sha256:
                self._disk.remove(name)
        upload = Upload(sha256, total, offset)
        if offset == 0:
            self._disk.remove(upload.file)
        free = self._disk.free_bytes()
        if free < total - offset + _MARGIN_BYTES:
            raise FullError(
                f"{total - offset} bytes are to come and {free} are free", hint="free space on the device's disk"
            )
        return upload

    def write(self, upload: Upload, chunk: bytes) -> None:
        """The next bytes.

        Raises:
            InputError: more than announced.
            SlotError: the disk is full or failed; what came before is kept.
        """
        if upload.at + len(chunk) > upload.total:
            raise StreamError(f"more than the {upload.total} bytes that were announced")
        if chunk:
            self._disk.write(upload.file, upload.at, chunk)
            upload.at += len(chunk)
