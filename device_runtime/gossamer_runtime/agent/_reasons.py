"""What can go wrong in an agent: errors of its own, and the reason and gRPC status that each error travels as."""

from __future__ import annotations

from gossamer_runtime._errors import (
    AccessError,
    BackendError,
    BundleError,
    GossamerError,
    IncompatibleError,
    InputError,
    LibraryError,
    OlderBundleError,
    OutOfMemoryError,
    RolledBackError,
    SignatureError,
    SlotError,
    UnreachableError,
    UnsupportedError,
)

DOMAIN = "gossamer.device"
ROLLED_BACK = "ROLLED_BACK"


class DigestFormError(InputError):
    """Not a SHA-256 in lower-case hexadecimal."""


class OffsetError(InputError):
    """An upload goes on from where it is not."""


class StreamError(InputError):
    """An upload without a header, or of more or fewer bytes than announced."""


class DigestError(BundleError):
    """The bytes that came are not those that were announced."""


class BusyError(SlotError):
    """Another flash, activation or rollback is going on."""


class TooLargeError(SlotError):
    """The bundle is larger than the device takes."""


class FullError(SlotError):
    """The disk of the slots is full."""


class RunError(GossamerError):
    """A run of the bundle crashed, hung, or gave numbers that are none."""


class ServerError(GossamerError):
    """The fleet's server refused a call. ``reason``: the server's, in capitals.

    Args:
        message, where, hint: as GossamerError.
        reason: as above.
    """

    def __init__(self, message: str, *, reason: str, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, where=where, hint=hint)
        self.reason = reason


class ServerUnreachableError(ServerError, UnreachableError):
    """The fleet's server does not answer, the connection broke, or it asks to come again: worth another try."""


class ServerAccessError(ServerError, AccessError):
    """The fleet's server does not know this device, or is not whom the device trusts."""


# Most specific first: the first row whose class fits is an error's.
REASONS: tuple[tuple[type[GossamerError], str, str], ...] = (
    (DigestFormError, "BAD_DIGEST", "INVALID_ARGUMENT"),
    (OffsetError, "BAD_OFFSET", "OUT_OF_RANGE"),
    (StreamError, "BAD_STREAM", "INVALID_ARGUMENT"),
    (DigestError, "DIGEST_MISMATCH", "DATA_LOSS"),
    (BusyError, "BUSY", "ABORTED"),
    (TooLargeError, "TOO_LARGE", "RESOURCE_EXHAUSTED"),
    (FullError, "DISK_FULL", "RESOURCE_EXHAUSTED"),
    (SignatureError, "SIGNATURE_REFUSED", "PERMISSION_DENIED"),
    (BundleError, "BAD_BUNDLE", "INVALID_ARGUMENT"),
    (OlderBundleError, "OLDER_BUNDLE", "FAILED_PRECONDITION"),
    (IncompatibleError, "INCOMPATIBLE", "FAILED_PRECONDITION"),
    (RolledBackError, ROLLED_BACK, "ABORTED"),
    (InputError, "BAD_INPUT", "INVALID_ARGUMENT"),
    (RunError, "RUN_FAILED", "INTERNAL"),
    (SlotError, "SLOT_FAILED", "FAILED_PRECONDITION"),
    (UnsupportedError, "INCOMPATIBLE", "FAILED_PRECONDITION"),
    (BackendError, "INCOMPATIBLE", "FAILED_PRECONDITION"),
    (OutOfMemoryError, "INCOMPATIBLE", "FAILED_PRECONDITION"),
    (LibraryError, "CORE_MISSING", "INTERNAL"),
    (GossamerError, "FAILED", "INTERNAL"),
)


def reason_of(error: GossamerError) -> tuple[str, str]:
    """Reason and the name of the gRPC status code."""
    if isinstance(error, ServerError):
        return error.reason, "UNAVAILABLE"
    return next((reason, code) for kind, reason, code in REASONS if isinstance(error, kind))


def class_of(reason: str) -> type[GossamerError]:
    """The error class that a reason stands for; ``GossamerError`` for one of a newer agent."""
    return next((kind for kind, known, _ in REASONS if known == reason), GossamerError)
