"""What can go wrong in an agent: errors of its own, and the reason and gRPC status that each error travels as."""

from __future__ import annotations

from gossamer_runtime._errors import (
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
    UnsupportedError,
)

DOMAIN = "gossamer.device"


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
    (RolledBackError, "ROLLED_BACK", "ABORTED"),
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
    return next((reason, code) for kind, reason, code in REASONS if isinstance(error, kind))


def class_of(reason: str) -> type[GossamerError]:
    """The error class that a reason stands for; ``GossamerError`` for one of a newer agent."""
    return next((kind for kind, known, _ in REASONS if known == reason), GossamerError)
