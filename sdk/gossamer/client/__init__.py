"""Client of the Gossamer services: submit a model, watch the job, fetch the bundle; bring it to devices, profile it.

::

    from gossamer.client import Client

    with Client("localhost:50551") as client:
        job = client.submit("model.onnx", "1x4-75-int8", "photos/")
        job.wait(progress=True).save("model.goss")

Needs ``pip install 'gossamer[client]'``. :class:`AsyncClient` has the same methods for asyncio.
"""

from __future__ import annotations

from gossamer.client._aio import AsyncClient, AsyncJob, AsyncResult
from gossamer.client._calls import Retry
from gossamer.client._errors import RemoteError
from gossamer.client._fleet import AsyncFleet
from gossamer.client._fleet_results import (
    DeviceFacts,
    DeviceState,
    DeviceStatus,
    EnrollmentToken,
    FleetDevice,
    ProfileRun,
    Rollout,
    RolloutState,
    RunState,
    Stage,
)
from gossamer.client._fleet_sync import Fleet, Lease
from gossamer.client._lease import AsyncLease
from gossamer.client._profiles import DeviceProfile
from gossamer.client._registry import Channel, Version
from gossamer.client._results import JobState, JobStatus, Outcome
from gossamer.client._sync import Client, Job, Result

__all__ = [
    "AsyncClient",
    "AsyncFleet",
    "AsyncJob",
    "AsyncLease",
    "AsyncResult",
    "Channel",
    "Client",
    "DeviceFacts",
    "DeviceProfile",
    "DeviceState",
    "DeviceStatus",
    "EnrollmentToken",
    "Fleet",
    "FleetDevice",
    "Job",
    "JobState",
    "JobStatus",
    "Lease",
    "Outcome",
    "ProfileRun",
    "RemoteError",
    "Result",
    "Retry",
    "Rollout",
    "RolloutState",
    "RunState",
    "Stage",
    "Version",
]
