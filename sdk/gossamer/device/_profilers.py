"""Where this machine has the static ``gossamer-profile`` for a device: in the runtime's wheel, or built beside its
sources."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import gossamer_runtime
from gossamer._errors import InputError, UnsupportedError

MACHINES = ("aarch64", "armv7", "x86_64")
"""What it is built for."""


def load(machine: str) -> bytes:
    """The program for one of ``MACHINES``.

    Raises:
        UnsupportedError: there is none for that machine.
        InputError: it is not built in this source tree, or the package is not whole.
    """
    if machine not in MACHINES:
        raise UnsupportedError(
            f"there is no static profiler for {machine or 'an unknown machine'}",
            hint=f"there is: {', '.join(MACHINES)}",
        )
    package = Path(gossamer_runtime.__file__).parent
    shipped = package / "_lib" / f"gossamer-profile-{machine}.gz"
    if shipped.is_file():
        try:
            return gzip.decompress(shipped.read_bytes())
        except (OSError, EOFError, zlib.error) as e:
            raise InputError(
                f"the static profiler cannot be read: {e}", where=str(shipped), hint="reinstall gossamer-runtime"
            ) from e
    built = package.parents[1] / "build" / "native" / f"{machine}-profiler" / "gossamer-profile"
    if not (package.parent / "build_native.py").is_file():
        raise InputError(
            "the runtime's package lacks its static profilers", where=str(shipped), hint="reinstall gossamer-runtime"
        )
    if not built.is_file():
        raise InputError(
            "the static profiler is not built", where=str(built),
            hint=f"python -m tools.build_native --target {machine}-profiler, or --profiler FILE when it is added",
        )  # fmt: skip
    return built.read_bytes()
