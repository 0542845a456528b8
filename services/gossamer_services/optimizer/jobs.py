"""What a job is: its specification, its states, its outcome. Plain values, stored as JSON."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from gossamer._errors import GossamerError, InputError

_DIGEST = re.compile(r"[0-9a-f]{64}")


class State(enum.StrEnum):
    """States of a job; the last three are final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def final(self) -> bool:
        """Whether a job in this state never changes again."""
        return self in (State.SUCCEEDED, State.FAILED, State.CANCELLED)


class Reason(enum.StrEnum):
    """Why a job failed, in words that a program can compare."""

    REFUSED = "REFUSED"
    """The SDK raised one of its own errors: the model, the recipe or the data are at fault. Not retried."""
    MEMORY_LIMIT = "MEMORY_LIMIT"
    """An allocation failed under the job's memory limit. Not retried: it would fail again."""
    TIME_LIMIT = "TIME_LIMIT"
    """It ran longer than the job's time limit, over all attempts. Not retried."""
    WORKER_DIED = "WORKER_DIED"
    """The worker ended by a signal or without a result, in as many attempts as are allowed."""
    INTERRUPTED = "INTERRUPTED"
    """The service itself went away under the job, more often than is allowed."""
    INPUT_LOST = "INPUT_LOST"
    """A blob that the job needs was there when it was accepted and is gone or changed."""
    INTERNAL = "INTERNAL"
    """A defect of Gossamer: an error that is none of its own classes."""


@dataclass(frozen=True)
class Limits:
    """What a job may use. Zero never means zero here: the service puts its own limit in its place before it accepts.

    Attributes:
        memory_bytes: private memory that the worker allocates (RLIMIT_DATA); libraries and files that it maps are not
            counted.
        run_time_s: wall-clock seconds of running, over all attempts.
        cpus: threads of numerical libraries.
        attempts: how often the worker may die, plus one.
        file_bytes: largest file that the worker may write (RLIMIT_FSIZE).
    """

    memory_bytes: int = 8 << 30
    run_time_s: float = 6 * 3600.0
    cpus: int = 1
    attempts: int = 3
    file_bytes: int = 4 << 30


class Kind(enum.StrEnum):
    """How the bytes of a blob are read; the value is the suffix that its file gets."""

    ONNX = ".onnx"
    TFLITE = ".tflite"
    PT2 = ".pt2"
    NPZ = ".npz"
    ZIP = ".zip"


@dataclass(frozen=True)
class Blob:
    """A blob that a job reads. ``digest``: SHA-256, 64 lower-case hex digits."""

    digest: str
    kind: Kind


class Publication(NamedTuple):
    """The version of a bundle that a job's result becomes."""

    bundle: str
    version: str


@dataclass(frozen=True)
class JobSpec:
    """Everything that decides a job's result, and its limits.

    Attributes:
        model: the model file.
        recipe: the checked recipe as canonical JSON (``gossamer.recipe.canonical``).
        calibration: an .npz by input name, or a .zip of pictures; None: none.
        training: an .npz with x and y, or a .zip with one folder a class; None: none.
        name, version: for the manifest.
        labels: the submitter's own, of no meaning here. ``sweep``: jobs of one sweep say the same; empty: of none.
        publish: the version that the result becomes; None: it stays a blob.
        limits: of the worker.
    """

    model: Blob
    recipe: str
    calibration: Blob | None = None
    training: Blob | None = None
    name: str = "model"
    version: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    sweep: str = ""
    publish: Publication | None = None
    limits: Limits = field(default_factory=Limits)

    def blobs(self) -> dict[str, Blob]:
        """What the job reads, by role (``model``, ``calibration``, ``training``)."""
        roles = {"model": self.model, "calibration": self.calibration, "training": self.training}
        return {role: blob for role, blob in roles.items() if blob is not None}

    def to_json(self) -> str:
        """Canonical: equal specifications give equal text."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> JobSpec:
        """The specification that :meth:`to_json` wrote."""
        plain = json.loads(text)
        for role in ("model", "calibration", "training"):
            if plain[role] is not None:
                plain[role] = Blob(plain[role]["digest"], Kind(plain[role]["kind"]))
        plain["limits"] = Limits(**plain["limits"])
        plain["publish"] = None if plain["publish"] is None else Publication(*plain["publish"])
        return cls(**plain)


@dataclass(frozen=True)
class JobError:
    """Why a job failed: the fields of a :class:`GossamerError`, its class's name, and a :class:`Reason`."""

    reason: Reason
    kind: str
    message: str
    where: str = ""
    hint: str = ""

    @classmethod
    def of(cls, error: GossamerError) -> JobError:
        """From an error that the SDK raised on purpose."""
        return cls(Reason.REFUSED, type(error).__name__, error.message, error.where or "", error.hint or "")

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> JobError:
        """From the mapping that ``dataclasses.asdict`` made."""
        return cls(**{**plain, "reason": Reason(plain["reason"])})


@dataclass(frozen=True)
class JobResult:
    """What a job made: digests of artefacts in the blob store, and numbers of the bundle.

    Attributes:
        bundle: digest of the ``.goss`` file. ``report``: of the JSON record (layers, stages, notes).
        bundle_bytes, original_bytes, arena_bytes: sizes; ``sparsity_percent``: zeros among all weights.
        seconds: time of the stages of the attempt that finished, in seconds.
        resumed_epochs: training epochs that earlier attempts had done and a checkpoint kept.
        version: that was published; empty: none was asked for.
    """

    bundle: str
    report: str
    bundle_bytes: int
    original_bytes: int
    arena_bytes: int
    sparsity_percent: float
    seconds: Mapping[str, float]
    resumed_epochs: int = 0
    version: str = ""

    def blobs(self) -> dict[str, str]:
        """Digests of the artefacts, by role (``bundle``, ``report``)."""
        return {"bundle": self.bundle, "report": self.report}


@dataclass(frozen=True)
class Job:
    """A job as stored.

    Attributes:
        id: unique, 32 hex digits. ``submitter``: who submitted it; empty where nobody has to say.
        state: see :class:`State`. ``stage``: of ``gossamer.optimize``. ``percent``: of the whole job, 0 to 100.
        attempt: how often it was started; also the fencing token of the attempt that runs.
        spent_s: seconds of running, over all attempts.
        last_failure: why the attempt before ended; empty: there was none.
        crashes: attempts whose worker died. ``interruptions``: attempts that ended because the service went away.
        cancelling: it was asked to stop, and has or has not yet.
        created_s, started_s, updated_s, ended_s: Unix time; None where that has not happened.
            ``started_s`` is of the first attempt.
        error: of a failed job. ``result``: of one that succeeded.
        revision: grows with every change of any field.
    """

    id: str
    submitter: str
    spec: JobSpec
    state: State
    stage: str
    percent: float
    attempt: int
    crashes: int
    interruptions: int
    spent_s: float
    last_failure: str
    cancelling: bool
    created_s: float
    updated_s: float
    started_s: float | None
    ended_s: float | None
    error: JobError | None
    result: JobResult | None
    revision: int


def check_digest(text: str, role: str) -> str:
    """``text`` if it is a SHA-256 in 64 lower-case hex digits.

    Raises:
        InputError: it is not; ``where`` is ``role``.
    """
    if _DIGEST.fullmatch(text):
        return text
    raise InputError(
        "not a digest: SHA-256 as 64 lower-case hex digits", where=role, hint="upload the file; the answer has it"
    )
