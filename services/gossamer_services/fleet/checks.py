"""What the fleet's calls ask of what they are sent; all raise INVALID_ARGUMENT with the field at fault."""

from __future__ import annotations

from typing import Any

from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer_services.common.errors import bad_field
from gossamer_services.common.times import LONGEST_S, seconds_of
from gossamer_services.registry.names import check_digest

MAX_SAID_BYTES = 64 << 10
"""Of facts, and of a status: both are kept for every device, and listed by the thousand."""


def check_size(said: Any, field: str) -> None:
    """Facts or a status are of at most :data:`MAX_SAID_BYTES`."""
    if said.ByteSize() > MAX_SAID_BYTES:
        raise bad_field(field, f"has {said.ByteSize()} bytes; at most {MAX_SAID_BYTES} are kept")


def check_status(status: pb.DeviceStatus) -> None:
    """A status is not too large, and its digests are some."""
    check_size(status, "status")
    for field in ("bundle_sha256", "previous_sha256", "failed_sha256"):
        if getattr(status, field):
            check_digest(getattr(status, field), f"status.{field}")


def stages(rollout: pb.Rollout) -> list[pb.RolloutStage]:
    """The stages that are wished for, which rise to 100 percent; one by default."""
    found = list(rollout.stages) or [pb.RolloutStage(percent=100)]
    below = 0.0
    for i, stage in enumerate(found):
        if not below < stage.percent <= 100:
            raise bad_field(f"rollout.stages[{i}].percent", "must rise from stage to stage, to at most 100")
        if not 0 <= seconds_of(stage.soak) <= LONGEST_S:
            raise bad_field(f"rollout.stages[{i}].soak", "must not be negative, nor over 10,000 years")
        below = stage.percent
    if below != 100:
        raise bad_field("rollout.stages", "the last stage must be 100 percent")
    return found


def limit(rollout: pb.Rollout) -> float:
    """The share of failures, in percent, past which the rollout halts."""
    percent = float(rollout.failure_limit_percent)
    if not 0 <= percent <= 100:
        raise bad_field("rollout.failure_limit_percent", "must be 0 to 100")
    return percent
