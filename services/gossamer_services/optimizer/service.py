"""OptimizerService: submit, watch, cancel and list jobs, fetch reports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from google.longrunning import operations_pb2

from gossamer._proto.v1 import optimizer_pb2 as pb
from gossamer._proto.v1 import optimizer_pb2_grpc
from gossamer_services.common.auth import CALLER
from gossamer_services.common.errors import Code, ServiceError, bad_field
from gossamer_services.common.paging import page_size
from gossamer_services.common.threads import Threads
from gossamer_services.optimizer.admission import Admission
from gossamer_services.optimizer.engine import Engine
from gossamer_services.optimizer.jobs import Job, JobSpec, Limits
from gossamer_services.optimizer.messages import (
    check_text,
    parse_name,
    read_spec,
    states,
    write_job,
    write_operation,
    write_spec,
)
from gossamer_services.optimizer.watching import Watcher

CHUNK = 256 << 10
SCOPES = {
    "SubmitJob": "submit",
    "GetJob": "read",
    "ListJobs": "read",
    "WatchJob": "read",
    "CancelJob": "submit",
    "FetchReport": "read",
}


class OptimizerServicer(optimizer_pb2_grpc.OptimizerServiceServicer):
    """Serves the jobs of an engine's store; see proto/gossamer/v1/optimizer.proto.

    Args:
        engine: runs the jobs.
        admission: looks into what they bring along.
        watcher: of the engine's store.
        limits: the most that a job may use, and what it gets when it does not say.
    """

    def __init__(self, engine: Engine, admission: Admission, watcher: Watcher, limits: Limits) -> None:
        self._engine, self._admission, self._watcher, self._limits = engine, admission, watcher, limits
        self._store, self._blobs = engine.store, engine.blobs
        self._rendering = asyncio.Semaphore(1)
        self._vetting = asyncio.Semaphore(2)
        self._waiting = Threads(4, "optimizer-blobs")
        """For what reads blobs, which may be those of another server."""

    async def close(self) -> None:
        """Wait for what reads blobs."""
        await self._waiting.close()

    async def SubmitJob(self, request: pb.SubmitJobRequest, context: Any) -> pb.SubmitJobResponse:
        if not request.HasField("spec"):
            raise bad_field("spec", "not given")
        request_id = check_text(request.request_id, "request_id")
        spec = await asyncio.to_thread(read_spec, request.spec, self._limits)
        submitter = CALLER.get().name
        if request_id:
            earlier = await asyncio.to_thread(self._store.find_request, submitter, request_id)
            if earlier is not None and earlier.spec == spec:
                return pb.SubmitJobResponse(operation=write_operation(earlier))
        if spec.publish is not None and not self._engine.publishes:
            raise bad_field("spec.publish", "this server publishes no versions")
        async with self._vetting:  # a process each
            await self._waiting.run(self._admission.check, spec)
        if request.validate_only:
            return pb.SubmitJobResponse(operation=_planned(spec, submitter))
        job, _new = await asyncio.to_thread(self._submit, spec, submitter, request_id)
        self._engine.wake()
        return pb.SubmitJobResponse(operation=write_operation(job))

    def _submit(self, spec: JobSpec, submitter: str, request_id: str) -> tuple[Job, bool]:
        return self._store.submit(spec, submitter=submitter, request_id=request_id)

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.GetJobResponse:
        job = await asyncio.to_thread(self._store.get, parse_name(request.name))
        return pb.GetJobResponse(job=write_job(job))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Any) -> pb.ListJobsResponse:
        page = await asyncio.to_thread(
            self._store.list,
            sweep=check_text(request.sweep, "sweep"),
            states=states(list(request.states)),
            page_size=page_size(request.page_size),
            page_token=request.page_token,
        )
        return pb.ListJobsResponse(jobs=[write_job(job) for job in page.jobs], next_page_token=page.next_token)

    async def WatchJob(self, request: pb.WatchJobRequest, context: Any) -> AsyncIterator[pb.WatchJobResponse]:
        async for job in self._watcher.watch(parse_name(request.name)):
            yield pb.WatchJobResponse(job=write_job(job))

    async def CancelJob(self, request: pb.CancelJobRequest, context: Any) -> pb.CancelJobResponse:
        job = parse_name(request.name)
        revision = None
        if request.etag:
            if not (request.etag.isdecimal() and len(request.etag) < 19):
                raise bad_field("etag", "not one of this server's")
            revision = int(request.etag)
        found = await asyncio.to_thread(lambda: self._store.cancel(job, revision=revision))
        return pb.CancelJobResponse(job=write_job(found))

    async def FetchReport(self, request: pb.FetchReportRequest, context: Any) -> AsyncIterator[pb.FetchReportResponse]:
        name = parse_name(request.name)
        if request.format not in (pb.REPORT_FORMAT_JSON, pb.REPORT_FORMAT_HTML):
            raise bad_field("format", "not given: say JSON or HTML")
        job = await asyncio.to_thread(self._store.get, name)
        if job.result is None:
            raise ServiceError(
                Code.FAILED_PRECONDITION,
                "JOB_NOT_DONE",
                f"the job is {job.state}: only one that succeeded has a report",
                where=request.name,
                metadata={"state": str(job.state)},
            )
        if request.format == pb.REPORT_FORMAT_HTML:
            async with self._rendering:  # it times the bundle
                data = await self._waiting.run(self._page, job.result.bundle)
        else:
            data = await self._waiting.run(self._read, job.result.report)
        for at in range(0, len(data), CHUNK):
            yield pb.FetchReportResponse(data=data[at : at + CHUNK])

    def _read(self, digest: str) -> bytes:
        with self._blobs.open(digest) as stream:
            return stream.read()

    def _page(self, bundle: str) -> bytes:
        from gossamer.report import bundle_report

        return bundle_report(self._read(bundle), verify=False, where=bundle).encode()


def _planned(spec: JobSpec, submitter: str) -> operations_pb2.Operation:
    """The operation of a job that is not stored: without a name."""
    operation = operations_pb2.Operation()
    job = pb.Job(spec=write_spec(spec), state=pb.JOB_STATE_QUEUED, creator=submitter)
    operation.metadata.Pack(pb.JobMetadata(job=job))
    return operation
