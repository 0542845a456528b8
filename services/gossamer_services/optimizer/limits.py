"""Limits of the process that calls them: memory, file size, and dying with its parent."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading

MAPPED_BYTES = 16 << 30
"""Address space besides private memory: libraries, mapped files, and what allocators reserve and never touch."""

EXIT_ORPHANED = 75
"""The process that started this one is gone."""


def apply(memory_bytes: int, file_bytes: int) -> None:
    """Lower this process's limits; allocations above them fail with MemoryError, longer files with an OSError.

    Args:
        memory_bytes: private writable memory (RLIMIT_DATA); address space may be larger by :data:`MAPPED_BYTES`.
        file_bytes: size of one file.
    """
    wanted = {
        resource.RLIMIT_DATA: memory_bytes,
        resource.RLIMIT_AS: memory_bytes + MAPPED_BYTES,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (least, least))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write that is too long then fails with EFBIG


def die_with_parent(parent: int, *, lifeline: int = 0) -> None:
    """End this process, at once, when its parent ends.

    Args:
        parent: its process id.
        lifeline: a pipe whose other end only the parent holds; at its end this process exits.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it ended before the kernel was told
        os._exit(EXIT_ORPHANED)

    def watch() -> None:
        while os.read(lifeline, 1):
            pass
        os._exit(EXIT_ORPHANED)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that an allocation failed, in the words of any library underneath."""
    if isinstance(error, MemoryError):
        return True
    words = ("bad_alloc", "bad allocation", "cannot allocate memory", "can't allocate memory", "failed to allocate")
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, MemoryError) or any(word in str(cause).lower() for word in words):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
