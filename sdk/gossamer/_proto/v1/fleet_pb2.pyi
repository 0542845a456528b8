import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from gossamer._proto.v1 import profile_pb2 as _profile_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DeviceState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEVICE_STATE_UNSPECIFIED: _ClassVar[DeviceState]
    DEVICE_STATE_EMPTY: _ClassVar[DeviceState]
    DEVICE_STATE_RUNNING: _ClassVar[DeviceState]
    DEVICE_STATE_UPDATING: _ClassVar[DeviceState]
    DEVICE_STATE_FELL_BACK: _ClassVar[DeviceState]

class RolloutState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLLOUT_STATE_UNSPECIFIED: _ClassVar[RolloutState]
    ROLLOUT_STATE_ACTIVE: _ClassVar[RolloutState]
    ROLLOUT_STATE_PAUSED: _ClassVar[RolloutState]
    ROLLOUT_STATE_HALTED: _ClassVar[RolloutState]
    ROLLOUT_STATE_ROLLING_BACK: _ClassVar[RolloutState]
    ROLLOUT_STATE_COMPLETED: _ClassVar[RolloutState]
    ROLLOUT_STATE_ROLLED_BACK: _ClassVar[RolloutState]

class ProfileRunState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROFILE_RUN_STATE_UNSPECIFIED: _ClassVar[ProfileRunState]
    PROFILE_RUN_STATE_WAITING: _ClassVar[ProfileRunState]
    PROFILE_RUN_STATE_RUNNING: _ClassVar[ProfileRunState]
    PROFILE_RUN_STATE_DONE: _ClassVar[ProfileRunState]
    PROFILE_RUN_STATE_FAILED: _ClassVar[ProfileRunState]
DEVICE_STATE_UNSPECIFIED: DeviceState
DEVICE_STATE_EMPTY: DeviceState
DEVICE_STATE_RUNNING: DeviceState
DEVICE_STATE_UPDATING: DeviceState
DEVICE_STATE_FELL_BACK: DeviceState
ROLLOUT_STATE_UNSPECIFIED: RolloutState
ROLLOUT_STATE_ACTIVE: RolloutState
ROLLOUT_STATE_PAUSED: RolloutState
ROLLOUT_STATE_HALTED: RolloutState
ROLLOUT_STATE_ROLLING_BACK: RolloutState
ROLLOUT_STATE_COMPLETED: RolloutState
ROLLOUT_STATE_ROLLED_BACK: RolloutState
PROFILE_RUN_STATE_UNSPECIFIED: ProfileRunState
PROFILE_RUN_STATE_WAITING: ProfileRunState
PROFILE_RUN_STATE_RUNNING: ProfileRunState
PROFILE_RUN_STATE_DONE: ProfileRunState
PROFILE_RUN_STATE_FAILED: ProfileRunState

