"""Every error that Gossamer raises on purpose, and the exit code that the command line gives it.

::

    GossamerError             1   anything below; 1 itself: an error without a better class
    ├── ModelError            3   the model file is missing, broken, of the wrong type, or holds NaN
    ├── UnsupportedError      4   well formed, but something in it cannot be handled (operator, dynamic shape, backend)
    ├── RecipeError           5   the recipe has an unknown field, a wrong value or an impossible combination
    ├── CalibrationError      6   calibration data are missing, unreadable or of the wrong shape
    ├── CompileError          7   the graph could not be turned into a plan
    ├── BundleError           8   the bundle is truncated, damaged, of a newer format, or not a bundle
    │   └── SignatureError    9   unsigned, signed by a key that is not trusted, or changed since it was signed
    ├── InputError           10   an input of a run is not an image, not an array, or of the wrong shape
    ├── OutputError          11   a result could not be written; nothing half-written is left
    ├── KeyFileError         12   a key file is missing, malformed, unsafe, or would be overwritten
    ├── BackendError         13   an external backend (onnxruntime, litert, tvm) is missing or failed
    ├── MismatchError        14   verification found outputs further apart than allowed
    ├── LibraryError         15   the native core is missing or does not fit this package
    ├── OutOfMemoryError     16   an allocation failed
    ├── UnreachableError     17   a device or service does not answer, or the connection broke
    ├── IncompatibleError    18   whole and signed, but the device cannot run the bundle
    ├── RolledBackError      20   a new bundle failed its trial run; the device runs the one before it
    ├── OlderBundleError     21   the bundle's rollback counter is below the device's
    ├── SlotError            22   a device's slot folder is in use, damaged, full, or holds nothing to run
    └── AccessError          23   the token or certificate is missing, wrong, or not good for this call

A service's refusal (``gossamer.client.RemoteError``) takes the number of what its reason stands for: 9 a signature, 8 a
bundle, 18, 20, 21 and 22 what a device said, 23 who calls, 17 no answer in time, 4 a service that is not served there,
and 10 other requests that cannot be met.

Those that the runtime raises too are defined there (``gossamer_runtime._errors``), so that one ``except`` catches both.

Other exit codes of the ``gossamer`` command: 0 success, 2 wrong usage (an unknown option or argument), 19 nothing to do
(the device runs that bundle already), 129 ended by SIGHUP (the terminal went away), 130 Ctrl-C, 143 ended by SIGTERM.
``gossamer diff`` ends with 14 when the bundles differ.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

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

__all__ = [
    "EXIT_HUNG_UP",
    "EXIT_INTERRUPTED",
    "EXIT_NOTHING_TO_DO",
    "EXIT_TERMINATED",
    "AccessError",
    "BackendError",
    "BundleError",
    "CalibrationError",
    "CompileError",
    "GossamerError",
    "IncompatibleError",
    "InputError",
    "KeyFileError",
    "LibraryError",
    "MismatchError",
    "ModelError",
    "OlderBundleError",
    "OutOfMemoryError",
    "OutputError",
    "RecipeError",
    "RolledBackError",
    "SignatureError",
    "SlotError",
    "UnreachableError",
    "UnsupportedError",
    "located",
]


class ModelError(GossamerError):
    """The model is missing, broken, of the wrong type, or holds values that are not numbers."""

    exit_code = 3


class RecipeError(GossamerError):
    """The recipe has an unknown field, a wrong value, or an impossible combination.

    ``field`` names the field where what it says does not fit the model: its line is known to who read the file.
    """

    exit_code = 5

    def __init__(
        self, message: str, *, where: str | None = None, hint: str | None = None, field: str | None = None
    ) -> None:
        super().__init__(message, where=where, hint=hint)
        self.field = field


class CalibrationError(GossamerError):
    """Calibration data are missing, unreadable or of the wrong shape."""

    exit_code = 6


class CompileError(GossamerError):
    """The graph could not be turned into a plan; the message names every operator at fault."""

    exit_code = 7


class OutputError(GossamerError):
    """A result could not be written. Nothing half-written is left behind."""

    exit_code = 11


class KeyFileError(GossamerError):
    """A key file is missing, malformed, readable by others, or would be overwritten."""

    exit_code = 12


class MismatchError(GossamerError):
    """Verification found outputs further apart than allowed."""

    exit_code = 14


@contextlib.contextmanager
def located(where: str) -> Iterator[None]:
    """Errors from inside that name no place get this one: for functions that see bytes and not their file."""
    try:
        yield
    except GossamerError as e:
        if e.where in (None, "<bytes>"):
            e.where = where
        raise


EXIT_NOTHING_TO_DO = 19
"""Exit code of a command that found its work done already."""

EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C."""

EXIT_HUNG_UP = 129
"""Exit code after SIGHUP: the terminal went away."""

EXIT_TERMINATED = 143
"""Exit code after SIGTERM."""
