"""A profile as the fleet keeps it: ProfileRecord of profile.proto, from the JSON of ``gossamer_runtime.Profile``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gossamer_runtime import __version__
from gossamer_runtime.agent._proto import fleet_pb2, profile_pb2
from gossamer_runtime.agent._trial import Facts


def record(
    profile: Mapping[str, Any], bundle_sha256: str, bundle: Facts, machine: fleet_pb2.DeviceFacts, start_s: float
) -> profile_pb2.ProfileRecord:
    """The record of one profile.

    Args:
        profile: what ``Profile.to_json`` gives.
        bundle_sha256, bundle: what ran.
        machine: where it ran.
        start_s: when the runs began, in seconds since 1970.
    """
    conditions = profile["machine"]
    made = profile_pb2.ProfileRecord(
        bundle_sha256=bundle_sha256,
        model_name=bundle.name,
        model_version=bundle.version,
        machine=profile_pb2.ProfileMachine(
            arch=machine.arch,
            isa=profile["isa"],
            cpu=machine.cpu,
            threads=profile["threads"],
            runtime_version=__version__,
            start_mhz=conditions["start_mhz"] or 0.0,
            end_mhz=conditions["end_mhz"] or 0.0,
            start_celsius=conditions["start_celsius"],
            end_celsius=conditions["end_celsius"],
        ),
        latency=profile_pb2.ProfileLatency(**profile["latency"]),
        ops=[profile_pb2.ProfileOp(**op) for op in profile["ops"]],
        init_us=profile["init_us"],
        warmup_runs=profile["warmup_runs"],
        warmup_mean_us=profile["warmup_mean_us"],
        arena_bytes=profile["arena_bytes"],
        session_bytes=profile["session_bytes"],
        notes=profile["notes"],
    )
    made.start_time.FromMilliseconds(round(start_s * 1000))
    return made
