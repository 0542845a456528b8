import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProfileRecord(_message.Message):
    __slots__ = ("name", "device", "bundle_sha256", "model_name", "model_version", "start_time", "machine", "latency", "ops", "init_us", "warmup_runs", "warmup_mean_us", "arena_bytes", "session_bytes", "notes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_SHA256_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    OPS_FIELD_NUMBER: _ClassVar[int]
    INIT_US_FIELD_NUMBER: _ClassVar[int]
    WARMUP_RUNS_FIELD_NUMBER: _ClassVar[int]
    WARMUP_MEAN_US_FIELD_NUMBER: _ClassVar[int]
    ARENA_BYTES_FIELD_NUMBER: _ClassVar[int]
    SESSION_BYTES_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    device: str
    bundle_sha256: str
    model_name: str
    model_version: str
    start_time: _timestamp_pb2.Timestamp
    machine: ProfileMachine
    latency: ProfileLatency
    ops: _containers.RepeatedCompositeFieldContainer[ProfileOp]
    init_us: float
    warmup_runs: int
    warmup_mean_us: float
    arena_bytes: int
    session_bytes: int
    notes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., device: _Optional[str] = ..., bundle_sha256: _Optional[str] = ..., model_name: _Optional[str] = ..., model_version: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., machine: _Optional[_Union[ProfileMachine, _Mapping]] = ..., latency: _Optional[_Union[ProfileLatency, _Mapping]] = ..., ops: _Optional[_Iterable[_Union[ProfileOp, _Mapping]]] = ..., init_us: _Optional[float] = ..., warmup_runs: _Optional[int] = ..., warmup_mean_us: _Optional[float] = ..., arena_bytes: _Optional[int] = ..., session_bytes: _Optional[int] = ..., notes: _Optional[_Iterable[str]] = ...) -> None: ...

class ProfileMachine(_message.Message):
    __slots__ = ("arch", "isa", "cpu", "threads", "runtime_version", "start_mhz", "end_mhz", "start_celsius", "end_celsius")
    ARCH_FIELD_NUMBER: _ClassVar[int]
    ISA_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_VERSION_FIELD_NUMBER: _ClassVar[int]
    START_MHZ_FIELD_NUMBER: _ClassVar[int]
    END_MHZ_FIELD_NUMBER: _ClassVar[int]
    START_CELSIUS_FIELD_NUMBER: _ClassVar[int]
    END_CELSIUS_FIELD_NUMBER: _ClassVar[int]
    arch: str
    isa: str
    cpu: str
    threads: int
    runtime_version: str
    start_mhz: float
    end_mhz: float
    start_celsius: float
    end_celsius: float
    def __init__(self, arch: _Optional[str] = ..., isa: _Optional[str] = ..., cpu: _Optional[str] = ..., threads: _Optional[int] = ..., runtime_version: _Optional[str] = ..., start_mhz: _Optional[float] = ..., end_mhz: _Optional[float] = ..., start_celsius: _Optional[float] = ..., end_celsius: _Optional[float] = ...) -> None: ...

class ProfileLatency(_message.Message):
    __slots__ = ("runs", "first_us", "min_us", "median_us", "mean_us", "p90_us", "max_us", "std_us")
    RUNS_FIELD_NUMBER: _ClassVar[int]
    FIRST_US_FIELD_NUMBER: _ClassVar[int]
    MIN_US_FIELD_NUMBER: _ClassVar[int]
    MEDIAN_US_FIELD_NUMBER: _ClassVar[int]
    MEAN_US_FIELD_NUMBER: _ClassVar[int]
    P90_US_FIELD_NUMBER: _ClassVar[int]
    MAX_US_FIELD_NUMBER: _ClassVar[int]
    STD_US_FIELD_NUMBER: _ClassVar[int]
    runs: int
    first_us: float
    min_us: float
    median_us: float
    mean_us: float
    p90_us: float
    max_us: float
    std_us: float
    def __init__(self, runs: _Optional[int] = ..., first_us: _Optional[float] = ..., min_us: _Optional[float] = ..., median_us: _Optional[float] = ..., mean_us: _Optional[float] = ..., p90_us: _Optional[float] = ..., max_us: _Optional[float] = ..., std_us: _Optional[float] = ...) -> None: ...

class ProfileOp(_message.Message):
    __slots__ = ("index", "name", "kind", "source", "pattern", "kernel", "dtype", "sparsity_percent", "macs", "macs_executed", "input_bytes", "output_bytes", "weight_bytes", "fused", "median_us", "min_us", "p90_us", "share_percent")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    KERNEL_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SPARSITY_PERCENT_FIELD_NUMBER: _ClassVar[int]
    MACS_FIELD_NUMBER: _ClassVar[int]
    MACS_EXECUTED_FIELD_NUMBER: _ClassVar[int]
    INPUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_BYTES_FIELD_NUMBER: _ClassVar[int]
    FUSED_FIELD_NUMBER: _ClassVar[int]
    MEDIAN_US_FIELD_NUMBER: _ClassVar[int]
    MIN_US_FIELD_NUMBER: _ClassVar[int]
    P90_US_FIELD_NUMBER: _ClassVar[int]
    SHARE_PERCENT_FIELD_NUMBER: _ClassVar[int]
    index: int
    name: str
    kind: str
    source: str
    pattern: str
    kernel: str
    dtype: str
    sparsity_percent: float
    macs: int
    macs_executed: int
    input_bytes: int
    output_bytes: int
    weight_bytes: int
    fused: bool
    median_us: float
    min_us: float
    p90_us: float
    share_percent: float
    def __init__(self, index: _Optional[int] = ..., name: _Optional[str] = ..., kind: _Optional[str] = ..., source: _Optional[str] = ..., pattern: _Optional[str] = ..., kernel: _Optional[str] = ..., dtype: _Optional[str] = ..., sparsity_percent: _Optional[float] = ..., macs: _Optional[int] = ..., macs_executed: _Optional[int] = ..., input_bytes: _Optional[int] = ..., output_bytes: _Optional[int] = ..., weight_bytes: _Optional[int] = ..., fused: _Optional[bool] = ..., median_us: _Optional[float] = ..., min_us: _Optional[float] = ..., p90_us: _Optional[float] = ..., share_percent: _Optional[float] = ...) -> None: ...