class Device(_message.Message):
    __slots__ = ("name", "display_name", "labels", "facts", "desired_version", "status", "enroll_time", "heartbeat_time", "certificate_expire_time", "holder", "etag")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    DESIRED_VERSION_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ENROLL_TIME_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_TIME_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    display_name: str
    labels: _containers.ScalarMap[str, str]
    facts: DeviceFacts
    desired_version: str
    status: DeviceStatus
    enroll_time: _timestamp_pb2.Timestamp
    heartbeat_time: _timestamp_pb2.Timestamp
    certificate_expire_time: _timestamp_pb2.Timestamp
    holder: str
    etag: str
    def __init__(self, name: _Optional[str] = ..., display_name: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., facts: _Optional[_Union[DeviceFacts, _Mapping]] = ..., desired_version: _Optional[str] = ..., status: _Optional[_Union[DeviceStatus, _Mapping]] = ..., enroll_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., heartbeat_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., certificate_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., holder: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class DeviceFacts(_message.Message):
    __slots__ = ("arch", "cpu", "isa", "cores", "memory_bytes", "system", "runtime_version", "agent_version")
    ARCH_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    ISA_FIELD_NUMBER: _ClassVar[int]
    CORES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_VERSION_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    arch: str
    cpu: str
    isa: str
    cores: int
    memory_bytes: int
    system: str
    runtime_version: str
    agent_version: str
    def __init__(self, arch: _Optional[str] = ..., cpu: _Optional[str] = ..., isa: _Optional[str] = ..., cores: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., system: _Optional[str] = ..., runtime_version: _Optional[str] = ..., agent_version: _Optional[str] = ...) -> None: ...

class DeviceStatus(_message.Message):
    __slots__ = ("state", "bundle_sha256", "previous_sha256", "failed_sha256", "failure_reason", "failure_message", "progress_percent", "uptime_seconds")
    STATE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_SHA256_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_SHA256_FIELD_NUMBER: _ClassVar[int]
    FAILED_SHA256_FIELD_NUMBER: _ClassVar[int]
    FAILURE_REASON_FIELD_NUMBER: _ClassVar[int]
    FAILURE_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_PERCENT_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    state: DeviceState
    bundle_sha256: str
    previous_sha256: str
    failed_sha256: str
    failure_reason: str
    failure_message: str
    progress_percent: float
    uptime_seconds: int
    def __init__(self, state: _Optional[_Union[DeviceState, str]] = ..., bundle_sha256: _Optional[str] = ..., previous_sha256: _Optional[str] = ..., failed_sha256: _Optional[str] = ..., failure_reason: _Optional[str] = ..., failure_message: _Optional[str] = ..., progress_percent: _Optional[float] = ..., uptime_seconds: _Optional[int] = ...) -> None: ...

class CreateEnrollmentTokenRequest(_message.Message):
    __slots__ = ("labels", "time_to_live", "validate_only")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TIME_TO_LIVE_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.ScalarMap[str, str]
    time_to_live: _duration_pb2.Duration
    validate_only: bool
    def __init__(self, labels: _Optional[_Mapping[str, str]] = ..., time_to_live: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class CreateEnrollmentTokenResponse(_message.Message):
    __slots__ = ("token", "expire_time")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    token: str
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, token: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class EnrollDeviceRequest(_message.Message):
    __slots__ = ("token", "certificate_request_pem", "facts", "request_id")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_REQUEST_PEM_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    token: str
    certificate_request_pem: str
    facts: DeviceFacts
    request_id: str
    def __init__(self, token: _Optional[str] = ..., certificate_request_pem: _Optional[str] = ..., facts: _Optional[_Union[DeviceFacts, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class EnrollDeviceResponse(_message.Message):
    __slots__ = ("device", "certificate_pem", "authority_pem", "device_address")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_PEM_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    device: Device
    certificate_pem: str
    authority_pem: str
    device_address: str
    def __init__(self, device: _Optional[_Union[Device, _Mapping]] = ..., certificate_pem: _Optional[str] = ..., authority_pem: _Optional[str] = ..., device_address: _Optional[str] = ...) -> None: ...

class RenewCertificateRequest(_message.Message):
    __slots__ = ("name", "certificate_request_pem")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_REQUEST_PEM_FIELD_NUMBER: _ClassVar[int]
    name: str
    certificate_request_pem: str
    def __init__(self, name: _Optional[str] = ..., certificate_request_pem: _Optional[str] = ...) -> None: ...

class RenewCertificateResponse(_message.Message):
    __slots__ = ("certificate_pem", "expire_time")
    CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    certificate_pem: str
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, certificate_pem: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class HeartbeatRequest(_message.Message):
    __slots__ = ("name", "status", "facts")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    status: DeviceStatus
    facts: DeviceFacts
    def __init__(self, name: _Optional[str] = ..., status: _Optional[_Union[DeviceStatus, _Mapping]] = ..., facts: _Optional[_Union[DeviceFacts, _Mapping]] = ...) -> None: ...

class HeartbeatResponse(_message.Message):
    __slots__ = ("desired_version", "desired_sha256", "desired_bytes", "interval", "profile_run", "registry_address")
    DESIRED_VERSION_FIELD_NUMBER: _ClassVar[int]
    DESIRED_SHA256_FIELD_NUMBER: _ClassVar[int]
    DESIRED_BYTES_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    PROFILE_RUN_FIELD_NUMBER: _ClassVar[int]
    REGISTRY_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    desired_version: str
    desired_sha256: str
    desired_bytes: int
    interval: _duration_pb2.Duration
    profile_run: ProfileRun
    registry_address: str
    def __init__(self, desired_version: _Optional[str] = ..., desired_sha256: _Optional[str] = ..., desired_bytes: _Optional[int] = ..., interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., profile_run: _Optional[_Union[ProfileRun, _Mapping]] = ..., registry_address: _Optional[str] = ...) -> None: ...

class GetDeviceRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetDeviceResponse(_message.Message):
    __slots__ = ("device",)
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    device: Device
    def __init__(self, device: _Optional[_Union[Device, _Mapping]] = ...) -> None: ...

class ListDevicesRequest(_message.Message):
    __slots__ = ("selector", "page_size", "page_token")
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    selector: str
    page_size: int
    page_token: str
    def __init__(self, selector: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDevicesResponse(_message.Message):
    __slots__ = ("devices", "next_page_token")
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    devices: _containers.RepeatedCompositeFieldContainer[Device]
    next_page_token: str
    def __init__(self, devices: _Optional[_Iterable[_Union[Device, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateDeviceRequest(_message.Message):
    __slots__ = ("device", "update_mask", "validate_only")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    device: Device
    update_mask: _field_mask_pb2.FieldMask
    validate_only: bool
    def __init__(self, device: _Optional[_Union[Device, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class UpdateDeviceResponse(_message.Message):
    __slots__ = ("device",)
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    device: Device
    def __init__(self, device: _Optional[_Union[Device, _Mapping]] = ...) -> None: ...

class DeleteDeviceRequest(_message.Message):
    __slots__ = ("name", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    etag: str
    def __init__(self, name: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class DeleteDeviceResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AcquireDeviceRequest(_message.Message):
    __slots__ = ("selector", "time_to_live", "request_id")
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    TIME_TO_LIVE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    selector: str
    time_to_live: _duration_pb2.Duration
    request_id: str
    def __init__(self, selector: _Optional[str] = ..., time_to_live: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class AcquireDeviceResponse(_message.Message):
    __slots__ = ("device", "lease", "expire_time")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    device: Device
    lease: str
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, device: _Optional[_Union[Device, _Mapping]] = ..., lease: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ReleaseDeviceRequest(_message.Message):
    __slots__ = ("lease",)
    LEASE_FIELD_NUMBER: _ClassVar[int]
    lease: str
    def __init__(self, lease: _Optional[str] = ...) -> None: ...

class ReleaseDeviceResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Rollout(_message.Message):
    __slots__ = ("name", "version", "selector", "stages", "failure_limit_percent", "state", "stage", "matching_devices", "reached_devices", "updated_devices", "failed_devices", "message", "create_time", "update_time", "creator", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    FAILURE_LIMIT_PERCENT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    MATCHING_DEVICES_FIELD_NUMBER: _ClassVar[int]
    REACHED_DEVICES_FIELD_NUMBER: _ClassVar[int]
    UPDATED_DEVICES_FIELD_NUMBER: _ClassVar[int]
    FAILED_DEVICES_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    CREATOR_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    selector: str
    stages: _containers.RepeatedCompositeFieldContainer[RolloutStage]
    failure_limit_percent: float
    state: RolloutState
    stage: int
    matching_devices: int
    reached_devices: int
    updated_devices: int
    failed_devices: int
    message: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    creator: str
    etag: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., selector: _Optional[str] = ..., stages: _Optional[_Iterable[_Union[RolloutStage, _Mapping]]] = ..., failure_limit_percent: _Optional[float] = ..., state: _Optional[_Union[RolloutState, str]] = ..., stage: _Optional[int] = ..., matching_devices: _Optional[int] = ..., reached_devices: _Optional[int] = ..., updated_devices: _Optional[int] = ..., failed_devices: _Optional[int] = ..., message: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., creator: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class RolloutStage(_message.Message):
    __slots__ = ("percent", "soak")
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    SOAK_FIELD_NUMBER: _ClassVar[int]
    percent: float
    soak: _duration_pb2.Duration
    def __init__(self, percent: _Optional[float] = ..., soak: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class CreateRolloutRequest(_message.Message):
    __slots__ = ("rollout", "request_id", "validate_only")
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    rollout: Rollout
    request_id: str
    validate_only: bool
    def __init__(self, rollout: _Optional[_Union[Rollout, _Mapping]] = ..., request_id: _Optional[str] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class CreateRolloutResponse(_message.Message):
    __slots__ = ("rollout",)
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    rollout: Rollout
    def __init__(self, rollout: _Optional[_Union[Rollout, _Mapping]] = ...) -> None: ...

class GetRolloutRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetRolloutResponse(_message.Message):
    __slots__ = ("rollout",)
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    rollout: Rollout
    def __init__(self, rollout: _Optional[_Union[Rollout, _Mapping]] = ...) -> None: ...

class ListRolloutsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListRolloutsResponse(_message.Message):
    __slots__ = ("rollouts", "next_page_token")
    ROLLOUTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    rollouts: _containers.RepeatedCompositeFieldContainer[Rollout]
    next_page_token: str
    def __init__(self, rollouts: _Optional[_Iterable[_Union[Rollout, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateRolloutRequest(_message.Message):
    __slots__ = ("rollout", "update_mask", "validate_only")
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    rollout: Rollout
    update_mask: _field_mask_pb2.FieldMask
    validate_only: bool
    def __init__(self, rollout: _Optional[_Union[Rollout, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class UpdateRolloutResponse(_message.Message):
    __slots__ = ("rollout",)
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    rollout: Rollout
    def __init__(self, rollout: _Optional[_Union[Rollout, _Mapping]] = ...) -> None: ...

class RollBackRolloutRequest(_message.Message):
    __slots__ = ("name", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    etag: str
    def __init__(self, name: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class RollBackRolloutResponse(_message.Message):
    __slots__ = ("rollout",)
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    rollout: Rollout
    def __init__(self, rollout: _Optional[_Union[Rollout, _Mapping]] = ...) -> None: ...

class ProfileRun(_message.Message):
    __slots__ = ("name", "lease", "device", "version", "bundle_sha256", "bundle_bytes", "runs", "warmup_runs", "state", "profile", "failure_reason", "failure_message", "create_time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_SHA256_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    WARMUP_RUNS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_REASON_FIELD_NUMBER: _ClassVar[int]
    FAILURE_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    lease: str
    device: str
    version: str
    bundle_sha256: str
    bundle_bytes: int
    runs: int
    warmup_runs: int
    state: ProfileRunState
    profile: str
    failure_reason: str
    failure_message: str
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., lease: _Optional[str] = ..., device: _Optional[str] = ..., version: _Optional[str] = ..., bundle_sha256: _Optional[str] = ..., bundle_bytes: _Optional[int] = ..., runs: _Optional[int] = ..., warmup_runs: _Optional[int] = ..., state: _Optional[_Union[ProfileRunState, str]] = ..., profile: _Optional[str] = ..., failure_reason: _Optional[str] = ..., failure_message: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CreateProfileRunRequest(_message.Message):
    __slots__ = ("lease", "version", "runs", "warmup_runs", "request_id")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    WARMUP_RUNS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    lease: str
    version: str
    runs: int
    warmup_runs: int
    request_id: str
    def __init__(self, lease: _Optional[str] = ..., version: _Optional[str] = ..., runs: _Optional[int] = ..., warmup_runs: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateProfileRunResponse(_message.Message):
    __slots__ = ("profile_run",)
    PROFILE_RUN_FIELD_NUMBER: _ClassVar[int]
    profile_run: ProfileRun
    def __init__(self, profile_run: _Optional[_Union[ProfileRun, _Mapping]] = ...) -> None: ...

class GetProfileRunRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetProfileRunResponse(_message.Message):
    __slots__ = ("profile_run",)
    PROFILE_RUN_FIELD_NUMBER: _ClassVar[int]
    profile_run: ProfileRun
    def __init__(self, profile_run: _Optional[_Union[ProfileRun, _Mapping]] = ...) -> None: ...

class FailProfileRunRequest(_message.Message):
    __slots__ = ("name", "failure_reason", "failure_message")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FAILURE_REASON_FIELD_NUMBER: _ClassVar[int]
    FAILURE_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    name: str
    failure_reason: str
    failure_message: str
    def __init__(self, name: _Optional[str] = ..., failure_reason: _Optional[str] = ..., failure_message: _Optional[str] = ...) -> None: ...

class FailProfileRunResponse(_message.Message):
    __slots__ = ("profile_run",)
    PROFILE_RUN_FIELD_NUMBER: _ClassVar[int]
    profile_run: ProfileRun
    def __init__(self, profile_run: _Optional[_Union[ProfileRun, _Mapping]] = ...) -> None: ...

class CreateProfileRequest(_message.Message):
    __slots__ = ("profile", "request_id", "profile_run")
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PROFILE_RUN_FIELD_NUMBER: _ClassVar[int]
    profile: _profile_pb2.ProfileRecord
    request_id: str
    profile_run: str
    def __init__(self, profile: _Optional[_Union[_profile_pb2.ProfileRecord, _Mapping]] = ..., request_id: _Optional[str] = ..., profile_run: _Optional[str] = ...) -> None: ...

class CreateProfileResponse(_message.Message):
    __slots__ = ("profile",)
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    profile: _profile_pb2.ProfileRecord
    def __init__(self, profile: _Optional[_Union[_profile_pb2.ProfileRecord, _Mapping]] = ...) -> None: ...

class GetProfileRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetProfileResponse(_message.Message):
    __slots__ = ("profile",)
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    profile: _profile_pb2.ProfileRecord
    def __init__(self, profile: _Optional[_Union[_profile_pb2.ProfileRecord, _Mapping]] = ...) -> None: ...

class ListProfilesRequest(_message.Message):
    __slots__ = ("model_name", "device", "kernel", "layer", "page_size", "page_token")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    KERNEL_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    device: str
    kernel: str
    layer: str
    page_size: int
    page_token: str
    def __init__(self, model_name: _Optional[str] = ..., device: _Optional[str] = ..., kernel: _Optional[str] = ..., layer: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListProfilesResponse(_message.Message):
    __slots__ = ("profiles", "next_page_token")
    PROFILES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    profiles: _containers.RepeatedCompositeFieldContainer[_profile_pb2.ProfileRecord]
    next_page_token: str
    def __init__(self, profiles: _Optional[_Iterable[_Union[_profile_pb2.ProfileRecord, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
