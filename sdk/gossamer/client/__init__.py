"""Client of the Gossamer services: submit a model, watch the job, fetch the bundle.

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
from gossamer.client._results import JobState, JobStatus, Outcome
from gossamer.client._sync import Client, Job, Result

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "AsyncResult",
    "Client",
    "Job",
    "JobState",
    "JobStatus",
    "Outcome",
    "RemoteError",
    "Result",
    "Retry",
]
