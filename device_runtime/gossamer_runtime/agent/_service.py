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
from collections.abc import Iterator, Sequence
from typing import Any

import grpc

from gossamer_runtime import __version__
from gossamer_runtime._errors import GossamerError, InputError
from gossamer_runtime.agent import _machine, _status
from gossamer_runtime.agent._device import PROFILE_SECONDS, Device
from gossamer_runtime.agent._logs import Ring
from gossamer_runtime.agent._pointer import SLOTS
from gossamer_runtime.agent._proto import device_pb2 as pb
from gossamer_runtime.agent._proto import device_pb2_grpc
from gossamer_runtime.agent._reasons import DOMAIN, BusyError, StreamError, reason_of
from gossamer_runtime.agent._watch import Watch

MOST_MESSAGE_BYTES = 8 << 20
MOST_CHUNK_BYTES = 4 << 20
MOST_RUNS = 100_000
_FOLLOWERS = 2
_log = logging.getLogger("gossamer.agent")


class DeviceService(device_pb2_grpc.DeviceServiceServicer):
    """Serves one device; streams of logs end when it closes.

    Args:
        device: its slots.
        ring: where Logs reads from.
        trusted_keys: what the device trusts, for Info.
    """

    def __init__(self, device: Device, ring: Ring, trusted_keys: Sequence[str] | None = None) -> None:
        self._device = device
        self._slots = device.slots
        self._ring = ring
        self._keys = trusted_keys
        self._followers = threading.BoundedSemaphore(_FOLLOWERS)

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
                uptime_s=time.monotonic() - self._device.started,
                agent_rss_bytes=_machine.own_rss_bytes(),
                trusted_keys=_machine.fingerprints(self._keys),
                rollback_counter=slots.pointer.counter,
                slots=[self._state(slot) for slot in SLOTS],
                problem=self._device.problem,
            )
            if request.with_manifest and slots.running is not None:
                with self._device.opened() as child:
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
        with _told(context, "Flash"), self._device.changing(), Watch("Flash", context.cancel) as watch:
            started = time.monotonic()
            first = next(request_iterator, None)
            if first is None or first.WhichOneof("part") != "header":
                raise StreamError("the first message of a flash is its header")
            header = first.header
            if header.total_bytes and self._slots.is_running(header.sha256):
                return pb.FlashResponse(slot=self._state(self._slots.running), unchanged=True)
            upload = self._slots.uploads.receive(header.sha256, header.total_bytes, header.offset)
            child = self._device.child()  # gets ready while the bytes come
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
        with _told(context, "Activate"), self._device.changing():
            slot, us = self._slots.activate(list(request.trial_inputs))
            return pb.ActivateResponse(slot=self._state(slot), trial_us=us)

    def Rollback(self, request: pb.RollbackRequest, context: grpc.ServicerContext) -> pb.RollbackResponse:  # noqa: N802
        """See device.proto."""
        with _told(context, "Rollback"), self._device.changing():
            slot, us = self._slots.rollback()
            return pb.RollbackResponse(slot=self._state(slot), trial_us=us)

    def Run(self, request: pb.RunRequest, context: grpc.ServicerContext) -> pb.RunResponse:  # noqa: N802
        """See device.proto."""
        with _told(context, "Run"), self._device.opened() as child:
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
            with self._device.opened() as child:
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
                    lambda: request.follow and context.is_active() and not self._device.closing.is_set(),
                ):
                    yield pb.LogsResponse(time_s=record.time_s, level=record.level, message=record.message)
            finally:
                if request.follow:
                    self._followers.release()

    # Inside

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
