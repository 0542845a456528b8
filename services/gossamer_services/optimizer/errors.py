"""What the job store refuses, each a class of its own, with the status that it becomes."""

from __future__ import annotations

from gossamer._errors import GossamerError
from gossamer_services.common.errors import Code, register


class NotFoundError(GossamerError):
    """There is no such job."""


class ConflictError(GossamerError):
    """A request id was used before, for something else."""


class ChangedError(GossamerError):
    """The job changed since the caller read it."""


class UnfinishedError(GossamerError):
    """The job has not ended."""


class QueueFullError(GossamerError):
    """Too many jobs wait."""


register(NotFoundError, Code.NOT_FOUND, "JOB_NOT_FOUND")
register(ConflictError, Code.FAILED_PRECONDITION, "REQUEST_ID_REUSED")
register(ChangedError, Code.ABORTED, "ETAG_MISMATCH")
register(UnfinishedError, Code.FAILED_PRECONDITION, "JOB_NOT_ENDED")
register(QueueFullError, Code.RESOURCE_EXHAUSTED, "QUEUE_FULL")
