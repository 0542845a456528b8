"""FleetService: the contract's calls over devices, rollouts and profiles."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import sqlalchemy as sa

from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer._proto.v1 import fleet_pb2_grpc as rpc
from gossamer_services.common.auth import CALLER, PULL
from gossamer_services.common.digests import digest_of
from gossamer_services.common.errors import ServiceError, bad_field
from gossamer_services.common.paging import fitting, page_size, read_token, write_token
from gossamer_services.common.rounds import Rounds
from gossamer_services.common.server import Service
from gossamer_services.common.texts import check_text
from gossamer_services.common.times import seconds_of, timestamp
from gossamer_services.fleet import checks, selector
from gossamer_services.fleet.authority import Authority
from gossamer_services.fleet.devices import Devices, is_held
from gossamer_services.fleet.forgetting import forget_profiles, forget_runs
from gossamer_services.fleet.names import own_device, resource_id
from gossamer_services.fleet.profile_runs import ProfileRuns
from gossamer_services.fleet.profiles import Profiles
from gossamer_services.fleet.profiling import ProfileCalls
from gossamer_services.fleet.rollouts import Rollouts
from gossamer_services.fleet.settings import FleetSettings
from gossamer_services.registry.names import check_name, parse_version
from gossamer_services.registry.records import check_labels
from gossamer_services.registry.versions import Versions

_LOG = logging.getLogger(__name__)

NAME = "gossamer.v1.FleetService"

SCOPES: dict[str, str | None] = {
    "CreateEnrollmentToken": "admin",
    "EnrollDevice": None,
    "Heartbeat": "device",
    "RenewCertificate": "device",
    "GetDevice": "read",
    "ListDevices": "read",
    "UpdateDevice": "flash",
    "DeleteDevice": "admin",
    "AcquireDevice": "flash",
    "ReleaseDevice": "flash",
    "CreateRollout": "flash",
    "GetRollout": "read",
    "ListRollouts": "read",
    "UpdateRollout": "flash",
    "RollBackRollout": "flash",
    "CreateProfileRun": "flash",
    "GetProfileRun": PULL,
    "FailProfileRun": "device",
    "CreateProfile": "device",
    "GetProfile": "read",
    "ListProfiles": "read",
}

MAX_TOKEN_S = 30 * 86400.0
MAX_LEASE_S = 86400.0
MAX_DISPLAY_NAME = 256
FORGET_EVERY_S = 3600.0


class Fleet(ProfileCalls):
    """The servicer; every call's errors are in the contract.

    Args:
        devices, rollouts, profiles, profile_runs: the state.
        records: versions of the registry, which devices are told to run.
        authority: signs devices' certificates.
        settings: see :class:`FleetSettings`.
    """

    def __init__(
        self,
        devices: Devices,
        rollouts: Rollouts,
        profiles: Profiles,
        profile_runs: ProfileRuns,
        records: Versions,
        authority: Authority,
        settings: FleetSettings,
    ) -> None:
        super().__init__(profiles, profile_runs, records, ThreadPoolExecutor(4, thread_name_prefix="fleet"))
        self.devices, self.rollouts = devices, rollouts
        self._authority, self._settings = authority, settings
        self.device_address: Callable[[], str] = str
        """host:port where devices call with their certificates; known once the server is bound."""
        self.registry_address = ""
        """host:port where devices read bundles; empty: at the device address of the fleet."""
        self._rounds = Rounds()

    def service(self) -> Service:
        """For :class:`gossamer_services.common.server.Server`."""
        return Service(NAME, self._add, SCOPES)

    def _add(self, server: Any) -> None:
        rpc.add_FleetServiceServicer_to_server(self, server)  # type: ignore[no-untyped-call]

    def start(self) -> None:
        """Look at rollouts, write heartbeats and forget what is old from time to time, in the running event loop."""
        self._rounds.start("the fleet's clockwork", self._settings.rollout_check_s, self._tick)
        for keep_s, forget in (
            (self._settings.keep_runs_s, forget_runs),
            (self._settings.keep_profiles_s, forget_profiles),
        ):
            if keep_s:
                work = functools.partial(self._forget, forget, keep_s)
                self._rounds.start("the fleet's forgetting", min(keep_s, FORGET_EVERY_S), work, at_once=True)

    async def close(self) -> None:
        """End what :meth:`start` began; write what is in memory alone."""
        await self._rounds.close()
        with contextlib.suppress(ServiceError):
            await self._run(self.devices.flush)
        await self._registry.close()
        await asyncio.to_thread(self._pool.shutdown)
        self.devices.engine.dispose()

    async def _tick(self) -> None:
        await self._run(self.rollouts.tick)
        await self._run(self.devices.flush)

    async def _forget(self, forget: Callable[[sa.Engine, float, float], int], keep_s: float) -> None:
        now = self.devices.clock()
        count = await self._run(forget, self.devices.engine, now - keep_s, now)
        if count:
            _LOG.info("old records were deleted", extra={"records": count})

    async def CreateEnrollmentToken(
        self, request: pb.CreateEnrollmentTokenRequest, context: Any
    ) -> pb.CreateEnrollmentTokenResponse:
        labels = check_labels(request.labels, "labels")
        seconds = seconds_of(request.time_to_live) or 3600.0
        if not 0 < seconds <= MAX_TOKEN_S:
            raise bad_field("time_to_live", "must be positive and at most 30 days")
        if request.validate_only:
            return pb.CreateEnrollmentTokenResponse(expire_time=timestamp(self.devices.clock() + seconds))
        token, ends = await self._run(self.devices.create_token, labels, seconds)
        return pb.CreateEnrollmentTokenResponse(token=token, expire_time=timestamp(ends))

    async def EnrollDevice(self, request: pb.EnrollDeviceRequest, context: Any) -> pb.EnrollDeviceResponse:
        check_name(request.request_id, "request_id")
        checks.check_size(request.facts, "facts")
        days = self._settings.certificate_days
        row, certificate = await self._run(self.devices.enrol, request, self._authority, days)
        _LOG.info("device enrolled", extra={"device": row.id})
        return pb.EnrollDeviceResponse(
            device=self._device(row),
            certificate_pem=certificate,
            authority_pem=self._authority.certificate.decode(),
            device_address=self.device_address(),
        )

    async def RenewCertificate(self, request: pb.RenewCertificateRequest, context: Any) -> pb.RenewCertificateResponse:
        device, pem = own_device(request.name), request.certificate_request_pem
        days = self._settings.certificate_days
        certificate, ends = await self._run(self.devices.renew, device, pem, self._authority, days)
        _LOG.info("certificate renewed", extra={"device": device})
        return pb.RenewCertificateResponse(certificate_pem=certificate, expire_time=timestamp(ends))

    async def Heartbeat(self, request: pb.HeartbeatRequest, context: Any) -> pb.HeartbeatResponse:
        device = own_device(request.name)
        checks.check_status(request.status)
        checks.check_size(request.facts, "facts")
        row, news = await self._run(self.devices.heartbeat, request, device)
        if news:
            row = await self._run(self._take_note, device, request.status, news)
        held = is_held(row, self.devices.clock())
        answer = pb.HeartbeatResponse(registry_address=self.registry_address)
        seconds = self._settings.held_heartbeat_s if held else self._settings.heartbeat_s
        answer.interval.FromMilliseconds(round(seconds * 1000))
        if row.desired:
            await self._desire(answer, row)
        if held:
            run = await self._run(self.profile_runs.tell, device)
            if run is not None:
                run.lease = ""
                answer.profile_run.CopyFrom(run)
        return answer

    def _take_note(self, device: str, status: pb.DeviceStatus, news: bytes) -> Any:
        """The device's row, as rollouts leave it that hear the news."""
        self.rollouts.heard(device, status)
        self.devices.took(device, news)
        return self.devices.get(device)

    async def _desire(self, answer: pb.HeartbeatResponse, row: Any) -> None:
        try:
            version = await self._registry.run(self._records.version, *parse_version(row.desired))
        except ServiceError as e:
            if e.reason != "VERSION_NOT_FOUND":
                raise
            _LOG.warning("a desired version was deleted", extra={"device": row.id, "version": row.desired})
            return
        answer.desired_version = row.desired
        answer.desired_sha256, answer.desired_bytes = version.sha256, version.size_bytes

    async def GetDevice(self, request: pb.GetDeviceRequest, context: Any) -> pb.GetDeviceResponse:
        row = await self._run(self.devices.get, resource_id(request.name, "devices"))
        return pb.GetDeviceResponse(device=self._device(row))

    async def ListDevices(self, request: pb.ListDevicesRequest, context: Any) -> pb.ListDevicesResponse:
        terms, size = selector.parse(request.selector), page_size(request.page_size)
        question = ["devices", request.selector]
        rows = await self._run(self.devices.list, terms, read_token(request.page_token, question), size + 1)
        found = [self._device(row) for row in rows[:size]]
        count = fitting(device.ByteSize() for device in found)
        answer = pb.ListDevicesResponse(devices=found[:count])
        if len(rows) > count:
            answer.next_page_token = write_token(rows[count - 1].number, question)
        return answer

    async def UpdateDevice(self, request: pb.UpdateDeviceRequest, context: Any) -> pb.UpdateDeviceResponse:
        wanted = request.device
        device = resource_id(wanted.name, "devices", "device.name")
        changes: dict[str, Any] = {}
        for path in request.update_mask.paths:
            if path == "labels":
                changes["labels"] = json.dumps(check_labels(wanted.labels, "device.labels"))
            elif path == "display_name":
                changes["display_name"] = check_text(wanted.display_name, "device.display_name", MAX_DISPLAY_NAME)
            elif path == "desired_version":
                if wanted.desired_version:
                    await self._registry.run(
                        self._records.version, *parse_version(wanted.desired_version, "device.desired_version")
                    )
                changes["desired"] = wanted.desired_version
            else:
                raise bad_field("update_mask", f"{path!r} cannot be changed")
        if not changes:
            raise bad_field("update_mask", "names no field")
        if request.validate_only:
            row = await self._run(self.devices.get, device)
            return pb.UpdateDeviceResponse(device=self._device(row))
        row = await self._run(self.devices.update, device, wanted.etag, changes)
        return pb.UpdateDeviceResponse(device=self._device(row))

    async def DeleteDevice(self, request: pb.DeleteDeviceRequest, context: Any) -> pb.DeleteDeviceResponse:
        await self._run(self.devices.delete, resource_id(request.name, "devices"), request.etag)
        return pb.DeleteDeviceResponse()

    async def AcquireDevice(self, request: pb.AcquireDeviceRequest, context: Any) -> pb.AcquireDeviceResponse:
        terms, seconds = selector.parse(request.selector), seconds_of(request.time_to_live)
        if not 0 < seconds <= MAX_LEASE_S:
            raise bad_field("time_to_live", "must be positive and at most one day")
        if request.request_id:
            check_name(request.request_id, "request_id")
        caller = CALLER.get().name
        while True:
            seen = self.devices.changes
            row = await self._acquire(terms, caller, seconds, request.request_id)
            if row is not None:
                return pb.AcquireDeviceResponse(
                    device=self._device(row), lease=f"leases/{row.lease}", expire_time=timestamp(row.lease_ends_s)
                )
            free = await self._run(self.devices.free_s, terms)
            while seen == self.devices.changes and self.devices.clock() < free:
                await asyncio.sleep(0.1)

    async def _acquire(self, terms: tuple[selector.Term, ...], caller: str, seconds: float, key: str) -> Any | None:
        """What the devices say; a caller who goes away meanwhile holds nothing, unless a request id tells it what."""
        if key:
            return await self._run(self.devices.acquire, terms, caller, seconds, key)
        asked = self._pool.submit(self.devices.acquire, terms, caller, seconds, key)
        try:
            return await asyncio.shield(asyncio.wrap_future(asked))
        except asyncio.CancelledError:
            asked.add_done_callback(self._give_up)
            raise

    def _give_up(self, asked: Future[Any]) -> None:
        if not asked.cancelled() and asked.exception() is None and asked.result() is not None:
            self.devices.release(asked.result().lease)

    async def ReleaseDevice(self, request: pb.ReleaseDeviceRequest, context: Any) -> pb.ReleaseDeviceResponse:
        await self._run(self.devices.release, resource_id(request.lease, "leases", "lease"))
        return pb.ReleaseDeviceResponse()

    async def CreateRollout(self, request: pb.CreateRolloutRequest, context: Any) -> pb.CreateRolloutResponse:
        bundle, version = parse_version(request.rollout.version, "rollout.version")
        if request.request_id:
            check_name(request.request_id, "request_id")
        wanted = pb.Rollout(
            version=request.rollout.version,
            selector=request.rollout.selector,
            stages=checks.stages(request.rollout),
            failure_limit_percent=checks.limit(request.rollout),
            creator=CALLER.get().name,
        )
        found = await self._registry.run(self._records.version, bundle, version)
        made = await self._run(
            self.rollouts.create,
            wanted,
            bundle,
            found.sha256,
            caller=CALLER.get().name,
            request_id=request.request_id,
            digest=digest_of(request, "request_id", "validate_only"),
            dry=request.validate_only,
        )
        return pb.CreateRolloutResponse(rollout=made)

    async def GetRollout(self, request: pb.GetRolloutRequest, context: Any) -> pb.GetRolloutResponse:
        found = await self._run(self.rollouts.get, resource_id(request.name, "rollouts"))
        return pb.GetRolloutResponse(rollout=found)

    async def ListRollouts(self, request: pb.ListRolloutsRequest, context: Any) -> pb.ListRolloutsResponse:
        size, question = page_size(request.page_size), ["rollouts"]
        found = await self._run(self.rollouts.list, read_token(request.page_token, question), size + 1)
        count = fitting(rollout.ByteSize() for _, rollout in found[:size])
        answer = pb.ListRolloutsResponse(rollouts=[rollout for _, rollout in found[:count]])
        if len(found) > count:
            answer.next_page_token = write_token(found[count - 1][0], question)
        return answer

    async def UpdateRollout(self, request: pb.UpdateRolloutRequest, context: Any) -> pb.UpdateRolloutResponse:
        given, paths = request.rollout, set(request.update_mask.paths)
        rollout = resource_id(given.name, "rollouts", "rollout.name")
        if not paths or paths - {"state", "stages", "failure_limit_percent"}:
            raise bad_field("update_mask", "must name some of state, stages and failure_limit_percent")
        if "state" in paths and given.state not in (pb.ROLLOUT_STATE_ACTIVE, pb.ROLLOUT_STATE_PAUSED):
            raise bad_field("rollout.state", "can be set to ACTIVE or PAUSED")
        stages, limit = checks.stages(given), checks.limit(given)

        def change(wanted: pb.Rollout) -> int | None:
            if "stages" in paths:
                del wanted.stages[:]
                wanted.stages.extend(stages)
            if "failure_limit_percent" in paths:
                wanted.failure_limit_percent = limit
            return given.state if "state" in paths else None

        changed = await self._run(self.rollouts.update, rollout, given.etag, change, dry=request.validate_only)
        return pb.UpdateRolloutResponse(rollout=changed)

    async def RollBackRollout(self, request: pb.RollBackRolloutRequest, context: Any) -> pb.RollBackRolloutResponse:
        found = await self._run(self.rollouts.roll_back, resource_id(request.name, "rollouts"), request.etag)
        return pb.RollBackRolloutResponse(rollout=found)

    def _device(self, row: Any) -> pb.Device:
        device = pb.Device(
            name=f"devices/{row.id}",
            display_name=row.display_name,
            labels=json.loads(row.labels),
            desired_version=row.desired,
            enroll_time=timestamp(row.enrolled_s),
            certificate_expire_time=timestamp(row.certificate_ends_s),
            etag=row.etag,
        )
        heard = self.devices.heard_s(row)
        if heard:
            device.heartbeat_time.CopyFrom(timestamp(heard))
            device.status.ParseFromString(row.status)
        if row.facts:
            device.facts.ParseFromString(row.facts)
        if is_held(row, self.devices.clock()):
            device.holder = row.holder
        return device
