"""The inner loops of the ARM micro-kernels, out of a built program: their instructions, spills and estimated cycles.

A loop is what lies between a backward branch and its target with no other such branch inside; an inner loop of interest
multiplies. Cycles are llvm-mca's, a model of the processor's pipelines without its memory: a proxy for hardware that is
not at hand.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

PROCESSORS = ("neoverse-n1", "cortex-a55")
"""llvm-mca's models: an out-of-order core (a Cortex-A76 in all but name) and an in-order one."""
ITERATIONS = 200
_LINE = re.compile(r"^\s*([0-9a-f]+):\s+([a-z][\w.]*)\s*(.*?)\s*$")
_FUNCTION = re.compile(r"^[0-9a-f]+ <([^>]+)>:")
_BRANCH = re.compile(r"^(?:b(?:\.\w+)?|cbn?z|tbn?z)$")
_TARGET = re.compile(r"0x([0-9a-f]+)")
_MEMORY = re.compile(r"^(?:ld|st)\w*$")


class ToolError(Exception):
    """An LLVM tool is missing or failed."""


@dataclass(frozen=True)
class Instruction:
    """One line of a disassembly."""

    address: int
    name: str
    operands: str

    @property
    def target(self) -> int | None:
        """Where a branch goes."""
        found = _TARGET.findall(self.operands.partition("<")[0]) if _BRANCH.match(self.name) else []
        return int(found[-1], 16) if found else None


@dataclass(frozen=True)
class Loop:
    """An inner loop of a function."""

    function: str
    body: tuple[Instruction, ...]

    @property
    def macs(self) -> float:
        """Products of weights of one iteration. A depthwise sdot holds three taps of four, or five of eight."""
        return sum(_products(i, self.function) for i in self.body)

    @property
    def spills(self) -> list[Instruction]:
        """Loads and stores relative to the stack or frame pointer."""
        return [i for i in self.body if _MEMORY.match(i.name) and re.search(r"\[(?:sp|x29)\b", i.operands)]

    @property
    def mix(self) -> Counter[str]:
        """Instructions by name."""
        return Counter(i.name for i in self.body)

    def text(self, label: str) -> str:
        """Assembly, branches into the loop by label."""
        lines = [f"{label}:"]
        start, end = self.body[0].address, self.body[-1].address
        for i in self.body:
            operands = i.operands.partition("<")[0].strip()
            if i.target is not None:  # within the loop but not to its start: llvm-mca follows no branch anyway
                near = label if start <= i.target <= end else f"{label}_out"
                operands = operands.removesuffix(f"{i.target:#x}") + near
            lines.append(f"{i.name} {operands}")
        return "\n".join([*lines, f"{label}_out:"])


def _products(i: Instruction, function: str) -> float:
    if i.name == "sdot":
        return 12 if "_dw_3x3" in function else 10 if "_dw_5x5" in function else 16
    if i.name in ("smull", "smull2", "smlal", "smlal2"):
        return 8 if ".8h" in i.operands else 4
    if i.name in ("fmla", "mla", "fmul"):
        wide = re.search(r"\.(\d+)[bhsd]", i.operands)
        return int(wide[1]) if wide and i.name != "fmul" else 0
    return 1 if i.name == "fmadd" else 0


def parse(lines: Iterable[str]) -> dict[str, list[Instruction]]:
    """The functions of ``llvm-objdump -d --no-show-raw-insn``."""
    functions: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for line in lines:
        if head := _FUNCTION.match(line):
            current = functions.setdefault(head[1], [])
        elif found := _LINE.match(line):
            current.append(Instruction(int(found[1], 16), found[2], found[3]))
    return functions


def inner_loops(function: str, body: Sequence[Instruction]) -> list[Loop]:
    """Its innermost loops that multiply, in the order of their addresses."""
    places = {i.address: n for n, i in enumerate(body)}
    spans = sorted({(places[i.target], n) for n, i in enumerate(body)
                    if i.target is not None and i.target <= i.address and i.target in places})  # fmt: skip
    inner = [(a, b) for a, b in spans if not any((c, d) != (a, b) and a <= c and d <= b for c, d in spans)]
    loops = [Loop(function, tuple(body[a : b + 1])) for a, b in inner]
    return [loop for loop in loops if loop.macs > 0]


