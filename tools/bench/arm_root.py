"""An aarch64 Debian with Python and LiteRT in a folder, for a peer that qemu-user runs without installing anything.

``make`` needs root (debootstrap), the network and a few minutes; ``find`` tells what is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from tools.bench.models import CACHE

FOLDER = CACHE / "arm-root"
PACKAGES = ("ai-edge-litert==2.0.2", "numpy==2.2.6")
"""The peer. Later versions of LiteRT crash under qemu 7.2."""
_TAGS = [f"manylinux_2_{n}_aarch64" for n in (17, 26, 27, 28)]
PARTS = {"cortex-a76": (0xD0B, "asimddp"), "cortex-a72": (0xD08, "")}
"""qemu's processors: part number, and what its dot product adds to the features."""
_FEATURES = "fp asimd evtstrm aes pmull sha1 sha2 crc32"


def find(folder: Path = FOLDER) -> str | None:
    """What keeps the peer from running, or None when it can."""
    if not (folder / "complete").exists():
        return f"no aarch64 system in {os.path.relpath(folder)}: python -m tools.bench arm --setup (needs root)"
    return None


def make(folder: Path = FOLDER, say: Callable[[str], None] = print) -> None:
    """Makes the system and installs the peer; ``RuntimeError`` says what failed."""
    if find(folder) is None:
        return
    for tool in ("debootstrap", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise RuntimeError(f"{tool} is missing: apt-get install {'dpkg' if tool == 'dpkg-deb' else tool}")
    system = folder / "system"
    archives = system / "var" / "cache" / "apt" / "archives"
    if not list(archives.glob("python3.11_*.deb")):
        say(f"debootstrap into {folder} ...")
        shutil.rmtree(system, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        options = ["--arch=arm64", "--variant=minbase", "--foreign", "--include=python3"]
        _run(["debootstrap", *options, "bookworm", str(system)])
    say("unpacking ...")
    for package in sorted(archives.glob("*.deb")):
        _run(["dpkg-deb", "-x", str(package), str(system)])
    say(f"fetching {' '.join(PACKAGES)} ...")
    wheels = folder / "wheels"
    platforms = [part for tag in _TAGS for part in ("--platform", tag)]
    python = ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"]
    _run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", *platforms, *python,
          "-d", str(wheels), *PACKAGES])  # fmt: skip
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "site")
    (folder / "complete").write_text("\n".join(PACKAGES) + "\n")


def set_processor(cpu: str, folder: Path = FOLDER) -> Path:
    """Makes the system's /proc/cpuinfo that of ``cpu``, which XNNPACK reads, and returns the system's folder.

    qemu passes the host's through otherwise: the peer would choose its kernels for no machine at all.
    """
    part, dot = PARTS[cpu]
    system = folder / "system"
    features = f"{_FEATURES} atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop {dot}" if dot else f"{_FEATURES} cpuid"
    core = (f"processor\t: 0\nBogoMIPS\t: 48.00\nFeatures\t: {features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
            f"CPU variant\t: 0x3\nCPU part\t: {part:#x}\nCPU revision\t: 0\n\n")  # fmt: skip
    (system / "proc").mkdir(exist_ok=True)
    (system / "proc" / "cpuinfo").write_text(core)
    return system


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{(done.stdout + done.stderr).strip()[-2000:]}")
