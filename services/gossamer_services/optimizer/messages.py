"""Between the contract's messages and the job store's values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from google.longrunning import operations_pb2
from google.rpc import status_pb2

from gossamer import _errors
from gossamer._errors import GossamerError, RecipeError
from gossamer._proto.v1 import optimizer_pb2 as pb
from gossamer.recipe import Recipe, available, canonical, load_recipe, parse_recipe
from gossamer_services.common.errors import Code, ServiceError, bad_field, to_status
from gossamer_services.common.times import seconds_of, timestamp
from gossamer_services.optimizer.jobs import (
    Blob,
    Job,
    JobError,
    JobResult,
    JobSpec,
    Kind,
    Limits,
    Publication,
    Reason,
    State,
)
from gossamer_services.registry.names import check_name

_JOB = re.compile(r"jobs/([0-9a-f]{32})", re.ASCII)
_MODELS = {
    pb.MODEL_FORMAT_ONNX: Kind.ONNX,
    pb.MODEL_FORMAT_TFLITE: Kind.TFLITE,
    pb.MODEL_FORMAT_PT2: Kind.PT2,
}
_DATA = {pb.DATA_FORMAT_NPZ: Kind.NPZ, pb.DATA_FORMAT_ZIP: Kind.ZIP}
_STATES = {state: pb.JobState.Value(f"JOB_STATE_{state}") for state in State}
_FAILURES = {
    Reason.MEMORY_LIMIT: Code.RESOURCE_EXHAUSTED,
    Reason.TIME_LIMIT: Code.DEADLINE_EXCEEDED,
    Reason.WORKER_DIED: Code.ABORTED,
    Reason.INTERRUPTED: Code.UNAVAILABLE,
    Reason.INPUT_LOST: Code.FAILED_PRECONDITION,
    Reason.INTERNAL: Code.INTERNAL,
}


def parse_name(name: str, field: str = "name") -> str:
    """The id in ``jobs/{id}``.

    Raises:
        ServiceError: INVALID_ARGUMENT.
    """
    found = _JOB.fullmatch(name)
    if not found:
        raise bad_field(field, "not jobs/{id} with an id of 32 hexadecimal digits")
    return found[1]


def check_text(value: str, field: str, *, empty: bool = True) -> str:
    """1 to 64 of A-Z a-z 0-9 . _ -, or empty where that is allowed.

    Raises:
        ServiceError: INVALID_ARGUMENT.
    """
    return check_name(value, field) if value or not empty else value


def read_spec(message: pb.JobSpec, most: Limits) -> JobSpec:
    """A job's specification, each field checked; limits that it leaves to the server, or exceed it, are ``most``.

    Raises:
        ServiceError: INVALID_ARGUMENT with the field.
    """
    if message.model_format not in _MODELS:
        raise bad_field("spec.model_format", "not given: say ONNX, TFLITE or PT2")
    if len(message.labels) > 64:
        raise bad_field("spec.labels", f"{len(message.labels)} labels; at most 64 are kept")
    for key, value in message.labels.items():
        if not 1 <= len(key) <= 64 or len(value) > 256:
            raise bad_field("spec.labels", f"{key[:64]!r}: keys have 1 to 64 characters, values at most 256")
    if len(message.model_version) > 128:
        raise bad_field("spec.model_version", "longer than 128 characters")
    publish = None
    if message.HasField("publish"):
        publish = Publication(
            check_text(message.publish.bundle, "spec.publish.bundle", empty=False),
            check_text(message.publish.version, "spec.publish.version", empty=False),
        )
    recipe = read_recipe(message.recipe, message.target)
    training = _data(message, "training")
    if recipe.train is not None and training is None:
        raise bad_field(
            "spec.training", "the recipe trains, which needs data", hint="upload examples and name them here"
        )
    if recipe.train is None and training is not None:
        raise bad_field("spec.training", "there are training data, but the recipe has no train step")
    return JobSpec(
        model=Blob(message.model_sha256, _MODELS[message.model_format]),
        recipe=canonical(recipe),
        calibration=_data(message, "calibration"),
        training=training,
        name=check_text(message.display_name, "spec.display_name") or "model",
        version=message.model_version,
        labels=dict(message.labels),
        sweep=check_text(message.sweep, "spec.sweep"),
        publish=publish,
        limits=_limits(message.limits, most),
    )


def read_recipe(text: str, target: str) -> Recipe:
    """The recipe that a request names or holds; never a file of the server's.

    Raises:
        ServiceError: INVALID_ARGUMENT (BAD_RECIPE); the violation says line and field.
    """
    try:
        recipe = load_recipe(text) if text in available() else parse_recipe(text)
        if target:
            plain = recipe.model_dump(mode="json")
            recipe = load_recipe({**plain, "target": {**plain["target"], "arch": target}})
    except RecipeError as e:
        place = f"{e.where}: " if e.where else ""
        raise ServiceError(
            Code.INVALID_ARGUMENT,
            "BAD_RECIPE",
            e.message,
            where=e.where or "spec.recipe",
            hint=e.hint,
            fields=[("spec.recipe", f"{place}{e.message}")],
        ) from e
    return recipe


def _data(message: pb.JobSpec, role: str) -> Blob | None:
    data: pb.Data = getattr(message, role)
    if not data.sha256:
        return None
    if data.format not in _DATA:
        raise bad_field(f"spec.{role}.format", "not given: say NPZ or ZIP")
    return Blob(data.sha256, _DATA[data.format])


def _limits(message: pb.JobLimits, most: Limits) -> Limits:
    time_s = seconds_of(message.run_time)
    values = {"memory_bytes": message.memory_bytes, "run_time_s": time_s, "cpus": message.cpus}
    values["attempts"] = message.attempts
    for field, value in values.items():
        if value < 0:
            raise bad_field(f"spec.limits.{field.removesuffix('_s')}", "negative")
    capped = {
        field: min(value, getattr(most, field)) if value else getattr(most, field) for field, value in values.items()
    }
    return Limits(file_bytes=most.file_bytes, **capped)


def write_spec(spec: JobSpec) -> pb.JobSpec:
    """The message of a specification; the recipe is written out, limits are what holds."""
    models = {kind: number for number, kind in _MODELS.items()}
    data = {kind: number for number, kind in _DATA.items()}
    message = pb.JobSpec(
        display_name=spec.name,
        model_sha256=spec.model.digest,
        model_format=models[spec.model.kind],
        recipe=spec.recipe,
        target=json.loads(spec.recipe)["target"]["arch"],
        model_version=spec.version,
        labels=spec.labels,
        sweep=spec.sweep,
    )
    for role in ("calibration", "training"):
        blob = spec.blobs().get(role)
        if blob is not None:
            getattr(message, role).CopyFrom(pb.Data(sha256=blob.digest, format=data[blob.kind]))
    message.limits.memory_bytes, message.limits.cpus = spec.limits.memory_bytes, spec.limits.cpus
    message.limits.attempts = spec.limits.attempts
    message.limits.run_time.FromNanoseconds(int(spec.limits.run_time_s * 1e9))
    if spec.publish is not None:
        message.publish.bundle, message.publish.version = spec.publish
    return message


def write_job(job: Job) -> pb.Job:
    """The message of a job."""
    message = pb.Job(
        name=f"jobs/{job.id}",
        spec=write_spec(job.spec),
        state=_STATES[job.state],
        stage=job.stage,
        progress_percent=job.percent,
        attempt=job.attempt,
        create_time=timestamp(job.created_s),
        update_time=timestamp(job.updated_s),
        cancel_requested=job.cancelling,
        creator=job.submitter,
        etag=str(job.revision),
        last_failure=job.last_failure,
    )
    if job.started_s is not None:
        message.start_time.CopyFrom(timestamp(job.started_s))
    if job.ended_s is not None:
        message.end_time.CopyFrom(timestamp(job.ended_s))
    if job.result is not None:
        message.result.CopyFrom(write_result(job.result))
    status = failure(job)
    if status is not None:
        message.error.CopyFrom(status)
    return message


def write_result(result: JobResult) -> pb.JobResult:
    """The message of a result."""
    return pb.JobResult(
        bundle_sha256=result.bundle,
        bundle_bytes=result.bundle_bytes,
        model_bytes=result.original_bytes,
        sparsity_percent=result.sparsity_percent,
        stages=[pb.StageTime(stage=stage, seconds=seconds) for stage, seconds in result.seconds.items()],
        version=result.version,
        report_sha256=result.report,
    )


def write_operation(job: Job) -> operations_pb2.Operation:
    """The job as ``google.longrunning.Operation``."""
    message = write_job(job)
    operation = operations_pb2.Operation(name=message.name, done=job.state.final)
    if job.state is State.SUCCEEDED:
        operation.response.Pack(message.result)
    elif job.state.final:
        operation.error.CopyFrom(message.error)
    message.ClearField("result")
    message.ClearField("error")
    operation.metadata.Pack(pb.JobMetadata(job=message))
    return operation


def failure(job: Job) -> status_pb2.Status | None:
    """Why a job failed or was cancelled; None for any other."""
    if job.state is State.CANCELLED:
        return to_status(ServiceError(Code.CANCELLED, "JOB_CANCELLED", "the job was cancelled"))
    return None if job.error is None else to_status(as_error(job.error))


def as_error(error: JobError) -> GossamerError:
    """The error that a job's worker met, or the service met with it."""
    where, hint = error.where or None, error.hint or None
    kind = getattr(_errors, error.kind, None)
    if error.reason is Reason.REFUSED and isinstance(kind, type) and issubclass(kind, GossamerError):
        refused: GossamerError = kind(error.message, where=where, hint=hint)
        return refused
    code = _FAILURES.get(error.reason, Code.FAILED_PRECONDITION)
    return ServiceError(code, str(error.reason), error.message, where=where, hint=hint, metadata={"kind": error.kind})


def states(numbers: Mapping[int, object] | list[int]) -> list[State]:
    """The states of a filter.

    Raises:
        ServiceError: INVALID_ARGUMENT: one that no job is in.
    """
    known = {number: state for state, number in _STATES.items()}
    for number in numbers:
        if number not in known:
            raise bad_field("states", f"{number} is no state of a job")
    return [known[number] for number in numbers]
