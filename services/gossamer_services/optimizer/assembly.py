"""The optimizer's parts put together: job store, engine, and the two gRPC services over them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from google.longrunning import operations_pb2_grpc

from gossamer._proto.v1 import optimizer_pb2_grpc
from gossamer_services.common.rounds import Rounds
from gossamer_services.common.server import Service
from gossamer_services.optimizer import operations, service
from gossamer_services.optimizer.admission import Admission
from gossamer_services.optimizer.blobs import Blobs
from gossamer_services.optimizer.engine import Engine, Publish, Settings
from gossamer_services.optimizer.executor import Executor
from gossamer_services.optimizer.keeping import Keeper
from gossamer_services.optimizer.settings import OptimizerSettings
from gossamer_services.optimizer.store import JobStore, Retry
from gossamer_services.optimizer.subprocesses import SubprocessExecutor
from gossamer_services.optimizer.watching import Watcher

_LOG = logging.getLogger(__name__)
_DELETE_EVERY_S = 3600.0
_DELETE_AT_A_TIME = 100


def make_executor(name: str) -> Executor:
    """The executor that :attr:`OptimizerSettings.executor` names.

    Raises:
        BackendError: Ray is not installed, or the cluster does not answer.
    """
    if name == "subprocess":
        return SubprocessExecutor()
    from gossamer_services.optimizer.cluster import RayExecutor

    if name == "ray":
        return RayExecutor("local", include_dashboard=False)
    return RayExecutor(name if name.startswith("ray://") else name.removeprefix("ray:"))


class Optimizer:
    """All of the optimizer; made inside the event loop that serves it.

    Args:
        settings: see :class:`OptimizerSettings`.
        folder: for the files of jobs that run; one server at a time.
        database: SQLAlchemy URL of the job store.
        blobs: models, data and bundles.
        executor: what runs attempts; default: as the settings say.
        publish: makes versions of bundles; None: jobs that ask for one are refused.
        lease_s: ``blobs.use`` keeps a blob for so many seconds, and is called again in time for all that jobs refer to;
            None: whoever collects garbage asks the store.
        clock: Unix time in seconds, of the job store.

    Raises:
        BackendError: the Ray cluster cannot be used.
        InputError: another server uses the folder, or it cannot be written to.
        KeyFileError: the signing key cannot be used.
        ServiceError: the database cannot be opened.
    """

    def __init__(
        self,
        settings: OptimizerSettings,
        folder: Path,
        database: str,
        blobs: Blobs,
        *,
        executor: Executor | None = None,
        publish: Publish | None = None,
        lease_s: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        key = None
        if settings.key is not None:
            from gossamer.bundle import keys

            key = keys.load_private(settings.key)
        self.store = JobStore(
            database, retry=Retry(interruptions=settings.interruptions), queue_limit=settings.queue_limit, clock=clock
        )
        self.engine = Engine(
            self.store,
            blobs,
            folder,
            executor=executor or make_executor(settings.executor),
            settings=Settings(slots=settings.slots, lease_s=settings.lease_s),
            key=key,
            publish=publish,
        )
        self._keeper = None if lease_s is None else Keeper(self.store, blobs.use, lease_s)
        self._keep_ended_s, self._rounds = settings.keep_ended_s, Rounds()
        self._watcher = Watcher(self.store)
        self._jobs = service.OptimizerServicer(
            self.engine, Admission(self.store, blobs, folder / "vetting"), self._watcher, settings.limits()
        )
        self._operations = operations.OperationsServicer(self.store, self._watcher)

    def services(self) -> list[Service]:
        """For :class:`gossamer_services.common.server.Server`."""
        return [
            Service(
                "gossamer.v1.OptimizerService",
                lambda server: optimizer_pb2_grpc.add_OptimizerServiceServicer_to_server(self._jobs, server),  # type: ignore[no-untyped-call]
                service.SCOPES,
                self._watcher.drain,
            ),
            Service(
                "google.longrunning.Operations",
                lambda server: operations_pb2_grpc.add_OperationsServicer_to_server(self._operations, server),
                operations.SCOPES,
            ),
        ]

    async def start(self) -> None:
        """Resume what an earlier server left, run jobs, and delete those that ended long ago."""
        await asyncio.to_thread(self.engine.start)
        if self._keep_ended_s:
            every_s = min(self._keep_ended_s, _DELETE_EVERY_S)
            self._rounds.start("deletion of old jobs", every_s, self._delete_old, at_once=True)
        if self._keeper is not None:
            self._keeper.start()

    async def close(self) -> None:
        """Put jobs that run back into the queue; they go on where they were when a server starts again."""
        await self._rounds.close()
        await asyncio.to_thread(self.engine.stop)
        await self._jobs.close()
        if self._keeper is not None:
            await asyncio.to_thread(self._keeper.stop)
        self.store.close()

    async def _delete_old(self) -> None:
        before_s, count = self.store.clock() - self._keep_ended_s, _DELETE_AT_A_TIME
        while count == _DELETE_AT_A_TIME:  # other writers go in between
            count = await asyncio.to_thread(self.store.delete_ended, before_s, _DELETE_AT_A_TIME)
            if count:
                _LOG.info("old jobs were deleted", extra={"jobs": count})
