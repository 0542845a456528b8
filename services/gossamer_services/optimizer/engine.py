"""The engine: claims jobs from the store, runs them a few at a time, and settles how they end.

It may be killed at any moment. What it was doing is in the store (who runs what) and in the job folders (what is done);
the next engine on the same folder puts the jobs back, and goes on from their results or checkpoints.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from gossamer._errors import GossamerError, InputError
from gossamer_services.common.errors import Code, ServiceError
from gossamer_services.optimizer.blobs import Blobs
from gossamer_services.optimizer.errors import NotFoundError
from gossamer_services.optimizer.executor import Attempt, Ended, Executor, Outcome, Verdict
from gossamer_services.optimizer.folder import JobFolder
from gossamer_services.optimizer.jobs import Job, JobError, JobResult, Reason
from gossamer_services.optimizer.store import Claim, JobStore
from gossamer_services.optimizer.subprocesses import SubprocessExecutor
from gossamer_services.upstream.connection import UpstreamError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_FOLDER = re.compile(r"[0-9a-f]{32}")
T = TypeVar("T")
LOG = logging.getLogger("gossamer.optimizer")
Publish = Callable[[Job, str], str]
"""Called with a job and its bundle's digest; publishes the version that the job names, and returns its name. A call for
a job and digest that were published before returns the same."""


class _StoppedError(Exception):
    """The wait for a server was ended by a verdict."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.name)
        self.verdict = verdict


@dataclass(frozen=True)
class Settings:
    """How an engine runs jobs.

    Attributes:
        slots: jobs at a time.
        lease_s: another engine may take a job over when it was not heard of for this long.
        poll_s: how often the queue is looked at when nothing says that it changed.
        patience_s: longest wait between two questions to a registry that does not answer.
    """

    slots: int = 1
    lease_s: float = 30.0
    poll_s: float = 0.5
    patience_s: float = 5.0


