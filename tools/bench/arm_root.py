"""The emulated aarch64 Debian with LiteRT beside it, for a peer that qemu-user runs without installing anything.

``make`` needs root or fakeroot, the network and a minute; ``find`` tells what is missing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tools.emulation import parts
from tools.emulation.cpuinfo import cpuinfo

PACKAGES = ("ai-edge-litert==2.0.2", "numpy==2.2.6")
"""The peer. Later versions of LiteRT crash under qemu 7.2."""


def find(folder: Path = parts.FOLDER) -> str | None:
    """What keeps the peer from running, or None when it can."""
    for part in (parts.debian_folder(folder), parts.wheels_folder(PACKAGES, folder)):
        if not part.is_dir():
            return f"no {os.path.relpath(part)}: python -m tools.bench arm --setup (needs root or fakeroot)"
    return None


def make(folder: Path = parts.FOLDER, say: Callable[[str], None] = print) -> None:
    """Makes the system and installs the peer; ``UnavailableError`` says what is missing."""
    parts.debian(say, folder)
    parts.wheels(PACKAGES, say, folder, dependencies=False)


def site(folder: Path = parts.FOLDER) -> Path:
    """The peer's packages, for ``PYTHONPATH``."""
    return parts.wheels_folder(PACKAGES, folder)


def set_processor(cpu: str, folder: Path = parts.FOLDER) -> Path:
    """Makes the system's /proc/cpuinfo that of ``cpu``, which XNNPACK reads, and returns the system's folder.

    qemu passes the host's through otherwise: the peer would choose its kernels for no machine at all.
    """
    system = parts.debian_folder(folder)
    (system / "proc").mkdir(exist_ok=True)
    (system / "proc" / "cpuinfo").write_text(cpuinfo(cpu))
    return system
