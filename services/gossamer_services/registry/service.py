"""RegistryService: the contract's calls over the blob store and the records."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gossamer._proto.v1 import registry_pb2 as pb
from gossamer._proto.v1 import registry_pb2_grpc as rpc
from gossamer_services.common.auth import CALLER, PULL
from gossamer_services.common.digests import digest_of
from gossamer_services.common.errors import ServiceError, bad_field
from gossamer_services.common.paging import fitting, page_size, read_token, write_token
from gossamer_services.common.rounds import Rounds
from gossamer_services.common.server import Service
from gossamer_services.common.texts import check_text
from gossamer_services.common.times import seconds_of, timestamp
from gossamer_services.registry import names
from gossamer_services.registry.blobs import BlobStore, not_found
from gossamer_services.registry.bundles import Facts, read_facts
from gossamer_services.registry.messages import write_channel, write_version
from gossamer_services.registry.records import Records, Version, check_labels
from gossamer_services.registry.settings import RegistrySettings
from gossamer_services.registry.transfer import receive, send
from gossamer_services.registry.uploads import Uploads

_LOG = logging.getLogger(__name__)

NAME = "gossamer.v1.RegistryService"

SCOPES: dict[str, str | None] = {
    "FindMissingBlobs": "read",
    "GetBlob": "read",
    "ReadBlob": PULL,
    "GetVersion": "read",
    "ListVersions": "read",
    "GetChannel": "read",
    "ListChannels": "read",
    "WriteBlob": "submit",
    "GetUpload": "submit",
    "DeleteUpload": "submit",
    "LeaseBlob": "submit",
    "CreateVersion": "submit",
    "UpdateVersion": "submit",
    "DeleteVersion": "admin",
    "UpdateChannel": "admin",
    "CollectGarbage": "admin",
}

MAX_DIGESTS = 1000
MAX_LEASE_S = 90 * 86400.0
MAX_DESCRIPTION = 4096


class Registry(rpc.RegistryServiceServicer):
    """The servicer; every call's errors are in the contract.

    Args:
        blobs, records: the state.
        settings: limits.
    """

    def __init__(self, blobs: BlobStore, records: Records, settings: RegistrySettings) -> None:
        self.blobs, self.records, self.settings = blobs, records, settings
        self.uploads = Uploads(
            blobs,
            max_blob_bytes=settings.max_blob_bytes,
            max_per_caller=settings.max_uploads,
            lifetime_s=settings.upload_lifetime_s,
        )
        self.referrers: list[Callable[[str], bool]] = [records.refers_to]
        """Whoever refers to blobs: what one of them knows is never collected."""
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="registry")
        self._rounds = Rounds()

    def service(self) -> Service:
        """For :class:`gossamer_services.common.server.Server`."""
        return Service(NAME, self._add, SCOPES)

    def publish(self, bundle: str, version: str, sha256: str, creator: str) -> str:
        """Make a version, as CreateVersion does, and return its resource name; the same again when it is there.

        Raises:
            ServiceError: as CreateVersion.
        """
        names.check_name(bundle, "bundle")
        names.check_name(version, "version")
        facts = read_facts(self.blobs, sha256, self.settings.max_bundle_bytes)
        try:
            self.records.create(_wanted(bundle, version, sha256, facts, creator, "", {}), caller=creator)
        except ServiceError as e:
            if e.reason != "VERSION_EXISTS" or self.records.version(bundle, version).sha256 != sha256:
                raise
        return names.version_name(bundle, version)

    def _add(self, server: Any) -> None:
        rpc.add_RegistryServiceServicer_to_server(self, server)  # type: ignore[no-untyped-call]

    def start(self) -> None:
        """Collect garbage from time to time, in the running event loop."""
        if self.settings.collect_every_s:
            self._rounds.start(
                "garbage collection", self.settings.collect_every_s, lambda: self._run(self._collect, False)
            )

    async def close(self) -> None:
        """End what :meth:`start` began, the threads, and the records' connections."""
        await self._rounds.close()
        await asyncio.to_thread(self._pool.shutdown)
        self.records.close()

    async def _run(self, function: Any, *arguments: Any, **options: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: function(*arguments, **options))

    async def FindMissingBlobs(self, request: pb.FindMissingBlobsRequest, context: Any) -> pb.FindMissingBlobsResponse:
        if len(request.sha256) > MAX_DIGESTS:
            raise bad_field("sha256", f"{len(request.sha256)} digests; {MAX_DIGESTS} are allowed", hint="ask in parts")
        for i, digest in enumerate(request.sha256):
            names.check_digest(digest, f"sha256[{i}]")
        return pb.FindMissingBlobsResponse(missing_sha256=await self._run(self.blobs.missing, list(request.sha256)))

    async def WriteBlob(self, messages: AsyncIterator[pb.WriteBlobRequest], context: Any) -> pb.WriteBlobResponse:
        return await receive(self.uploads, CALLER.get().name, messages, self._run)

    async def GetUpload(self, request: pb.GetUploadRequest, context: Any) -> pb.GetUploadResponse:
        state = self.uploads.find(CALLER.get().name, names.check_ref(request.ref))
        return pb.GetUploadResponse(
            ref=state.ref,
            offset=state.offset,
            total=state.total,
            expected_sha256=state.expected,
            expire_time=timestamp(state.updated_s + self.settings.upload_lifetime_s),
        )

    async def DeleteUpload(self, request: pb.DeleteUploadRequest, context: Any) -> pb.DeleteUploadResponse:
        await self._run(self.uploads.drop, CALLER.get().name, names.check_ref(request.ref))
        return pb.DeleteUploadResponse()

    async def GetBlob(self, request: pb.GetBlobRequest, context: Any) -> pb.GetBlobResponse:
        found = await self._run(self.blobs.info, names.check_digest(request.sha256))
        if found is None:
            raise not_found(request.sha256)
        blob = pb.Blob(sha256=request.sha256, size_bytes=found.size, use_time=timestamp(found.modified_s))
        return pb.GetBlobResponse(blob=blob)

    async def ReadBlob(self, request: pb.ReadBlobRequest, context: Any) -> AsyncIterator[pb.ReadBlobResponse]:
        async for message in send(self.blobs, request, self._run):
            yield message

    async def CreateVersion(self, request: pb.CreateVersionRequest, context: Any) -> pb.CreateVersionResponse:
        names.check_name(request.bundle, "bundle")
        names.check_name(request.version, "version")
        names.check_digest(request.sha256)
        if request.request_id:
            names.check_name(request.request_id, "request_id")
        labels = check_labels(request.labels, "labels")
        check_text(request.description, "description", MAX_DESCRIPTION)
        facts = await self._run(read_facts, self.blobs, request.sha256, self.settings.max_bundle_bytes)
        caller = CALLER.get().name
        wanted = _wanted(request.bundle, request.version, request.sha256, facts, caller, request.description, labels)
        made = await self._run(
            self.records.create,
            wanted,
            caller=caller,
            request_id=request.request_id,
            digest=digest_of(request, "request_id", "validate_only"),
            dry=request.validate_only,
        )
        return pb.CreateVersionResponse(version=write_version(made))

    async def GetVersion(self, request: pb.GetVersionRequest, context: Any) -> pb.GetVersionResponse:
        if "/channels/" in request.name:
            bundle, channel = names.parse_channel(request.name)
            version = (await self._run(self.records.channel, bundle, channel)).version
        else:
            bundle, version = names.parse_version(request.name)
        return pb.GetVersionResponse(version=write_version(await self._run(self.records.version, bundle, version)))

    async def ListVersions(self, request: pb.ListVersionsRequest, context: Any) -> pb.ListVersionsResponse:
        size, question = page_size(request.page_size), ["versions", request.bundle, request.sha256]
        if request.bundle:
            names.check_name(request.bundle, "bundle")
        if request.sha256:
            names.check_digest(request.sha256)
        before = read_token(request.page_token, question)
        found = await self._run(self.records.versions, request.bundle, before, size + 1, sha256=request.sha256)
        versions = [write_version(v) for v in found[:size]]
        count = fitting(version.ByteSize() for version in versions)
        answer = pb.ListVersionsResponse(versions=versions[:count])
        if len(found) > count:
            answer.next_page_token = write_token(found[count - 1].number, question)
        return answer

    async def UpdateVersion(self, request: pb.UpdateVersionRequest, context: Any) -> pb.UpdateVersionResponse:
        bundle, version = names.parse_version(request.version.name, "version.name")
        changes: dict[str, Any] = {}
        for path in request.update_mask.paths:
            if path == "description":
                text = check_text(request.version.description, "version.description", MAX_DESCRIPTION)
                changes["description"] = text
            elif path == "labels":
                changes["labels"] = check_labels(request.version.labels, "version.labels")
            else:
                raise bad_field("update_mask", f"{path!r} cannot be changed", hint="description and labels can")
        if not changes:
            raise bad_field("update_mask", "names no field", hint="name description, labels or both")
        changed = await self._run(
            self.records.update, bundle, version, request.version.etag, changes, dry=request.validate_only
        )
        return pb.UpdateVersionResponse(version=write_version(changed))

    async def DeleteVersion(self, request: pb.DeleteVersionRequest, context: Any) -> pb.DeleteVersionResponse:
        bundle, version = names.parse_version(request.name)
        await self._run(self.records.delete, bundle, version, request.etag, dry=request.validate_only)
        return pb.DeleteVersionResponse()

    async def GetChannel(self, request: pb.GetChannelRequest, context: Any) -> pb.GetChannelResponse:
        bundle, channel = names.parse_channel(request.name)
        return pb.GetChannelResponse(channel=write_channel(await self._run(self.records.channel, bundle, channel)))

    async def ListChannels(self, request: pb.ListChannelsRequest, context: Any) -> pb.ListChannelsResponse:
        size, question = page_size(request.page_size), ["channels", request.bundle]
        if request.bundle:
            names.check_name(request.bundle, "bundle")
        after = read_token(request.page_token, question)
        found = await self._run(self.records.channels, request.bundle, after, size + 1)
        answer = pb.ListChannelsResponse(channels=[write_channel(c) for c in found[:size]])
        if len(found) > size:
            answer.next_page_token = write_token(found[size - 1].number, question)
        return answer

    async def UpdateChannel(self, request: pb.UpdateChannelRequest, context: Any) -> pb.UpdateChannelResponse:
        wanted = request.channel
        bundle, channel = names.parse_channel(wanted.name, "channel.name")
        version_bundle, version = names.parse_version(wanted.version, "channel.version")
        if version_bundle != bundle:
            raise bad_field("channel.version", "the version is of another bundle")
        if set(request.update_mask.paths) - {"version"}:
            raise bad_field("update_mask", "version alone can be changed")
        changed = await self._run(self.records.point, bundle, channel, version, wanted.etag, dry=request.validate_only)
        return pb.UpdateChannelResponse(channel=write_channel(changed))

    async def LeaseBlob(self, request: pb.LeaseBlobRequest, context: Any) -> pb.LeaseBlobResponse:
        names.check_digest(request.sha256)
        names.check_owner(request.owner)
        if not request.HasField("expire_time"):
            raise bad_field("expire_time", "must be set")
        until = seconds_of(request.expire_time)
        if until < 0:
            raise bad_field("expire_time", "is before 1970")
        until = min(until, self.blobs.clock() + MAX_LEASE_S)
        return pb.LeaseBlobResponse(
            expire_time=timestamp(await self._run(self.records.lease, request.sha256, request.owner, until))
        )

    async def CollectGarbage(self, request: pb.CollectGarbageRequest, context: Any) -> pb.CollectGarbageResponse:
        blobs, size, uploads = await self._run(self._collect, request.validate_only)
        return pb.CollectGarbageResponse(blobs=blobs, size_bytes=size, uploads=uploads)

    def _collect(self, dry: bool) -> tuple[int, int, int]:
        uploads = self.uploads.expire(dry=dry)
        blobs, size = self.blobs.collect(self._referred, self.settings.grace_s, dry=dry)
        if not dry:
            self.records.end_leases()
            if self.settings.keep_request_ids_s:
                self.records.forget_requests(self.records.clock() - self.settings.keep_request_ids_s)
            _LOG.info("garbage collected", extra={"blobs": blobs, "bytes": size, "uploads": uploads})
        return blobs, size, uploads

    def _referred(self, sha256: str) -> bool:
        return any(refers(sha256) for refers in self.referrers)


def _wanted(
    bundle: str,
    version: str,
    sha256: str,
    facts: Facts,
    creator: str,
    description: str,
    labels: Mapping[str, str],
) -> Version:
    return Version(
        bundle=bundle,
        version=version,
        sha256=sha256,
        description=description,
        labels=labels,
        creator=creator,
        size_bytes=facts.size_bytes,
        model_name=facts.model_name,
        model_version=facts.model_version,
        key_fingerprint=facts.key_fingerprint,
    )
