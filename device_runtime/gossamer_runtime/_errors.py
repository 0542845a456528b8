"""Every error that the runtime raises on purpose.

::

    GossamerError             1   base, shared with the ``gossamer`` package
    ├── UnsupportedError      4   well formed, but asks for an operator or backend that this machine lacks
    ├── BundleError           8   truncated, damaged, of a newer format, or not a bundle
    │   └── SignatureError    9   unsigned, signed by a key that is not trusted, or changed since it was signed
    ├── InputError           10   an input of a run has the wrong name, type or shape (also a ValueError)
    ├── BackendError         13   an external backend is not installed or failed
    ├── LibraryError         15   the native core is missing or does not fit this package
    ├── OutOfMemoryError     16   an allocation failed (also a MemoryError)
    ├── UnreachableError     17   a device or service does not answer, or the connection to it broke
    ├── IncompatibleError    18   whole and signed, but this machine cannot run the bundle
    ├── RolledBackError      20   a new bundle failed its trial run; the one before it runs
    ├── OlderBundleError     21   its rollback counter is below the device's
    ├── SlotError            22   the slot folder is in use, damaged, full, or holds nothing to run
    └── AccessError          23   a token or certificate is missing, wrong, revoked, or not good for this call

The number is ``exit_code``, what the ``gossamer`` command ends with.
"""

from __future__ import annotations


class GossamerError(Exception):
    """Base of every error raised on purpose.

    Args:
        message: what was wrong, in one sentence.
        where: the file, line, node or field; ``None`` when the message already says it.
        hint: what to do about it.
    """

    exit_code: int = 1

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.message]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.hint:
            lines.append(f"  do:    {self.hint}")
        return "\n".join(lines)


class UnsupportedError(GossamerError):
    """Well formed, but something in it cannot be handled here: an operator, a dynamic shape, a type, a backend."""

    exit_code = 4


class BundleError(GossamerError):
    """The bytes are not a well-formed bundle, or the bundle is of a newer format."""

    exit_code = 8


class SignatureError(BundleError):
    """The bundle is unsigned, signed by a key that is not trusted, or was changed since it was signed."""

    exit_code = 9


class InputError(GossamerError, ValueError):
    """An input of a run cannot be used: not an image, not an array, of the wrong name, type or shape."""

    exit_code = 10


class BackendError(GossamerError):
    """An external backend (onnxruntime, litert, tvm) is not installed or failed."""

    exit_code = 13


class LibraryError(GossamerError):
    """The native core is missing, cannot be loaded, or does not fit this package."""

    exit_code = 15


class OutOfMemoryError(GossamerError, MemoryError):
    """An allocation failed."""

    exit_code = 16


class UnreachableError(GossamerError):
    """A device or service does not answer, or the connection to it broke."""

    exit_code = 17


class IncompatibleError(GossamerError):
    """A whole, signed bundle that this machine cannot run: a missing backend or operator, or too little memory."""

    exit_code = 18


class RolledBackError(GossamerError):
    """A new bundle failed its trial run, and the device went back to the one before it."""

    exit_code = 20


class OlderBundleError(GossamerError):
    """The bundle's rollback counter is below the highest one that the device has committed."""

    exit_code = 21


class SlotError(GossamerError):
    """The slot folder is used by another agent, damaged, full, not writable, or holds nothing to run."""

    exit_code = 22


class AccessError(GossamerError):
    """The token or certificate is missing, wrong, revoked, or not good for this call."""

    exit_code = 23
