"""What a service answered instead of a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from gossamer._errors import AccessError, GossamerError, InputError, UnreachableError, UnsupportedError
from gossamer_runtime.agent._reasons import class_of

_DETAILS = "grpc-status-details-bin"


_EXIT_CODES = {
    "UNAUTHENTICATED": AccessError.exit_code,
    "PERMISSION_DENIED": AccessError.exit_code,
    "UNAVAILABLE": UnreachableError.exit_code,
    "DEADLINE_EXCEEDED": UnreachableError.exit_code,
    "UNIMPLEMENTED": UnsupportedError.exit_code,
    "INVALID_ARGUMENT": InputError.exit_code,
    "NOT_FOUND": InputError.exit_code,
    "ALREADY_EXISTS": InputError.exit_code,
    "OUT_OF_RANGE": InputError.exit_code,
    "FAILED_PRECONDITION": InputError.exit_code,
}


class RemoteError(GossamerError):
    """A service refused a call, a job failed, or a device could not do what it was asked.

    ``exit_code`` is that of the class that the reason stands for on a device (a refused signature is one wherever it is
    found), and otherwise goes by the code.

    Attributes:
        code: name of the canonical code, such as ``NOT_FOUND``.
        reason: ``ErrorInfo.reason``, such as ``BLOB_NOT_FOUND``; programs decide by it. Empty: the server gave none.
        metadata: ``ErrorInfo.metadata``.
        fields: (field of the request, what is wrong with it).
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        fields: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.metadata = dict(metadata or {})
        super().__init__(message, where=self.metadata.get("where"), hint=self.metadata.get("hint"))
        self.code, self.reason, self.fields = code, reason, tuple(fields)
        self.exit_code = class_of(reason).exit_code
        if self.exit_code == GossamerError.exit_code:
            self.exit_code = _EXIT_CODES.get(code, GossamerError.exit_code)


def from_status(status: status_pb2.Status) -> RemoteError:
    """The error of a ``google.rpc.Status``, as operations hold it."""
    names = {code.value[0]: code.name for code in grpc.StatusCode}
    reason, metadata, fields = "", {}, []
    for detail in status.details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad):
            fields = [(violation.field, violation.description) for violation in bad.field_violations]
    return RemoteError(
        status.message, code=names.get(status.code, "UNKNOWN"), reason=reason, metadata=metadata, fields=fields
    )


def distrusted(error: grpc.aio.AioRpcError) -> bool:
    """Whether the server's certificate is of nobody that the client trusts: another try ends like this one."""
    return "CERTIFICATE_VERIFY_FAILED" in (error.details() or "")


def from_call(error: grpc.aio.AioRpcError, address: str) -> GossamerError:
    """The error of a call: :class:`UnreachableError` where no server answered, :class:`AccessError` where it is not
    trusted, else :class:`RemoteError`."""
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS:
            status = status_pb2.Status()
            try:
                status.ParseFromString(value)
            except DecodeError:
                break
            return from_status(status)
    details = error.details() or ""
    if distrusted(error):
        return AccessError(
            f"the server's certificate is not trusted: {details.rpartition('CERTIFICATE_VERIFY_FAILED: ')[2]}",
            where=address,
            hint="give the certificate of the authority that signed it (ca)",
        )
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):  # gone, or going
        return UnreachableError(
            f"the service does not answer: {details}",
            where=address,
            hint="is `gossamer serve` running there, and does it ask for TLS?",
        )
    return RemoteError(details or error.code().name, code=error.code().name)
