"""The client for ordinary code: the asynchronous one, run in a thread of its own."""

from __future__ import annotations

import concurrent.futures
import os
import queue
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from gossamer._errors import InputError
from gossamer.client._aio import AsyncClient, AsyncJob, AsyncResult, Watch
from gossamer.client._background import Background
from gossamer.client._calls import Retry
from gossamer.client._fleet_sync import Fleet
from gossamer.client._registry import Channel, Version
from gossamer.client._results import JobState, JobStatus, Outcome
from gossamer.client._transfer import Bytes

T = TypeVar("T")


class Client:
    """Submits models to a Gossamer server and fetches what becomes of them. Use it in ``with``.

    ``fleet``: its devices, see :class:`gossamer.client.Fleet`. Arguments, methods and errors are those of
    :class:`gossamer.client.AsyncClient`; safe for many threads. Calls that run when another thread closes it, and those
    that come after, raise ``InputError``.
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
        self._background = Background("gossamer-client")

        async def connect() -> AsyncClient:  # channels belong to the loop that they are made in
            return AsyncClient(
                address, token=token, ca=ca, tls=tls, retry=retry, registry=registry, registry_token=registry_token
            )

        try:
            self._client = self._run(connect())
        except BaseException:
            self._background.close()
            raise
        self.fleet = Fleet(self._run, self._client.fleet)

    def close(self) -> None:
        """Close the connection; a second time does nothing."""
        self._background.close(self._client.close())

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(
        self,
        model: str | os.PathLike[str],
        recipe: str | os.PathLike[str],
        calibration: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Job:
        """Upload what the server lacks, and queue a job; see :meth:`AsyncClient.submit`."""
        return Job(self, self._run(self._client.submit(model, recipe, calibration, **options)))

    def sweep(
        self,
        model: str | os.PathLike[str],
        recipes: Sequence[str | os.PathLike[str]],
        calibration: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> list[Job]:
        """Queue a job for each recipe over one model; see :meth:`AsyncClient.sweep`."""
        return [Job(self, job) for job in self._run(self._client.sweep(model, recipes, calibration, **options))]

    def job(self, name: str) -> Job:
        """A job by its name, ``jobs/...``; nothing is asked yet."""
        return Job(self, self._client.job(name))

    def jobs(self, *, sweep: str = "", states: Sequence[JobState] = (), limit: int = 100) -> list[JobStatus]:
        """At most ``limit`` jobs, newest first."""
        return self._run(self._client.jobs(sweep=sweep, states=states, limit=limit))

    def upload(self, path: str | os.PathLike[str], progress: Bytes | None = None) -> str:
        """Upload a file unless the registry has it; returns its SHA-256."""
        return self._run(self._client.upload(path, progress))

    def download(self, sha256: str, path: str | os.PathLike[str], progress: Bytes | None = None) -> Path:
        """Write a blob to a file, whole or not at all; returns the path."""
        return self._run(self._client.download(sha256, path, progress))

    def read(self, sha256: str) -> bytes:
        """All bytes of a small blob."""
        return self._run(self._client.read(sha256))

    def publish(
        self,
        bundle_file: str | os.PathLike[str],
        bundle: str,
        version: str,
        *,
        channel: str | None = None,
        **options: Any,
    ) -> Version:
        """Make a version of a bundle in the registry; see :meth:`AsyncClient.publish`."""
        return self._run(self._client.publish(bundle_file, bundle, version, channel=channel, **options))

    def version(self, name: str) -> Version:
        """One version; see :meth:`AsyncClient.version` for names."""
        return self._run(self._client.version(name))

    def versions(self, bundle: str = "", *, limit: int = 100) -> list[Version]:
        """At most ``limit`` versions, newest first, of one bundle or of all."""
        return self._run(self._client.versions(bundle, limit=limit))

    def channels(self, bundle: str = "", *, limit: int = 1000) -> list[Channel]:
        """At most ``limit`` channels of one bundle or of all, oldest first."""
        return self._run(self._client.channels(bundle, limit=limit))

    def set_channel(self, bundle: str, channel: str, version: str) -> Channel:
        """Point a bundle's channel (``stable`` or ``canary``) at one of its versions."""
        return self._run(self._client.set_channel(bundle, channel, version))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self._background.run(work)
        except concurrent.futures.CancelledError:
            if self._background.closed:
                raise _closed() from None
            raise


class Job:
    """A job of a server. ``name``: ``jobs/...``; it stays valid when client and server start again."""

    def __init__(self, client: Client, job: AsyncJob) -> None:
        self._client, self._job, self.name = client, job, job.name

    def status(self) -> JobStatus:
        """The job now."""
        return self._client._run(self._job.status())

    def watch(self) -> Iterator[JobStatus]:
        """The job now and after every change, until it ends."""
        changes: queue.SimpleQueue[JobStatus | BaseException | None] = queue.SimpleQueue()

        async def pump() -> None:
            async for status in self._job.watch():
                changes.put(status)

        future = self._client._background.start(pump())
        future.add_done_callback(lambda done: changes.put(_closed() if done.cancelled() else done.exception()))
        try:
            while (found := changes.get()) is not None:
                if isinstance(found, BaseException):
                    raise found
                yield found
        finally:
            future.cancel()

    def wait(self, *, progress: bool | Watch = False, timeout_s: float | None = None) -> Result:
        """Wait for the end; see :meth:`gossamer.client.AsyncJob.wait`."""
        return Result(self._client, self._client._run(self._job.wait(progress=progress, timeout_s=timeout_s)))

    def cancel(self) -> JobStatus:
        """Ask the job to stop; one that ended stays as it is."""
        return self._client._run(self._job.cancel())

    def delete(self) -> None:
        """Remove a job that ended; see :meth:`gossamer.client.AsyncJob.delete`."""
        self._client._run(self._job.delete())

    def report(self, form: Literal["json", "html"] = "json") -> bytes:
        """The report of a job that succeeded."""
        return self._client._run(self._job.report(form))


class Result:
    """What a job made; ``numbers`` holds sizes, sparsity and times."""

    def __init__(self, client: Client, result: AsyncResult) -> None:
        self._client, self._result = client, result
        self.numbers: Outcome = result.numbers

    def save(self, path: str | os.PathLike[str], progress: Callable[[int, int], None] | None = None) -> Path:
        """Download the bundle to a file."""
        return self._client._run(self._result.save(path, progress))

    def report(self, form: Literal["json", "html"] = "json") -> bytes:
        """The report: layers, kernels, measured times, and why a layer stayed dense."""
        return self._client._run(self._result.report(form))


def _closed() -> InputError:
    return InputError("the client is closed", hint="make another one")
