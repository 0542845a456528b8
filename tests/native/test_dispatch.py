"""The kernel that runs is the best one at or below the session's instruction set, and never scalar without a word."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from gossamer_runtime import _native
from tests.native.goss import OK, aligned, core
from tests.native.plans import sample

SCALAR, AVX2, AVXVNNI, AVX512VNNI, NEON, NEONDOT = 0, 10, 11, 12, 20, 21
F32, S8 = 1, 2
FORMS = {"dense": 0, "1x4": 1, "4x4": 2, "4x1": 3}


def _cpu_flags() -> set[str]:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    line = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), ":")
    return set(line.split(":", 1)[1].split())


def _expected_isa() -> int:
    flags = _cpu_flags()
    if {"avx2", "fma"} <= flags:
        vnni = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"} <= flags
        return AVX512VNNI if vnni else AVXVNNI if "avx_vnni" in flags else AVX2
    if "asimd" in flags:
        return NEONDOT if "asimddp" in flags else NEON
    pytest.skip("no /proc/cpuinfo of a known machine: the expected instruction set is unknown")


def _suffix(name: bytes) -> str:
    return name.decode().rsplit("__", 1)[1]


def test_detected_isa_is_what_the_system_reports() -> None:
    assert core().gs_detect_isa() == _expected_isa()


def test_names_parse_back() -> None:
    lib = core()
    for isa in (SCALAR, AVX2, AVXVNNI, AVX512VNNI, NEON, NEONDOT, 30, 31, 255):
        assert lib.gs_isa_parse(lib.gs_isa_name(isa)) == isa
    assert lib.gs_isa_parse(b"sse9") == -1
    assert lib.gs_isa_parse(None) == -1


def test_kernel_names_are_unique_and_follow_the_grammar() -> None:
    lib = core()
    names = [lib.gs_test_kernel_name(i).decode() for i in range(lib.gs_test_kernel_count())]
    assert len(names) == len(set(names))
    assert lib.gs_test_kernel_name(len(names)) is None
    known = {"scalar", "avx2", "avxvnni", "avx512vnni", "neon", "neondot"}
    assert all(name.startswith("gs_") and _suffix(name.encode()) in known for name in names)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("gemv", [0, 1])
@pytest.mark.parametrize("dtype", [F32, S8])
def test_matrix_kernel_of_the_machine(form: str, gemv: int, dtype: int) -> None:
    lib, isa = core(), core().gs_detect_isa()
    best = lib.gs_test_pick_mm(isa, dtype, FORMS[form], gemv, 8)
    if dtype == F32 and form == "4x1":
        assert best is None  # runs as 4x4: one f32 column is one group
        return
    name = lib.gs_isa_name(isa).decode()
    if best is None:
        assert gemv == 1  # runs through the tile kernel
        return
    # What the machine's newest set lacks may come from the set below, but never from scalar.
    assert _suffix(best) in {name, {"avx512vnni": "avx2", "avxvnni": "avx2", "neondot": "neon"}.get(name, name)}
    if dtype == S8 and name.endswith("vnni"):
        assert _suffix(best) == name


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("gemv", [0, 1])
def test_byte_dot_products_of_x86(form: str, gemv: int) -> None:
    """vpdpbusd on 256 bits takes any x, vpmaddubsw what fits seven bits; neither is for machines that have 512 bits."""
    lib = core()
    if lib.gs_detect_isa() not in (AVX2, AVXVNNI, AVX512VNNI):
        pytest.skip("no x86 machine with AVX2")

    def pick(cap: int, x_bits: int) -> bytes:
        return bytes(lib.gs_test_pick_mm(cap, S8, FORMS[form], gemv, x_bits))

    assert _suffix(pick(AVXVNNI, 8)) == _suffix(pick(AVXVNNI, 7)) == "avxvnni"
    assert pick(AVX2, 7).startswith(b"gs_u7_mm_" + form.encode())
    assert pick(AVX2, 8).startswith(b"gs_s8_mm_" + form.encode())
    assert _suffix(pick(AVX512VNNI, 7)) == "avx512vnni"


def test_no_kernel_above_the_cap() -> None:
    lib, isa = core(), core().gs_detect_isa()
    rank = {
        "scalar": SCALAR,
        "avx2": AVX2,
        "avxvnni": AVXVNNI,
        "avx512vnni": AVX512VNNI,
        "neon": NEON,
        "neondot": NEONDOT,
    }
    for cap in {SCALAR, *((AVX2, AVXVNNI) if isa < NEON else (NEON,)), isa}:
        for dtype in (F32, S8):
            for form in FORMS.values():
                for gemv in (0, 1):
                    name = lib.gs_test_pick_mm(cap, dtype, form, gemv, 8)
                    assert name is None or rank[_suffix(name)] <= cap
            for k, s, d in [(3, 1, 1), (3, 2, 1), (5, 1, 1), (3, 1, 2), (7, 3, 1)]:
                name = lib.gs_test_pick_dw(cap, dtype, k, s, d)
                assert name is not None
                assert rank[_suffix(name)] <= cap


@pytest.mark.parametrize("cap", ["scalar", "best"])
def test_session_reports_the_kernels_it_runs(cap: str) -> None:
    lib, data = core(), sample("network_s8")
    block, error = aligned(data), _native.ErrorStruct()
    model, session = ctypes.c_void_p(), ctypes.c_void_p()
    assert lib.gs_model_open(ctypes.addressof(block), len(data), ctypes.byref(model), ctypes.byref(error)) == OK
    isa = lib.gs_isa_parse(cap.encode())
    options = _native.OptionsStruct(1, isa, _native.EXTERN_FN(), None)
    assert lib.gs_session_open(model, ctypes.byref(options), ctypes.byref(session), ctypes.byref(error)) == OK
    info = _native.OpInfoStruct()
    kernels, patterns = {}, []
    for i in range(lib.gs_model_op_count(model)):
        assert lib.gs_session_op_info(session, i, ctypes.byref(info)) == OK
        if info.kind in (b"Conv", b"Gemm"):
            kernels[info.name.decode()] = _suffix(info.kernel)
            patterns.append(info.pattern.decode())
            assert info.macs >= info.macs_executed > 0
            assert info.weight_count >= info.weight_nonzero > 0
    lib.gs_session_close(session)
    lib.gs_model_close(model)
    assert patterns == ["dense", "1x4", "4x4", "4x1", "unstructured", "n:m", "dense"]
    if cap == "scalar":
        assert set(kernels.values()) == {"scalar"}
    else:
        assert "scalar" not in set(kernels.values()) or lib.gs_detect_isa() == SCALAR
