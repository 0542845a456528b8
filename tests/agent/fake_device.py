"""Runs lines of shell as a device of some machine would: under its names, its static program for real, under qemu.

For ``fake_adb.py`` and, as the only command that an sshd lets run, by itself: ``fake_device.py MACHINE PROGRAM``.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import NamedTuple


class Machine(NamedTuple):
    """Android's name of the ABI, what ``uname -m`` says, and the emulator (empty: runs here)."""

    abi: str
    uname: str
    emulator: str


MACHINES = {
    "aarch64": Machine("arm64-v8a", "aarch64", "qemu-aarch64-static"),
    "armv7": Machine("armeabi-v7a", "armv7l", "qemu-arm-static"),
    "x86_64": Machine("x86_64", "x86_64", ""),
    "riscv64": Machine("riscv64", "riscv64", "none"),
}


def run(line: str, machine: Machine, program: str) -> int:
    """Exit code of a line of shell; ``program`` is the one of the device's own machine."""
    if line.startswith(shlex.quote(program)):
        line = f"{machine.emulator} {line}"
    names = f"""getprop() {{ case $1 in
ro.product.cpu.abi) echo {machine.abi};; ro.product.model) echo 'Fake 1';; ro.build.version.release) echo 14;; esac; }}
uname() {{ if [ "$1" = -m ]; then echo {machine.uname}; else command uname "$@"; fi; }}
"""
    return subprocess.run(["sh", "-c", names + line], check=False).returncode


def main(arguments: list[str]) -> int:
    exec_, sh, c, line = shlex.split(os.environ["SSH_ORIGINAL_COMMAND"])
    assert (exec_, sh, c) == ("exec", "sh", "-c")
    code = run(line, MACHINES[arguments[0]], arguments[1])
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
