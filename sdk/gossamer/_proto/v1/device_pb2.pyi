from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InfoRequest(_message.Message):
    __slots__ = ("with_manifest",)
    WITH_MANIFEST_FIELD_NUMBER: _ClassVar[int]
    with_manifest: bool
    def __init__(self, with_manifest: _Optional[bool] = ...) -> None: ...

class InfoResponse(_message.Message):
    __slots__ = ("runtime_version", "core_version", "host", "machine", "isa", "system", "cpus", "memory_bytes", "disk_free_bytes", "uptime_s", "agent_rss_bytes", "trusted_keys", "rollback_counter", "slots", "problem", "manifest_json")
    RUNTIME_VERSION_FIELD_NUMBER: _ClassVar[int]
    CORE_VERSION_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    ISA_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    CPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    UPTIME_S_FIELD_NUMBER: _ClassVar[int]
    AGENT_RSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    TRUSTED_KEYS_FIELD_NUMBER: _ClassVar[int]
    ROLLBACK_COUNTER_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_JSON_FIELD_NUMBER: _ClassVar[int]
    runtime_version: str
    core_version: str
    host: str
    machine: str
    isa: str
    system: str
    cpus: int
    memory_bytes: int
    disk_free_bytes: int
    uptime_s: float
    agent_rss_bytes: int
    trusted_keys: _containers.RepeatedScalarFieldContainer[str]
    rollback_counter: int
    slots: _containers.RepeatedCompositeFieldContainer[SlotState]
    problem: str
    manifest_json: str
    def __init__(self, runtime_version: _Optional[str] = ..., core_version: _Optional[str] = ..., host: _Optional[str] = ..., machine: _Optional[str] = ..., isa: _Optional[str] = ..., system: _Optional[str] = ..., cpus: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., disk_free_bytes: _Optional[int] = ..., uptime_s: _Optional[float] = ..., agent_rss_bytes: _Optional[int] = ..., trusted_keys: _Optional[_Iterable[str]] = ..., rollback_counter: _Optional[int] = ..., slots: _Optional[_Iterable[_Union[SlotState, _Mapping]]] = ..., problem: _Optional[str] = ..., manifest_json: _Optional[str] = ...) -> None: ...

