"""Keeps the agent's memory small: without OpenSSL, which Python would load for asyncio and SHA-256, and in one heap.

grpc brings its own TLS, and loads asyncio, which loads ``ssl`` where there is one; ``hashlib`` has its own SHA-256 (100
MB/s instead of 700) where OpenSSL is missing. Together that is 5 MB of the 45 that the agent may take (measured on
x86-64 with Python 3.11). A heap for each thread, as glibc makes them, would keep 1 to 4 MB more after some flashes.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from importlib.util import find_spec

_M_ARENA_MAX = -8  # malloc.h of glibc


def lean() -> None:
    """Call before anything else is imported, in a process that is the agent's alone."""
    blocked = ["ssl"]
    if find_spec("_sha256") or find_spec("_sha2"):  # some systems build Python without its own digests
        blocked.append("_hashlib")
    for name in blocked:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # an import of it fails
    heaps(1)


def heaps(most: int) -> None:
    """Let threads share so many heaps of glibc: each keeps what its largest moment took."""
    with contextlib.suppress(OSError, AttributeError):  # another libc has no such call
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, most)
