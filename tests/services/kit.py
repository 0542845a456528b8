"""What the tests of services share: a real server on loopback in the test's event loop, and a small signed bundle."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from gossamer._proto.v1 import registry_pb2 as pb
from gossamer._proto.v1 import registry_pb2_grpc as rpc
from gossamer_services import config as configuration
from gossamer_services.common.server import Server
from gossamer_services.serve import serve


@contextlib.asynccontextmanager
async def served(data: Path, *overrides: str, services: tuple[str, ...] = ("registry",)) -> AsyncIterator[Server]:
    """A server on a free port of loopback; stopped, without waiting for load balancers, at the end."""
    fixed = [f'state.folder="{data}"', "server.bind=127.0.0.1:0", "server.drain_delay_s=0", "server.drain_s=1"]
    config = configuration.load(None, [*fixed, "server.log_level=ERROR", *overrides])
    started: asyncio.Future[Server] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    task = asyncio.create_task(serve(config, services, ready=started.set_result, stop=stop))
    await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
    if not started.done():
        task.result()
    try:
        yield await started
    finally:
        stop.set()
        await task


@contextlib.asynccontextmanager
async def registry(data: Path, *overrides: str) -> AsyncIterator[rpc.RegistryServiceStub]:
    """A client of a registry that runs for it."""
    async with (
        served(data, *overrides) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield rpc.RegistryServiceStub(channel)


def messages(
    data: bytes, ref: str = "ref", *, chunk: int = 1000, offset: int = 0, stop: int | None = None, **first: Any
) -> Iterator[pb.WriteBlobRequest]:
    """WriteBlob's messages from an offset on; ``stop``: the client goes away there."""
    announced = {"ref": ref, "total": len(data), "expected_sha256": hashlib.sha256(data).hexdigest(), **first}
    end = len(data) if stop is None else stop
    yield pb.WriteBlobRequest(**announced, offset=offset)
    for at in range(offset, end, chunk):
        yield pb.WriteBlobRequest(offset=at, data=data[at : min(at + chunk, end)])


async def upload(stub: rpc.RegistryServiceStub, data: bytes, ref: str = "ref", **options: Any) -> pb.WriteBlobResponse:
    """Upload a blob in one stream.

    grpc.aio loses the server's status where it is still sending when a refusal comes, and says INTERNAL by itself: the
    call is then made again, as the client of the SDK does.
    """
    while True:
        try:
            return await stub.WriteBlob(messages(data, ref, **options))
        except grpc.aio.AioRpcError as e:
            if (e.code(), e.details()) != (grpc.StatusCode.INTERNAL, "Internal error from Core"):
                raise


async def download(stub: rpc.RegistryServiceStub, sha256: str, **options: Any) -> bytes:
    """Download a blob, or a part of it."""
    parts = [m.data async for m in stub.ReadBlob(pb.ReadBlobRequest(sha256=sha256, **options))]
    return b"".join(parts)


class Refused:
    """Takes an error of a call apart, after ``with refused() as e:``."""

    code: grpc.StatusCode
    reason: str
    message: str
    metadata: dict[str, str]
    fields: list[str]

    def read(self, error: grpc.RpcError) -> None:
        """Fill in from the trailer's google.rpc.Status."""
        self.code, self.message = error.code(), error.details() or ""
        raw = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
        assert raw is not None, f"no details: {error}"
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        for detail in status_pb2.Status.FromString(raw).details:
            detail.Unpack(info)
            detail.Unpack(bad)
        assert info.domain == "gossamer.dev"
        self.reason, self.metadata = info.reason, dict(info.metadata)
        self.fields = [v.field for v in bad.field_violations]


@contextlib.contextmanager
def refused(code: grpc.StatusCode, reason: str) -> Iterator[Refused]:
    """The calls inside must fail with this code and reason."""
    found = Refused()
    try:
        yield found
    except grpc.RpcError as e:
        found.read(e)
        assert (found.code, found.reason) == (code, reason), e
    else:
        raise AssertionError(f"no error; expected {code} ({reason})")
