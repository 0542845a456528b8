"""What the Info call says about the machine: read anew each time, 0 or empty where the system does not tell."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
from collections.abc import Iterable, Sequence

from gossamer_runtime import _native, _trust
from gossamer_runtime._errors import GossamerError


def memory_bytes() -> int:
    """Of the whole machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def own_rss_bytes() -> int:
    """Resident memory of this process."""
    try:
        with open("/proc/self/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def give_back_memory() -> None:
    """Return free heap to the system: after a flash glibc would keep some megabytes of buffers for good."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def system() -> str:
    """Operating system and release."""
    return f"{platform.system()} {platform.release()}"


def core() -> tuple[str, str]:
    """Version of the native core and its best instruction set here; empty without a core."""
    try:
        return _native.core_version(), _native.detect_isa()
    except GossamerError:
        return "", ""


def fingerprints(keys: Sequence[str] | None) -> Iterable[str]:
    """Of the trusted keys.

    Raises:
        SignatureError: one of them is damaged.
    """
    return ["sha256:" + hashlib.sha256(key).hexdigest()[:16] for key in _trust.resolve(keys)]
