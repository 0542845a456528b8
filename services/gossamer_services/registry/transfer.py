"""The registry's streams: WriteBlob and ReadBlob, with the disk's work in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from gossamer._proto.v1 import registry_pb2 as pb
from gossamer_services.common.errors import Code, ServiceError, bad_field
from gossamer_services.registry.blobs import CHUNK, BlobStore, not_found, storage_failed
from gossamer_services.registry.names import check_digest, check_ref
from gossamer_services.registry.uploads import Stream, Uploads

Run = Callable[..., Awaitable[Any]]
"""Runs a function in a thread."""


async def receive(
    uploads: Uploads, caller: str, messages: AsyncIterator[pb.WriteBlobRequest], run: Run
) -> pb.WriteBlobResponse:
    """Serve WriteBlob; see the contract for its errors."""
    stream: Stream | None = None
    first: pb.WriteBlobRequest | None = None
    try:
        async for message in messages:
            if first is None:
                first = pb.WriteBlobRequest(
                    ref=check_ref(message.ref),
                    total=message.total,
                    expected_sha256=check_digest(message.expected_sha256, "expected_sha256"),
                )
                if message.total < 0:
                    raise bad_field("total", "must not be negative")
                stream = await run(uploads.begin, caller, message.ref, message.total, message.expected_sha256)
            else:
                _check_same(first, message)
            if stream is None:
                return pb.WriteBlobResponse(sha256=first.expected_sha256, size_bytes=first.total, existed=True)
            held = await run(stream.write, message.offset, message.data)
            if held == first.total and await run(stream.finish):
                return pb.WriteBlobResponse(sha256=first.expected_sha256, size_bytes=first.total)
    finally:
        if stream is not None:
            # Also when the client is gone and this task is cancelled: what came is kept for the next stream.
            await asyncio.shield(asyncio.ensure_future(run(stream.close)))
    if first is None or stream is None:
        raise bad_field("ref", "the stream is empty")
    held = stream.state.offset
    raise ServiceError(
        Code.ABORTED,
        "UPLOAD_INCOMPLETE",
        f"the stream ended after {held} of {first.total} bytes; they are kept",
        where=first.ref,
        hint="go on from there",
        metadata={"offset": str(held)},
    )


def _check_same(first: pb.WriteBlobRequest, message: pb.WriteBlobRequest) -> None:
    for field in ("ref", "total", "expected_sha256"):
        value = getattr(message, field)
        if value and value != getattr(first, field):
            raise bad_field(field, "changed in the middle of the stream")


async def send(blobs: BlobStore, request: pb.ReadBlobRequest, run: Run) -> AsyncIterator[pb.ReadBlobResponse]:
    """Serve ReadBlob; see the contract for its errors."""
    digest = check_digest(request.sha256)
    if request.limit < 0:
        raise bad_field("limit", "must not be negative")
    total = await run(blobs.size, digest)
    if total is None:
        raise not_found(digest)
    if not 0 <= request.offset <= total:
        raise ServiceError(
            Code.OUT_OF_RANGE,
            "READ_OFFSET",
            f"offset {request.offset} is outside of the blob's {total} bytes",
            where="offset",
            metadata={"total": str(total)},
        )
    end = min(total, request.offset + request.limit) if request.limit else total
    offset = request.offset
    stream = await run(blobs.open, digest)
    try:
        if offset:
            await run(stream.seek, offset)
        while offset < end:
            try:
                data = await run(stream.read, min(CHUNK, end - offset))
            except OSError as e:
                raise storage_failed(e) from e
            if not data:
                raise ServiceError(
                    Code.DATA_LOSS, "BLOB_DAMAGED", f"the blob ended after {offset} of {total} bytes", where=digest
                )
            yield pb.ReadBlobResponse(offset=offset, data=data, total=total)
            offset += len(data)
    finally:
        stream.close()
