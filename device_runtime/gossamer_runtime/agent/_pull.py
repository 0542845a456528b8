"""Pull mode: the device asks its fleet what to do, by heartbeats, and does it; nobody needs to reach the device.

One thread visits the server at the interval that it says. When another bundle is desired than the one that runs, it is
downloaded, verified, tried, and committed or taken back, by the same code as a flash. What may pass (a connection, a
full disk, another change going on) is tried again later and later; a bundle that was refused or failed its trial is not
tried again until another one was desired, also after a restart.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable

from gossamer_runtime._errors import GossamerError, SlotError
from gossamer_runtime.agent import _facts, _machine
from gossamer_runtime.agent._backoff import Backoff, spread
from gossamer_runtime.agent._child import Child
from gossamer_runtime.agent._connection import Connection
from gossamer_runtime.agent._device import Device
from gossamer_runtime.agent._download import Download
from gossamer_runtime.agent._identity import Identity
from gossamer_runtime.agent._link import REMOVED, UNREACHABLE, Link, link_of
from gossamer_runtime.agent._pointer import Failure, is_digest
from gossamer_runtime.agent._profile_run import ProfileRuns
from gossamer_runtime.agent._proto import fleet_pb2 as pb
from gossamer_runtime.agent._reasons import (
    BusyError,
    DigestError,
    FullError,
    RunError,
    ServerAccessError,
    ServerError,
    ServerUnreachableError,
    StreamError,
    TooLargeError,
    reason_of,
)

VISIT_WAIT_SECONDS, TRY_WAIT_SECONDS = 1.0, 0.2
"""First waits after a visit that failed, and after an update that broke off."""
MOST_WAIT_SECONDS = 300.0
REMOVED_SECONDS = 3600.0
"""A device that its fleet removed asks so rarely whether that was a mistake."""
_INTERVAL_SECONDS = 60.0
_NEAR_BYTES = 1 << 20
_log = logging.getLogger("gossamer.agent")


class SupersededError(Exception):
    """Another bundle is desired by now than the one that is on its way."""


class Pull:
    """Pull mode of one device; ``start`` and ``stop`` a thread, or call ``visit``.

    Args:
        device: its slots.
        identity: who it is.
        connect: makes the connection.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        device: Device,
        identity: Identity,
        connect: Callable[[Identity], Link] = link_of,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._device, self._slots = device, device.slots
        self._server = Connection(device.slots.disk, identity, connect, clock)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pull", daemon=True)
        self._profiles = ProfileRuns(device, clock)
        self._facts_told = False
        self._interval = _INTERVAL_SECONDS
        self._heard = -1e9  # when the last heartbeat was answered
        self._visits = Backoff(VISIT_WAIT_SECONDS, MOST_WAIT_SECONDS)
        self._tries = Backoff(TRY_WAIT_SECONDS, MOST_WAIT_SECONDS)
        self._try_at = 0.0  # not before
        self._download: Download | None = None
        self._progress: float | None = None  # of an update that goes on
        self._hitch: tuple[str, str] = ("", "")  # why it does not go on for now
        self._refused: Failure | None = None  # what the disk would not keep
        self._mismatched = self._said = ""

    def start(self) -> None:
        """Visit the server from now on."""
        _log.info("pull: %s at %s", self._server.identity.device, self._server.identity.address)
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """End visits; a download is cut, a trial ends first. Waits for at most ``seconds``."""
        self._stop.set()
        self._server.close()
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                seconds = self.visit()
            except Exception:  # a fault of ours must not end what updates would mend
                _log.exception("pull: failed")
                seconds = self._visits.failed()
            self._stop.wait(seconds)

    def visit(self) -> float:
        """Ask the server once and do what it wishes; seconds until the next visit."""
        try:
            self._server.renew()
            answer = self._beat()
            self._profiles.deliver(self._server.call)
            acted = self._obey(answer)
        except ServerError as e:
            if self._stop.is_set():
                return 0.0
            return self._failed(e)
        self._visits.reset()
        self._say("")
        if acted:
            return 0.0
        self._device.troubles["update"] = self._hitch[1]
        seconds = 0.8 * self._interval + spread(0.2 * self._interval)
        return max(0.0, min(seconds, self._try_at - time.monotonic()) if self._progress is not None else seconds)

    # Heartbeats

    def _beat(self) -> pb.HeartbeatResponse:
        request = pb.HeartbeatRequest(name=self._server.identity.device, status=self.status())
        if not self._facts_told:
            request.facts.CopyFrom(_facts.read())
        answer: pb.HeartbeatResponse = self._server.call("Heartbeat", request)
        if answer.desired_sha256 and not is_digest(answer.desired_sha256):
            raise ServerError(f"the server desires {answer.desired_sha256[:80]!r}, no SHA-256", reason="BAD_ANSWER")
        self._facts_told = True
        self._heard = time.monotonic()
        seconds = answer.interval.ToTimedelta().total_seconds()
        self._interval = min(max(seconds, 0.1), 86400.0) if seconds else _INTERVAL_SECONDS
        return answer

    def status(self) -> pb.DeviceStatus:
        """What the next heartbeat says."""
        pointer, running = self._slots.pointer, self._slots.running
        entries = dict(pointer.entries)
        runs = entries.pop(running or "", None)
        rest = next(iter(entries.values()), None)
        failed = self._failure()
        reason, message = (failed.reason, failed.message) if failed else self._hitch
        if self._progress is not None:
            state = pb.DEVICE_STATE_UPDATING
        elif runs is None:
            state = pb.DEVICE_STATE_EMPTY
        else:
            state = pb.DEVICE_STATE_FELL_BACK if failed else pb.DEVICE_STATE_RUNNING
        return pb.DeviceStatus(
            state=state,
            bundle_sha256=runs.sha256 if runs else "",
            previous_sha256=rest.sha256 if rest else "",
            failed_sha256=failed.sha256 if failed else "",
            failure_reason=reason,
            failure_message=message,
            progress_percent=self._progress or 0.0,
            uptime_seconds=int(time.monotonic() - self._device.started),
        )

    def _failure(self) -> Failure | None:
        if self._refused is not None and self._slots.is_running(self._refused.sha256):
            self._refused = None
        return self._refused or self._slots.pointer.failed

    # Wishes

    def _obey(self, answer: pb.HeartbeatResponse) -> bool:
        """Do what the server wishes; True when there is something to tell at once."""
        wanted = answer.desired_sha256
        failed = self._failure()
        if failed is not None and wanted and failed.sha256 != wanted:
            self._keep(None)
            failed = None
        if answer.HasField("profile_run") and self._profiles.is_new(answer.profile_run):
            return self._profile(answer)
        if not wanted or self._slots.is_running(wanted) or failed is not None:
            self._rest()
            return False
        if time.monotonic() < self._try_at and self._download is not None and self._download.sha256 == wanted:
            return False
        return self._update(answer)

    def _profile(self, answer: pb.HeartbeatResponse) -> bool:
        try:
            with self._server.registry(answer.registry_address) as link:
                return self._profiles.make(answer.profile_run, link)
        except ServerUnreachableError as e:
            _log.warning("pull: %s; again later", e.message)
            self._server.drop()
            return False

    def _update(self, answer: pb.HeartbeatResponse) -> bool:
        """Download, verify, try; True when it ended, well or not."""
        sha256 = answer.desired_sha256
        if self._download is None or (self._download.sha256, self._download.size) != (sha256, answer.desired_bytes):
            self._rest()
            self._download = Download(self._slots.uploads, sha256, answer.desired_bytes)
            _log.info("pull: %s is desired, %d bytes", answer.desired_version, answer.desired_bytes)
        try:
            self._install(self._download, answer)
        except SupersededError:
            _log.info("pull: another bundle is desired than %s", answer.desired_version)
            self._rest()
        except ServerAccessError:
            raise
        except GossamerError as e:
            if self._stop.is_set():
                return False
            if self._may_pass(e, sha256):
                return self._later(e)
            reason = reason_of(e)[0]
            _log.error("pull: %s failed: %s: %s", answer.desired_version, reason, e.message)
            failed = self._slots.pointer.failed
            if failed is None or failed.sha256 != sha256:  # a failed trial is written down already
                self._keep(Failure(sha256, reason, e.message))
            self._rest()
        else:
            _log.info("pull: %s runs", answer.desired_version)
            self._refused = None
            self._rest()
        return True

    def _install(self, download: Download, answer: pb.HeartbeatResponse) -> None:
        slots = self._slots
        child: Child | None = None

        def step(at: int) -> None:
            nonlocal child
            self._step(at, download)
            if child is None and at > before and download.size - at <= _NEAR_BYTES:
                child = self._device.child()  # gets ready while the last bytes come

        with self._device.changing(), self._server.registry(answer.registry_address) as link:
            before = slots.uploads.offset(download.sha256)
            try:
                try:
                    upload = download.run(link, step)
                finally:
                    if slots.uploads.offset(download.sha256) > before:
                        self._tries.reset()
                child = child or self._device.child()
                slots.flash(upload, trial=child)
            finally:
                if child is not None:
                    child.close()
                _machine.give_back_memory()

    def _step(self, at: int, download: Download) -> None:
        """In between the bytes: a heartbeat when it is time for one."""
        begins = self._progress is None
        self._progress = 100.0 * at / max(download.size, 1)
        self._hitch = ("", "")
        if self._stop.is_set():
            raise ServerUnreachableError("the agent ends", reason=UNREACHABLE)
        if begins or time.monotonic() - self._heard >= self._interval:
            try:
                answer = self._beat()
            except ServerUnreachableError:
                return  # the bytes may come all the same
            if answer.desired_sha256 != download.sha256:
                raise SupersededError

    def _may_pass(self, e: GossamerError, sha256: str) -> bool:
        """Whether the same bundle is worth another try."""
        if isinstance(e, DigestError):  # a power cut may have torn some bytes; those that come again are the registry's
            again = self._mismatched != sha256
            self._mismatched = sha256
            return again
        # A RunError is that no process could be started: those of a bundle have become others by now.
        passing = isinstance(e, (ServerError, BusyError, FullError, StreamError, RunError)) or type(e) is SlotError
        return passing and not isinstance(e, TooLargeError)

    def _later(self, e: GossamerError) -> bool:
        """Try again after a while; True when it is worth telling now."""
        reason = reason_of(e)[0]
        seconds = self._tries.failed()
        if self._progress is None:
            self._progress = 0.0
        self._try_at = time.monotonic() + seconds
        (_log.debug if reason == self._hitch[0] else _log.warning)("pull: %s; again in %.1f s", e.message, seconds)
        news = reason != self._hitch[0]
        self._hitch = (reason, e.message)
        if isinstance(e, ServerUnreachableError):
            self._server.drop()
        return news and not isinstance(e, ServerUnreachableError)

    def _rest(self) -> None:
        """No update goes on."""
        self._progress, self._hitch, self._download, self._try_at = None, ("", ""), None, 0.0
        self._mismatched = ""
        self._tries.reset()

    def _keep(self, failure: Failure | None) -> None:
        """Write down, or forget, what failed; in memory alone where the disk is full or another change goes on."""
        self._refused = failure
        with contextlib.suppress(SlotError), self._device.changing():
            self._slots.remember(failure)
            self._refused = None

    # The server

    def _failed(self, e: ServerError) -> float:
        """After a visit that failed: why, for people, and how long to wait."""
        self._server.drop()
        if isinstance(e, ServerAccessError) and e.reason in REMOVED:
            self._say(f"the fleet does not know this device any more ({e.reason}): {e.message}")
            return spread(REMOVED_SECONDS)
        clock = self._server.clock_problem(e)
        self._say(clock or e.message, "clock" if clock else "")
        return self._visits.failed()

    def _say(self, trouble: str, kind: str = "") -> None:
        """Keep it for Info, and log it when it is another than before, or of another ``kind``."""
        kind = kind or trouble
        if kind != self._said:
            if trouble:
                _log.error("pull: %s", trouble)
            else:
                _log.info("pull: the fleet answers again")
        self._said = kind
        self._device.troubles["fleet"] = trouble
