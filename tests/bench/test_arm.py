"""The ARM proxies: a log of qemu becomes counts, a disassembly loops, and no inner loop of a kernel uses the stack."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tools import build_native
from tools.bench import arm, arm_count, arm_loops, arm_peer, arm_root
from tools.emulation import parts

LOG = b"""----------------
IN: main
0x00001000:  d280001d  movz     x29, #0
0x00001004:  94000003  bl       #0x1010

Trace 0: 0x7f00 [0000000000001001/0000000000001000/00000001/00000200] main
----------------
IN: run
0x00001010:  4e829420  .byte    0x20, 0x94, 0x82, 0x4e
0x00001014:  4f82e020  .byte    0x20, 0xe0, 0x82, 0x4f
0x00001018:  54ffffc1  b.ne     #0x1010

Trace 0: 0x7f40 [0000000000001001/0000000000001010/00000001/00000200] run
Trace 0: 0x7f40 [0000000000001001/0000000000001010/00000001/00000200] run
Trace 0: 0x7f00 [0000000000001001/0000000000001000/00000001/00000200] main
Trace 0: 0x7f40 [0000000000001001/0000000000001010/00000001/00000200] run
"""
LISTING = """
0000000000000000 <gs_s8_mm_test__neondot>:
       0:      \tsub\tsp, sp, #0x40
       4:      \tld1\t{ v0.16b, v1.16b }, [x9], #32
       8:      \tldr\tq4, [sp, #0x10]
       c:      \tsdot\tv8.4s, v0.16b, v30.4b[0]
      10:      \tsdot\tv9.4s, v1.16b, v30.4b[0]
      14:      \tsubs\tw3, w3, #0x1
      18:      \tb.ne\t0x4 <gs_s8_mm_test__neondot+0x4>
      1c:      \tstr\tq8, [x0]
      20:      \tcbnz\tw4, 0x4 <gs_s8_mm_test__neondot+0x4>
      24:      \tadd\tx1, x1, #0x4
      28:      \tcbnz\tw5, 0x24 <gs_s8_mm_test__neondot+0x24>
      2c:      \tret
"""


@pytest.mark.parametrize("piece", [7, 64, 100000])
def test_a_log_in_pieces_gives_executions_times_length(piece: int) -> None:
    reader = arm_count.LogReader()
    for start in range(0, len(LOG), piece):
        reader.feed(LOG[start : start + piece])
    (profile,) = reader.finish()
    assert profile.executions == Counter({0x1000: 2, 0x1010: 3})
    assert profile.total == 2 * 2 + 3 * 3
    assert profile.functions() == Counter({"main": 4, "run": 9})
    assert profile.mnemonics() == Counter({"sdot": 6, "b.ne": 3, "movz": 2, "bl": 2})
    assert profile.hottest(1)[0][0].address == 0x1010


@pytest.mark.parametrize("marker", ["run", 0x4E829420])
@pytest.mark.parametrize("piece", [50, 100000])
def test_a_marker_parts_the_log(marker: str | int, piece: int) -> None:
    reader = arm_count.LogReader(marker)
    for start in range(0, len(LOG), piece):
        reader.feed(LOG[start : start + piece])
    assert [p.total for p in reader.finish()] == [2, 0, 2, 0]


def test_a_block_that_was_never_shown_is_an_error() -> None:
    reader = arm_count.LogReader()
    reader.feed(b"\nTrace 0: 0x7f00 [0000000000001001/0000000000002000/00000001/00000200] \n")
    with pytest.raises(arm_count.CountError, match="0x2000"):
        reader.finish()


def test_one_run_less_another_is_what_it_did_beyond() -> None:
    reader = arm_count.LogReader("run")
    reader.feed(LOG)
    whole, *_ = reader.finish()
    double = arm_count.Profile(Counter({k: 2 * n for k, n in whole.executions.items()}), whole.blocks)
    assert double.minus(whole).total == whole.total


def test_inner_loops_are_those_that_multiply_and_hold_no_other() -> None:
    (function,) = arm_loops.parse(LISTING.splitlines()).items()
    (loop,) = arm_loops.inner_loops(*function)
    assert [i.address for i in loop.body] == [4, 8, 12, 16, 20, 24]
    assert loop.macs == 32
    assert [i.address for i in loop.spills] == [8]
    assert loop.text("here").splitlines()[-2:] == ["b.ne here", "here_out:"]
    assert arm_loops.show_mix(loop.mix) == "6: 2 sdot, 1 ld1, 1 ldr, 1 subs, 1 b.ne"


def test_published_mixes_are_those_of_the_peers_loops() -> None:
    mixes = {name: (mix, macs) for name, mix, _, macs in arm_loops.published()}
    assert mixes["XNNPACK f32 32x1 sparse"] == ("21: 8 fmla, 4 ldp, 3 prfm, 2 add, 1 ld1r", 32.0)
    assert mixes["XNNPACK int8 4x16c4 sdot"] == ("79: 64 sdot, 8 ldp, 4 ldr, 1 add, 1 subs", 1024.0)


def test_cycles_of_the_peers_loops_are_bound_by_their_multiplications() -> None:
    if shutil.which("llvm-mca-19") is None and shutil.which("llvm-mca") is None:
        pytest.skip("llvm-mca is missing: apt-get install llvm-19")
    listings = [(f"loop{n}", text) for n, (_, _, text, _) in enumerate(arm_loops.published())]
    sparse, dense = arm_loops.cycles(listings, "neoverse-n1")
    assert 4 < sparse < 8  # 8 fmla on two pipes; 9 vector loads
    assert 32 <= dense < 34  # 64 sdot on two pipes
    assert arm_loops.cycles(listings, "cortex-a55")[1] > 64  # one sdot a cycle


def test_numbers_to_reach() -> None:
    assert [arm.ratio_of(s, "cortex-a76") for s in (0.5, 0.75, 0.9)] == [None, 2.0, 3.0]
    assert arm.ratio_of(0.9, "cortex-a72") == 3.0


def test_a_missing_system_is_named(tmp_path: Path) -> None:
    missing = arm_root.find(tmp_path)
    assert missing is not None
    assert "--setup" in missing


def test_processor_of_the_emulated_system(tmp_path: Path) -> None:
    parts.debian_folder(tmp_path).mkdir()
    for cpu, part, dot in (("cortex-a76", "0xd0b", True), ("cortex-a72", "0xd08", False)):
        text = (arm_root.set_processor(cpu, tmp_path) / "proc" / "cpuinfo").read_text()
        assert f"CPU part\t: {part}" in text
        assert ("asimddp" in text) == dot


def test_marker_is_what_the_emulated_script_executes() -> None:
    assert arm_peer.MARKER == 0xD2800000 | 0x5A5A << 5 | 9  # movz x9, #0x5a5a


@pytest.mark.slow
def test_no_inner_loop_touches_the_stack() -> None:
    """The shipped build: no load or store relative to sp or x29 in a loop that multiplies."""
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is missing, which cross-compiles the core: pip install ziglang==0.17.1")
    if shutil.which("llvm-objdump-19") is None and shutil.which("llvm-objdump") is None:
        pytest.skip("llvm-objdump is missing: apt-get install llvm-19")
    loops = arm_loops.kernel_loops(Path(build_native.script().build("aarch64-profiler", symbols=True)))
    families = {loop.function.rsplit("__")[0].split("_mm_")[0] for loop in loops}
    assert {"gs_s8", "gs_f32"} <= families
    assert sum("_mm_" in loop.function for loop in loops) > 30
    assert sum("_dw_" in loop.function for loop in loops) > 10
    spilled = [f"{loop.function}: {i.name} {i.operands}" for loop in loops for i in loop.spills]
    assert spilled == []


@pytest.mark.slow
def test_counting_a_program_twice_gives_the_same_number(tmp_path: Path) -> None:
    try:
        arm_count.emulator()
    except arm_count.CountError as error:
        pytest.skip(str(error))
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is missing, which cross-compiles the core: pip install ziglang==0.17.1")
    source = tmp_path / "loop.s"
    source.write_text(".globl _start\n_start: mov x0, #1000\n1: subs x0, x0, #1\nb.ne 1b\nmov x8, #93\nsvc #0\n")
    program = tmp_path / "loop"
    flags = ["-target", "aarch64-linux-musl", "-nostdlib", "-static", str(source), "-o", str(program)]
    subprocess.run([sys.executable, "-m", "ziglang", "cc", *flags], check=True, capture_output=True)
    for _ in range(2):
        (profile,) = arm_count.count([str(program)], cpu="cortex-a72")
        assert profile.total == 1 + 2 * 1000 + 2
        assert profile.mnemonics()["subs"] == 1000
