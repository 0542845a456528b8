"""The calls about profiles: asking a held device for one, and the records."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer._proto.v1 import fleet_pb2_grpc as rpc
from gossamer_services.common.auth import CALLER
from gossamer_services.common.digests import digest_of
from gossamer_services.common.errors import bad_field
from gossamer_services.common.paging import fitting, page_size, read_token, write_token
from gossamer_services.common.threads import Threads
from gossamer_services.fleet import profiles as profile_records
from gossamer_services.fleet.names import own_device, resource_id
from gossamer_services.fleet.profile_runs import ProfileRuns
from gossamer_services.fleet.profiles import Profiles
from gossamer_services.registry.names import check_digest, check_name, parse_channel, parse_version, version_name
from gossamer_services.registry.versions import Versions

MAX_PROFILES = 100
MAX_RUNS = 100_000
MAX_MESSAGE = 1000
_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,63}", re.ASCII)


class ProfileCalls(rpc.FleetServiceServicer):
    """A part of the servicer; every call's errors are in the contract.

    Args:
        profiles, profile_runs: the state.
        records: versions of the registry, which devices may be asked to profile.
        pool: where the state is asked.
    """

    def __init__(
        self, profiles: Profiles, profile_runs: ProfileRuns, records: Versions, pool: ThreadPoolExecutor
    ) -> None:
        self.profiles, self.profile_runs = profiles, profile_runs
        self._records, self._pool = records, pool
        self._registry = Threads(4, "fleet-registry")
        """For questions to the records, which may be those of another server."""

    async def _run(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: function(*arguments, **options))

    async def CreateProfileRun(self, request: pb.CreateProfileRunRequest, context: Any) -> pb.CreateProfileRunResponse:
        resource_id(request.lease, "leases", "lease")
        if request.request_id:
            check_name(request.request_id, "request_id")
        runs, warmup = request.runs or 50, request.warmup_runs if request.HasField("warmup_runs") else 5
        for field, value, least in (("runs", runs, 1), ("warmup_runs", warmup, 0)):
            if not least <= value <= MAX_RUNS:
                raise bad_field(field, f"must be {least} to {MAX_RUNS:,}")
        caller, digest = CALLER.get().name, digest_of(request, "request_id")
        made = None
        if request.request_id:  # before the version is looked up, which may be gone since
            made = await self._run(self.profile_runs.earlier, caller, request.request_id, digest)
        if made is None:
            wanted = pb.ProfileRun(lease=request.lease, runs=runs, warmup_runs=warmup)
            if request.version:
                await self._choose(wanted, request.version)
            made = await self._run(
                self.profile_runs.create, wanted, caller=caller, request_id=request.request_id, digest=digest
            )
        return pb.CreateProfileRunResponse(profile_run=made)

    async def _choose(self, wanted: pb.ProfileRun, name: str) -> None:
        if "/channels/" in name:
            bundle, channel = parse_channel(name, "version")
            version = (await self._registry.run(self._records.channel, bundle, channel)).version
        else:
            bundle, version = parse_version(name, "version")
        found = await self._registry.run(self._records.version, bundle, version)
        wanted.version = version_name(bundle, version)
        wanted.bundle_sha256, wanted.bundle_bytes = found.sha256, found.size_bytes

    async def GetProfileRun(self, request: pb.GetProfileRunRequest, context: Any) -> pb.GetProfileRunResponse:
        caller = CALLER.get().name
        device = own_device(caller) if caller.startswith("devices/") else ""
        found = await self._run(self.profile_runs.get, resource_id(request.name, "profileRuns"), device)
        if device:
            found.lease = ""
        return pb.GetProfileRunResponse(profile_run=found)

    async def FailProfileRun(self, request: pb.FailProfileRunRequest, context: Any) -> pb.FailProfileRunResponse:
        device = own_device(CALLER.get().name)
        run, reason = resource_id(request.name, "profileRuns"), request.failure_reason or "FAILED"
        if not _REASON.fullmatch(reason):
            raise bad_field("failure_reason", "not 1 to 64 of A-Z 0-9 _")
        failed = await self._run(self.profile_runs.fail, run, device, reason, request.failure_message[:MAX_MESSAGE])
        failed.lease = ""
        return pb.FailProfileRunResponse(profile_run=failed)

    async def CreateProfile(self, request: pb.CreateProfileRequest, context: Any) -> pb.CreateProfileResponse:
        device = own_device(CALLER.get().name)
        check_digest(request.profile.bundle_sha256, "profile.bundle_sha256")
        if request.request_id:
            check_name(request.request_id, "request_id")
        profile_records.check(request.profile)
        stored = await self._run(
            self.profiles.create,
            request.profile,
            device,
            run=resource_id(request.profile_run, "profileRuns", "profile_run") if request.profile_run else "",
            request_id=request.request_id,
            digest=digest_of(request, "request_id"),
        )
        return pb.CreateProfileResponse(profile=stored)

    async def GetProfile(self, request: pb.GetProfileRequest, context: Any) -> pb.GetProfileResponse:
        return pb.GetProfileResponse(profile=await self._run(self.profiles.get, resource_id(request.name, "profiles")))

    async def ListProfiles(self, request: pb.ListProfilesRequest, context: Any) -> pb.ListProfilesResponse:
        size = min(page_size(request.page_size or 20), MAX_PROFILES)
        question = ["profiles", request.model_name, request.device, request.kernel, request.layer]
        found = await self._run(
            self.profiles.list,
            model_name=request.model_name,
            device=resource_id(request.device, "devices", "device") if request.device else "",
            kernel=request.kernel,
            layer=request.layer,
            before=read_token(request.page_token, question),
            limit=size + 1,
        )
        count = fitting(record.ByteSize() for _, record in found[:size])
        answer = pb.ListProfilesResponse(profiles=[record for _, record in found[:count]])
        if len(found) > count:
            answer.next_page_token = write_token(found[count - 1][0], question)
        return answer
