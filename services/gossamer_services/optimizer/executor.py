"""What runs the attempts of jobs: the interface that subprocesses and clusters share."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gossamer_services.optimizer.folder import JobFolder
from gossamer_services.optimizer.jobs import JobError, JobSpec


class Verdict(enum.Enum):
    """What the engine answers when an executor reports that an attempt is alive."""

    GO_ON = enum.auto()
    CANCEL = enum.auto()
    """The job was asked to stop."""
    VOID = enum.auto()
    """The job is no longer this engine's."""
    DRAIN = enum.auto()
    """The engine ends: stop, the job will be resumed."""


class Ended(enum.Enum):
    """How an attempt ended."""

    DONE = enum.auto()
    """The folder holds a result."""
    ERROR = enum.auto()
    """It said why it failed: ``error``."""
    DIED = enum.auto()
    """It ended without a word: ``how``."""
    TIMEOUT = enum.auto()
    STOPPED = enum.auto()
    """The engine's verdict, ``verdict``, ended it."""


@dataclass(frozen=True)
class Outcome:
    """The end of an attempt; see :class:`Ended`."""

    ended: Ended
    error: JobError | None = None
    how: str = ""
    verdict: Verdict = Verdict.GO_ON


@dataclass(frozen=True)
class Attempt:
    """One run of a job. ``time_s``: seconds that are left to it."""

    folder: JobFolder
    spec: JobSpec
    number: int
    time_s: float


Alive = Callable[[str, float], Verdict]
"""Called with (stage, percent), at least every second; what it returns decides whether the attempt goes on."""


class Executor(Protocol):
    """Runs attempts; called from several threads at a time."""

    def run(self, attempt: Attempt, alive: Alive) -> Outcome:
        """Run an attempt to its end. On return nothing of it runs any more."""

    def close(self) -> None:
        """Free what the executor holds."""
