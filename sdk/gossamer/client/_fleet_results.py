"""What the fleet service tells of devices, rollouts and profile runs, as plain values."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from gossamer._errors import InputError
from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer.client._errors import RemoteError
from gossamer_runtime.agent._reasons import REASONS

_MOST_SECONDS = 315_576_000_000
"""The longest that a protobuf ``Duration`` may be."""


class DeviceState(enum.StrEnum):
    """What a device says it does."""

    UNKNOWN = "UNKNOWN"
    """Nothing yet."""
    EMPTY = "EMPTY"
    """Runs no bundle."""
    RUNNING = "RUNNING"
    """Runs the bundle that it committed."""
    UPDATING = "UPDATING"
    """Downloads, verifies or tries a bundle."""
    FELL_BACK = "FELL_BACK"
    """The last update failed, and it runs what it ran before."""


class RolloutState(enum.StrEnum):
    """Where a rollout is; the last two are final."""

    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    """By a person."""
    HALTED = "HALTED"
    """By failures past its limit."""
    ROLLING_BACK = "ROLLING_BACK"
    COMPLETED = "COMPLETED"
    ROLLED_BACK = "ROLLED_BACK"

    @property
    def final(self) -> bool:
        """Whether a rollout in this state never changes again."""
        return self in (RolloutState.COMPLETED, RolloutState.ROLLED_BACK)


class RunState(enum.StrEnum):
    """Where a profile run is; the last two are final."""

    WAITING = "WAITING"
    """The device has not heard of it."""
    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"

    @property
    def final(self) -> bool:
        """Whether a run in this state never changes again."""
        return self in (RunState.DONE, RunState.FAILED)


@dataclass(frozen=True)
class DeviceFacts:
    """What a device says of itself; empty or 0: it does not say. Selectors match them by these names."""

    arch: str
    cpu: str
    isa: str
    cores: int
    memory_bytes: int
    system: str
    runtime_version: str
    agent_version: str


@dataclass(frozen=True)
class DeviceStatus:
    """What a device says it runs.

    Attributes:
        state: see :class:`DeviceState`.
        bundle_sha256, previous_sha256: of the bundles that run and that ran before; empty: none.
        failed_sha256, failure_reason, failure_message: of the last update that failed; empty: none since the last good
            one.
        progress_percent: of the update that runs.
        uptime_s: since the agent started.
    """

    state: DeviceState
    bundle_sha256: str
    previous_sha256: str
    failed_sha256: str
    failure_reason: str
    failure_message: str
    progress_percent: float
    uptime_s: int


@dataclass(frozen=True)
class FleetDevice:
    """An enrolled device.

    Attributes:
        name: ``devices/{id}``. ``display_name``, ``labels``: set by people.
        facts, status: what it said of itself.
        desired_version: what it should run; empty: what it has.
        enrolled, heard: by the server's clock; ``heard`` None: never. ``certificate_ends``: when it must have renewed.
        holder: who holds it; empty: free.
        etag: changes with every change by people.
    """

    name: str
    display_name: str
    labels: Mapping[str, str]
    facts: DeviceFacts
    status: DeviceStatus
    desired_version: str
    enrolled: datetime
    heard: datetime | None
    certificate_ends: datetime
    holder: str
    etag: str


@dataclass(frozen=True)
class EnrollmentToken:
    """A one-time token for one device, shown this once; the server keeps its hash."""

    token: str
    expires: datetime


@dataclass(frozen=True)
class Stage:
    """A part of a rollout: this share of its devices in percent, then so many seconds without too many failures."""

    percent: float
    soak_s: float = 0.0


@dataclass(frozen=True)
class Rollout:
    """A version on its way to the devices that matched when it was made.

    Attributes:
        name: ``rollouts/{id}``. ``version``: what devices get. ``selector``: which; empty: all.
        stages: in order. ``stage``: index of the one that runs.
        failure_limit_percent: share of the reached devices whose failure halts it; 0: the first failure does.
        matching_devices, reached_devices, updated_devices, failed_devices: counts; reached ones were told.
        message: why it halted; empty: it did not.
        etag: changes with every change.
    """

    name: str
    version: str
    selector: str
    stages: tuple[Stage, ...]
    failure_limit_percent: float
    state: RolloutState
    stage: int
    matching_devices: int
    reached_devices: int
    updated_devices: int
    failed_devices: int
    message: str
    created: datetime
    updated: datetime
    creator: str
    etag: str


@dataclass(frozen=True)
class ProfileRun:
    """A profile that a held device was asked for.

    Attributes:
        name: ``profileRuns/{id}``. ``device``: ``devices/{id}``.
        version, bundle_sha256: what is profiled without being installed; empty: what the device runs.
        runs, warmup_runs: timed inferences, and those before them.
        profile: ``profiles/{id}`` once it is done.
        failure_reason, failure_message: why it failed; empty: it did not.
    """

    name: str
    device: str
    version: str
    bundle_sha256: str
    runs: int
    warmup_runs: int
    state: RunState
    profile: str
    failure_reason: str
    failure_message: str
    created: datetime

    @property
    def error(self) -> RemoteError:
        """Of a run that failed."""
        reason = self.failure_reason
        message = self.failure_message or f"the device could not make the profile ({reason})"
        where = {"where": f"{self.device}, {self.name}"}
        return RemoteError(message, code=_CODES.get(reason, "INTERNAL"), reason=reason, metadata=where)


_CODES = {
    **{reason: code for _, reason, code in REASONS},
    "LEASE_EXPIRED": "DEADLINE_EXCEEDED",
    "CANCELLED": "CANCELLED",
}


def token_of(answer: pb.CreateEnrollmentTokenResponse) -> EnrollmentToken:
    """From the message."""
    return EnrollmentToken(token=answer.token, expires=answer.expire_time.ToDatetime(UTC))


def device_of(device: pb.Device) -> FleetDevice:
    """From the message."""
    status = device.status
    return FleetDevice(
        name=device.name,
        display_name=device.display_name,
        labels=dict(device.labels),
        facts=DeviceFacts(**{field.name: getattr(device.facts, field.name) for field in fields(DeviceFacts)}),
        status=DeviceStatus(
            state=DeviceState(_name(pb.DeviceState, status.state)) if status.state else DeviceState.UNKNOWN,
            bundle_sha256=status.bundle_sha256,
            previous_sha256=status.previous_sha256,
            failed_sha256=status.failed_sha256,
            failure_reason=status.failure_reason,
            failure_message=status.failure_message,
            progress_percent=status.progress_percent,
            uptime_s=status.uptime_seconds,
        ),
        desired_version=device.desired_version,
        enrolled=device.enroll_time.ToDatetime(UTC),
        heard=device.heartbeat_time.ToDatetime(UTC) if device.HasField("heartbeat_time") else None,
        certificate_ends=device.certificate_expire_time.ToDatetime(UTC),
        holder=device.holder,
        etag=device.etag,
    )


def rollout_of(rollout: pb.Rollout) -> Rollout:
    """From the message."""
    return Rollout(
        name=rollout.name,
        version=rollout.version,
        selector=rollout.selector,
        stages=tuple(Stage(stage.percent, stage.soak.ToNanoseconds() / 1e9) for stage in rollout.stages),
        failure_limit_percent=rollout.failure_limit_percent,
        state=RolloutState(_name(pb.RolloutState, rollout.state)),
        stage=rollout.stage,
        matching_devices=rollout.matching_devices,
        reached_devices=rollout.reached_devices,
        updated_devices=rollout.updated_devices,
        failed_devices=rollout.failed_devices,
        message=rollout.message,
        created=rollout.create_time.ToDatetime(UTC),
        updated=rollout.update_time.ToDatetime(UTC),
        creator=rollout.creator,
        etag=rollout.etag,
    )


def run_of(run: pb.ProfileRun) -> ProfileRun:
    """From the message."""
    return ProfileRun(
        name=run.name,
        device=run.device,
        version=run.version,
        bundle_sha256=run.bundle_sha256,
        runs=run.runs,
        warmup_runs=run.warmup_runs,
        state=RunState(_name(pb.ProfileRunState, run.state)),
        profile=run.profile,
        failure_reason=run.failure_reason,
        failure_message=run.failure_message,
        created=run.create_time.ToDatetime(UTC),
    )


def duration(seconds: float, what: str) -> Duration:
    """The message of so many seconds.

    Args:
        what: the argument that says so, for the error.

    Raises:
        InputError: it is no number from 0 to that of 10,000 years.
    """
    if not 0 <= seconds <= _MOST_SECONDS:
        raise InputError(f"{seconds!r} is not a number of seconds", where=what)
    made = Duration()
    made.FromNanoseconds(round(seconds * 1e9))
    return made


def _name(enum: EnumTypeWrapper, number: int) -> str:
    """A value's name without the enum's own, such as ``RUNNING``."""
    text: str = enum.Name(number)
    return text.removeprefix(enum.Name(0).removesuffix("UNSPECIFIED"))
