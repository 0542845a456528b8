"""What a device says of itself, from files of systems that are not this one."""

from __future__ import annotations

import platform

import pytest

from gossamer_runtime.agent import _facts


def core(number: int, implementer: int, part: int) -> str:
    return f"processor\t: {number}\nBogoMIPS\t: 108.00\nCPU implementer\t: {implementer:#x}\nCPU part\t: {part:#x}\n"


def system(root, *cores: str, capacities: tuple[int, ...] = (), compatible: bytes = b""):
    (root / "proc").mkdir()
    (root / "proc" / "cpuinfo").write_text("\n".join(cores) + "\nHardware\t: BCM2835\nModel\t: Raspberry Pi\n")
    for i, capacity in enumerate(capacities):
        folder = root / f"sys/devices/system/cpu/cpu{i}"
        folder.mkdir(parents=True)
        (folder / "cpu_capacity").write_text(f"{capacity}\n")
    if compatible:
        folder = root / "proc/device-tree/cpus/cpu@0"
        folder.mkdir(parents=True)
        (folder / "compatible").write_bytes(compatible)
    return root


@pytest.mark.parametrize(
    ("cores", "extra", "name"),
    [
        ([core(i, 0x41, 0xD0B) for i in range(4)], {}, "cortex-a76"),  # Raspberry Pi 5
        ([core(i, 0x41, 0xD08) for i in range(4)], {}, "cortex-a72"),  # Raspberry Pi 4
        ([core(0, 0x41, 0xB76)], {}, "arm1176"),  # Raspberry Pi Zero
        (
            [core(0, 0x41, 0xD05), core(1, 0x41, 0xD44), core(2, 0x41, 0xD41)],
            {"capacities": (250, 1024, 900)},
            "cortex-x1",
        ),
        ([core(0, 0x41, 0xFFF)], {"compatible": b"arm,cortex-a999\0arm,armv8\0"}, "cortex-a999"),
        ([core(0, 0x41, 0xFFF)], {"compatible": b"arm,armv8\0"}, ""),
        (["processor\t: 0\nmodel name\t: AMD EPYC, 7B13 64=Core\n"], {}, "amd epyc 7b13 64 core"),
        (["processor\t: 0\nCPU implementer\t: what\n"], {}, ""),
        ([], {}, ""),
    ],
)
def test_cpus(tmp_path, cores, extra, name):
    assert _facts.cpu(system(tmp_path, *cores, **extra)) == name


def test_a_system_that_says_nothing(tmp_path):
    assert _facts.cpu(tmp_path) == ""
    assert _facts.system(tmp_path / "none") == f"{platform.system()} {platform.release()}"
    (tmp_path / "os").write_text('NAME="Debian GNU/Linux"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n')
    assert _facts.system(tmp_path / "os") == "Debian GNU/Linux 13 (trixie)"


@pytest.mark.parametrize(
    ("machine", "pointer", "arch"),
    [
        ("x86_64", 8, "x86-64"),
        ("AMD64", 8, "x86-64"),
        ("aarch64", 8, "aarch64"),
        ("aarch64", 4, "armv7"),  # a system of 32 bits on a Raspberry Pi 4
        ("armv7l", 4, "armv7"),
        ("armv8l", 4, "armv7"),
        ("riscv64", 8, "riscv64"),
    ],
)
def test_architectures(machine, pointer, arch):
    assert _facts.arch(machine, pointer) == arch


def test_this_machine():
    facts = _facts.read()
    assert facts.arch in ("x86-64", "aarch64", "armv7") and facts.isa and facts.cores >= 1
    assert facts.memory_bytes > 1 << 26 and facts.runtime_version == facts.agent_version != ""
