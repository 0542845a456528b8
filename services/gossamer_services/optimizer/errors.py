"""What the job store refuses, each a class of its own, so that the service can give each its status code."""

from __future__ import annotations

from gossamer._errors import GossamerError


class NotFoundError(GossamerError):
    """There is no such job, or no such blob."""


class ConflictError(GossamerError):
    """A request id was used before, for something else."""


class ChangedError(GossamerError):
    """The job changed since the caller read it."""


class QueueFullError(GossamerError):
    """Too many jobs wait."""


class UnavailableError(GossamerError):
    """The job cannot be looked into now; the same call may succeed later."""
