"""The /proc/cpuinfo of an ARM processor: qemu-user 7 shows programs that of the machine it runs on."""

from __future__ import annotations

PARTS = {"cortex-a76": (0xD0B, "asimddp"), "cortex-a72": (0xD08, "")}
"""qemu's processors: part number, and what its dot product adds to the features."""
_FEATURES = "fp asimd evtstrm aes pmull sha1 sha2 crc32"


def cpuinfo(cpu: str) -> str:
    """Of one core of ``cpu``, by its name in qemu: one of ``PARTS``."""
    part, dot = PARTS[cpu]
    features = f"{_FEATURES} atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop {dot}" if dot else f"{_FEATURES} cpuid"
    return (f"processor\t: 0\nBogoMIPS\t: 48.00\nFeatures\t: {features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
            f"CPU variant\t: 0x3\nCPU part\t: {part:#x}\nCPU revision\t: 0\n\n")  # fmt: skip
