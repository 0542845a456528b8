"""The fleet for the asynchronous client: enrolment, devices, rollouts, profiles."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from gossamer._errors import InputError
from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer._proto.v1 import fleet_pb2_grpc
from gossamer.client._errors import RemoteError
from gossamer.client._fleet_results import (
    EnrollmentToken,
    FleetDevice,
    Rollout,
    RolloutState,
    Stage,
    device_of,
    duration,
    rollout_of,
    token_of,
)
from gossamer.client._lease import AsyncLease, RunWatch, Waiting
from gossamer.client._link import Link
from gossamer.client._profiles import DeviceProfile, profile_of
from gossamer.client._registry import Versions

RolloutWatch = Callable[[Rollout], None]
HOLD_S = 900.0
"""How long a device is held at most, unless said otherwise."""
_POLL_S = 0.5
_ETAG_ATTEMPTS = 5
_PROFILES_A_PAGE = 20


class AsyncFleet:
    """``client.fleet``: the devices of a server, what they should run, and the profiles that they sent.

    A device is named ``devices/{id}`` or ``{id}``, likewise rollouts and profiles. A version is named as
    :meth:`gossamer.client.AsyncClient.version` has it.

    Every method raises :class:`gossamer.client.RemoteError` where the server refuses (``reason`` says why),
    ``UnreachableError`` where none answers, and ``AccessError`` where its certificate is not trusted.
    """

    def __init__(self, link: Link, versions: Versions) -> None:
        self.link, self._versions = link, versions
        self.stub = fleet_pb2_grpc.FleetServiceStub(link.channel)  # type: ignore[no-untyped-call]

    async def enrollment_token(
        self, labels: Mapping[str, str] | None = None, *, lifetime_s: float = 3600.0
    ) -> EnrollmentToken:
        """Make a one-time token with which a device enrols (``gossamer-agent enroll``) and gets these labels.

        Where the first answer got lost, the token that it held is never seen, and ends unused.

        Args:
            lifetime_s: how long it is good for: over 0, at most 30 days.
        """
        if lifetime_s == 0:  # to the server, none is its default
            raise InputError("a token must be good for some time", where="lifetime_s")
        request = pb.CreateEnrollmentTokenRequest(labels=labels or {}, time_to_live=duration(lifetime_s, "lifetime_s"))
        return token_of(await self.link.call(self.stub.CreateEnrollmentToken, request))

    async def devices(self, selector: str = "", *, limit: int = 1_000_000) -> list[FleetDevice]:
        """At most ``limit`` devices that match, in the order of enrolment.

        Args:
            selector: comma-separated ``key=value`` or ``key!=value`` over labels and facts, all of which must hold
                (``cpu=cortex-a76,site!=lab``); empty: all.
        """
        request = pb.ListDevicesRequest(selector=selector)
        return await self.link.listed(self.stub.ListDevices, request, "devices", device_of, limit)

    async def device(self, name: str) -> FleetDevice:
        """One device."""
        request = pb.GetDeviceRequest(name=_named("devices", name))
        return device_of((await self.link.call(self.stub.GetDevice, request)).device)

    async def update(
        self,
        name: str,
        *,
        labels: Mapping[str, str | None] | None = None,
        display_name: str | None = None,
        desired_version: str | None = None,
    ) -> FleetDevice:
        """Change what people set of a device.

        Args:
            labels: to add or replace; None as a value removes one. Others stay.
            display_name: for people.
            desired_version: what it should run; empty: what it has. A channel's name takes what it names now.
        """
        if desired_version:
            desired_version = await self._versions.pinned(desired_version)
        given = {"display_name": display_name, "desired_version": desired_version}
        changes: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
        if labels is None:
            return await self._update(pb.Device(name=_named("devices", name), **changes), list(changes))
        for attempt in range(_ETAG_ATTEMPTS):  # somebody else may change it between reading and writing
            known = await self.device(name)
            merged = {k: v for k, v in {**known.labels, **labels}.items() if v is not None}
            wanted = pb.Device(name=known.name, labels=merged, etag=known.etag, **changes)
            try:
                return await self._update(wanted, ["labels", *changes])
            except RemoteError as e:
                if e.reason != "ETAG_MISMATCH" or attempt == _ETAG_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    async def remove(self, name: str) -> FleetDevice:
        """Remove a device and revoke its certificate; what it was."""
        known = await self.device(name)
        try:
            await self.link.call(self.stub.DeleteDevice, pb.DeleteDeviceRequest(name=known.name))
        except RemoteError as e:
            if e.reason != "DEVICE_NOT_FOUND":  # the answer to an earlier attempt got lost
                raise
        return known

    async def start_rollout(
        self,
        version: str,
        selector: str = "",
        *,
        stages: Sequence[Stage | float] = (),
        failure_limit_percent: float = 0.0,
        request_id: str | None = None,
        dry_run: bool = False,
    ) -> Rollout:
        """Roll a version out to the devices that match now.

        Args:
            stages: shares of the devices, in percent, rising to 100, or :class:`Stage` with soak times; none: all at
                once.
            failure_limit_percent: share of the reached devices whose failure halts it; 0: the first failure does.
            request_id: the same again makes no second rollout; by default a new one, which retries share.
            dry_run: change nothing, and answer with the rollout as it would be.
        """
        listed = [stage if isinstance(stage, Stage) else Stage(float(stage)) for stage in stages]
        wanted = pb.Rollout(
            version=await self._versions.pinned(version),
            selector=selector,
            stages=[pb.RolloutStage(percent=stage.percent, soak=duration(stage.soak_s, "soak_s")) for stage in listed],
            failure_limit_percent=failure_limit_percent,
        )
        request = pb.CreateRolloutRequest(
            rollout=wanted, request_id=request_id or secrets.token_hex(16), validate_only=dry_run
        )
        return rollout_of((await self.link.call(self.stub.CreateRollout, request)).rollout)

    async def rollout(self, name: str) -> Rollout:
        """One rollout."""
        request = pb.GetRolloutRequest(name=_named("rollouts", name))
        return rollout_of((await self.link.call(self.stub.GetRollout, request)).rollout)

    async def rollouts(self, *, limit: int = 100) -> list[Rollout]:
        """At most ``limit`` rollouts, newest first."""
        return await self.link.listed(self.stub.ListRollouts, pb.ListRolloutsRequest(), "rollouts", rollout_of, limit)

    async def pause(self, name: str) -> Rollout:
        """Reach no more devices until :meth:`resume`."""
        return await self._change_rollout(pb.Rollout(name=name, state=pb.ROLLOUT_STATE_PAUSED), ["state"])

    async def resume(self, name: str, *, failure_limit_percent: float | None = None) -> Rollout:
        """Go on with a rollout that was paused or halted.

        Args:
            failure_limit_percent: a new limit. One that halted halts again at once under the limit that it passed.
        """
        wanted, paths = pb.Rollout(name=name, state=pb.ROLLOUT_STATE_ACTIVE), ["state"]
        if failure_limit_percent is not None:
            wanted.failure_limit_percent = failure_limit_percent
            paths.append("failure_limit_percent")
        return await self._change_rollout(wanted, paths)

    async def roll_back(self, name: str) -> Rollout:
        """Give every device that was reached what it was to run before."""
        request = pb.RollBackRolloutRequest(name=_named("rollouts", name))
        return rollout_of((await self.link.call(self.stub.RollBackRollout, request)).rollout)

    async def wait_rollout(
        self, name: str, *, progress: RolloutWatch | None = None, timeout_s: float | None = None
    ) -> Rollout:
        """Wait until a rollout completes, is rolled back, or halts. One that somebody paused is waited for.

        Args:
            progress: called with every change.

        Raises:
            TimeoutError: it goes on still after ``timeout_s``.
        """
        seen = None
        async with asyncio.timeout(timeout_s):
            while True:
                found = await self.rollout(name)
                if progress is not None and found != seen:
                    progress(found)
                    seen = found
                if found.state.final or found.state is RolloutState.HALTED:
                    return found
                await asyncio.sleep(_POLL_S)

    async def profiles(
        self, *, model: str = "", device: str = "", kernel: str = "", layer: str = "", limit: int = 20
    ) -> list[DeviceProfile]:
        """At most ``limit`` profiles, newest first: of a model's name, a device, with an operator that ran on a kernel,
        with an operator (layer) of a name; what is empty fits all."""
        request = pb.ListProfilesRequest(
            model_name=model, device=_named("devices", device) if device else "", kernel=kernel, layer=layer
        )
        return await self.link.listed(
            self.stub.ListProfiles, request, "profiles", profile_of, limit, page_size=_PROFILES_A_PAGE
        )

    async def get_profile(self, name: str) -> DeviceProfile:
        """One profile."""
        request = pb.GetProfileRequest(name=_named("profiles", name))
        return profile_of((await self.link.call(self.stub.GetProfile, request)).profile)

    def acquire(
        self,
        selector: str = "",
        *,
        wait_s: float | None = None,
        hold_s: float = HOLD_S,
        waiting: Waiting | None = None,
    ) -> AsyncLease:
        """A free device that matches, held in ``async with`` and given back after it.

        Args:
            wait_s: how long to wait for one that nobody holds; None: as long as it takes.
            hold_s: when the hold ends if it is not given back: at most one day.
            waiting: called once with all devices that match, when waiting begins because all of them are held.
        """
        return AsyncLease(self, selector, wait_s, hold_s, waiting)

    async def profile(
        self,
        on: str | AsyncLease = "",
        version: str = "",
        *,
        runs: int = 50,
        warmup: int = 5,
        wait_s: float | None = None,
        hold_s: float = HOLD_S,
        waiting: Waiting | None = None,
        progress: RunWatch | None = None,
    ) -> DeviceProfile:
        """Have a device time every operator; see :meth:`AsyncLease.profile`.

        Args:
            on: a selector, for a device that is held meanwhile (see :meth:`acquire`), or a lease.
        """
        if isinstance(on, AsyncLease):
            return await on.profile(version, runs=runs, warmup=warmup, progress=progress)
        async with self.acquire(on, wait_s=wait_s, hold_s=hold_s, waiting=waiting) as lease:
            return await lease.profile(version, runs=runs, warmup=warmup, progress=progress)

    async def _update(self, device: pb.Device, paths: list[str]) -> FleetDevice:
        if not paths:
            raise InputError("nothing to change", where=device.name, hint="give labels, a display name or a version")
        request = pb.UpdateDeviceRequest(device=device, update_mask=FieldMask(paths=paths))
        return device_of((await self.link.call(self.stub.UpdateDevice, request)).device)

    async def _change_rollout(self, wanted: pb.Rollout, paths: list[str]) -> Rollout:
        wanted.name = _named("rollouts", wanted.name)
        request = pb.UpdateRolloutRequest(rollout=wanted, update_mask=FieldMask(paths=paths))
        return rollout_of((await self.link.call(self.stub.UpdateRollout, request)).rollout)


def _named(collection: str, name: str) -> str:
    """``collection/{id}``, of that or of the id alone."""
    return name if "/" in name else f"{collection}/{name}"
