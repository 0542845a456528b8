"""Settings of the optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from gossamer_services.common.settings import Seconds, Section
from gossamer_services.optimizer.jobs import Limits


class OptimizerSettings(Section):
    """How jobs run, and the most that one may use."""

    executor: Annotated[str, Field(pattern=r"^(subprocess|ray|ray://[^/ ]+|ray:[^/ ]+:[0-9]+)$")] = "subprocess"
    """What runs jobs. subprocess: this machine. ray: a cluster started here; ray://host:port: one's Ray client server;
    ray:host:port: one that this machine is a node of. Ray needs gossamer-services[ray], here and on the nodes."""
    slots: Annotated[int, Field(ge=1, le=1024)] = 1
    """Jobs that run at a time; each is a process."""
    memory_bytes: Annotated[int, Field(ge=64 << 20)] = 8 << 30
    """Memory that a job may allocate, in bytes; also what it gets when it does not say."""
    run_time_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 6 * 3600.0
    """Seconds that a job may run, over all attempts; also what it gets when it does not say."""
    file_bytes: Annotated[int, Field(ge=1 << 20)] = 4 << 30
    """Largest file that a job may write, in bytes."""
    cpus: Annotated[int, Field(ge=1, le=1024)] = 1
    """Threads that a job may use; also what it gets when it does not say."""
    attempts: Annotated[int, Field(ge=1, le=100)] = 3
    """How often a job is started when its process is killed or crashes."""
    interruptions: Annotated[int, Field(ge=0)] = 20
    """How often the service itself may go away under a job before the job fails."""
    queue_limit: Annotated[int, Field(ge=1)] = 10_000
    """Jobs that may wait; more are refused with RESOURCE_EXHAUSTED (QUEUE_FULL)."""
    lease_s: Annotated[float, Field(ge=5)] = 30.0
    """Another server on the same database takes over a job whose server was not heard of for so many seconds."""
    keep_ended_s: Seconds = 90 * 86400.0
    """Seconds after which a job that ended is deleted, and with it what it made, unless a version or another job refers
    to that; 0: never."""
    key: Path | None = None
    """Private key that signs the bundles; none: they are unsigned."""

    def limits(self) -> Limits:
        """The most that a job may use."""
        return Limits(self.memory_bytes, self.run_time_s, self.cpus, self.attempts, self.file_bytes)
