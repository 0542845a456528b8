"""Pooling, reductions, data movement, Softmax, Resize, LayerNorm and MatMul against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.compile.plan import F, Layout, OpKind, P, PadMode, Red, Rounding
from tests.native import reference as ref
from tests.native.oneop import CB, ROW, Case, In, Out, const, f32, s8, window_params
from tests.native.reference import Window

POOLS = {
    "2x2": (2, 6, 8, 8, Window((2, 2), (2, 2))),
    "3x3_padded": (1, 5, 7, 7, Window((3, 3), (2, 2), pads=(1, 1, 1, 1))),
    "asymmetric": (1, 4, 9, 6, Window((3, 2), (2, 1), pads=(0, 1, 2, 0))),
    "dilated": (1, 3, 10, 9, Window((3, 3), (1, 2), (2, 2), (2, 2, 2, 2))),
    "global": (2, 9, 7, 7, Window((7, 7))),
    "one_pixel": (1, 3, 1, 1, Window((1, 1))),
    "one_channel": (1, 1, 5, 40, Window((1, 3), pads=(0, 1, 0, 1))),
}


@pytest.mark.parametrize("name", POOLS)
def test_maxpool(name: str) -> None:
    n, c, h, w, window = POOLS[name]
    rng = np.random.default_rng(51)
    shape = (n, c, *window.output(h, w))
    x = f32(rng, (n, c, h, w)) - 3  # below zero: a padding of zeros would win
    case = Case(OpKind.MAXPOOL, [In(x, CB)], Out(shape, np.float32, CB), window_params(window))
    np.testing.assert_array_equal(case.run(), ref.maxpool(x, window).astype(np.float32))
    q = s8(rng, (n, c, h, w)) // 2 - 64
    case = Case(
        OpKind.MAXPOOL, [In(q.astype(np.int8), CB, 0.1, 3)], Out(shape, np.int8, CB, 0.1, 3), window_params(window)
    )
    np.testing.assert_array_equal(case.run(), ref.maxpool(q, window))
    np.testing.assert_array_equal(case.run(threads=3), ref.maxpool(q, window))


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("name", POOLS)
def test_avgpool(name: str, counted: bool) -> None:
    n, c, h, w, window = POOLS[name]
    rng = np.random.default_rng(52)
    shape, p = (n, c, *window.output(h, w)), window_params(window, int(counted))
    x = f32(rng, (n, c, h, w))
    total, count = ref.avgpool_sum(x, window, counted)
    y = Case(OpKind.AVGPOOL, [In(x, CB)], Out(shape, np.float32, CB), p).run()
    np.testing.assert_allclose(y, total / count, rtol=0, atol=1e-5)
    q = s8(rng, (n, c, h, w))
    for zx, zy, ra in ((-128, 5, 1.0), (127, -128, 0.4), (3, 100, 3.0)):
        case = Case(OpKind.AVGPOOL, [In(q, CB, 0.1, zx)], Out(shape, np.int8, CB, 0.1, zy), p, {F.RA: ra})
        np.testing.assert_array_equal(case.run(), ref.avgpool_s8(q, window, counted, zx, zy, ra))
    for rounding in (Rounding.HALF_AWAY, Rounding.HALF_UP):
        for zx in (-128, 0, 5):
            case = Case(OpKind.AVGPOOL, [In(q, CB, 0.1, zx)], Out(shape, np.int8, CB, 0.1, zx), p | {P.ROUND: rounding},
                        {F.RA: 1.0})  # fmt: skip
            np.testing.assert_array_equal(case.run(), ref.avgpool_integer(q, window, counted, zx, rounding))


AXES = [
    ((2, 5, 7, 3), (2, 3)),
    ((2, 5, 7, 3), (1,)),
    ((4, 9), (0, 1)),
    ((4, 9), (1,)),
    ((3, 4, 5, 6), (0, 2)),
    ((2, 3), ()),
    ((5,), (0,)),
]


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("kind", list(Red))
@pytest.mark.parametrize(("shape", "axes"), AXES)
def test_reduce(shape: tuple[int, ...], axes: tuple[int, ...], kind: Red, keep: bool) -> None:
    rng = np.random.default_rng(53)
    p = {0: kind, 1: sum(1 << a for a in axes)}
    x, q = f32(rng, shape), s8(rng, shape)
    expected = ref.reduce(kind, x, axes, keep)
    y = Case(OpKind.REDUCE, [In(x)], Out(expected.shape, np.float32), p).run()
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * np.abs(x).sum() / max(1, expected.size))
    same = kind in (Red.MAX, Red.MIN)
    zx, zy, ra = (7, 7, 1.0) if same else (7, -20, 0.31)
    exact = ref.reduce_s8(kind, q, axes, keep, zx, zy, ra)
    case = Case(OpKind.REDUCE, [In(q, scale=0.1, zp=zx)], Out(exact.shape, np.int8, scale=0.1, zp=zy), p, {F.RA: ra})
    np.testing.assert_array_equal(case.run(), exact)


PADS = [
    ((1, 6, 5, 4), (0, 0, 1, 2), (0, 0, 3, 0), CB),
    ((2, 6, 5, 4), (1, 4, 0, 0), (0, 3, 1, 1), CB),
    ((1, 5, 3, 3), (0, 3, 1, 1), (0, 2, 1, 1), CB),
    ((1, 5, 1, 1), (0, 0, 0, 0), (0, 0, 2, 2), CB),
    ((3, 4), (1, 0), (2, 3), ROW),
    ((7,), (3,), (2,), ROW),
    ((2, 3, 2, 2, 3, 2), (1, 0, 1, 0, 2, 1), (0, 1, 0, 1, 0, 1), ROW),
]


@pytest.mark.parametrize("mode", list(PadMode))
@pytest.mark.parametrize(("shape", "before", "after", "layout"), PADS)
def test_pad(
    shape: tuple[int, ...], before: tuple[int, ...], after: tuple[int, ...], layout: Layout, mode: PadMode
) -> None:
    if mode is PadMode.REFLECT:  # a mirror holds at most one element less than the dimension
        before, after = (tuple(min(b, d - 1) for b, d in zip(side, shape, strict=True)) for side in (before, after))
    rng = np.random.default_rng(54)
    p = {0: mode, 13: -77} | {1 + i: b for i, b in enumerate(before)} | {7 + i: a for i, a in enumerate(after)}
    for x, value, scale in ((f32(rng, shape), np.float32(2.5), 0.0), (s8(rng, shape), np.int8(-77), 0.1)):
        expected = ref.pad(x, mode, before, after, value)
        case = Case(OpKind.PAD, [In(x, layout, scale)], Out(expected.shape, x.dtype.type, layout, scale), p, {0: 2.5})
        np.testing.assert_array_equal(case.run(), expected)


CONCATS = [
    ([(1, 8, 3, 5), (1, 4, 3, 5)], 1, CB),
    ([(2, 3, 4, 4), (2, 6, 4, 4), (2, 1, 4, 4)], 1, CB),
    ([(1, 5, 1, 1), (1, 3, 1, 1)], 1, CB),
    ([(1, 5, 2, 3), (1, 5, 4, 3)], 2, CB),
    ([(2, 5, 2, 3), (2, 5, 2, 1)], 3, CB),
    ([(1, 5, 2, 3), (2, 5, 2, 3)], 0, CB),
    ([(2, 3), (2, 1), (2, 4)], 1, ROW),
    ([(3,), (1,)], 0, ROW),
    ([(2, 2, 3), (2, 5, 3)], 1, ROW),
    ([(1, 33, 20, 20), (1, 31, 20, 20)], 1, CB),
]


@pytest.mark.parametrize(("shapes", "axis", "layout"), CONCATS)
def test_concat(shapes: list[tuple[int, ...]], axis: int, layout: Layout) -> None:
    rng = np.random.default_rng(55)
    for make, scale in ((f32, 0.0), (s8, 0.1)):
        parts = [make(rng, shape) for shape in shapes]
        expected = np.concatenate(parts, axis)
        case = Case(
            OpKind.CONCAT,
            [In(x, layout, scale, 0) for x in parts],
            Out(expected.shape, parts[0].dtype.type, layout, scale),
            {0: axis},
        )
        np.testing.assert_array_equal(case.run(), expected)


SLICES = [
    ((2, 9, 5, 6), (0, 4, 1, 2), (1, 1, 1, 1), (2, 4, 3, 4), CB),
    ((2, 9, 5, 6), (1, 3, 4, 5), (1, 2, -1, -2), (1, 3, 5, 3), CB),
    ((1, 8, 4, 4), (0, 0, 0, 0), (1, 1, 2, 2), (1, 8, 2, 2), CB),
    ((1, 8, 4, 4), (0, 7, 1, 1), (1, -1, 1, 1), (1, 8, 1, 1), CB),
    ((1, 7, 1, 1), (0, 4, 0, 0), (1, 1, 1, 1), (1, 3, 1, 1), CB),
    ((6, 7), (5, 0), (-2, 3), (3, 3), ROW),
    ((10,), (2,), (1,), (5,), ROW),
    ((2, 3, 4, 5), (1, 0, 1, 2), (1, 1, 1, 1), (1, 3, 2, 3), ROW),
]


@pytest.mark.parametrize(("shape", "start", "step", "size", "layout"), SLICES)
def test_slice(
    shape: tuple[int, ...], start: tuple[int, ...], step: tuple[int, ...], size: tuple[int, ...], layout: Layout
) -> None:
    rng = np.random.default_rng(56)
    p = dict(enumerate(start)) | {6 + i: v for i, v in enumerate(step)}
    arrays = [f32(rng, shape), s8(rng, shape)] + ([rng.integers(-(2**40), 2**40, shape)] if layout is ROW else [])
    for x in arrays:
        scale = 0.1 if x.dtype == np.int8 else 0.0
        case = Case(OpKind.SLICE, [In(x, layout, scale)], Out(size, x.dtype.type, layout, scale), p)
        np.testing.assert_array_equal(case.run(), ref.slices(x, start, step, size))


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 5), (2, 3, 4, 5), (2, 1, 3, 2, 4, 3)])
def test_transpose_and_reshape(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(57)
    for x in (f32(rng, shape), s8(rng, shape), rng.integers(-(2**40), 2**40, shape), s8(rng, shape).astype(np.int16)):
        scale = 0.1 if x.dtype == np.int8 else 0.0
        for _ in range(4):
            perm = [int(i) for i in rng.permutation(len(shape))]
            expected = x.transpose(perm)
            case = Case(
                OpKind.TRANSPOSE,
                [In(x, scale=scale)],
                Out(expected.shape, x.dtype.type, scale=scale),
                dict(enumerate(perm)),
            )
            np.testing.assert_array_equal(case.run(), expected)
        case = Case(OpKind.RESHAPE, [In(x, scale=scale)], Out((1, x.size), x.dtype.type, scale=scale))
        np.testing.assert_array_equal(case.run(), x.reshape(1, -1))


SOFTMAXES = [((1, 10), 1), ((3, 7), 0), ((2, 5, 4), 1), ((2, 1), 1), ((1, 1000), 1)]


@pytest.mark.parametrize(("shape", "axis"), SOFTMAXES)
def test_softmax(shape: tuple[int, ...], axis: int) -> None:
    rng = np.random.default_rng(58)
    x = f32(rng, shape) * 20
    for log in (False, True):
        y = Case(OpKind.SOFTMAX, [In(x), None], Out(shape, np.float32), {0: axis, 1: int(log)}).run()
        np.testing.assert_allclose(
            y, ref.softmax(x, axis, log), rtol=2e-6, atol=2e-6 * np.abs(x).max() if log else 1e-12
        )
    for scale in (0.1, 0.003, 20.0):
        q, table = s8(rng, shape), ref.softmax_table(scale)
        case = Case(
            OpKind.SOFTMAX,
            [In(q, scale=scale, zp=4), const(table)],
            Out(shape, np.int8, scale=1 / 256, zp=-128),
            {0: axis},
            {F.RA: 256.0},
        )
        np.testing.assert_array_equal(case.run(), ref.softmax_s8(q, axis, table, 256.0, -128))


def axis_tables(size: int, out: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    index = rng.integers(0, size, (out, 2)).astype(np.int32)
    right = rng.integers(0, 1025, out)
    right[0] = 1024
    return index, np.stack([1024 - right, right], 1).astype(np.int16)


@pytest.mark.parametrize(
    ("shape", "out"), [((2, 5, 4, 3), (8, 7)), ((1, 4, 1, 1), (3, 3)), ((1, 9, 6, 6), (1, 1)), ((1, 1, 5, 30), (4, 33))]
)
def test_resize(shape: tuple[int, ...], out: tuple[int, int]) -> None:
    rng = np.random.default_rng(59)
    rows, rw = axis_tables(shape[2], out[0], rng)
    cols, cw = axis_tables(shape[3], out[1], rng)
    size = (*shape[:2], *out)
    x, q = f32(rng, shape), s8(rng, shape)
    for data, scale in ((x, 0.0), (q, 0.1)):
        case = Case(
            OpKind.RESIZE,
            [In(data, CB, scale), const(rows.reshape(-1)), None, const(cols.reshape(-1)), None],
            Out(size, data.dtype.type, CB, scale),
            {0: 0},
        )
        np.testing.assert_array_equal(case.run(), ref.resize_nearest(data, rows, cols))
    fr, fc = (rw / 1024).astype(np.float32), (cw / 1024).astype(np.float32)
    tables = [const(rows.reshape(-1)), const(fr.reshape(-1)), const(cols.reshape(-1)), const(fc.reshape(-1))]
    y = Case(OpKind.RESIZE, [In(x, CB), *tables], Out(size, np.float32, CB), {0: 1}).run()
    np.testing.assert_allclose(y, ref.resize_linear(x, rows, fr, cols, fc), rtol=0, atol=4e-6)
    tables = [const(rows.reshape(-1)), const(rw.reshape(-1)), const(cols.reshape(-1)), const(cw.reshape(-1))]
    ra = 0.8 / 1024 / 1024
    case = Case(OpKind.RESIZE, [In(q, CB, 0.1, -9), *tables], Out(size, np.int8, CB, 0.1, 30), {0: 1}, {F.RA: ra})
    acc = ref.resize_linear(q, rows, rw, cols, cw, -9)
    np.testing.assert_array_equal(case.run(), ref.requantize(acc.astype(np.float32) * np.float32(ra), 30))


@pytest.mark.parametrize(("shape", "axis"), [((2, 7, 16), 2), ((3, 4, 5), 1), ((1, 1), 1), ((4, 3), 0)])
def test_layernorm(shape: tuple[int, ...], axis: int) -> None:
    rng = np.random.default_rng(60)
    x = f32(rng, shape) * 3 + 1000  # a spread that is small beside the mean
    gamma, beta = f32(rng, shape[axis:]), f32(rng, shape[axis:])
    for g, b in ((gamma, beta), (gamma, None), (None, beta), (None, None)):
        operands = [In(x), None if g is None else const(g), None if b is None else const(b)]
        y = Case(OpKind.LAYERNORM, operands, Out(shape, np.float32), {0: axis}, {0: 1e-5}).run()
        np.testing.assert_allclose(y, ref.layernorm(x, axis, g, b, 1e-5), rtol=2e-6, atol=2e-6)


MATMULS = [
    ((4, 6), (6, 5)),
    ((2, 3, 7), (2, 7, 4)),
    ((2, 1, 3, 5), (4, 5, 2)),
    ((1, 9), (9, 1)),
    ((3, 1, 8), (8, 3)),
    ((5, 4), (3, 4, 6)),
]


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize(("ta", "tb"), [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize(("sa", "sb"), MATMULS)
def test_matmul(sa: tuple[int, ...], sb: tuple[int, ...], ta: int, tb: int, fixed: bool) -> None:
    rng = np.random.default_rng(61)

    def stored(m: np.ndarray, transposed: int) -> np.ndarray:
        return np.ascontiguousarray(m.swapaxes(-1, -2)) if transposed else m

    a, b = f32(rng, sa), f32(rng, sb)
    exact = 0.3 * (a.astype(np.float64) @ b.astype(np.float64))
    p = {0: ta, 1: tb}
    y = Case(
        OpKind.MATMUL, [In(stored(a, ta)), In(stored(b, tb), const=fixed)], Out(exact.shape, np.float32), p, {F.RA: 0.3}
    ).run()
    assert (np.abs(y - exact) <= 1e-5 * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))).all()
    a, b = s8(rng, sa), s8(rng, sb)
    expected = ref.matmul_s8(a, b, -128, 127, 1 / 700, -6)
    case = Case(
        OpKind.MATMUL,
        [In(stored(a, ta), scale=0.1, zp=-128), In(stored(b, tb), scale=0.1, zp=127, const=fixed)],
        Out(expected.shape, np.int8, scale=0.1, zp=-6),
        p,
        {F.RA: 1 / 700},
    )
    np.testing.assert_array_equal(case.run(), expected)
    np.testing.assert_array_equal(case.run(threads=3), expected)


def test_reduce_flags_use_the_parameter_slots() -> None:
    """Slot 1 is a bit set: bit 1 is axis 1, not axis 0."""
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    y = Case(OpKind.REDUCE, [In(x)], Out((2,), np.float32), {0: Red.SUM, 1: 0b10}).run()
    assert y.tolist() == [3, 12]
