"""Kernels of seven-bit activations run only where every value is known to lie in 0..127, padding included."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gossamer.compile.plan import DType, Layout, OpKind, P, Plan, Tensor
from gossamer_runtime import Session
from gossamer_runtime._native import detect_isa
from gossamer_runtime._session import op_infos
from tests.native.exact_plans import Net
from tests.native.plans import bundle

if detect_isa() not in ("avx2", "avxvnni", "avx512vnni"):
    pytest.skip("the seven-bit kernels of this test are those of AVX2", allow_module_level=True)


def net(between: Callable[[Net, Tensor], Tensor], lo: int = 0, zp: int = 0) -> Plan:
    """A 1x1 convolution clamped to lo..127, something between, and a 3x3 convolution with padding."""
    b = Net(21, DType.S8)
    x = b.conv(b.to_cb(b.input((1, 8, 9, 9), DType.S8)), 16, 1)
    b.ops[-1].p |= {int(P.QLO): lo, int(P.QHI): 127}
    x.zero_point = zp
    y = between(b, x)
    y.zero_point = zp
    b.show(b.conv(y, 12, 3))
    return b.plan(*b.results)


def pool(b: Net, x: Tensor) -> Tensor:
    return b.window_op(OpKind.MAXPOOL, x, 16, [x], k=(3, 3), pad=(1, 1, 1, 1))


def table(b: Net, x: Tensor) -> Tensor:
    values = np.abs(np.arange(256) - 128).clip(0, 127).astype(np.int8)
    return b.op(OpKind.LUT, [x, b.const(values)], x.shape, DType.S8, Layout.CB, {0: 1})


def bits(plan: Plan) -> tuple[bool, bytes]:
    """Whether the last convolution runs a seven-bit kernel on AVX2, and its output."""
    data = bundle(plan)
    outputs = []
    for isa in ("avx2", "scalar"):
        with Session(data, isa=isa, verify=False) as session:
            port = session.inputs[0]
            x = np.random.default_rng(2).integers(-128, 128, port.shape).astype(np.int8)
            y = session.run({port.name: x})
            outputs.append(np.asarray(y[session.outputs[0].name] if isinstance(y, dict) else y).tobytes())
            if isa == "avx2":
                kernel = [op.kernel for op in op_infos(session) if op.kind == "Conv"][-1]
    assert outputs[0] == outputs[1]
    return kernel.startswith("gs_u7_"), outputs[0]


@pytest.mark.parametrize("between", [lambda b, x: x, pool], ids=["nothing", "maxpool"])
def test_a_clamp_at_zero_is_enough(between: Callable[[Net, Tensor], Tensor]) -> None:
    assert bits(net(between))[0]


def test_a_table_of_positive_values_is_enough_whatever_it_reads() -> None:
    assert bits(net(table, lo=-128))[0]


def test_one_negative_value_is_too_many() -> None:
    assert not bits(net(lambda b, x: x, lo=-1))[0]


def test_padding_that_reads_negative_is_too_much() -> None:
    assert not bits(net(lambda b, x: x, zp=-3))[0]


def test_what_the_user_gives_is_unknown() -> None:
    b = Net(22, DType.S8)
    b.show(b.conv(b.to_cb(b.input((1, 8, 9, 9), DType.S8)), 12, 3))
    assert not bits(b.plan(*b.results))[0]