class Engine:
    """Runs the jobs of a store.

    Args:
        store: the jobs.
        blobs: what they read, and where their artefacts go.
        folder: job folders live here. One engine at a time; a second one is refused.
        executor: default: subprocesses of this machine.
        key: signs the bundles; None: they stay unsigned.
        publish: makes versions of bundles; None: jobs that ask for one fail.

    Raises:
        InputError: another engine uses the folder, or it cannot be written to.
    """

    def __init__(
        self,
        store: JobStore,
        blobs: Blobs,
        folder: str | os.PathLike[str],
        *,
        executor: Executor | None = None,
        settings: Settings | None = None,
        key: Ed25519PrivateKey | None = None,
        publish: Publish | None = None,
    ) -> None:
        self.store, self.blobs, self.folder = store, blobs, Path(folder)
        self.executor, self.settings = executor or SubprocessExecutor(), settings or Settings()
        self._key, self._publish = key, publish
        self._handle = self._lock()
        self.owner = f"{socket.gethostname()}:{self.folder.resolve()}"[:200]
        self._draining = threading.Event()
        self._wake = threading.Condition()
        self._threads: list[threading.Thread] = []

    @property
    def publishes(self) -> bool:
        """Whether jobs may ask for a version."""
        return self._publish is not None

    def start(self) -> None:
        """Put back what an engine that died here left behind, then run jobs until :meth:`stop`."""
        count = self.store.recover(self.owner)
        if count:
            LOG.warning("an engine died here: %d jobs are resumed", count)
        self._sweep()
        for slot in range(self.settings.slots):
            thread = threading.Thread(target=self._work, name=f"optimizer-{slot}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Stop the jobs that run, put them back into the queue, and free the folder."""
        self._draining.set()
        self.wake()
        for thread in self._threads:
            thread.join()
        self.executor.close()
        os.close(self._handle)

    def __enter__(self) -> Engine:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wake(self) -> None:
        """Look at the queue now: a job was submitted."""
        with self._wake:
            self._wake.notify_all()

    def job_folder(self, job: str) -> JobFolder:
        """The folder of a job."""
        return JobFolder(self.folder / job)

    def _lock(self) -> int:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / "engine.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as e:
            raise InputError(
                f"the job folder cannot be written to: {e.strerror}", where=str(self.folder), hint="give another folder"
            ) from e
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise InputError(
                "another optimizer uses this job folder", where=str(self.folder), hint="stop it, or give another folder"
            ) from None
        return handle

    def _sweep(self) -> None:
        """Remove folders of jobs that ended, or that the store does not know."""
        for path in self.folder.iterdir():
            if not _FOLDER.fullmatch(path.name):
                continue
            if self._ended(path.name):
                JobFolder(path).remove()

    def _work(self) -> None:
        while not self._draining.is_set():
            try:
                claim = self.store.claim(self.owner, self.settings.lease_s)
            except Exception:
                LOG.exception("the queue cannot be read")
                claim = None
            if claim is None:
                with self._wake:
                    if not self._draining.is_set():
                        self._wake.wait(self.settings.poll_s)
                continue
            try:
                self._run(claim)
            except Exception as e:  # a slot outlives every job
                LOG.exception("job %s: the engine failed", claim.job.id)
                with contextlib.suppress(Exception):
                    self.store.crashed(claim, f"could not be started or settled: {type(e).__name__}: {e}")

    def _run(self, claim: Claim) -> None:
        job, folder = claim.job, self.job_folder(claim.job.id)
        try:
            self._patiently(claim, "fetch", lambda: folder.prepare(job.spec, self.blobs))
        except _StoppedError as e:
            self._conclude(claim, folder, Outcome(Ended.STOPPED, verdict=e.verdict))
            return
        except ServiceError as e:
            if e.code not in (Code.NOT_FOUND, Code.DATA_LOSS):
                raise  # the store of blobs is out of order: tried again
            error = JobError(Reason.INPUT_LOST, type(e).__name__, e.message, e.where or "", e.hint or "")
            self._settle(claim, self.store.fail(claim, error))
            return
        left = job.spec.limits.run_time_s - job.spent_s
        if folder.result() is not None:
            outcome = Outcome(Ended.DONE)
        elif left <= 0:
            outcome = Outcome(Ended.TIMEOUT)
        else:
            outcome = self.executor.run(Attempt(folder, job.spec, claim.token, left), self._alive(claim))
        self._conclude(claim, folder, outcome)

    def _patiently(self, claim: Claim, stage: str, work: Callable[[], T]) -> T:
        """What ``work`` returns; the claim is renewed meanwhile.

        While a server that it needs does not answer, it is done again and again, which is neither time that the job ran
        nor an attempt.

        Raises:
            _StoppedError: the wait is to end.
        """
        alive, failures = self._alive(claim, runs=False), 0
        while True:
            try:
                with self._renewed(lambda: alive(stage, claim.job.percent)):
                    return work()
            except UpstreamError as e:
                failures += 1
                LOG.warning("job %s waits: %s", claim.job.id, e.message)
            until = time.monotonic() + min(self.settings.patience_s, self.settings.poll_s * 2.0**failures)
            while (left := until - time.monotonic()) > 0:
                verdict = alive(stage, claim.job.percent)
                if verdict is not Verdict.GO_ON:
                    raise _StoppedError(verdict)
                self._draining.wait(min(left, 1.0))

    @contextlib.contextmanager
    def _renewed(self, renew: Callable[[], object]) -> Iterator[None]:
        """Renew from a thread: blobs may take longer than a lease."""
        done = threading.Event()

        def keep() -> None:
            while not done.wait(self.settings.lease_s / 3):
                renew()

        thread = threading.Thread(target=keep, name="optimizer-renewal", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _alive(self, claim: Claim, *, runs: bool = True) -> Callable[[str, float], Verdict]:
        """Renews a claim; ``runs``: the time since now counts as the job's."""
        began = renewed = time.monotonic()

        def alive(stage: str, percent: float) -> Verdict:
            nonlocal renewed
            if self._draining.is_set():
                return Verdict.DRAIN
            now = time.monotonic()
            try:
                job = self.store.renew(claim, self.settings.lease_s, stage, percent, now - began if runs else 0.0)
            except (
                sa.exc.DBAPIError,
                ServiceError,
            ) as e:  # the database is busy or away: the lease says for how long that is fine
                LOG.warning("job %s: its lease is not renewed: %s", claim.job.id, e)
                return Verdict.GO_ON if now - renewed < self.settings.lease_s else Verdict.VOID
            renewed = now
            if job is None:
                return Verdict.VOID
            return Verdict.CANCEL if job.cancelling else Verdict.GO_ON

        return alive

    def _conclude(self, claim: Claim, folder: JobFolder, outcome: Outcome) -> None:
        store = self.store
        match outcome.ended:
            case Ended.DONE:
                try:
                    result = self._patiently(claim, "store", lambda: self._collect(claim.job, folder))
                except _StoppedError as e:
                    self._conclude(claim, folder, Outcome(Ended.STOPPED, verdict=e.verdict))
                    return
                except GossamerError as e:  # the version cannot be published
                    if isinstance(e, ServiceError) and e.code in (Code.UNAVAILABLE, Code.INTERNAL):
                        raise  # tried again
                    self._settle(claim, store.fail(claim, JobError.of(e)))
                    return
                self._settle(claim, store.succeed(claim, result))
            case Ended.ERROR:
                assert outcome.error is not None
                if outcome.error.reason is Reason.INTERNAL:
                    LOG.error("job %s: a defect: %s", claim.job.id, folder.log_tail())
                self._settle(claim, store.fail(claim, outcome.error))
            case Ended.TIMEOUT:
                seconds = claim.job.spec.limits.run_time_s
                error = JobError(
                    Reason.TIME_LIMIT,
                    "TimeLimit",
                    f"the job ran longer than its {seconds:g} s",
                    hint="raise the limit, or train for fewer epochs",
                )
                self._settle(claim, store.fail(claim, error))
            case Ended.DIED:
                LOG.warning(
                    "job %s, attempt %d: the worker %s; it wrote last: %s",
                    claim.job.id, claim.token, outcome.how, folder.log_tail(),
                )  # fmt: skip
                store.crashed(claim, outcome.how)
                if self._ended(claim.job.id):
                    self._settle(claim, True)
            case Ended.STOPPED if outcome.verdict is Verdict.CANCEL:
                self._settle(claim, store.stopped(claim))
            case Ended.STOPPED if outcome.verdict is Verdict.DRAIN:
                store.release(claim, "the service ended in good order")
            case _:
                LOG.warning("job %s, attempt %d: it is another engine's now", claim.job.id, claim.token)

    def _collect(self, job: Job, folder: JobFolder) -> JobResult:
        """Sign the bundle and put the artefacts into the blob store; the same bytes however often it is done."""
        found = folder.result()
        assert found is not None
        bundle = folder.bundle
        if self._key is not None:
            from gossamer import _atomic
            from gossamer.bundle.sign import sign

            bundle = _atomic.write(folder.path / "signed.goss", sign(bundle.read_bytes(), self._key))
        digest = self.blobs.put(bundle)
        version = ""
        if job.spec.publish is not None:
            if self._publish is None:
                raise InputError("this service publishes no versions", where="publish", hint="leave publish out")
            version = self._publish(job, digest)
        values: dict[str, Any] = {**found, "bundle": digest, "report": self.blobs.put(folder.report)}
        return JobResult(**values, bundle_bytes=bundle.stat().st_size, version=version)

    def _settle(self, claim: Claim, done: bool) -> None:
        """After the store has the end of a job: remove its folder."""
        if not done:
            LOG.warning("job %s, attempt %d: it had moved on", claim.job.id, claim.token)
            return
        self.job_folder(claim.job.id).remove()
        with contextlib.suppress(NotFoundError):  # deleted as soon as it ended
            LOG.info("job %s: %s after %d attempts", claim.job.id, self.store.get(claim.job.id).state, claim.token)

    def _ended(self, job: str) -> bool:
        """Whether a job ended, or was deleted, which comes after its end."""
        try:
            return self.store.get(job).state.final
        except NotFoundError:
            return True
