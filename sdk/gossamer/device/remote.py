"""A device over gRPC: its agent's DeviceService, with uploads that go on where a broken connection left them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gossamer import _token
from gossamer._errors import AccessError, GossamerError, InputError, UnreachableError, UnsupportedError
from gossamer.bundle.sign import read
from gossamer.device.book import Place
from gossamer.device.target import Flashed, Output, Progress
from gossamer_runtime.agent import _status
from gossamer_runtime.agent._reasons import class_of

if TYPE_CHECKING:
    import grpc

    from gossamer_runtime.agent._proto import device_pb2 as pb

CHUNK_BYTES = 1 << 18
_LEAST_CHUNK_BYTES = 1 << 12
CALL_SECONDS = 15.0
LONG_SECONDS = 600.0
_TRIES = 8
_FIRST_WAIT_SECONDS = 0.05


class Remote:
    """A device at an address.

    Args:
        place: address, certificates, token.
        chunk_bytes: of an upload, at most 4 MiB.
        target: what gRPC connects to instead of the place's address.

    Raises:
        InputError: a certificate or token file cannot be read, or holds no token.
        UnsupportedError: grpcio is not installed.
    """

    def __init__(self, place: Place, *, chunk_bytes: int = CHUNK_BYTES, target: str = "") -> None:
        try:
            import grpc

            from gossamer_runtime.agent._proto import device_pb2, device_pb2_grpc
        except ImportError as e:
            raise UnsupportedError(
                f"the packages for devices are missing: {e}", hint="pip install 'gossamer-runtime[agent]'"
            ) from e
        self._grpc: Any = grpc
        self._pb = device_pb2
        self._place = place
        self._target = target or place.address
        self._chunk_bytes = chunk_bytes
        self._metadata = self._token()
        self._make_stub: Any = device_pb2_grpc.DeviceServiceStub  # generated without types
        self._reach()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def info(self, *, manifest: bool = False) -> dict[str, Any]:
        """InfoResponse as plain data; a status without its prefix, in small letters."""
        from google.protobuf.json_format import MessageToDict

        response = self._call(self._stub.Info, self._pb.InfoRequest(with_manifest=manifest), CALL_SECONDS * 2)
        found: dict[str, Any] = MessageToDict(
            response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for key in ("memory_bytes", "disk_free_bytes", "agent_rss_bytes"):
            found[key] = int(found[key])
        for slot in found["slots"]:
            slot["status"] = slot["status"].removeprefix("STATUS_").lower()
            slot["size_bytes"] = int(slot["size_bytes"])
        return {"address": self._place.shown, **found}

    def flash(
        self, path: Path, *, stage_only: bool = False, inputs: Sequence[bytes] = (), progress: Progress | None = None
    ) -> Flashed:
        """Upload, verify, try, commit. A connection that breaks is made again and the upload goes on from what came.

        Raises:
            UnreachableError: it broke too often without a byte in between.
            and what the agent raises.
        """
        started = time.monotonic()
        data = read(path)
        sha = hashlib.sha256(data).hexdigest()
        waits, best, first, sent, again = 0, -1, None, 0, False
        chunk = self._chunk_bytes
        while True:
            try:
                status = self._call(self._stub.FlashStatus, self._pb.FlashStatusRequest(sha256=sha), CALL_SECONDS)
                if status.active:
                    kind = "committed" if sent else "unchanged"  # committed: the answer alone was lost
                    return Flashed(kind, "", time.monotonic() - started, 0.0, first or 0, sent)
                offset = status.offset if status.offset <= len(data) else 0
                first = offset if first is None else first
                if offset > best:
                    best, waits = offset, 0
                upload = _Upload(self, chunk, data, sha, offset, stage_only, inputs, progress)
                try:
                    response = self._call(self._stub.Flash, iter(upload), LONG_SECONDS)
                finally:
                    sent += upload.sent
            except UnreachableError:
                if waits >= _TRIES:
                    raise
                self._channel.close()
                self._reach()
                if waits:  # nothing came through twice: connections that live so briefly carry less at once
                    chunk = max(chunk // 2, _LEAST_CHUNK_BYTES)
            except GossamerError as e:
                reason = getattr(e, "reason", "")
                if reason == "DIGEST_MISMATCH" and not again:  # what a power cut left of an earlier upload was torn
                    again, best = True, -1
                elif reason not in ("BAD_OFFSET", "BUSY") or waits >= _TRIES:
                    raise
            else:
                kind = "unchanged" if response.unchanged else "staged" if stage_only else "committed"
                seconds = time.monotonic() - started
                return Flashed(kind, response.slot.slot, seconds, response.trial_us, first or 0, sent)
            time.sleep(_FIRST_WAIT_SECONDS * 2**waits)
            waits += 1

    def activate(self) -> Flashed:
        """See ``Device``."""
        return self._switched(self._stub.Activate, self._pb.ActivateRequest())

    def rollback(self) -> Flashed:
        """See ``Device``."""
        return self._switched(self._stub.Rollback, self._pb.RollbackRequest())

    def run(self, inputs: Sequence[bytes]) -> tuple[float, list[Output]]:
        """See ``Device``."""
        response = self._call(self._stub.Run, self._pb.RunRequest(inputs=list(inputs)), LONG_SECONDS)
        outputs = [Output(o.name, o.dtype, tuple(o.shape), o.data) for o in response.outputs]
        return response.latency_us, outputs

    def profile(
        self, *, runs: int, warmup: int, inputs: Sequence[bytes] = (), trace: bool = False
    ) -> tuple[str, str, str]:
        """See ``Device``."""
        request = self._pb.ProfileRequest(runs=runs, warmup=warmup, inputs=list(inputs), with_trace=trace)
        response = self._call(self._stub.Profile, request, LONG_SECONDS)
        return response.profile_json, response.text, response.chrome_trace_json

    def logs(self, *, limit: int = 0, follow: bool = False) -> Iterator[dict[str, Any]]:
        """See ``Device``."""
        request = self._pb.LogsRequest(limit=limit, follow=follow)
        try:
            for record in self._stub.Logs(request, metadata=self._metadata, timeout=None if follow else CALL_SECONDS):
                yield {"time_s": record.time_s, "level": record.level, "message": record.message}
        except self._grpc.RpcError as e:
            raise self._error(e) from e

    # Inside

    def _reach(self) -> None:
        """A new connection: an old channel would wait longer after each break."""
        self._channel = self._connect()
        self._stub = self._make_stub(self._channel)

    def _switched(self, method: Any, request: Any) -> Flashed:
        started = time.monotonic()
        response = self._call(method, request, LONG_SECONDS)
        return Flashed("committed", response.slot.slot, time.monotonic() - started, response.trial_us)

    def _call(self, method: Any, request: Any, seconds: float) -> Any:
        try:
            return method(request, metadata=self._metadata, timeout=seconds)
        except self._grpc.RpcError as e:
            raise self._error(e) from e

    def _error(self, e: Any) -> GossamerError:
        """A status as the error that it stands for; its ``reason`` as an attribute."""
        code, text = e.code(), e.details() or ""
        where = f"device {self._place.name} ({self._place.shown})"
        trailer = dict(e.trailing_metadata() or ()).get(_status.TRAILER)
        info = _status.error_info(trailer) if isinstance(trailer, bytes) else None
        codes = self._grpc.StatusCode
        if info is not None and info[0] == "CERTIFICATE_REVOKED":
            return AccessError(text, where=where, hint="give one that is not revoked: --cert, --key")
        if info is not None and info[0].startswith(("TOKEN_", "SCOPE_")):
            return AccessError(
                text, where=where, hint="'gossamer-agent token' on the device makes tokens: --token-file"
            )
        if info is not None:
            reason, _, metadata = info
            error = class_of(reason)(text, where=where, hint=metadata.get("hint"))
            error.reason = reason  # type: ignore[attr-defined]
            return error
        if "handshake" in text or "CERTIFICATE" in text:
            return AccessError(f"TLS failed: {text}", where=where, hint="check --ca, --cert and --key")
        if code in (codes.UNAVAILABLE, codes.DEADLINE_EXCEEDED, codes.CANCELLED, codes.UNKNOWN, codes.INTERNAL):
            hint = "is its agent running, and is it reached by this address?"
            if self._place.ca:
                hint += " A client certificate that it does not know also ends here: --cert, --key"
            return UnreachableError(f"the device does not answer: {text or code.name}", where=where, hint=hint)
        if code in (codes.UNAUTHENTICATED, codes.PERMISSION_DENIED):
            return AccessError(text or code.name, where=where, hint="--token-file, --cert and --key say who you are")
        return GossamerError(f"{code.name}: {text}", where=where)

    def _token(self) -> tuple[tuple[str, str], ...]:
        if not self._place.token_file:
            return ()
        return (("authorization", f"Bearer {_token.read(Path(self._place.token_file))}"),)

    def _connect(self) -> grpc.Channel:
        place = self._place
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.keepalive_time_ms", 15_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        channel: grpc.Channel
        if not place.ca:
            channel = self._grpc.insecure_channel(self._target, options)
            return channel
        authority = None if place.ca == "system" else _bytes(place.ca, "certificate")
        key = _bytes(place.key, "key") if place.key else None
        cert = _bytes(place.cert, "certificate") if place.cert else None
        credentials = self._grpc.ssl_channel_credentials(authority, key, cert)
        channel = self._grpc.secure_channel(self._target, credentials, options)
        return channel


@dataclass
class _Upload:
    """The messages of one Flash call. ``sent``: bytes handed over."""

    device: Remote
    chunk_bytes: int
    data: bytes
    sha: str
    offset: int
    stage_only: bool
    inputs: Sequence[bytes]
    progress: Progress | None
    sent: int = 0

    def __iter__(self) -> Iterator[pb.FlashRequest]:
        pb = self.device._pb
        header = pb.FlashHeader(
            sha256=self.sha,
            total_bytes=len(self.data),
            offset=self.offset,
            stage_only=self.stage_only,
            trial_inputs=list(self.inputs),
        )
        yield pb.FlashRequest(header=header)
        for at in range(self.offset, len(self.data), self.chunk_bytes):
            chunk = self.data[at : at + self.chunk_bytes]
            yield pb.FlashRequest(chunk=chunk)
            self.sent += len(chunk)
            if self.progress is not None:
                self.progress(at + len(chunk), len(self.data))


def _bytes(path: str, what: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as e:
        raise InputError(f"cannot read the {what} file: {e.strerror}", where=path) from e
