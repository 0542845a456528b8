"""The asynchronous client."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import grpc

from gossamer._errors import InputError
from gossamer._proto.v1 import optimizer_pb2 as pb
from gossamer._proto.v1 import optimizer_pb2_grpc
from gossamer.client._calls import Retry, call, lost
from gossamer.client._errors import RemoteError, from_call
from gossamer.client._fleet import AsyncFleet
from gossamer.client._link import Link
from gossamer.client._pack import model_format, packed
from gossamer.client._registry import Channel, Version, Versions
from gossamer.client._results import JobState, JobStatus, Outcome, outcome_of, status_of
from gossamer.client._transfer import Bytes, Transfers

Watch = Callable[[JobStatus], None]
_DIGEST = re.compile("[0-9a-f]{64}", re.ASCII)


class AsyncClient:
    """Submits models to a Gossamer server and fetches what becomes of them. Use it in ``async with``.

    ``fleet``: its devices, see :class:`gossamer.client.AsyncFleet`.

    Args:
        address: ``host:port`` of ``gossamer serve``.
        token: needed unless the server is on this machine; by default the environment's ``GOSSAMER_TOKEN``.
        ca: certificates, in PEM, of the authority that signed the server's. ``tls``: encrypt, and trust the system's
            authorities; on by default where a token goes to another machine.
        retry: how calls are repeated.
        registry: ``host:port`` of the registry, where it is served apart from the others; reached as ``address`` is. By
            default the environment's ``GOSSAMER_REGISTRY``, or else ``address``.
        registry_token: where it asks for another token; by default the environment's ``GOSSAMER_REGISTRY_TOKEN``.

    Raises:
        InputError: no address, what is given is no token, or it would go out unencrypted.
        KeyFileError: ``ca`` cannot be read.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        ca: str | os.PathLike[str] | None = None,
        tls: bool | None = None,
        retry: Retry | None = None,
        registry: str | None = None,
        registry_token: str | None = None,
    ) -> None:
        link = self._link = Link(address, token=token, ca=ca, tls=tls, retry=retry or Retry())
        self.address, self.retry = link.address, link.retry
        self._stub = optimizer_pb2_grpc.OptimizerServiceStub(link.channel)  # type: ignore[no-untyped-call]
        there, registry = link, registry or os.environ.get("GOSSAMER_REGISTRY", "")
        if registry:
            registry_token = registry_token or os.environ.get("GOSSAMER_REGISTRY_TOKEN", "") or token
            there = Link(registry, token=registry_token, ca=ca, tls=tls, retry=link.retry)
        self._links = {link, there}
        self._transfers, self._versions = Transfers(there), Versions(there)
        self.fleet = AsyncFleet(link, self._versions)

    async def close(self) -> None:
        """Close the connections."""
        for link in self._links:
            await link.channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def submit(
        self,
        model: str | os.PathLike[str],
        recipe: str | os.PathLike[str],
        calibration: str | os.PathLike[str] | None = None,
        *,
        train_data: str | os.PathLike[str] | None = None,
        name: str = "",
        version: str = "",
        target: str = "",
        labels: Mapping[str, str] | None = None,
        sweep: str = "",
        memory_bytes: int = 0,
        run_time_s: float = 0.0,
        publish: tuple[str, str] | None = None,
        request_id: str | None = None,
        progress: Bytes | None = None,
    ) -> AsyncJob:
        """Upload what the server lacks, and queue a job.

        Args:
            model: path of an .onnx, .tflite or .pt2 file.
            recipe: name of a ready-made recipe, YAML text, or the path of a YAML file.
            calibration: a folder of pictures, a .zip of them, or an .npz of arrays by input name.
            train_data: a folder with one subfolder a class, a .zip of it, or an .npz with x and y.
            name, version: for the manifest; the name is the file's stem by default.
            target: machine that the bundle is tuned for; empty: the recipe's.
            labels: of your choosing. ``sweep``: jobs of one sweep say the same.
            memory_bytes, run_time_s: limits; 0: the server's.
            publish: (bundle, version) that the result becomes in the registry.
            request_id: the same again makes no second job; by default a new one, which retries share.
            progress: called with (bytes, bytes in all) of each upload.

        Raises:
            InputError: a file is missing or of another kind.
            UnreachableError: no server answers. RemoteError: it refused; ``reason`` says why.
        """
        path = Path(model)
        spec = pb.JobSpec(
            display_name=name or _plain(path.stem),
            model_format=pb.ModelFormat.Value(f"MODEL_FORMAT_{model_format(path)}"),
            recipe=await asyncio.to_thread(_recipe, recipe),
            target=target,
            model_version=version,
            labels=labels or {},
            sweep=sweep,
        )
        for role, given in (("calibration", calibration), ("training", train_data)):
            if given is not None:
                with packed(Path(given)) as (file, kind):
                    digest = await self._transfers.upload(file, progress)
                data = pb.Data(sha256=digest, format=pb.DataFormat.Value(f"DATA_FORMAT_{kind}"))
                getattr(spec, role).CopyFrom(data)
        spec.model_sha256 = await self._transfers.upload(path, progress)
        spec.limits.memory_bytes = memory_bytes
        spec.limits.run_time.FromNanoseconds(int(run_time_s * 1e9))
        if publish is not None:
            spec.publish.bundle, spec.publish.version = publish
        request = pb.SubmitJobRequest(spec=spec, request_id=request_id or secrets.token_hex(16))
        answer = await self._link.call(self._stub.SubmitJob, request)
        return AsyncJob(self, answer.operation.name)

    async def sweep(
        self,
        model: str | os.PathLike[str],
        recipes: Sequence[str | os.PathLike[str]],
        calibration: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> list[AsyncJob]:
        """Queue a job for each recipe over one model, under one sweep name; options as for :meth:`submit`."""
        options.setdefault("sweep", f"sweep-{secrets.token_hex(6)}")
        return [await self.submit(model, recipe, calibration, **options) for recipe in recipes]

    def job(self, name: str) -> AsyncJob:
        """A job by its name, ``jobs/...``; nothing is asked yet."""
        return AsyncJob(self, name)

    async def jobs(self, *, sweep: str = "", states: Sequence[JobState] = (), limit: int = 100) -> list[JobStatus]:
        """At most ``limit`` jobs, newest first, of one sweep and in one of these states, where given."""
        numbers = [pb.JobState.Value(f"JOB_STATE_{state}") for state in states]
        request = pb.ListJobsRequest(sweep=sweep, states=numbers)
        return await self._link.listed(self._stub.ListJobs, request, "jobs", status_of, limit)

    async def upload(self, path: str | os.PathLike[str], progress: Bytes | None = None) -> str:
        """Upload a file unless the registry has it, resuming where it was cut; returns its SHA-256."""
        return await self._transfers.upload(Path(path), progress)

    async def download(self, sha256: str, path: str | os.PathLike[str], progress: Bytes | None = None) -> Path:
        """Write a blob to a file, whole or not at all, resuming where it was cut; returns the path."""
        await self._transfers.download(sha256, Path(path), progress)
        return Path(path)

    async def read(self, sha256: str) -> bytes:
        """All bytes of a small blob."""
        return await self._transfers.read(sha256)

    async def publish(
        self,
        bundle_file: str | os.PathLike[str],
        bundle: str,
        version: str,
        *,
        channel: str | None = None,
        description: str = "",
        labels: Mapping[str, str] | None = None,
        request_id: str | None = None,
        progress: Bytes | None = None,
    ) -> Version:
        """Make a version of a bundle in the registry.

        Args:
            bundle_file: path of a .goss file, which is uploaded where the registry lacks it, or the SHA-256 of a blob.
            bundle, version: its names there, such as "person" and "1.4.0".
            channel: ``stable`` or ``canary``: point that at it as well (needs scope admin).
            request_id: the same again makes no second version; by default a new one, which retries share.
            progress: called with (bytes, bytes in all) of the upload.

        Raises:
            InputError: the file cannot be read.
            RemoteError: ``BAD_BUNDLE``, ``VERSION_EXISTS``, or what else the server refused.
            UnreachableError: no server answers.
        """
        path = Path(bundle_file)
        known = _DIGEST.fullmatch(os.fspath(bundle_file)) and not path.exists()
        digest = str(path) if known else await self._transfers.upload(path, progress)
        return await self._versions.create(
            digest,
            bundle,
            version,
            channel=channel,
            description=description,
            labels=labels,
            request_id=request_id,
        )

    async def version(self, name: str) -> Version:
        """One version: ``person/1.4.0``, ``person@canary`` for what a channel names, ``person`` for what its stable one
        does, or a resource name of either."""
        return await self._versions.get(name)

    async def versions(self, bundle: str = "", *, limit: int = 100) -> list[Version]:
        """At most ``limit`` versions, newest first, of one bundle or of all."""
        return await self._versions.newest(bundle, limit)

    async def channels(self, bundle: str = "", *, limit: int = 1000) -> list[Channel]:
        """At most ``limit`` channels of one bundle or of all, oldest first."""
        return await self._versions.channels(bundle, limit)

    async def set_channel(self, bundle: str, channel: str, version: str) -> Channel:
        """Point a bundle's channel (``stable`` or ``canary``) at one of its versions."""
        return await self._versions.point(bundle, channel, version)


class AsyncJob:
    """A job of a server. ``name``: ``jobs/...``; it stays valid when client and server start again."""

    def __init__(self, client: AsyncClient, name: str) -> None:
        self._client, self.name = client, name

    async def status(self) -> JobStatus:
        """The job now."""
        return status_of(await self._get())

    async def watch(self) -> AsyncIterator[JobStatus]:
        """The job now and after every change, until it ends; goes on when the connection breaks or the server restarts.

        Raises:
            UnreachableError: no server answered for all retries.
        """
        failures, etag = 0, ""
        client = self._client
        while True:
            try:
                request = pb.WatchJobRequest(name=self.name)
                async for answer in client._stub.WatchJob(request, metadata=client._link.metadata):
                    failures = 0
                    if answer.job.etag != etag:
                        etag = answer.job.etag
                        yield status_of(answer.job)
                return
            except grpc.aio.AioRpcError as e:
                failures += 1
                if not lost(e) or failures >= client.retry.attempts:
                    raise from_call(e, client.address) from e
            await asyncio.sleep(client.retry.wait_s(failures))

    async def wait(self, *, progress: bool | Watch = False, timeout_s: float | None = None) -> AsyncResult:
        """Wait for the end.

        Args:
            progress: True: a bar on stderr; a function: called with every change.
            timeout_s: wait no longer.

        Raises:
            RemoteError: the job failed (its error), or was cancelled (code ``CANCELLED``).
            TimeoutError: it runs still.
        """
        from gossamer.client._progress import shown

        with shown(progress) as tell:
            async with asyncio.timeout(timeout_s):
                async for status in self.watch():
                    tell(status)
        job = await self._get()
        if not job.HasField("result"):
            error = status_of(job).error
            assert error is not None
            raise error
        return AsyncResult(self._client, self, outcome_of(job.result))

    async def cancel(self) -> JobStatus:
        """Ask the job to stop; one that ended stays as it is."""
        answer = await self._client._link.call(self._client._stub.CancelJob, pb.CancelJobRequest(name=self.name))
        return status_of(answer.job)

    async def delete(self) -> None:
        """Remove a job that ended; garbage collection may then take what it made, unless a version refers to it.

        Raises:
            RemoteError: ``JOB_NOT_ENDED``: cancel it first; ``JOB_NOT_FOUND``.
        """
        from google.longrunning import operations_pb2, operations_pb2_grpc

        client, tries = self._client, 0
        stub = operations_pb2_grpc.OperationsStub(client._link.channel)
        request = operations_pb2.DeleteOperationRequest(name=self.name)

        async def attempt(deadline_s: float) -> None:
            nonlocal tries
            tries += 1
            await stub.DeleteOperation(request, metadata=client._link.metadata, timeout=deadline_s)

        try:
            await call(client.retry, client.address, attempt)
        except RemoteError as e:
            if tries == 1 or e.reason != "JOB_NOT_FOUND":  # else an attempt whose answer was lost deleted it
                raise

    async def report(self, form: Literal["json", "html"] = "json") -> bytes:
        """The report of a job that succeeded."""
        client = self._client
        request = pb.FetchReportRequest(name=self.name, format=pb.ReportFormat.Value(f"REPORT_FORMAT_{form.upper()}"))

        async def attempt(deadline_s: float) -> bytes:
            stream = client._stub.FetchReport(request, metadata=client._link.metadata, timeout=deadline_s)
            return b"".join([answer.data async for answer in stream])

        return await call(client.retry, client.address, attempt)

    async def _get(self) -> pb.Job:
        answer = await self._client._link.call(self._client._stub.GetJob, pb.GetJobRequest(name=self.name))
        job: pb.Job = answer.job
        return job


class AsyncResult:
    """What a job made; ``numbers`` holds sizes, sparsity and times."""

    def __init__(self, client: AsyncClient, job: AsyncJob, numbers: Outcome) -> None:
        self._client, self._job, self.numbers = client, job, numbers

    async def save(self, path: str | os.PathLike[str], progress: Bytes | None = None) -> Path:
        """Download the bundle to a file."""
        return await self._client.download(self.numbers.bundle_sha256, path, progress)

    async def report(self, form: Literal["json", "html"] = "json") -> bytes:
        """The report: layers, kernels, measured times, and why a layer stayed dense."""
        return await self._job.report(form)


def _recipe(recipe: str | os.PathLike[str]) -> str:
    """Text for the server: a path's contents, anything else as it is."""
    if isinstance(recipe, str) and ("\n" in recipe or not recipe.endswith((".yaml", ".yml"))):
        return recipe
    try:
        return Path(recipe).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"the recipe cannot be read: {e}", where=str(recipe), hint="check the path") from e


def _plain(stem: str) -> str:
    """A file's stem as a name that the server takes."""
    text = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in stem)[:64].lstrip(".")
    return text or "model"
