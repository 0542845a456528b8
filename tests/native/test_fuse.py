"""Depthwise operators that run inside the pointwise one behind them: when they do, when not, and their time."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.compile import memory
from gossamer.compile.plan import DType, Plan
from gossamer_runtime import Session
from gossamer_runtime._session import op_infos
from tests.native.exact_plans import Net
from tests.native.plans import bundle

SHAPE = (1, 24, 18, 16)


def pair(dtype: DType = DType.S8, *, more: str = "") -> Plan:
    """Input, 3x3 depthwise, 1x1. ``more``: who else reads the tensor between them, or ``stride``, ``3x3`` behind it."""
    b = Net(3, dtype)
    x = b.to_cb(b.input(SHAPE, dtype))
    between = b.depthwise_any(x, (3, 3), pad=(1, 1, 1, 1))
    if more == "3x3":
        y = b.conv(between, 20, 3)
    elif more == "stride":
        y = b.conv(between, 20, 1, 2)
    else:
        y = b.conv(between, 20, 1)
    b.show(y)
    if more == "output":
        b.show(between)
    elif more == "reader":
        b.show(b.conv(between, 8, 1))
    return b.plan(*b.results)


def fused(data: bytes, threads: int = 1) -> list[bool]:
    with Session(data, threads=threads, verify=False) as session:
        return [op.fused for op in op_infos(session) if op.kind == "DepthwiseConv"]


def outputs(data: bytes, threads: int = 1, isa: str | None = None) -> list[np.ndarray]:
    with Session(data, threads=threads, isa=isa, verify=False) as session:
        port = session.inputs[0]
        rng = np.random.default_rng(9)
        result = session.run({port.name: rng.integers(-128, 128, port.shape).astype(np.int8)})
        named = result if isinstance(result, dict) else {session.outputs[0].name: result}
        return [np.array(named[p.name]) for p in session.outputs]


@pytest.mark.parametrize("dtype", [DType.S8, DType.F32])
def test_a_pair_that_nobody_else_reads_is_fused(dtype: DType) -> None:
    assert fused(bundle(pair(dtype))) == [True]


@pytest.mark.parametrize("more", ["output", "reader", "3x3", "stride"])
def test_what_somebody_else_reads_or_another_window_takes_is_not(more: str) -> None:
    assert fused(bundle(pair(more=more))) == [False]


def test_not_when_the_output_takes_the_place_of_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan by another compiler may reuse the input's bytes as soon as the depthwise operator has read them."""
    data = bundle(pair())
    assert fused(data) == [True]
    monkeypatch.setattr(memory, "_keep_depthwise_inputs", lambda plan, last_use: None)
    packed = bundle(pair())
    assert fused(packed) == [False]
    for a, b in zip(outputs(packed), outputs(data), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_fused_pair_gives_the_bytes_of_its_parts() -> None:
    """With the tensor between them as an output too, the same operators run one after the other."""
    alone, shown = bundle(pair()), bundle(pair(more="output"))
    np.testing.assert_array_equal(outputs(alone)[0], outputs(shown)[0])


@pytest.mark.parametrize("size", [(2, 8192), (16, 501), (3, 4096)])
def test_wide_planes_open_whatever_their_tiles(size: tuple[int, int]) -> None:
    """Offsets of sorted lists count a tile's stride in 16 bits: one row of 8,192 pixels was too long for them."""
    b = Net(4, DType.S8)
    x = b.to_cb(b.input((1, 8, *size), DType.S8))
    b.show(b.conv(b.depthwise_any(x, (3, 3), pad=(1, 1, 1, 1)), 8, 1, pattern="1x4", density=0.5))
    data = bundle(b.plan(*b.results))
    np.testing.assert_array_equal(outputs(data)[0], outputs(data, isa="scalar")[0])


def test_few_tiles_are_not_fused_for_many_threads() -> None:
    data = bundle(pair())
    assert fused(data, threads=19) == [False]
    for a, b in zip(outputs(data, threads=19), outputs(data), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_time_of_a_fused_operator_is_its_share() -> None:
    with Session(bundle(pair()), verify=False) as session:
        profile = session.profile(runs=20)
    shares = {op.kind: op for op in profile.ops}
    assert shares["DepthwiseConv"].fused and not shares["Conv"].fused
    assert shares["DepthwiseConv"].median_us > 0.0
    assert shares["Conv"].median_us > 0.0
    assert "(fused)" in profile.table()
