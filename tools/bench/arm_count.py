"""Counts the instructions that a program executes under qemu-user, block by block.

qemu logs every block it translates (``in_asm``) and every block it enters (``exec``, ``nochain``); an execution of a
block weighs as many instructions as the block has. The log runs through a FIFO and is never kept. ``count`` counts a
whole run; with a marker (a function, or an instruction word of one, that the program enters before and after what is
to be counted) every stretch between two markers by itself.

Instructions say nothing about cycles: they are a proxy for machines that are not at hand.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.emulation import parts

CHUNK = 1 << 22
_SECTION = re.compile(rb"IN: ([^\n]*)\n((?:0x[^\n]*\n)+)")
_SDOT = ((0xBFE0FC00, 0x0E809400), (0xBFC0F400, 0x0F80E000))
"""Mask and value of SDOT (vector) and SDOT (by element), which the disassembler of qemu 7.2 does not know."""


class CountError(Exception):
    """The program failed under the emulator, or its log is not what was expected."""


@dataclass(frozen=True)
class Block:
    """A translated block: address, the function it lies in ('' in a stripped program), mnemonics."""

    address: int
    function: str
    mnemonics: tuple[str, ...]


@dataclass
class Profile:
    """Executions per block of one stretch of a run."""

    executions: Counter[int] = field(default_factory=Counter)
    blocks: Mapping[int, Block] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Instructions executed."""
        return sum(n * len(self.blocks[pc].mnemonics) for pc, n in self.executions.items())

    def functions(self) -> Counter[str]:
        """Instructions by function."""
        found: Counter[str] = Counter()
        for pc, n in self.executions.items():
            found[self.blocks[pc].function] += n * len(self.blocks[pc].mnemonics)
        return found

    def mnemonics(self) -> Counter[str]:
        """Instructions by mnemonic, without the width suffixes that qemu prints after a dot."""
        found: Counter[str] = Counter()
        for pc, n in self.executions.items():
            for name in self.blocks[pc].mnemonics:
                found[name] += n
        return found

    def hottest(self, n: int) -> list[tuple[Block, int]]:
        """The n blocks with the most instructions, and their executions."""
        order = sorted(self.executions.items(), key=lambda e: -e[1] * len(self.blocks[e[0]].mnemonics))
        return [(self.blocks[pc], times) for pc, times in order[:n]]

    def minus(self, other: Profile) -> Profile:
        """What this run executed beyond the other (a run of the same program at the same addresses)."""
        left = Counter(self.executions)
        left.subtract(other.executions)
        blocks = {**other.blocks, **self.blocks}
        return Profile(Counter({pc: n for pc, n in left.items() if n}), blocks)


class LogReader:
    """Parses qemu's log in pieces of any size; ``stretches`` holds the profile before each marker and the rest."""

    def __init__(self, marker: int | str | None = None) -> None:
        self.blocks: dict[int, Block] = {}
        self.stretches: list[Counter[int]] = [Counter()]
        self._lines: Counter[bytes] = Counter()
        self._marker = marker
        self._at: bytes | None = None
        self._tail = b""

    def feed(self, data: bytes) -> None:
        data = self._tail + data
        # An unfinished line or block stays for the next piece: a block's section is whole once an execution follows it.
        cut = data.rfind(b"\nTrace ") + 1
        self._tail = data[cut:]
        self._parse(data[:cut])

    def finish(self) -> list[Profile]:
        """The profiles; the log must be complete."""
        self._parse(self._tail + b"\n")
        self._tail = b""
        self._settle()
        return [Profile(executions, self.blocks) for executions in self.stretches]

    def _marks(self, block: Block, body: bytes) -> bool:
        if isinstance(self._marker, int):
            return b" %08x " % self._marker in body
        return self._marker is not None and block.function == self._marker

    def _parse(self, data: bytes) -> None:
        for name, body in _SECTION.findall(data):
            block = _block(name, body)
            self.blocks[block.address] = block
            if self._at is None and self._marks(block, body):
                self._at = b"/%016x/" % block.address
        if self._at is None:
            self._lines.update(data.split(b"\n"))
            return
        start = 0
        while (found := data.find(self._at, start)) >= 0:
            self._lines.update(data[start : data.rfind(b"\n", 0, found) + 1].split(b"\n"))
            self._settle()
            self.stretches.append(Counter())
            start = data.find(b"\n", found)
            start = len(data) if start < 0 else start
        self._lines.update(data[start:].split(b"\n"))

    def _settle(self) -> None:
        counts = self.stretches[-1]
        for line, n in self._lines.items():
            if line.startswith(b"Trace "):
                counts[int(line.split(b"/", 2)[1], 16)] += n
        self._lines.clear()
        missing = counts.keys() - self.blocks.keys()
        if missing:
            raise CountError(f"qemu's log enters a block at {min(missing):#x} that it never showed")


def _block(name: bytes, body: bytes) -> Block:
    lines = body.splitlines()
    return Block(int(lines[0].split(b":", 1)[0], 16), name.decode().strip(), tuple(_mnemonic(line) for line in lines))


def _mnemonic(line: bytes) -> str:
    # 0x0101b640:  d280001d  movz     x29, #0
    parts = line.split(None, 3)
    word = int(parts[1], 16)
    if any(word & mask == value for mask, value in _SDOT):
        return "sdot"
    return parts[2].decode() if len(parts) > 2 else ".byte"


def count(command: Sequence[str], *, cpu: str, root: Path | None = None, marker: int | str | None = None,
          stretches: int = 0, filters: str = "", env: Mapping[str, str] | None = None) -> list[Profile]:  # fmt: skip
    """Runs an aarch64 program under qemu-user and counts what it executes.

    Args:
        command: the program and its arguments.
        cpu: qemu's name of the processor, such as ``cortex-a76``.
        root: folder with the system of a dynamic program (``-L``).
        marker: what separates stretches (see the module): a function's name (the program has symbols), or an
            instruction word that only the marker has.
        stretches: stop the program once that many are complete; 0: let it end.
        filters: qemu's ``-dfilter``: address ranges to log, all by default.
        env: environment of the program.

    Raises:
        CountError: qemu is missing, or the program failed.
    """
    qemu = emulator()
    with tempfile.TemporaryDirectory() as folder:
        fifo, errors = Path(folder) / "log", Path(folder) / "stderr"
        os.mkfifo(fifo)
        options = ["-cpu", cpu, *(["-L", str(root)] if root else []), *(["-dfilter", filters] if filters else [])]
        line = [qemu, *options, "-d", "in_asm,exec,nochain", "-D", str(fifo), *command]
        reader = LogReader(marker)
        stopped = False
        with errors.open("wb") as stderr:
            process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=stderr, env=env)
            try:
                with fifo.open("rb", buffering=0) as log:
                    while data := log.read(CHUNK):
                        reader.feed(data)
                        if 0 < stretches < len(reader.stretches):
                            stopped = True
                            process.kill()
                            break
            finally:
                code = process.wait()
        if code != 0 and not stopped:
            raise CountError(f"{' '.join(line)}\nended with {code}\n{errors.read_text(errors='replace')}".rstrip())
    return reader.finish()


def emulator() -> str:
    """Path of qemu-user for aarch64; ``CountError`` says what to install."""
    try:
        return parts.emulator()
    except parts.UnavailableError as e:
        raise CountError(str(e)) from e
