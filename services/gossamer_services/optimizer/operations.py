"""google.longrunning.Operations over the jobs: an operation ``jobs/{id}`` is the job of that name."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2

from gossamer_services.common.errors import bad_field
from gossamer_services.common.paging import page_size
from gossamer_services.common.times import seconds_of
from gossamer_services.optimizer.messages import parse_name, write_operation
from gossamer_services.optimizer.store import JobStore
from gossamer_services.optimizer.watching import Watcher

SCOPES = {
    "GetOperation": "read",
    "ListOperations": "read",
    "WaitOperation": "read",
    "CancelOperation": "submit",
    "DeleteOperation": "submit",
}
LONGEST_WAIT_S = 30.0
"""WaitOperation answers after at most so long; a client that wants to wait longer asks again."""


class OperationsServicer(operations_pb2_grpc.OperationsServicer):  # type: ignore[misc]  # generated without types
    """Serves the jobs of a store as operations."""

    def __init__(self, store: JobStore, watcher: Watcher) -> None:
        self._store, self._watcher = store, watcher

    async def GetOperation(self, request: Any, context: Any) -> operations_pb2.Operation:
        return write_operation(await asyncio.to_thread(self._store.get, parse_name(request.name)))

    async def ListOperations(self, request: Any, context: Any) -> operations_pb2.ListOperationsResponse:
        if request.filter:
            raise bad_field("filter", "filters are not read: leave it empty, or use ListJobs")
        if request.name not in ("", "jobs"):
            raise bad_field("name", "the only collection is 'jobs'")
        page = await asyncio.to_thread(
            lambda: self._store.list(page_size=page_size(request.page_size), page_token=request.page_token)
        )
        return operations_pb2.ListOperationsResponse(
            operations=[write_operation(job) for job in page.jobs], next_page_token=page.next_token
        )

    async def WaitOperation(self, request: Any, context: Any) -> operations_pb2.Operation:
        job = parse_name(request.name)
        wait_s = LONGEST_WAIT_S
        if request.HasField("timeout"):
            wait_s = min(max(seconds_of(request.timeout), 0.0), LONGEST_WAIT_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                async for now in self._watcher.watch(job):
                    if now.state.final:
                        return write_operation(now)
        return write_operation(await asyncio.to_thread(self._store.get, job))

    async def CancelOperation(self, request: Any, context: Any) -> empty_pb2.Empty:
        await asyncio.to_thread(self._store.cancel, parse_name(request.name))
        return empty_pb2.Empty()

    async def DeleteOperation(self, request: Any, context: Any) -> empty_pb2.Empty:
        await asyncio.to_thread(self._store.delete, parse_name(request.name))
        return empty_pb2.Empty()
