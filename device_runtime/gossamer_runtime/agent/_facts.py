"""What the device tells its fleet of itself: DeviceFacts of fleet.proto, empty or 0 where the system does not say."""

from __future__ import annotations

import contextlib
import os
import platform
import struct
from pathlib import Path

from gossamer_runtime import __version__
from gossamer_runtime.agent import _machine
from gossamer_runtime.agent._proto import fleet_pb2 as pb

_ARCHS = {"x86_64": "x86-64", "amd64": "x86-64", "aarch64": "aarch64", "arm64": "aarch64"}
# "CPU implementer" and "CPU part" of /proc/cpuinfo: MIDR_EL1, as Linux lists it in arch/arm64/include/asm/cputype.h and
# arch/arm/include/asm/cputype.h.
_PARTS = {
    (0x41, 0xB76): "arm1176",
    (0x41, 0xC05): "cortex-a5",
    (0x41, 0xC07): "cortex-a7",
    (0x41, 0xC08): "cortex-a8",
    (0x41, 0xC09): "cortex-a9",
    (0x41, 0xC0D): "cortex-a12",
    (0x41, 0xC0E): "cortex-a17",
    (0x41, 0xC0F): "cortex-a15",
    (0x41, 0xD01): "cortex-a32",
    (0x41, 0xD03): "cortex-a53",
    (0x41, 0xD04): "cortex-a35",
    (0x41, 0xD05): "cortex-a55",
    (0x41, 0xD07): "cortex-a57",
    (0x41, 0xD08): "cortex-a72",
    (0x41, 0xD09): "cortex-a73",
    (0x41, 0xD0A): "cortex-a75",
    (0x41, 0xD0B): "cortex-a76",
    (0x41, 0xD0C): "neoverse-n1",
    (0x41, 0xD0D): "cortex-a77",
    (0x41, 0xD40): "neoverse-v1",
    (0x41, 0xD41): "cortex-a78",
    (0x41, 0xD42): "cortex-a78ae",
    (0x41, 0xD44): "cortex-x1",
    (0x41, 0xD46): "cortex-a510",
    (0x41, 0xD47): "cortex-a710",
    (0x41, 0xD48): "cortex-x2",
    (0x41, 0xD49): "neoverse-n2",
    (0x41, 0xD4B): "cortex-a78c",
    (0x41, 0xD4D): "cortex-a715",
    (0x41, 0xD4E): "cortex-x3",
    (0x41, 0xD4F): "neoverse-v2",
    (0x41, 0xD80): "cortex-a520",
    (0x41, 0xD81): "cortex-a720",
    (0x41, 0xD82): "cortex-x4",
}


def read() -> pb.DeviceFacts:
    """The facts of this machine."""
    return pb.DeviceFacts(
        arch=arch(platform.machine(), struct.calcsize("P")),
        cpu=cpu(),
        isa=_machine.core()[1],
        cores=os.cpu_count() or 0,
        memory_bytes=_machine.memory_bytes(),
        system=system(),
        runtime_version=__version__,
        agent_version=__version__,
    )


def arch(machine: str, pointer_bytes: int) -> str:
    """The contract's name for uname's machine. A system of 32 bits on a core of 64 runs what 32 bits run."""
    name = machine.lower()
    if name.startswith("armv7") or (name in ("armv8l", "aarch64", "arm64") and pointer_bytes == 4):
        return "armv7"
    return _ARCHS.get(name, name)


def cpu(root: Path = Path("/")) -> str:
    """Name of the CPU, in small letters; of the strongest cores where there are several kinds."""
    text = ""
    with contextlib.suppress(OSError):
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    cores = [_fields(block) for block in text.split("\n\n") if block.strip()]
    parts = [(_number(core.get("CPU implementer")), _number(core.get("CPU part")), core) for core in cores]
    strongest = max(
        (p for p in parts if p[:2] in _PARTS), key=lambda p: _capacity(root, p[2].get("processor", "")), default=None
    )
    if strongest is not None:
        return _PARTS[strongest[0], strongest[1]]
    with contextlib.suppress(OSError, IndexError):  # such as "arm,cortex-a76", ended by a zero byte
        compatible = sorted(root.glob("proc/device-tree/cpus/cpu@*/compatible"))[-1].read_bytes()
        name = compatible.split(b"\0")[0].decode("ascii", "replace").rpartition(",")[2].lower()
        if name not in ("", "armv8", "armv7"):
            return name
    model = next((core["model name"] for core in cores if core.get("model name")), "")
    return " ".join(model.lower().replace(",", " ").replace("=", " ").split())  # selectors part at these


def system(path: Path = Path("/etc/os-release")) -> str:
    """Name and version of the operating system."""
    with contextlib.suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition("=")
            if key == "PRETTY_NAME":
                return value.strip().strip("\"'")
    return _machine.system()


def _fields(block: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _number(text: str | None) -> int:
    try:
        return int(text or "", 0)
    except ValueError:
        return -1


def _capacity(root: Path, processor: str) -> int:
    """Linux's measure of a core against the strongest one; 0: it gives none."""
    try:
        return int((root / f"sys/devices/system/cpu/cpu{processor}/cpu_capacity").read_text())
    except (OSError, ValueError):
        return 0
