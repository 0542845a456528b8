"""DeviceService over gRPC: one flash at a time, one run at a time, errors as status, reason and hint.

The synchronous server of grpcio: slots block on disks and processes, which threads do plainly, and idle it takes as
much memory and time as grpc.aio does (38.6 and 38.5 MB, both under 0.1 % of a core, measured on x86-64).
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc

from gossamer_runtime import __version__
from gossamer_runtime._errors import GossamerError, InputError
from gossamer_runtime.agent import _machine, _status
from gossamer_runtime.agent._child import Child
from gossamer_runtime.agent._logs import Ring
from gossamer_runtime.agent._pointer import SLOTS
from gossamer_runtime.agent._proto import device_pb2 as pb
from gossamer_runtime.agent._proto import device_pb2_grpc
from gossamer_runtime.agent._reasons import DOMAIN, BusyError, StreamError, reason_of
from gossamer_runtime.agent._slots import Slots

MOST_MESSAGE_BYTES = 8 << 20
MOST_CHUNK_BYTES = 4 << 20
MOST_RUNS = 100_000
IDLE_SECONDS = 30.0
"""A flash whose client sends nothing for so long is ended; what came is kept."""
PATIENCE_SECONDS = 60.0
LEAST_BYTES_PER_SECOND = 1024
"""So is one that is slower than this on the whole, after ``PATIENCE_SECONDS``: it would keep others out for ever."""
PROFILE_SECONDS = 300.0
_WAIT_SECONDS = 2.0
_FOLLOWERS = 2
_log = logging.getLogger("gossamer.agent")


class DeviceService(device_pb2_grpc.DeviceServiceServicer):
    """Serves the slots of one folder.

    Args:
        slots: taken over; closed by ``close``.
        child: makes a process for bundles.
        ring: where Logs reads from.
        trusted_keys: what ``child`` trusts, for Info.
    """

    def __init__(
        self, slots: Slots, child: Callable[[], Child], ring: Ring, trusted_keys: Sequence[str] | None = None
    ) -> None:
        self._slots = slots
        self._child = child
        self._ring = ring
        self._keys = trusted_keys
        self._changes = threading.Lock()
        self._runs = threading.Lock()
        self._followers = threading.BoundedSemaphore(_FOLLOWERS)
        self._started = time.monotonic()
        self._closing = threading.Event()

    def close(self) -> None:
        """End streams of logs, wait for a change that is under way, and give the folder back."""
        self._closing.set()
        with self._changes:
            self._slots.close()

    def Info(self, request: pb.InfoRequest, context: grpc.ServicerContext) -> pb.InfoResponse:  # noqa: N802
        """See device.proto."""
        with _told(context, "Info"):
            version, isa = _machine.core()
            slots = self._slots
            response = pb.InfoResponse(
                runtime_version=__version__,
                core_version=version,
                host=platform.node(),
                machine=platform.machine(),
                isa=isa,
                system=_machine.system(),
                cpus=os.cpu_count() or 0,
                memory_bytes=_machine.memory_bytes(),
                disk_free_bytes=slots.disk.free_bytes(),
                uptime_s=time.monotonic() - self._started,
                agent_rss_bytes=_machine.own_rss_bytes(),
                trusted_keys=_machine.fingerprints(self._keys),
                rollback_counter=slots.pointer.counter,
                slots=[self._state(slot) for slot in SLOTS],
                problem=slots.problem,
            )
            if request.with_manifest and slots.running is not None:
                with self._open() as child:
                    response.manifest_json = child.manifest()
            return response

    def FlashStatus(  # noqa: N802
        self, request: pb.FlashStatusRequest, context: grpc.ServicerContext
    ) -> pb.FlashStatusResponse:
        """See device.proto."""
        with _told(context, "FlashStatus"):
            offset = self._slots.uploads.offset(request.sha256)
            return pb.FlashStatusResponse(offset=offset, active=self._slots.is_running(request.sha256))

    def Flash(  # noqa: N802
        self, request_iterator: Iterator[pb.FlashRequest], context: grpc.ServicerContext
    ) -> pb.FlashResponse:
        """See device.proto."""
        with _told(context, "Flash"), self._changing(), _Watch(context) as watch:
            started = time.monotonic()
            first = next(request_iterator, None)
            if first is None or first.WhichOneof("part") != "header":
                raise StreamError("the first message of a flash is its header")
            header = first.header
            if header.total_bytes and self._slots.is_running(header.sha256):
                return pb.FlashResponse(slot=self._state(self._slots.running), unchanged=True)
            upload = self._slots.uploads.receive(header.sha256, header.total_bytes, header.offset)
            child = self._child()  # gets ready while the bytes come
            try:
                for message in request_iterator:
                    watch.heard(len(message.chunk))
                    if message.WhichOneof("part") == "header":
                        raise StreamError("a second header in one flash")
                    if len(message.chunk) > MOST_CHUNK_BYTES:
                        raise StreamError(f"a chunk has at most {MOST_CHUNK_BYTES} bytes, not {len(message.chunk)}")
                    self._slots.uploads.write(upload, message.chunk)
                watch.stop()
                if not context.is_active():
                    raise StreamError("the stream broke", hint=f"go on from offset {upload.at}")
                slot, us = self._slots.flash(
                    upload, stage_only=header.stage_only, inputs=list(header.trial_inputs), trial=child
                )
            finally:
                child.close()
                _machine.give_back_memory()
            return pb.FlashResponse(slot=self._state(slot), seconds=time.monotonic() - started, trial_us=us)

    def Activate(self, request: pb.ActivateRequest, context: grpc.ServicerContext) -> pb.ActivateResponse:  # noqa: N802
        """See device.proto."""
        with _told(context, "Activate"), self._changing():
            slot, us = self._slots.activate(list(request.trial_inputs))
            return pb.ActivateResponse(slot=self._state(slot), trial_us=us)

    def Rollback(self, request: pb.RollbackRequest, context: grpc.ServicerContext) -> pb.RollbackResponse:  # noqa: N802
        """See device.proto."""
        with _told(context, "Rollback"), self._changing():
            slot, us = self._slots.rollback()
            return pb.RollbackResponse(slot=self._state(slot), trial_us=us)

    def Run(self, request: pb.RunRequest, context: grpc.ServicerContext) -> pb.RunResponse:  # noqa: N802
        """See device.proto."""
        with _told(context, "Run"), self._open() as child:
            us, outputs = child.infer(list(request.inputs))
            tensors = [pb.NamedTensor(name=n, dtype=d, shape=s, data=data) for n, d, s, data in outputs]
            return pb.RunResponse(outputs=tensors, latency_us=us)

    def Profile(self, request: pb.ProfileRequest, context: grpc.ServicerContext) -> pb.ProfileResponse:  # noqa: N802
        """See device.proto."""
        with _told(context, "Profile"):
            runs = request.runs or 50
            warmup = request.warmup if request.HasField("warmup") else 5
            if runs > MOST_RUNS or warmup > MOST_RUNS:
                raise InputError(f"at most {MOST_RUNS} runs and warm-up runs, not {runs} and {warmup}")
            with self._open() as child:
                text, table, trace = child.profile(
                    runs, warmup, list(request.inputs), request.with_trace, PROFILE_SECONDS
                )
            return pb.ProfileResponse(profile_json=text, text=table, chrome_trace_json=trace)

    def Logs(self, request: pb.LogsRequest, context: grpc.ServicerContext) -> Iterator[pb.LogsResponse]:  # noqa: N802
        """See device.proto."""
        with _told(context, "Logs"):
            if request.follow and not self._followers.acquire(blocking=False):
                raise BusyError(f"{_FOLLOWERS} clients follow the log already")
            try:
                for record in self._ring.read(
                    request.limit,
                    lambda: request.follow and context.is_active() and not self._closing.is_set(),
                ):
                    yield pb.LogsResponse(time_s=record.time_s, level=record.level, message=record.message)
            finally:
                if request.follow:
                    self._followers.release()

    # Inside

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        # Waits a little: a client that comes back at once may be quicker than the end of its broken call.
        if self._closing.is_set() or not self._changes.acquire(timeout=_WAIT_SECONDS):
            raise BusyError("another flash, activation or rollback is going on", hint="try again")
        try:
            yield
        finally:
            self._changes.release()

    @contextlib.contextmanager
    def _open(self) -> Iterator[Child]:
        """The bundle that runs, in a process of its own."""
        bundle = self._slots.bundle()
        if not self._runs.acquire(timeout=IDLE_SECONDS):
            raise BusyError("other runs are going on", hint="try again")
        try:
            with self._child() as child:
                child.check(bundle)
                yield child
        finally:
            self._runs.release()

    def _state(self, slot: str | None) -> pb.SlotState:
        pointer = self._slots.pointer
        entry = pointer.entries.get(slot) if slot else None
        if entry is None:
            return pb.SlotState(slot=slot or "", status=pb.SlotState.STATUS_EMPTY)
        if slot == pointer.trial:
            status = pb.SlotState.STATUS_TRIAL
        elif slot == pointer.active:
            status = pb.SlotState.STATUS_ACTIVE
        else:
            status = _STATUS[entry.state]
        return pb.SlotState(
            slot=slot,
            status=status,
            name=entry.name,
            version=entry.version,
            rollback_counter=entry.rollback_counter,
            sha256=entry.sha256,
            size_bytes=entry.size,
        )


_STATUS = {
    "committed": pb.SlotState.STATUS_PREVIOUS,
    "staged": pb.SlotState.STATUS_STAGED,
    "failed": pb.SlotState.STATUS_FAILED,
}


class _Watch:
    """Ends a call whose client has gone silent, or is so slow that it keeps others out."""

    def __init__(self, context: grpc.ServicerContext) -> None:
        self._context = context
        self._began = self._heard = time.monotonic()
        self._bytes = 0
        self._done = threading.Event()

    def heard(self, size: int) -> None:
        """A message of so many bytes came."""
        self._heard = time.monotonic()
        self._bytes += size

    def stop(self) -> None:
        """All messages came."""
        self._done.set()

    def __enter__(self) -> _Watch:
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def _watch(self) -> None:
        while not self._done.wait(min(1.0, IDLE_SECONDS / 2)):
            now = time.monotonic()
            patience = now - self._began - PATIENCE_SECONDS
            if now - self._heard >= IDLE_SECONDS or self._bytes < patience * LEAST_BYTES_PER_SECOND:
                _log.warning("Flash: ended, %d bytes came in %.0f s", self._bytes, now - self._began)
                self._context.cancel()
                return


@contextlib.contextmanager
def _told(context: Any, method: str) -> Iterator[None]:
    """Turn errors into a status with its reason."""
    try:
        yield
    except GossamerError as e:
        reason, name = reason_of(e)
        code = grpc.StatusCode[name]
        _log.warning("%s by %s: %s: %s", method, context.peer(), reason, " ".join(str(e).split()))
        metadata = {k: v for k, v in (("where", e.where), ("hint", e.hint)) if v}
        detail = _status.encode(code.value[0], e.message, reason, DOMAIN, metadata)
        context.set_trailing_metadata(((_status.TRAILER, detail),))
        context.abort(code, e.message)
