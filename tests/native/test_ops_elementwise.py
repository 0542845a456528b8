"""Element-wise operators, tables, quantisation and layouts against the reference."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gossamer.compile.plan import Bin, F, Layout, OpKind, P, Un
from tests.native import reference as ref
from tests.native.oneop import CB, FULL, OPEN, ROW, Case, In, Out, const, f32, s8

ISAS = ["scalar", None]
BROADCASTS = {
    # name: (shape a, layout a, shape b, layout b, constant b, layout y)
    "same_row": ((2, 3, 5), ROW, (2, 3, 5), ROW, False, ROW),
    "same_cb": ((2, 6, 5, 7), CB, (2, 6, 5, 7), CB, False, CB),
    "same_long": ((1, 33, 9, 61), CB, (1, 33, 9, 61), CB, False, CB),
    "channel_const_cb": ((2, 6, 5, 7), CB, (1, 6, 1, 1), ROW, True, CB),
    "channel_const_rank3": ((1, 7, 3, 3), CB, (7, 1, 1), ROW, True, CB),
    "scalar_const_cb": ((2, 5, 4, 3), CB, (), ROW, True, CB),
    "squeeze_excite": ((2, 10, 40, 40), CB, (2, 10, 1, 1), CB, False, CB),
    "excite_first": ((1, 8, 1, 1), CB, (1, 8, 3, 5), CB, False, CB),
    "one_pixel": ((2, 5, 1, 1), CB, (2, 5, 1, 1), CB, False, CB),
    "rows_of_cb": ((1, 5, 4, 3), CB, (1, 1, 4, 3), ROW, True, CB),
    "columns_of_cb": ((1, 6, 4, 3), CB, (3,), ROW, True, CB),
    "one_channel_cb": ((1, 6, 4, 3), CB, (1, 1, 4, 3), CB, False, CB),
    "bias_row": ((4, 9), ROW, (9,), ROW, True, ROW),
    "outer_row": ((4, 1, 5), ROW, (1, 3, 1), ROW, False, ROW),
    "middle_row": ((2, 3, 4, 5), ROW, (2, 1, 4, 1), ROW, False, ROW),
    "scalar_row": ((3, 1500), ROW, (1,), ROW, True, ROW),
    "long_constant": ((1, 9000), ROW, (1, 1), ROW, True, ROW),
    "mixed_layouts": ((1, 6, 3, 4), CB, (1, 6, 3, 4), ROW, False, CB),
    "mixed_to_row": ((1, 6, 3, 4), CB, (1, 6, 3, 4), ROW, False, ROW),
}


def operands(
    name: str, make: object, swap: bool, zps: tuple[int, int] = (0, 0)
) -> tuple[list[In], tuple[int, ...], Layout]:
    sa, la, sb, lb, fixed, ly = BROADCASTS[name]
    rng = np.random.default_rng(31)
    quantised = 0.1 if make is s8 else 0.0
    a = In(make(rng, sa), la, quantised, zps[0])
    b = In(make(rng, sb), lb, quantised, zps[1], fixed)
    shape = np.broadcast_shapes(sa, sb)
    return ([b, a] if swap else [a, b]), shape, ly


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("kind", [Bin.ADD, Bin.SUB, Bin.MUL])
@pytest.mark.parametrize("name", BROADCASTS)
def test_binary_s8(name: str, kind: Bin, swap: bool, isa: str | None) -> None:
    inputs, shape, layout = operands(name, s8, swap, (5, -11))
    ra, rb = (0.013, 0.7) if kind is Bin.MUL else (0.61, 0.37)
    case = Case(
        OpKind.BINARY,
        inputs,
        Out(shape, np.int8, layout, 0.1, -4),
        {0: kind, P.QLO: -100, P.QHI: 111},
        {F.RA: ra, F.RB: rb},
    )
    expected = ref.binary_s8(kind, inputs[0].data, inputs[1].data, (inputs[0].zp, inputs[1].zp, -4), ra, rb, -100, 111)
    np.testing.assert_array_equal(case.run(isa), expected)
    np.testing.assert_array_equal(case.run(isa, threads=3), expected)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", [Bin.ADD, Bin.SUB, Bin.MUL])
def test_binary_s8_every_pair(kind: Bin, isa: str | None) -> None:
    """All 65,536 pairs, at scales that make ties, saturate both ends and nearly vanish."""
    a, b = (v.reshape(256, 256).astype(np.int8) for v in np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)))
    for ra, rb, zps in [
        (0.5, 0.5, (0, 0, 0)),
        (3.7, 1.9, (127, -128, 127)),
        (1e-7, 1e-30, (-128, 127, -128)),
        (2e5, 1e5, (0, 0, 0)),
    ]:
        case = Case(
            OpKind.BINARY,
            [In(a, scale=1, zp=zps[0]), In(b, scale=1, zp=zps[1])],
            Out(a.shape, np.int8, ROW, 1, zps[2]),
            {0: kind} | FULL,
            {F.RA: ra, F.RB: rb},
        )
        np.testing.assert_array_equal(case.run(isa), ref.binary_s8(kind, a, b, zps, ra, rb, -128, 127))


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("kind", list(Bin))
@pytest.mark.parametrize("name", BROADCASTS)
def test_binary_f32(name: str, kind: Bin, swap: bool) -> None:
    inputs, shape, layout = operands(name, f32, swap)
    if kind is Bin.POW:
        inputs = [In(np.abs(inputs[0].data) + np.float32(0.1), inputs[0].layout, const=inputs[0].const), inputs[1]]
    case = Case(OpKind.BINARY, inputs, Out(shape, np.float32, layout), {0: kind}, {F.LO: -0.8, F.HI: 2.0})
    exact = ref.BINARY[kind](inputs[0].data.astype(np.float64), inputs[1].data.astype(np.float64))
    np.testing.assert_allclose(case.run(), np.clip(exact, -0.8, 2), rtol=2e-6, atol=1e-7)


def test_pow_special_cases() -> None:
    inf, nan = math.inf, math.nan
    values = [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, inf, -inf, nan, 3.0, -3.0, 1e-40, 3e38]
    a, b = (v.astype(np.float32) for v in np.meshgrid(values, values))
    case = Case(OpKind.BINARY, [In(a), In(b)], Out(a.shape, np.float32), {0: Bin.POW}, OPEN)
    with np.errstate(all="ignore"):
        exact = np.power(a.astype(np.float64), b.astype(np.float64)).astype(np.float32)
    # the output clamp turns NaN into its lower bound
    np.testing.assert_allclose(case.run(), np.where(np.isnan(exact), -inf, exact), rtol=2e-6, atol=1e-38)


UNARY = {
    Un.CLIP: (-1.0, 2.0),
    Un.HARDSIGMOID: (0.2, 0.5),
    Un.LEAKYRELU: (0.1, 0.0),
    Un.ELU: (1.5, 0.0),
}


@pytest.mark.parametrize("layout", [ROW, CB])
@pytest.mark.parametrize("kind", list(Un))
def test_unary(kind: Un, layout: Layout) -> None:
    f0, f1 = UNARY.get(kind, (0.0, 0.0))
    x = np.linspace(-30, 30, 3 * 7 * 9 * 113, dtype=np.float32).reshape(1, 21, 9, 113)
    x[0, 0, 0, :40] = np.linspace(-1e-3, 1e-3, 40)
    if kind in (Un.LOG, Un.SQRT):
        x = np.abs(x) + np.float32(1e-6)
    if kind is Un.RECIPROCAL:
        x[x == 0] = 1
    case = Case(OpKind.UNARY, [In(x, layout)], Out(x.shape, np.float32, layout), {0: kind}, {0: f0, 1: f1})
    exact = ref.unary(kind, x, f0, f1)
    # ELU subtracts 1 from exp; HARDSWISH and GELU_TANH multiply rounded factors
    slack = {Un.ELU: 2e-7, Un.HARDSWISH: 2e-6, Un.GELU_TANH: 1e-8, Un.HARDSIGMOID: 1e-7}.get(kind, 1e-37)
    relative = {Un.GELU_TANH: 1e-5}.get(kind, 2e-6)
    np.testing.assert_allclose(case.run(), exact, rtol=relative, atol=slack)
    np.testing.assert_array_equal(case.run(threads=3), case.run())


@pytest.mark.parametrize("kind", list(Un))
def test_unary_of_infinity_and_nan(kind: Un) -> None:
    x = np.array([math.inf, -math.inf, math.nan, 0.0, -0.0, 3e38, -3e38, 1e-45], np.float32)
    y = Case(OpKind.UNARY, [In(x)], Out(x.shape, np.float32), {0: kind}, {0: -1.0, 1: 2.0}).run()
    assert math.isnan(y[2]) or kind in (Un.CLIP, Un.HARDSIGMOID)
    expected = {
        Un.CLIP: [2, -1, -1, 0, 0, 2, -1, 0],
        Un.SIGMOID: [1, 0, math.nan, 0.5, 0.5, 1, 0, 0.5],
        Un.TANH: [1, -1, math.nan, 0, 0, 1, -1, 0],
        Un.EXP: [math.inf, 0, math.nan, 1, 1, math.inf, 0, 1],
        Un.LOG: [math.inf, math.nan, math.nan, -math.inf, -math.inf, 88.59687, math.nan, -103.27893],
        Un.ERF: [1, -1, math.nan, 0, 0, 1, -1, 0],
        Un.FLOOR: [math.inf, -math.inf, math.nan, 0, 0, 3e38, -3e38, 0],
        Un.CEIL: [math.inf, -math.inf, math.nan, 0, 0, 3e38, -3e38, 1],
        Un.SOFTPLUS: [math.inf, 0, math.nan, 0.6931472, 0.6931472, 3e38, 0, 0.6931472],
        Un.GELU: [math.inf, 0, math.nan, 0, 0, 3e38, 0, 0],
        Un.SQRT: [math.inf, math.nan, math.nan, 0, 0, 1.7320508e19, math.nan, 3.743392e-23],
    }.get(kind)
    if expected is not None:
        np.testing.assert_allclose(y, np.array(expected, np.float32), rtol=1e-6, atol=1e-44)


def test_floor_and_ceil_are_exact() -> None:
    rng = np.random.default_rng(1)
    x = (rng.standard_normal(4000) * 10 ** rng.uniform(-3, 9, 4000)).astype(np.float32)
    x[:10] = [8388607.5, 8388608, -8388607.5, -8388609, 0.99999994, -0.99999994, 2, -2, 16777216, 1.5]
    for kind, call in ((Un.FLOOR, np.floor), (Un.CEIL, np.ceil)):
        y = Case(OpKind.UNARY, [In(x)], Out(x.shape, np.float32), {0: kind}).run()
        np.testing.assert_array_equal(y, call(x))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("layout", [ROW, CB])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 7, 5, 3), (1, 12, 33, 65)])
def test_lut_s8(shape: tuple[int, ...], layout: Layout, isa: str | None) -> None:
    rng = np.random.default_rng(41)
    x, table = s8(rng, shape), s8(rng, (256,))
    case = Case(OpKind.LUT, [In(x, layout, 0.1, 0), const(table)], Out(shape, np.int8, layout, 0.1, 0), {0: 1})
    np.testing.assert_array_equal(case.run(isa), table[x.view(np.uint8)])
    tables = s8(rng, (shape[1] * 256,))
    case = Case(OpKind.LUT, [In(x, layout, 0.1, 0), const(tables)], Out(shape, np.int8, layout, 0.1, 0), {0: shape[1]})
    channel = np.arange(shape[1])[None, :, None, None]
    np.testing.assert_array_equal(case.run(isa), tables[channel * 256 + x.view(np.uint8)])


@pytest.mark.parametrize("isa", ISAS)
def test_lut_between_s8_and_u8(isa: str | None) -> None:
    x = np.arange(256, dtype=np.uint8).reshape(2, 128)
    table = (np.arange(256) - 128).astype(np.int8)
    case = Case(OpKind.LUT, [In(x, scale=0.1, zp=128), const(table)], Out(x.shape, np.int8, scale=0.1, zp=0), {0: 1})
    np.testing.assert_array_equal(case.run(isa), table.reshape(2, 128))
    back = np.roll(np.arange(256), 128).astype(np.uint8)
    case = Case(
        OpKind.LUT, [In(x.view(np.int8), scale=0.1), const(back)], Out(x.shape, np.uint8, scale=0.1, zp=128), {0: 1}
    )
    np.testing.assert_array_equal(case.run(isa), back.reshape(2, 128))


@pytest.mark.parametrize("layout", [ROW, CB])
@pytest.mark.parametrize("slopes", [1, 6])
def test_prelu(slopes: int, layout: Layout) -> None:
    rng = np.random.default_rng(42)
    x, slope = f32(rng, (2, 6, 5, 3)), f32(rng, (slopes,))
    case = Case(OpKind.PRELU, [In(x, layout), const(slope)], Out(x.shape, np.float32, layout))
    np.testing.assert_array_equal(case.run(), np.where(x < 0, x * slope[None, :, None, None], x))


@pytest.mark.parametrize(("dtype", "lo"), [(np.int8, -128), (np.uint8, 0)])
def test_quantize(dtype: type, lo: int) -> None:
    scale, zp = 0.0371, lo + 77
    halves = (np.arange(-300, 300, dtype=np.float32) + np.float32(0.5)) * np.float32(scale)
    odd = np.array([np.inf, -np.inf, np.nan, 3e38, -3e38, 0.0, -0.0, 1e-45], np.float32)
    x = np.concatenate([halves, odd, f32(np.random.default_rng(1), (20000,)) * 5])
    y = Case(OpKind.QUANTIZE, [In(x)], Out(x.shape, dtype, scale=scale, zp=zp)).run()
    expected = ref.quantize(x, scale, zp, lo, lo + 255)
    np.testing.assert_array_equal(y, expected)
    assert [int(v) for v in y[600:603]] == [lo + 255, lo, lo]


@pytest.mark.parametrize(("dtype", "zp"), [(np.int8, -5), (np.uint8, 130), (np.int32, 0)])
def test_dequantize(dtype: type, zp: int) -> None:
    info = np.iinfo(dtype)
    x = np.linspace(info.min, info.max, 40000).astype(dtype)
    y = Case(OpKind.DEQUANTIZE, [In(x, scale=0.0123, zp=zp)], Out(x.shape, np.float32)).run()
    np.testing.assert_array_equal(y, ref.dequantize(x, 0.0123, zp))


LAYOUT_SHAPES = [(1, 1, 1, 1), (2, 3, 5, 7), (1, 4, 8, 8), (1, 5, 1, 1), (2, 9, 33, 37), (1, 1000, 1, 1), (1, 2, 1, 40)]


@pytest.mark.parametrize("dtype", [np.int8, np.float32])
@pytest.mark.parametrize("shape", LAYOUT_SHAPES)
def test_layouts(shape: tuple[int, ...], dtype: type) -> None:
    """NCHW and NHWC to channel-blocked and back, in every combination."""
    rng = np.random.default_rng(43)
    x = s8(rng, shape) if dtype is np.int8 else f32(rng, shape)
    n, c, h, w = shape
    nhwc = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    scale = 0.1 if dtype is np.int8 else 0.0
    to_rows = Case(OpKind.LAYOUT, [In(x, CB, scale)], Out((n, h, w, c), dtype, ROW, scale), {0: 1})
    np.testing.assert_array_equal(to_rows.run(), nhwc)
    np.testing.assert_array_equal(to_rows.run(threads=2), nhwc)
    to_blocks = Case(OpKind.LAYOUT, [In(nhwc, ROW, scale)], Out(shape, dtype, CB, scale), {0: 1})
    np.testing.assert_array_equal(to_blocks.run(), x)
    same = Case(OpKind.LAYOUT, [In(x, CB, scale)], Out(shape, dtype, ROW, scale), {0: 0})
    np.testing.assert_array_equal(same.run(threads=2), x)