class SlotState(_message.Message):
    __slots__ = ("slot", "status", "name", "version", "rollback_counter", "sha256", "size_bytes")
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATUS_UNSPECIFIED: _ClassVar[SlotState.Status]
        STATUS_EMPTY: _ClassVar[SlotState.Status]
        STATUS_ACTIVE: _ClassVar[SlotState.Status]
        STATUS_PREVIOUS: _ClassVar[SlotState.Status]
        STATUS_STAGED: _ClassVar[SlotState.Status]
        STATUS_TRIAL: _ClassVar[SlotState.Status]
        STATUS_FAILED: _ClassVar[SlotState.Status]
    STATUS_UNSPECIFIED: SlotState.Status
    STATUS_EMPTY: SlotState.Status
    STATUS_ACTIVE: SlotState.Status
    STATUS_PREVIOUS: SlotState.Status
    STATUS_STAGED: SlotState.Status
    STATUS_TRIAL: SlotState.Status
    STATUS_FAILED: SlotState.Status
    SLOT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ROLLBACK_COUNTER_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    slot: str
    status: SlotState.Status
    name: str
    version: str
    rollback_counter: int
    sha256: str
    size_bytes: int
    def __init__(self, slot: _Optional[str] = ..., status: _Optional[_Union[SlotState.Status, str]] = ..., name: _Optional[str] = ..., version: _Optional[str] = ..., rollback_counter: _Optional[int] = ..., sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class FlashStatusRequest(_message.Message):
    __slots__ = ("sha256",)
    SHA256_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    def __init__(self, sha256: _Optional[str] = ...) -> None: ...

class FlashStatusResponse(_message.Message):
    __slots__ = ("offset", "active")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    offset: int
    active: bool
    def __init__(self, offset: _Optional[int] = ..., active: _Optional[bool] = ...) -> None: ...

class FlashRequest(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: FlashHeader
    chunk: bytes
    def __init__(self, header: _Optional[_Union[FlashHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class FlashHeader(_message.Message):
    __slots__ = ("sha256", "total_bytes", "offset", "stage_only", "trial_inputs")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    STAGE_ONLY_FIELD_NUMBER: _ClassVar[int]
    TRIAL_INPUTS_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    total_bytes: int
    offset: int
    stage_only: bool
    trial_inputs: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, sha256: _Optional[str] = ..., total_bytes: _Optional[int] = ..., offset: _Optional[int] = ..., stage_only: _Optional[bool] = ..., trial_inputs: _Optional[_Iterable[bytes]] = ...) -> None: ...

class FlashResponse(_message.Message):
    __slots__ = ("slot", "unchanged", "seconds", "trial_us")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    TRIAL_US_FIELD_NUMBER: _ClassVar[int]
    slot: SlotState
    unchanged: bool
    seconds: float
    trial_us: float
    def __init__(self, slot: _Optional[_Union[SlotState, _Mapping]] = ..., unchanged: _Optional[bool] = ..., seconds: _Optional[float] = ..., trial_us: _Optional[float] = ...) -> None: ...

class ActivateRequest(_message.Message):
    __slots__ = ("trial_inputs",)
    TRIAL_INPUTS_FIELD_NUMBER: _ClassVar[int]
    trial_inputs: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, trial_inputs: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ActivateResponse(_message.Message):
    __slots__ = ("slot", "trial_us")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    TRIAL_US_FIELD_NUMBER: _ClassVar[int]
    slot: SlotState
    trial_us: float
    def __init__(self, slot: _Optional[_Union[SlotState, _Mapping]] = ..., trial_us: _Optional[float] = ...) -> None: ...

class RollbackRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RollbackResponse(_message.Message):
    __slots__ = ("slot", "trial_us")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    TRIAL_US_FIELD_NUMBER: _ClassVar[int]
    slot: SlotState
    trial_us: float
    def __init__(self, slot: _Optional[_Union[SlotState, _Mapping]] = ..., trial_us: _Optional[float] = ...) -> None: ...

class RunRequest(_message.Message):
    __slots__ = ("inputs",)
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    inputs: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, inputs: _Optional[_Iterable[bytes]] = ...) -> None: ...

class RunResponse(_message.Message):
    __slots__ = ("outputs", "latency_us")
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_US_FIELD_NUMBER: _ClassVar[int]
    outputs: _containers.RepeatedCompositeFieldContainer[NamedTensor]
    latency_us: float
    def __init__(self, outputs: _Optional[_Iterable[_Union[NamedTensor, _Mapping]]] = ..., latency_us: _Optional[float] = ...) -> None: ...

class NamedTensor(_message.Message):
    __slots__ = ("name", "dtype", "shape", "data")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class ProfileRequest(_message.Message):
    __slots__ = ("runs", "warmup", "inputs", "with_trace")
    RUNS_FIELD_NUMBER: _ClassVar[int]
    WARMUP_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    WITH_TRACE_FIELD_NUMBER: _ClassVar[int]
    runs: int
    warmup: int
    inputs: _containers.RepeatedScalarFieldContainer[bytes]
    with_trace: bool
    def __init__(self, runs: _Optional[int] = ..., warmup: _Optional[int] = ..., inputs: _Optional[_Iterable[bytes]] = ..., with_trace: _Optional[bool] = ...) -> None: ...

class ProfileResponse(_message.Message):
    __slots__ = ("profile_json", "text", "chrome_trace_json")
    PROFILE_JSON_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CHROME_TRACE_JSON_FIELD_NUMBER: _ClassVar[int]
    profile_json: str
    text: str
    chrome_trace_json: str
    def __init__(self, profile_json: _Optional[str] = ..., text: _Optional[str] = ..., chrome_trace_json: _Optional[str] = ...) -> None: ...

class LogsRequest(_message.Message):
    __slots__ = ("limit", "follow")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    limit: int
    follow: bool
    def __init__(self, limit: _Optional[int] = ..., follow: _Optional[bool] = ...) -> None: ...

class LogsResponse(_message.Message):
    __slots__ = ("time_s", "level", "message")
    TIME_S_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    time_s: float
    level: str
    message: str
    def __init__(self, time_s: _Optional[float] = ..., level: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...
