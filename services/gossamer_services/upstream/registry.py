"""A registry elsewhere, as optimizer and fleet know the one of their own process: blobs, and versions."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from google.protobuf.timestamp_pb2 import Timestamp

from gossamer._proto.v1 import registry_pb2 as pb
from gossamer._proto.v1 import registry_pb2_grpc as rpc
from gossamer.client._transfer import Transfers
from gossamer_services.common.errors import ServiceError
from gossamer_services.registry import names
from gossamer_services.registry.messages import read_channel, read_version
from gossamer_services.registry.records import Channel, Version
from gossamer_services.upstream.connection import Upstream, UpstreamError
from gossamer_services.upstream.recent import Recent

OWNER = "optimizer"
"""Of the leases."""
LARGE_S = 60.0
"""Seconds for calls that take a bundle's bytes along, or have the registry read them."""


class RemoteRegistry:
    """Blobs and versions of a registry elsewhere; safe for many threads. Errors are those of :class:`Upstream`.

    It is what ``Blobs`` of :mod:`gossamer_services.optimizer.blobs` and ``Versions`` of
    :mod:`gossamer_services.registry.versions` describe.

    Args:
        upstream: the connection.
        lease_s: seconds for which the registry keeps a blob after :meth:`use` or :meth:`put`.
        cache_s: seconds for which :meth:`version` and :meth:`name_of` may be behind.
        clock: Unix time in seconds, for leases.
    """

    def __init__(
        self, upstream: Upstream, *, lease_s: float, cache_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self.upstream, self.lease_s, self._clock = upstream, lease_s, clock
        self._stub = upstream.stub(rpc.RegistryServiceStub)
        self._versions: Recent[Version] = Recent(cache_s)
        self._names: Recent[str] = Recent(cache_s)

    def check(self, *, writes: bool) -> UpstreamError | None:
        """Whether the registry knows the token: see :meth:`Upstream.check`. ``writes``: blobs and versions, too."""
        reads = self._stub.FindMissingBlobs, pb.FindMissingBlobsRequest()
        if not writes:
            return self.upstream.check(reads)
        try:
            return self.upstream.check(reads, (self._stub.GetUpload, pb.GetUploadRequest(ref="none")))
        except ServiceError as e:
            if e.reason != "UPLOAD_NOT_FOUND":
                raise
            return None

    def size(self, digest: str) -> int | None:
        """Bytes of a blob; None when there is none."""
        try:
            answer = self.upstream.call(self._stub.GetBlob, pb.GetBlobRequest(sha256=digest))
        except ServiceError as e:
            if e.reason != "BLOB_NOT_FOUND":
                raise
            return None
        return int(answer.blob.size_bytes)

    def use(self, digest: str) -> bool:
        """Whether a blob is there; if it is, the registry keeps it for ``lease_s`` from now on, by a lease."""
        until = Timestamp()
        until.FromSeconds(int(self._clock() + self.lease_s))
        try:
            self.upstream.call(self._stub.LeaseBlob, pb.LeaseBlobRequest(sha256=digest, owner=OWNER, expire_time=until))
        except ServiceError as e:
            if e.reason != "BLOB_NOT_FOUND":
                raise
            return False
        return True

    def open(self, digest: str) -> BinaryIO:
        """All bytes of a bundle or report, which are held in memory.

        Raises:
            ServiceError: NOT_FOUND (BLOB_NOT_FOUND).
        """
        return io.BytesIO(self.upstream.do(lambda link: Transfers(link).read(digest), within_s=LARGE_S))

    def fetch(self, digest: str, target: Path) -> None:
        """Write a blob to a file, whole or not at all; what an earlier call got before it was cut is gone on with.

        Raises:
            ServiceError: NOT_FOUND (BLOB_NOT_FOUND), DATA_LOSS (DIGEST_MISMATCH).
            OutputError: the file cannot be written.
        """
        self.upstream.do(lambda link: Transfers(link).download(digest, target))

    def put(self, source: Path) -> str:
        """Store a file's bytes, lease them, and return their digest; an upload that was cut is gone on with."""
        while True:
            digest = self.upstream.do(lambda link: Transfers(link).upload(source))
            if self.use(digest):  # else garbage was collected between the two, and the bytes with it
                return digest

    def publish(self, bundle: str, version: str, sha256: str, *, request_id: str, description: str) -> str:
        """Make a version and return its name; the same again where it is there with these bytes.

        Raises:
            ServiceError: as CreateVersion.
        """
        request = pb.CreateVersionRequest(
            bundle=bundle, version=version, sha256=sha256, request_id=request_id, description=description
        )
        try:
            answer = self.upstream.call(self._stub.CreateVersion, request, within_s=LARGE_S)
        except ServiceError as e:
            if e.reason != "VERSION_EXISTS" or self._version(names.version_name(bundle, version)).sha256 != sha256:
                raise
        else:
            return str(answer.version.name)
        return names.version_name(bundle, version)

    def version(self, bundle: str, version: str) -> Version:
        """See :class:`gossamer_services.registry.versions.Versions`."""
        name = names.version_name(bundle, version)
        return self._versions.get(name, lambda: self._version(name))

    def channel(self, bundle: str, channel: str) -> Channel:
        """See :class:`gossamer_services.registry.versions.Versions`."""
        request = pb.GetChannelRequest(name=names.channel_name(bundle, channel))
        return read_channel(self.upstream.call(self._stub.GetChannel, request).channel)

    def name_of(self, sha256: str) -> str:
        """See :class:`gossamer_services.registry.versions.Versions`."""
        return self._names.get(sha256, lambda: self._name_of(sha256))

    def _version(self, name: str) -> Version:
        return read_version(self.upstream.call(self._stub.GetVersion, pb.GetVersionRequest(name=name)).version)

    def _name_of(self, sha256: str) -> str:
        request = pb.ListVersionsRequest(sha256=sha256, page_size=1)
        found = self.upstream.call(self._stub.ListVersions, request).versions
        return str(found[0].name) if found else ""
