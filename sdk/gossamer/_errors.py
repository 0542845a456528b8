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
    └── MismatchError        14   verification found outputs further apart than allowed

Other exit codes of the ``gossamer`` command: 0 success, 2 wrong usage (an unknown option or argument), 130 Ctrl-C,
141 the reader of the output went away. ``gossamer diff`` ends with 14 when the bundles differ.
"""

from __future__ import annotations

from typing import ClassVar


class GossamerError(Exception):
    """Base of every error raised on purpose.

    Args:
        message: what was wrong, in one sentence.
        where: the file, line, node or field; ``None`` when the message already says it.
        hint: what to do about it.
    """

    exit_code: ClassVar[int] = 1

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


class ModelError(GossamerError):
    """The model is missing, broken, of the wrong type, or holds values that are not numbers."""

    exit_code = 3


class UnsupportedError(GossamerError):
    """The model is well formed, but something in it cannot be handled: an operator, a dynamic shape, a type."""

    exit_code = 4


class RecipeError(GossamerError):
    """The recipe has an unknown field, a wrong value, or an impossible combination."""

    exit_code = 5


class CalibrationError(GossamerError):
    """Calibration data are missing, unreadable or of the wrong shape."""

    exit_code = 6


class CompileError(GossamerError):
    """The graph could not be turned into a plan; the message names every operator at fault."""

    exit_code = 7


class BundleError(GossamerError):
    """The file is not a well-formed bundle."""

    exit_code = 8


class SignatureError(BundleError):
    """The bundle is unsigned, signed by a key that is not trusted, or was changed since it was signed."""

    exit_code = 9


class InputError(GossamerError):
    """An input given to a run cannot be used: not an image, not an array, of the wrong shape or type."""

    exit_code = 10


class OutputError(GossamerError):
    """A result could not be written. Nothing half-written is left behind."""

    exit_code = 11


class KeyFileError(GossamerError):
    """A key file is missing, malformed, readable by others, or would be overwritten."""

    exit_code = 12


class BackendError(GossamerError):
    """An external backend is not installed or failed."""

    exit_code = 13


class MismatchError(GossamerError):
    """Verification found outputs further apart than allowed."""

    exit_code = 14


EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C."""
