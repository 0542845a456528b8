"""Blobs to and from the registry: asked for first, resumed where they were cut, checked by SHA-256."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from gossamer._errors import InputError, OutputError
from gossamer._proto.v1 import registry_pb2 as pb
from gossamer._proto.v1 import registry_pb2_grpc
from gossamer.client._calls import call, lost
from gossamer.client._errors import RemoteError, from_call
from gossamer.client._link import Link

CHUNK = 256 << 10
Bytes = Callable[[int, int], None]
"""Called with (bytes that arrived, bytes in all)."""
_CUT = (grpc.StatusCode.ABORTED, grpc.StatusCode.OUT_OF_RANGE)
"""Other ends of an upload after which the server is asked how far it got."""


class Transfers:
    """Uploads and downloads over one link."""

    def __init__(self, link: Link) -> None:
        self._stub = registry_pb2_grpc.RegistryServiceStub(link.channel)  # type: ignore[no-untyped-call]
        self._call, self._metadata, self._retry, self._address = link.call, link.metadata, link.retry, link.address

    async def upload(self, path: Path, progress: Bytes | None = None) -> str:
        """Upload a file unless the registry has it; returns its SHA-256.

        Raises:
            InputError: the file cannot be read.
            RemoteError: the server refused, such as bytes that changed under the upload.
            UnreachableError: the last error, after the retries made no progress.
            and what ``progress`` raises.
        """
        try:
            digest = await asyncio.to_thread(_digest, path)
            total = path.stat().st_size
        except OSError as e:
            raise _unreadable(path, e) from e
        ask = pb.FindMissingBlobsRequest(sha256=[digest])
        missing = await self._call(self._stub.FindMissingBlobs, ask)
        if not missing.missing_sha256:
            return digest
        offset = failures = 0
        while True:
            pieces = _Pieces(path, digest, offset, total, progress)
            try:
                await self._stub.WriteBlob(pieces.all(), metadata=self._metadata)
                return digest
            except asyncio.CancelledError:
                if pieces.failed is not None:
                    raise pieces.failed from None
                raise
            except grpc.aio.AioRpcError as e:
                error = from_call(e, self._address)
                if not lost(e) and e.code() not in _CUT:
                    raise error from e
                held = await self._held(digest)
                failures = 1 if held > offset else failures + 1
                offset = held
                if failures >= self._retry.attempts:
                    raise error from e
            await asyncio.sleep(self._retry.wait_s(failures))

    async def download(self, digest: str, path: Path, progress: Bytes | None = None) -> None:
        """Write a blob to a file, whole or not at all; a part that an earlier call left beside it is gone on with.

        Raises:
            OutputError: the file cannot be written.
            UnreachableError, RemoteError: the last error, after the retries made no progress.
        """
        part = path.with_name(f".{path.name}.{digest[:16]}.part")
        try:
            with part.open("ab") as out:
                await self._fetch(digest, part, out.fileno(), progress)
                os.fsync(out.fileno())
            if await asyncio.to_thread(_digest, part) != digest:
                part.unlink()
                raise RemoteError("the bytes that came are not the blob's", code="DATA_LOSS", reason="DIGEST_MISMATCH")
            part.replace(path)
        except OSError as e:
            raise OutputError(f"cannot write the file: {e.strerror}", where=str(path), hint="write elsewhere") from e

    async def read(self, digest: str) -> bytes:
        """All bytes of a small blob."""

        async def attempt(deadline_s: float) -> bytes:
            request = pb.ReadBlobRequest(sha256=digest)
            stream = self._stub.ReadBlob(request, metadata=self._metadata, timeout=deadline_s)
            return b"".join([answer.data async for answer in stream])

        data = await call(self._retry, self._address, attempt)
        if hashlib.sha256(data).hexdigest() != digest:
            raise RemoteError("the bytes that came are not the blob's", code="DATA_LOSS", reason="DIGEST_MISMATCH")
        return data

    async def _fetch(self, digest: str, part: Path, handle: int, progress: Bytes | None) -> None:
        failures = 0
        while True:
            start = part.stat().st_size
            try:
                stream = self._stub.ReadBlob(pb.ReadBlobRequest(sha256=digest, offset=start), metadata=self._metadata)
                async for answer in stream:
                    _write(handle, answer.data)
                    if progress is not None:
                        progress(answer.offset + len(answer.data), answer.total)
                return
            except grpc.aio.AioRpcError as e:
                if e.code() is grpc.StatusCode.OUT_OF_RANGE and start:
                    os.truncate(part, 0)  # the part is longer than the blob: it is none of its
                elif not lost(e):
                    part.unlink()
                    raise from_call(e, self._address) from e
                failures = 1 if part.stat().st_size > start else failures + 1
                if failures >= self._retry.attempts:
                    raise from_call(e, self._address) from e
            await asyncio.sleep(self._retry.wait_s(failures))

    async def _held(self, ref: str) -> int:
        """Bytes of an unfinished upload that the server holds."""
        try:
            found = await self._call(self._stub.GetUpload, pb.GetUploadRequest(ref=ref))
        except RemoteError as e:
            if e.reason == "UPLOAD_NOT_FOUND":  # it began nothing, or ended: WriteBlob tells
                return 0
            raise
        return int(found.offset)


@dataclass
class _Pieces:
    """The messages of one upload. ``failed``: what ended them early, of which gRPC only tells that it cancelled."""

    path: Path
    digest: str
    offset: int
    total: int
    progress: Bytes | None
    failed: Exception | None = None

    async def all(self) -> AsyncIterator[pb.WriteBlobRequest]:
        try:
            yield pb.WriteBlobRequest(
                ref=self.digest, offset=self.offset, total=self.total, expected_sha256=self.digest
            )
            with self.path.open("rb") as source:
                source.seek(self.offset)
                while data := source.read(min(CHUNK, self.total - self.offset)):
                    yield pb.WriteBlobRequest(offset=self.offset, data=data)
                    self.offset += len(data)
                    if self.progress is not None:
                        self.progress(self.offset, self.total)
        except OSError as e:
            self.failed = _unreadable(self.path, e)
            raise
        except Exception as e:
            self.failed = e
            raise


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"the file cannot be read: {error.strerror}", where=str(path))


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
