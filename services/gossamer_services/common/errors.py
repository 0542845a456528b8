"""Errors as gRPC statuses: a code, ``google.rpc.ErrorInfo`` always, ``BadRequest`` where fields are at fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from gossamer._errors import (
    BackendError,
    BundleError,
    CalibrationError,
    CompileError,
    GossamerError,
    InputError,
    LibraryError,
    ModelError,
    OutOfMemoryError,
    OutputError,
    RecipeError,
    SignatureError,
    UnsupportedError,
)

DOMAIN = "gossamer.dev"
"""``ErrorInfo.domain`` of every error of these services."""

Code = grpc.StatusCode

# The first class of an error's ancestry that is listed here decides.
_BY_CLASS: dict[type[GossamerError], tuple[grpc.StatusCode, str]] = {
    ModelError: (Code.INVALID_ARGUMENT, "BAD_MODEL"),
    UnsupportedError: (Code.INVALID_ARGUMENT, "UNSUPPORTED"),
    RecipeError: (Code.INVALID_ARGUMENT, "BAD_RECIPE"),
    CalibrationError: (Code.INVALID_ARGUMENT, "BAD_CALIBRATION"),
    InputError: (Code.INVALID_ARGUMENT, "BAD_INPUT"),
    CompileError: (Code.INVALID_ARGUMENT, "CANNOT_COMPILE"),
    BundleError: (Code.INVALID_ARGUMENT, "BAD_BUNDLE"),
    SignatureError: (Code.PERMISSION_DENIED, "SIGNATURE_REFUSED"),
    OutOfMemoryError: (Code.RESOURCE_EXHAUSTED, "OUT_OF_MEMORY"),
    OutputError: (Code.INTERNAL, "CANNOT_WRITE"),
    BackendError: (Code.INTERNAL, "BACKEND_FAILED"),
    LibraryError: (Code.INTERNAL, "NO_NATIVE_CORE"),
}


class ServiceError(GossamerError):
    """An error of a service, with the status it becomes.

    Args:
        code: the canonical code.
        reason: ``ErrorInfo.reason``, in capitals; programs decide by it.
        message, where, hint: as for every error of Gossamer.
        metadata: ``ErrorInfo.metadata`` besides ``where`` and ``hint``.
        fields: (path of a field in the request, what is wrong with it), for ``BadRequest``.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        message: str,
        *,
        where: str | None = None,
        hint: str | None = None,
        metadata: Mapping[str, str] | None = None,
        fields: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message, where=where, hint=hint)
        self.code, self.reason, self.metadata, self.fields = code, reason, dict(metadata or {}), tuple(fields)


class SettingsError(GossamerError):
    """A setting is unknown or wrong, or does not fit the others."""

    exit_code = 2


def bad_field(field: str, description: str, *, hint: str | None = None) -> ServiceError:
    """INVALID_ARGUMENT (BAD_FIELD) about one field of the request."""
    return ServiceError(
        Code.INVALID_ARGUMENT,
        "BAD_FIELD",
        f"{field}: {description}",
        where=field,
        hint=hint,
        fields=[(field, description)],
    )


def reused_request_id() -> ServiceError:
    """FAILED_PRECONDITION (REQUEST_ID_REUSED): the request id came before with other contents."""
    return ServiceError(
        Code.FAILED_PRECONDITION,
        "REQUEST_ID_REUSED",
        "this request id came before with other contents",
        where="request_id",
        hint="make a new id for every new request",
    )


def register(error: type[GossamerError], code: grpc.StatusCode, reason: str) -> None:
    """Say which status a class of errors becomes."""
    _BY_CLASS[error] = code, reason


def to_status(error: BaseException, request_id: str = "") -> status_pb2.Status:
    """The status of an error; one that nobody foresaw is INTERNAL and tells a client nothing but the request id."""
    if not isinstance(error, GossamerError):
        if isinstance(error, MemoryError):
            code, reason, message = Code.RESOURCE_EXHAUSTED, "OUT_OF_MEMORY", "the server is out of memory"
        else:
            code, reason = Code.INTERNAL, "INTERNAL"
            message = f"a fault of the server; its log says more under request id {request_id}"
        return _status(code, reason, message, {"request_id": request_id}, ())
    metadata = {"request_id": request_id}
    if error.where:
        metadata["where"] = error.where
    if error.hint:
        metadata["hint"] = error.hint
    if isinstance(error, ServiceError):
        return _status(error.code, error.reason, error.message, {**metadata, **error.metadata}, error.fields)
    code, reason = Code.INTERNAL, "INTERNAL"
    for ancestor in type(error).__mro__:
        if ancestor in _BY_CLASS:
            code, reason = _BY_CLASS[ancestor]
            break
    fields = [(error.where or "", error.message)] if code is Code.INVALID_ARGUMENT else []
    return _status(code, reason, error.message, metadata, fields)


def _status(
    code: grpc.StatusCode, reason: str, message: str, metadata: Mapping[str, str], fields: Sequence[tuple[str, str]]
) -> status_pb2.Status:
    status = status_pb2.Status(code=code.value[0], message=message)
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata={k: v for k, v in metadata.items() if v})
    details = [info]
    if fields:
        violations = [error_details_pb2.BadRequest.FieldViolation(field=f, description=d) for f, d in fields]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status
