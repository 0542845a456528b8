"""Profiles that somebody who holds the device asks for through its fleet: of what runs, or of another version.

A bundle that is profiled without being installed is verified as a flash verifies it, and goes into no slot; its bytes
stay with the uploads until another comes, for the next profile or a flash of the same.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable
from typing import Any

from gossamer_runtime._errors import GossamerError
from gossamer_runtime.agent import _facts, _machine
from gossamer_runtime.agent._backoff import Backoff
from gossamer_runtime.agent._device import PROFILE_SECONDS, Device
from gossamer_runtime.agent._download import Download
from gossamer_runtime.agent._link import Link
from gossamer_runtime.agent._profile_record import record
from gossamer_runtime.agent._proto import fleet_pb2 as pb
from gossamer_runtime.agent._reasons import (
    BusyError,
    DigestError,
    ServerAccessError,
    ServerError,
    ServerUnreachableError,
    reason_of,
)
from gossamer_runtime.agent._upload import Upload

_RUNS = 50
_MOST_DELIVERIES = 8
"""An answer that a server that hears heartbeats does not take so often is given up: it keeps updates waiting."""
_log = logging.getLogger("gossamer.agent")


class ProfileRuns:
    """The profile run that the fleet tells of, and its answer until that is delivered.

    Args:
        device: what is profiled.
        clock: seconds since 1970.
    """

    def __init__(self, device: Device, clock: Callable[[], float]) -> None:
        self._device, self._clock = device, clock
        self._answer: tuple[str, pb.CreateProfileRequest | pb.FailProfileRunRequest] | None = None
        self._undelivered = 0
        self._answered = self._torn = ""
        self._download: Download | None = None
        self._tries = Backoff(0.5, 30.0)
        self._try_at = 0.0

    def is_new(self, run: pb.ProfileRun) -> bool:
        """Whether this run has no answer yet, and it is time to try it."""
        return run.name != self._answered and time.monotonic() >= self._try_at

    def make(self, run: pb.ProfileRun, link: Link) -> bool:
        """Make the profile, or find out why it cannot be made; True when there is an answer to deliver.

        Raises:
            ServerUnreachableError: the connection to the registry broke; to be tried again.
            ServerAccessError: the registry does not know this device.
        """
        try:
            made = self._profile(run, link)
        except ServerAccessError:
            raise
        except ServerUnreachableError:
            self._try_at = time.monotonic() + self._tries.failed()
            raise
        except GossamerError as e:
            if isinstance(e, BusyError) or (isinstance(e, DigestError) and self._torn != run.name):
                self._torn = run.name if isinstance(e, DigestError) else self._torn
                self._try_at = time.monotonic() + self._tries.failed()
                return False
            self._fail(run.name, reason_of(e)[0], e.message)
        else:
            self._answer = "CreateProfile", pb.CreateProfileRequest(profile=made, profile_run=run.name)
        self._answered, self._download = run.name, None
        self._tries.reset()
        return True

    def deliver(self, call: Callable[[str, Any], Any]) -> None:
        """Send an answer that waits.

        Args:
            call: a method of the fleet, by its name.

        Raises:
            ServerUnreachableError, ServerAccessError: it goes on waiting.
        """
        if self._answer is None:
            self._undelivered = 0
        while self._answer is not None:
            method, request = self._answer
            try:
                call(method, request)
                self._answer = None
            except ServerAccessError:
                raise
            except ServerUnreachableError as e:
                self._undelivered += 1
                if self._undelivered < _MOST_DELIVERIES:
                    raise
                _log.warning("pull: %s was given up: %s: %s", method, e.reason, e.message)
                self._answer = None
            except ServerError as e:
                _log.warning("pull: %s was refused: %s: %s", method, e.reason, e.message)
                self._answer = None
                if isinstance(request, pb.CreateProfileRequest) and not e.reason.startswith("PROFILE_RUN_"):
                    self._fail(request.profile_run, e.reason, e.message)

    def _fail(self, name: str, reason: str, message: str) -> None:
        _log.warning("pull: no profile for %s: %s: %s", name, reason, message)
        self._answer = (
            "FailProfileRun",
            pb.FailProfileRunRequest(name=name, failure_reason=reason, failure_message=message),
        )

    def _profile(self, run: pb.ProfileRun, link: Link) -> Any:
        device, slots = self._device, self._device.slots
        sha256 = run.bundle_sha256
        with contextlib.ExitStack() as stack:
            if not sha256 or slots.is_running(sha256):
                bundle = slots.bundle()
                sha256 = slots.pointer.entries[slots.running or ""].sha256
                child = stack.enter_context(device.running())
                opened = child.check(bundle)
            else:
                with device.changing():
                    upload = self._fetch(sha256, run.bundle_bytes, link)
                    child = stack.enter_context(device.running())
                    opened = slots.open_upload(upload, child)
            started = self._clock()
            text, _, _ = child.profile(run.runs or _RUNS, run.warmup_runs, (), False, PROFILE_SECONDS)
        _machine.give_back_memory()
        _log.info("pull: %s profiled for %s", sha256[:12], run.name)
        return record(json.loads(text), sha256, opened, _facts.read(), started)

    def _fetch(self, sha256: str, size: int, link: Link) -> Upload:
        uploads = self._device.slots.uploads
        if self._download is None or (self._download.sha256, self._download.size) != (sha256, size):
            self._download = Download(uploads, sha256, size)
        before = uploads.offset(sha256)
        try:
            return self._download.run(link, lambda _: None)
        finally:
            if uploads.offset(sha256) > before:
                self._tries.reset()
