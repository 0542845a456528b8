"""Every micro-kernel against plain sums over the whole table of shapes, operands between guard pages, on every target.

The comparison itself is a C program (``device_runtime/native/check``), so that it runs under emulation and in WASM too.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from gossamer_runtime._native import detect_isa, library
from tests.native import runners

HERE = Path(__file__).resolve().parent


def _command(target: str) -> list[str]:
    if target == "x86_64":
        return [str(runners.artefact("x86_64-check"))]
    if target == "aarch64":
        return [runners.qemu("aarch64"), "-cpu", "cortex-a76", str(runners.artefact("aarch64-check"))]
    if target == "armv7":
        return [runners.qemu("arm"), str(runners.artefact("armv7-check"))]
    flags = runners.RELAXED if target == "wasm-relaxed" else ()
    return [*runners.node(*flags), str(HERE / "wasi.mjs"), str(runners.artefact(f"{target}-check"))]


def _list(command: Sequence[str]) -> list[tuple[int, str]]:
    """Index and name of the kernels that the machine of the command runs."""
    out = subprocess.run([*command, "list"], capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    return [(int(i), name) for i, name, runs in (line.split() for line in out) if runs == "runs"]


def _check(target: str, wanted: str) -> None:
    command = _command(target)
    chosen = [(i, name) for i, name in _list(command) if wanted in name]
    if not chosen:
        pytest.skip(f"this machine runs no {wanted} kernels")
    failures = []
    for i, name in chosen:
        done = subprocess.run([*command, "run", str(i)], capture_output=True, text=True, check=False, timeout=300)
        if done.returncode != 0 or "0 failures" not in done.stdout:
            failures.append(f"{name}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("isa", ["scalar", "avx2", "avxvnni", "avx512vnni"])
def test_x86(isa: str) -> None:
    _check("x86_64", f"__{isa}")


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["neon", "neondot"])
def test_aarch64(isa: str) -> None:
    _check("aarch64", f"__{isa}")


@pytest.mark.slow
def test_armv7() -> None:
    _check("armv7", "__neon")


@pytest.mark.slow
def test_wasm() -> None:
    _check("wasm", "__wasm")


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["wasmrelaxed", "wasmdot"])
def test_wasm_relaxed(isa: str) -> None:
    _check("wasm-relaxed", f"__{isa}")


@pytest.mark.slow
def test_an_engine_that_gets_the_dot_product_wrong_is_found_out() -> None:
    """The baseline compiler of Node 20 does. Whatever an engine starts with, what the probe lets through is right."""
    node = runners.node("--experimental-wasm-relaxed-simd")
    command = [*node, str(HERE / "wasi.mjs"), str(runners.artefact("wasm-relaxed-check"))]
    version = subprocess.run([node[0], "--version"], capture_output=True, text=True, check=True).stdout
    kernels = [
        (i, name) for i, name in _list(command) if "_s8_mm_" in name and name.endswith(("__wasmrelaxed", "__wasmdot"))
    ]
    if version.startswith("v20."):
        assert not kernels, "SIMD128 alone is right there"
    for i, name in kernels:
        done = subprocess.run([*command, "run", str(i)], capture_output=True, text=True, check=False, timeout=300)
        assert "0 failures" in done.stdout, name


def test_names_follow_the_grammar() -> None:
    """One micro-kernel a file; file, function and table row share the name gs_<dtype>_<op>..__<isa>."""
    lib = library()
    lib.gs_test_kernel_name.restype = ctypes.c_char_p
    names = [lib.gs_test_kernel_name(i).decode() for i in range(lib.gs_test_kernel_count())]
    assert len(set(names)) == len(names)
    files = {p.stem for p in (runners.ROOT / "device_runtime" / "native" / "kernels").glob("*/gs_*.c")}
    for name in names:
        if not name.endswith("__scalar"):
            assert name in files
            assert name.split("_")[1] in ("s8", "u7", "f32", "lut", "loops")


@pytest.mark.parametrize("gemv", [0, 1])
@pytest.mark.parametrize(("dtype", "forms"), [(2, 4), (1, 3)])
def test_this_machine_picks_its_best_kernels(dtype: int, forms: int, gemv: int) -> None:
    best = detect_isa()
    if best == "scalar":
        pytest.skip("this machine has no vector instruction set that the core knows")
    lib = library()
    pick = lib.gs_test_pick_mm
    pick.restype = ctypes.c_char_p
    for form in range(forms):
        name = pick(int(lib.gs_detect_isa()), dtype, form, gemv, 8).decode()
        assert name.endswith((f"__{best}", "__neon")), f"dtype {dtype} form {form} gemv {gemv} runs {name}"


def test_detection_agrees_with_the_kernel() -> None:
    """The flags that Linux reports; a compiler trap once made every x86 kernel fall back to scalar without a word."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists() or "avx2" not in (text := cpuinfo.read_text()):
        pytest.skip("no /proc/cpuinfo of an x86 machine with AVX2")
    flags = set(next(line for line in text.splitlines() if line.startswith("flags")).split())
    needed = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"}
    assert detect_isa() == ("avx512vnni" if needed <= flags else "avxvnni" if "avx_vnni" in flags else "avx2")
