"""Resumable uploads: bytes gather in a part file, and become a blob when their digest is the announced one.

::

    uploads/KEY.part    the bytes so far; KEY is the SHA-256 of caller and ref
    uploads/KEY.json    what was announced, and how many bytes of the part are on the disk for certain
    uploads/KEY.new     the next KEY.json, until it is whole

The record is written when a stream ends early and every :data:`SYNC_BYTES`; what the part holds beyond it after a crash
is cut off, for it may be anything. A part without a record is removed at the start.
"""

from __future__ import annotations

import errno
import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from gossamer_services.common.errors import Code, ServiceError
from gossamer_services.registry.blobs import CHUNK, BlobStore, storage_failed
from gossamer_services.registry.shelf import UPLOADS

SYNC_BYTES = 64 << 20
"""After so many bytes a stream's progress is synced and recorded."""


@dataclass(frozen=True)
class State:
    """An unfinished upload. ``offset``: bytes held; ``updated_s``: Unix time of the last progress."""

    caller: str
    ref: str
    total: int
    expected: str
    offset: int
    updated_s: float


class Uploads:
    """The unfinished uploads of a blob store; thread-safe. What earlier processes left is taken up again.

    Args:
        blobs: where finished uploads go.
        max_blob_bytes: announced sizes above it are refused.
        max_per_caller: unfinished uploads that one caller may have.
        lifetime_s: seconds without progress after which an upload is dropped.
    """

    def __init__(self, blobs: BlobStore, *, max_blob_bytes: int, max_per_caller: int, lifetime_s: float) -> None:
        self.blobs, self.files = blobs, blobs.files
        self.max_blob_bytes, self.max_per_caller, self.lifetime_s = max_blob_bytes, max_per_caller, lifetime_s
        self._lock = threading.Lock()
        self._states: dict[str, State] = {}
        self._streams: dict[str, Stream] = {}
        # Hashes of parts that this process wrote, so that going on need not read them again.
        self._hashes: dict[str, tuple[int, Any]] = {}
        self._recover()

    def begin(self, caller: str, ref: str, total: int, expected: str) -> Stream | None:
        """Start or go on with an upload; a stream that writes it already is cut off. None: the blob exists.

        Raises:
            ServiceError: RESOURCE_EXHAUSTED (BLOB_TOO_LARGE, STORAGE_FULL, TOO_MANY_UPLOADS), FAILED_PRECONDITION
                (UPLOAD_CHANGED).
        """
        if total > self.max_blob_bytes:
            raise ServiceError(
                Code.RESOURCE_EXHAUSTED,
                "BLOB_TOO_LARGE",
                f"a blob of {total} bytes is over the limit of {self.max_blob_bytes}",
                where="total",
                metadata={"limit": str(self.max_blob_bytes)},
            )
        key = _key(caller, ref)
        while True:
            self._cut_off(key)
            if self.blobs.use(expected):
                self._forget(key)
                return None
            with self._lock:
                if key not in self._streams:
                    stream, fresh = self._claim(key, caller, ref, total, expected)
                    break
        try:
            if total - stream.state.offset > self.files.free_bytes():
                raise OSError(errno.ENOSPC, "no room for the announced bytes")
            stream.prepare(fresh)
        except BaseException as e:
            with self._lock:
                self._streams.pop(key, None)
                if fresh:
                    self._states.pop(key, None)
            if isinstance(e, OSError):
                raise storage_failed(e) from e
            raise
        return stream

    def _claim(self, key: str, caller: str, ref: str, total: int, expected: str) -> tuple[Stream, bool]:
        state = self._states.get(key)
        fresh = state is None
        if state is None:
            mine = sum(s.caller == caller for s in self._states.values())
            if mine >= self.max_per_caller:
                raise ServiceError(
                    Code.RESOURCE_EXHAUSTED,
                    "TOO_MANY_UPLOADS",
                    f"{mine} uploads of yours are unfinished already",
                    hint="finish or delete one",
                )
            state = State(caller, ref, total, expected, 0, self.blobs.clock())
        elif (state.total, state.expected) != (total, expected):
            raise ServiceError(
                Code.FAILED_PRECONDITION,
                "UPLOAD_CHANGED",
                f"this ref was begun with total {state.total} and digest {state.expected}",
                where=ref,
                hint="use another ref, or delete the upload",
            )
        stream = Stream(self, key, state)
        self._states[key], self._streams[key] = state, stream
        return stream, fresh

    def find(self, caller: str, ref: str) -> State:
        """An unfinished upload.

        Raises:
            ServiceError: NOT_FOUND (UPLOAD_NOT_FOUND).
        """
        key = _key(caller, ref)
        with self._lock:
            stream, state = self._streams.get(key), self._states.get(key)
        if state is None:
            raise _not_found(ref)
        return state if stream is None else stream.state

    def drop(self, caller: str, ref: str) -> None:
        """Remove an unfinished upload.

        Raises:
            ServiceError: NOT_FOUND (UPLOAD_NOT_FOUND).
        """
        self.find(caller, ref)
        key = _key(caller, ref)
        self._cut_off(key)
        self._forget(key)

    def expire(self, *, dry: bool = False) -> int:
        """Drop uploads without progress for their lifetime; returns how many."""
        now = self.blobs.clock()
        with self._lock:
            old = [
                k for k, s in self._states.items() if k not in self._streams and now - s.updated_s >= self.lifetime_s
            ]
        if not dry:
            for key in old:
                self._forget(key)
        return len(old)

    def _cut_off(self, key: str) -> None:
        with self._lock:
            stream = self._streams.get(key)
        if stream is not None:
            stream.close(taken_over=True)

    def _forget(self, key: str) -> None:
        with self._lock:
            self._states.pop(key, None)
            self._streams.pop(key, None)
            self._hashes.pop(key, None)
        path = f"{UPLOADS}/{key}"
        recorded = self.files.info(f"{path}.json") is not None
        for kind in ("json", "new", "part"):
            self.files.remove(f"{path}.{kind}")
        if recorded:  # a record that a crash brings back would speak of bytes of the next upload
            self.files.sync_folder(UPLOADS)

    def _recover(self) -> None:
        for name in self.files.list(UPLOADS):
            if name.endswith(".json"):
                try:
                    state = State(**json.loads(self.files.read(f"{UPLOADS}/{name}")))
                except (ValueError, TypeError):
                    continue
                key = name.removesuffix(".json")
                part = self.files.info(f"{UPLOADS}/{key}.part")
                if self.blobs.size(state.expected) is None and part is not None and part.size >= state.offset:
                    self._states[key] = state
        for name in self.files.list(UPLOADS):
            stem, _, kind = name.rpartition(".")
            if stem not in self._states or kind == "new":
                self.files.remove(f"{UPLOADS}/{name}")


