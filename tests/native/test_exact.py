"""int8 results are equal, bit for bit, on every target; f32 results agree within a tolerance."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.compile.plan import DType, OpKind
from gossamer_runtime import Session
from gossamer_runtime._native import detect_isa
from gossamer_runtime._session import op_infos
from tests.native import exact_plans, runners
from tests.native.plans import bundle

TYPES = {"int8": DType.S8, "float32": DType.F32}
# f32: sums of up to 216 products of ordinary size in another order; values are in the tens.
TOLERANCE = 2e-4


@functools.cache
def case(plan: str, dtype: str) -> tuple[bytes, list[np.ndarray[Any, Any]], list[np.ndarray[Any, Any]]]:
    """Bundle, inputs, and what the scalar kernels make of them."""
    data = bundle(exact_plans.PLANS[plan](TYPES[dtype]))
    rng = np.random.default_rng(5)
    inputs = []
    with Session(data, isa="scalar", verify=False) as session:
        for port in session.inputs:
            if dtype == "int8":
                inputs.append(rng.integers(-128, 128, port.shape).astype(np.int8))
            else:
                inputs.append(rng.standard_normal(port.shape).astype(np.float32))
    expected = runners.native("scalar").run(data, inputs, Path())
    return data, inputs, expected


def test_the_plans_use_every_int8_operator() -> None:
    kinds = {op.kind for make in exact_plans.PLANS.values() for op in make(DType.S8).ops}
    floats_alone = {OpKind.UNARY, OpKind.PRELU, OpKind.LAYERNORM, OpKind.EXTERN}
    assert kinds == set(OpKind) - floats_alone


@pytest.mark.parametrize("plan", exact_plans.PLANS)
def test_the_plans_can_show_a_difference(plan: str) -> None:
    """Outputs spread over many values: a plan that saturates everywhere would hide errors."""
    _, _, expected = case(plan, "int8")
    distinct = [np.unique(y).size / min(y.size, 256) for y in expected]
    assert np.median(distinct) > 0.3
    assert sum(d < 0.05 for d in distinct) <= 2


@pytest.mark.parametrize("name", [n for n in runners.RUNNERS if n != "scalar"])
@pytest.mark.parametrize("plan", exact_plans.PLANS)
@pytest.mark.parametrize("dtype", TYPES)
def test_targets_agree(plan: str, dtype: str, name: str, tmp_path: Path) -> None:
    runner = runners.runner(name)
    data, inputs, expected = case(plan, dtype)
    got = runner.run(data, inputs, tmp_path)
    assert len(got) == len(expected)
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        if dtype == "int8":  # dequantised outputs too
            assert a.dtype == b.dtype
            different = np.flatnonzero(a.ravel().view(np.uint8) != b.ravel().view(np.uint8))
            assert different.size == 0, (
                f"output {i}: {different.size} of {b.nbytes} bytes differ, first at {different[0]}"
            )
        else:
            np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE, err_msg=f"output {i}")


@pytest.mark.parametrize("plan", ["convolutions", "pairs"])
@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_nothing(threads: int, plan: str) -> None:
    data, inputs, expected = case(plan, "int8")
    with Session(data, threads=threads, verify=False) as session:
        got = session.run(dict(zip([p.name for p in session.inputs], inputs, strict=True)))
        for port, y in zip(session.outputs, expected, strict=True):
            np.testing.assert_array_equal(got[port.name], y)


@pytest.mark.parametrize("plan", exact_plans.PLANS)
@pytest.mark.parametrize("dtype", TYPES)
def test_no_hot_operator_runs_scalar_kernels(plan: str, dtype: str) -> None:
    """Compilers and CPUID traps have made whole families of kernels vanish without a word before."""
    best = detect_isa()
    if best == "scalar":
        pytest.skip("this machine has no vector instruction set that the core knows")
    data, _, _ = case(plan, dtype)
    with Session(data, verify=False) as session:
        infos = op_infos(session)
        kernels = [(o.name, o.kernel) for o in infos if o.kind in ("Conv", "DepthwiseConv", "Gemm")]
        kernels += [(o.name, o.kernel) for o in infos if o.kind == "Binary" and o.dtype == "int8"]
    assert kernels
    ops = exact_plans.PLANS[plan](TYPES[dtype]).ops
    wide = {op.name for op in ops if op.kind is OpKind.DWCONV and op.inputs[1].data.dtype == np.int16}
    for name, kernel in kernels:
        assert "scalar" not in kernel, f"{name} runs {kernel} on a machine with {best}"
        if best == "avx512vnni" and name in wide:  # no operand of vpdpbusd: vpmaddwd in strips, faster than any window
            assert kernel == "gs_s8_dw_3x3s1__avx2"
        elif best == "avx512vnni":
            assert kernel.endswith("__avx512vnni"), f"{name} runs {kernel}"
