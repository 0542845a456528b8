"""What the services tell of jobs, as plain values."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from gossamer._errors import GossamerError
from gossamer._proto.v1 import optimizer_pb2 as pb
from gossamer.client._errors import from_status


class JobState(enum.StrEnum):
    """States of a job; the last three are final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def final(self) -> bool:
        """Whether a job in this state never changes again."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True)
class JobStatus:
    """A job at one moment.

    Attributes:
        name: ``jobs/...``. ``display_name``, ``labels``, ``sweep``: as submitted. ``creator``: who submitted it.
        state: see :class:`JobState`. ``stage``: what it does. ``percent``: of the whole job, 0 to 100.
        attempt: 1 for the first. ``last_failure``: why the attempt before ended; empty: there was none.
        created, started, ended: None where that has not happened.
        error: why it failed or was cancelled; None: it was not.
    """

    name: str
    display_name: str
    labels: Mapping[str, str]
    sweep: str
    creator: str
    state: JobState
    stage: str
    percent: float
    attempt: int
    last_failure: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    error: GossamerError | None


@dataclass(frozen=True)
class Outcome:
    """The numbers of a job that succeeded; sizes in bytes, times in seconds by stage.

    Attributes:
        bundle_sha256, report_sha256: blobs of the registry.
        sparsity_percent: zeros among all weights.
        version: that was published; empty: none was asked for.
    """

    bundle_sha256: str
    report_sha256: str
    bundle_bytes: int
    model_bytes: int
    sparsity_percent: float
    stage_seconds: Mapping[str, float]
    version: str


def status_of(job: pb.Job) -> JobStatus:
    """From the message."""
    return JobStatus(
        name=job.name,
        display_name=job.spec.display_name,
        labels=dict(job.spec.labels),
        sweep=job.spec.sweep,
        creator=job.creator,
        state=JobState(pb.JobState.Name(job.state).removeprefix("JOB_STATE_")),
        stage=job.stage,
        percent=job.progress_percent,
        attempt=job.attempt,
        last_failure=job.last_failure,
        created=job.create_time.ToDatetime(UTC),
        started=job.start_time.ToDatetime(UTC) if job.HasField("start_time") else None,
        ended=job.end_time.ToDatetime(UTC) if job.HasField("end_time") else None,
        error=from_status(job.error) if job.HasField("error") else None,
    )


def outcome_of(result: pb.JobResult) -> Outcome:
    """From the message."""
    return Outcome(
        bundle_sha256=result.bundle_sha256,
        report_sha256=result.report_sha256,
        bundle_bytes=result.bundle_bytes,
        model_bytes=result.model_bytes,
        sparsity_percent=result.sparsity_percent,
        stage_seconds={stage.stage: stage.seconds for stage in result.stages},
        version=result.version,
    )