def kernel_loops(program: Path) -> list[Loop]:
    """Inner loops of every micro-kernel of a program with symbols."""
    text = _run(["llvm-objdump-19", "llvm-objdump"], ["-d", "--no-show-raw-insn", str(program)])
    found = []
    for name, body in parse(text.splitlines()).items():
        if name.startswith("gs_") and name.endswith(("__neon", "__neondot", "__neoni8mm")):
            found += inner_loops(name, body)
    return found


def cycles(listings: Sequence[tuple[str, str]], processor: str) -> list[float]:
    """llvm-mca's cycles of one iteration of each (label, assembly)."""
    regions = [f"# LLVM-MCA-BEGIN {label}\n{text}\n# LLVM-MCA-END" for label, text in listings]
    options = [
        "-mtriple=aarch64",
        f"-mcpu={processor}",
        "-mattr=+dotprod,+i8mm",
        f"-iterations={ITERATIONS}",
        "-json",
        "-",
    ]
    out = _run(["llvm-mca-19", "llvm-mca"], options, "\n".join(regions))
    found = json.loads(out)["CodeRegions"]
    if len(found) != len(listings):
        raise ToolError(f"llvm-mca reports {len(found)} loops of {len(listings)}")
    return [region["SummaryView"]["TotalCycles"] / ITERATIONS for region in found]


def published() -> list[tuple[str, str, str, float]]:
    """XNNPACK's loops by their published instruction mix: name, mix, assembly, products of one iteration.

    f32 32x1 sparse: 21 instructions a nonzero weight, 8 of them fmla; int8 4x16c4 sdot: 79 with 64 sdot.
    """
    sparse = ["ld1r {v16.4s}, [x2], #4", "ldrsw x5, [x3], #4"]
    sparse += [f"ldp q{n}, q{n + 1}, [x1, #{16 * n}]" for n in (0, 2, 4, 6)]
    sparse += ["prfm pldl1keep, [x2, #128]", "prfm pldl1keep, [x1, #64]", "prfm pldl1keep, [x1, #128]"]
    sparse += [f"fmla v{24 + n}.4s, v{n}.4s, v16.4s" for n in range(8)]
    sparse += ["add x1, x1, x5", "add x6, x6, #1", "subs w4, w4, #1", "b.ne sparse"]
    dense = [f"ldr q{row}, [x{3 + row}], #16" for row in range(4)]
    for k in range(4):
        dense += ["ldp q4, q5, [x1], #32", "ldp q6, q7, [x1], #32"]
        dense += [f"sdot v{16 + 4 * row + n}.4s, v{4 + n}.16b, v{row}.4b[{k}]" for n in range(4) for row in range(4)]
    dense += ["add x8, x8, #16", "subs x2, x2, #16", "b.hs dense"]
    return [
        ("XNNPACK f32 32x1 sparse", _mix(sparse), "\n".join(["sparse:", *sparse]), 32.0),
        ("XNNPACK int8 4x16c4 sdot", _mix(dense), "\n".join(["dense:", *dense]), 1024.0),
    ]


def _mix(lines: Sequence[str]) -> str:
    return show_mix(Counter(line.split()[0] for line in lines))


def show_mix(mix: Counter[str]) -> str:
    """``79: 64 sdot, 8 ldp, ...``: the five most frequent."""
    return f"{mix.total()}: " + ", ".join(f"{n} {name}" for name, n in mix.most_common(5))


def _run(names: Sequence[str], options: Sequence[str], text: str | None = None) -> str:
    tool = next((found for name in names if (found := shutil.which(name))), None)
    if tool is None:
        raise ToolError(f"{names[0]} is missing: apt-get install llvm-19")
    done = subprocess.run([tool, *options], input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ToolError(f"{tool} {' '.join(options)}\n{done.stderr.strip()[-1500:]}")
    return done.stdout