class Stream:
    """The right to write one upload, until :meth:`finish` or :meth:`close`, or until a newer stream takes it over."""

    def __init__(self, uploads: Uploads, key: str, state: State) -> None:
        self.state = state
        self._uploads, self._files, self._key = uploads, uploads.files, key
        self._part = f"{UPLOADS}/{key}.part"
        self._lock = threading.Lock()
        self._hash: Any = hashlib.sha256()
        self._recorded = state.offset
        self._closed: str | None = None

    def prepare(self, fresh: bool) -> None:
        """Make the part, or cut off what is not certain and hash the rest."""
        with self._lock:
            if fresh:
                self._files.create(self._part)
            else:
                self._go_on()

    def _go_on(self) -> None:
        offset = self.state.offset
        found = self._files.info(self._part)
        if found is not None and found.size > offset:
            self._files.truncate(self._part, offset)
        hashed = self._uploads._hashes.pop(self._key, None)
        if hashed is not None and hashed[0] == offset:
            self._hash = hashed[1]
            return
        with self._files.open(self._part) as part:
            while data := part.read(CHUNK):
                self._hash.update(data)

    def write(self, offset: int, data: bytes) -> int:
        """Add bytes at the end; returns how many are held.

        Raises:
            ServiceError: OUT_OF_RANGE (UPLOAD_OFFSET), INVALID_ARGUMENT, ABORTED (UPLOAD_TAKEN_OVER),
                RESOURCE_EXHAUSTED (STORAGE_FULL), UNAVAILABLE (STORAGE_FAILED).
        """
        with self._lock:
            self._check_open()
            state = self.state
            if offset != state.offset:
                raise ServiceError(
                    Code.OUT_OF_RANGE,
                    "UPLOAD_OFFSET",
                    f"offset is {offset} and {state.offset} bytes are held",
                    where="offset",
                    hint="go on from the bytes held",
                    metadata={"offset": str(state.offset)},
                )
            if offset + len(data) > state.total:
                raise ServiceError(
                    Code.INVALID_ARGUMENT,
                    "UPLOAD_TOO_LONG",
                    f"data run past the announced {state.total} bytes",
                    where="data",
                    fields=[("data", "runs past total")],
                )
            if data:
                try:
                    self._files.append(self._part, data)
                except OSError as e:
                    self._shorten(state.offset)
                    raise storage_failed(e) from e
                self._hash.update(data)
                self.state = replace(state, offset=offset + len(data), updated_s=self._uploads.blobs.clock())
                if self.state.offset - self._recorded >= SYNC_BYTES:
                    self._guard(self._record)
            return self.state.offset

    def finish(self) -> bool:
        """Once all bytes are there: verify them and make the blob. False: bytes are missing yet.

        Raises:
            ServiceError: DATA_LOSS (DIGEST_MISMATCH); the upload is dropped then. ABORTED (UPLOAD_TAKEN_OVER).
                RESOURCE_EXHAUSTED (STORAGE_FULL), UNAVAILABLE (STORAGE_FAILED).
        """
        with self._lock:
            self._check_open()
            if self.state.offset < self.state.total:
                return False
            digest = self._hash.hexdigest()
            if digest == self.state.expected:
                self._guard(self._keep)
            self._closed = "it has ended"
            self._uploads._forget(self._key)
        if digest != self.state.expected:
            raise ServiceError(
                Code.DATA_LOSS,
                "DIGEST_MISMATCH",
                f"the bytes have the digest {digest}, announced was {self.state.expected}; they were dropped",
                hint="the bytes changed on the way, or the announced digest is wrong: upload again",
                metadata={"sha256": digest},
            )
        return True

    def close(self, *, taken_over: bool = False) -> None:
        """End the stream and keep the bytes for the next one; nothing after an earlier end."""
        with self._lock:
            if self._closed is not None:
                return
            self._closed = "a newer stream took it over, or it was deleted" if taken_over else "it has ended"
            try:
                self._guard(self._record)
            finally:
                with self._uploads._lock:
                    self._uploads._streams.pop(self._key, None)
                    self._uploads._states[self._key] = self.state
                    self._uploads._hashes[self._key] = self.state.offset, self._hash

    def _check_open(self) -> None:
        if self._closed is not None:
            raise ServiceError(Code.ABORTED, "UPLOAD_TAKEN_OVER", f"the stream is closed: {self._closed}")

    def _keep(self) -> None:
        self._files.touch(self._part)  # its bytes may have come long ago; as a blob it is used from now on
        self._files.sync(self._part)
        self._uploads.blobs.shelf.take(self._part, self.state.expected)

    def _record(self) -> None:
        """Sync the part and say durably how far it is good."""
        if self._recorded == self.state.offset != 0:
            return
        path = f"{UPLOADS}/{self._key}"
        self._files.sync(self._part)
        self._files.create(f"{path}.new")
        self._files.append(f"{path}.new", json.dumps(asdict(self.state)).encode())
        self._files.sync(f"{path}.new")
        self._files.rename(f"{path}.new", f"{path}.json")
        self._files.sync_folder(UPLOADS)
        self._recorded = self.state.offset

    def _shorten(self, size: int) -> None:
        try:
            self._files.truncate(self._part, size)
        except OSError:
            self._closed = "its part could not be cut back after a failed write"

    @staticmethod
    def _guard(action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as e:
            raise storage_failed(e) from e


def _key(caller: str, ref: str) -> str:
    return hashlib.sha256(f"{caller}\0{ref}".encode()).hexdigest()


def _not_found(ref: str) -> ServiceError:
    return ServiceError(
        Code.NOT_FOUND,
        "UPLOAD_NOT_FOUND",
        "no unfinished upload of yours has this ref",
        where=ref,
        hint="ask FindMissingBlobs, and upload from the beginning",
    )
