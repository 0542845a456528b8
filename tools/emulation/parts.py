"""The aarch64 Debian and the wheels that emulated programs use: made once, each whole or not there at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "build" / "emulated-aarch64"
SUITE = "bookworm"
"""Debian 12: its Python is 3.11."""
PYTHON = "3.11"
_TAGS = [f"manylinux_2_{n}_aarch64" for n in (17, 26, 27, 28)]
MOUNTS = ("opt", "mnt", "proc", "dev")
"""Empty folders of the system that a device's own folders appear in."""

Say = Callable[[str], None]


class UnavailableError(Exception):
    """Something that emulation needs is missing; the message names it and says where it comes from."""


def emulator() -> str:
    """Path of qemu-user for aarch64.

    Raises:
        UnavailableError: it is not installed.
    """
    return tool("qemu-aarch64-static", "qemu-user-static", "qemu-aarch64")


def tool(name: str, package: str, *others: str) -> str:
    """Path of a program.

    Raises:
        UnavailableError: it is not installed; names the Debian package.
    """
    # debootstrap and chroot are in folders that the path of an ordinary user leaves out.
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    for candidate in (name, *others):
        if found := shutil.which(candidate, path=places):
            return found
    raise UnavailableError(f"{name} is missing: apt-get install {package}")


def debian_folder(folder: Path = FOLDER) -> Path:
    """Where the Debian is, or would be."""
    return folder / f"debian-{SUITE}"


def debian(say: Say = print, folder: Path = FOLDER) -> Path:
    """A minimal aarch64 Debian with Python; none of it was set up by its own scripts, which Python does not need.

    Raises:
        UnavailableError: a program is missing, or the packages cannot be had.
    """

    def fill(made: Path) -> None:
        options = ["--arch=arm64", "--variant=minbase", "--foreign", "--include=python3"]
        command = [tool("debootstrap", "debootstrap"), *options, SUITE, str(made)]
        if os.geteuid() != 0:  # it asks for root, and to unpack it needs none
            command = [tool("fakeroot", "fakeroot"), *command]
        unpack = tool("dpkg-deb", "dpkg")
        say(f"an aarch64 Debian ({SUITE}) by debootstrap, once ...")
        _run(command)
        archives = made / "var" / "cache" / "apt" / "archives"
        for package in sorted(archives.glob("*.deb")):
            _run([unpack, "-x", str(package), str(made)])
            package.unlink()
        for name in MOUNTS:
            (made / name).mkdir(exist_ok=True)

    return _made_once(debian_folder(folder), fill)


def wheels_folder(packages: Sequence[str], folder: Path = FOLDER) -> Path:
    """Where the wheels of these packages are, or would be: named by the list, which ``packages.txt`` in it holds."""
    digest = hashlib.sha256("\n".join([PYTHON, *packages]).encode()).hexdigest()[:12]
    return folder / f"wheels-{digest}"


def wheels(packages: Sequence[str], say: Say = print, folder: Path = FOLDER, *, dependencies: bool = True) -> Path:
    """A folder for ``PYTHONPATH`` with aarch64 builds of packages, such as ``numpy==2.2.6``.

    Raises:
        UnavailableError: pip cannot get them.
    """

    def fill(made: Path) -> None:
        say(f"aarch64 wheels of {', '.join(packages)} by pip, once ...")
        platforms = [part for tag in _TAGS for part in ("--platform", tag)]
        python = ["--python-version", PYTHON, "--implementation", "cp", "--abi", f"cp{PYTHON.replace('.', '')}"]
        python += ["--abi", "abi3", "--abi", "none"]
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q", "--only-binary=:all:"]
        if not dependencies:
            pip.append("--no-deps")
        with tempfile.TemporaryDirectory(dir=folder) as downloads:
            _run([*pip, *platforms, *python, "-d", downloads, *packages])
            for wheel in Path(downloads).glob("*.whl"):
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(made)
        (made / "packages.txt").write_text("\n".join(packages) + "\n")

    return _made_once(wheels_folder(packages, folder), fill)


def _made_once(final: Path, fill: Callable[[Path], None]) -> Path:
    """``final``, made by ``fill`` under another name first: what an interrupted making left is made anew."""
    with _alone(final.parent):
        if final.is_dir():
            return final
        partial = final.with_name(final.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        fill(partial)
        partial.rename(final)
    return final


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
        raise UnavailableError(f"{Path(command[0]).name} ended with {done.returncode}:\n{said}")
