"""Conv, depthwise Conv and Gemm against the reference: shapes with tails, every pattern, saturating extremes."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.compile.plan import F, OpKind, P, Weights
from tests.native import reference as ref
from tests.native.oneop import CB, FULL, OPEN, Case, In, Out, const, f32, s8, window_params
from tests.native.reference import Window

ISAS = ["scalar", None]
PATTERNS = ["unstructured", "1x4", "4x1", "4x4", "2:4"]
SHAPES = {
    # name: (N, Cin, H, W, Cout, groups, window)
    "pointwise": (1, 16, 9, 5, 24, 1, Window()),
    "pointwise_tails": (1, 7, 7, 7, 5, 1, Window()),
    "pointwise_one_channel": (1, 1, 3, 5, 1, 1, Window()),
    "pointwise_wide": (1, 20, 12, 13, 33, 1, Window()),
    "pointwise_one_pixel": (2, 10, 1, 1, 9, 1, Window()),
    "pointwise_stride": (1, 8, 9, 8, 8, 1, Window(stride=(2, 3))),
    "pointwise_padded": (1, 8, 4, 4, 4, 1, Window(pads=(1, 0, 0, 2))),
    "same_3x3": (2, 6, 7, 7, 10, 1, Window((3, 3), pads=(1, 1, 1, 1))),
    "first_layer": (1, 3, 17, 15, 8, 1, Window((3, 3), (2, 2), pads=(0, 0, 1, 1))),
    "to_one_pixel": (1, 5, 4, 4, 6, 1, Window((4, 4))),
    "tall_5x1": (1, 4, 11, 6, 7, 1, Window((5, 1), (1, 2), pads=(2, 0, 2, 0))),
    "dilated": (1, 9, 10, 11, 4, 1, Window((3, 3), (1, 1), (2, 3), (2, 3, 2, 3))),
    "asymmetric": (1, 4, 5, 6, 4, 1, Window((2, 3), (3, 2), pads=(0, 2, 1, 0))),
    "window_over_all": (1, 4, 3, 3, 4, 1, Window((7, 7), pads=(3, 3, 3, 3))),
    "last_tile_of_one": (1, 4, 13, 5, 4, 1, Window()),
}
GROUPED = {
    "groups_of_4": (1, 16, 6, 5, 8, 4, Window((3, 3), pads=(1, 1, 1, 1))),
    "groups_of_3": (2, 9, 7, 7, 6, 3, Window((3, 3), (2, 2), pads=(1, 1, 1, 1))),
    "groups_pointwise": (1, 12, 5, 5, 10, 2, Window()),
    "groups_one_pixel": (1, 6, 1, 1, 6, 2, Window()),
}


def sparsify(w: np.ndarray, pattern: str, rng: np.random.Generator, density: float) -> np.ndarray:
    """Zeros in the pattern's shape over the plan's matrix, with an empty row and a zero block column."""
    matrix = np.pad(w, [(0, 0)] * (w.ndim - 1) + [(0, -w.shape[-1] % 4)]).reshape(w.shape[0], -1)
    rows, cols = matrix.shape
    br, bc = {"1x4": (1, 4), "4x1": (4, 1), "4x4": (4, 4)}.get(pattern, (1, 1))
    keep = rng.random((-(-rows // br), -(-cols // bc))) < density
    keep[len(keep) // 2] = False
    mask = np.kron(keep, np.ones((br, bc), bool))[:rows, :cols]
    if pattern == "2:4":
        order = np.argsort(rng.random((rows, cols // 4, 4)), axis=2)
        mask = (order < 2).reshape(rows, cols)
    matrix = np.where(mask, matrix, 0)
    return matrix.reshape(*w.shape[:-1], -1)[..., : w.shape[-1]].astype(w.dtype)


def case_s8(shape: tuple, pattern: str, seed: int, dense: np.ndarray | None = None) -> tuple[Case, np.ndarray]:
    n, cin, h, w, cout, groups, window = shape
    rng = np.random.default_rng(seed)
    x = s8(rng, (n, cin, h, w))
    zx, zy = int(rng.integers(-128, 128)), int(rng.integers(-60, 60))
    weights = (
        rng.integers(-127, 128, (cout, *window.kernel, cin // groups)).astype(np.int16) if dense is None else dense
    )
    if pattern != "dense":
        weights = sparsify(weights, pattern, rng, 0.4)
    wide = weights.astype(np.int64).reshape(cout, -1)
    bias = (rng.integers(-5000, 5000, cout) - zx * wide.sum(axis=1)).astype(np.int32)
    spread = np.sqrt((wide**2).sum(axis=1)) * 74 + 1
    scale = (rng.uniform(20, 200, cout) / spread).astype(np.float32)
    lo, hi = (-128, 127) if seed % 2 else (zy, 90)
    out = Out((n, cout, *window.output(h, w)), np.int8, CB, 0.1, zy)
    p = window_params(window, groups) | {P.QLO: lo, P.QHI: hi}
    case = Case(
        OpKind.CONV,
        [In(x, CB, 0.1, zx), None, None, const(bias), const(scale)],
        out,
        p,
        weights=Weights(weights.astype(np.int16), pattern),
    )
    acc = ref.conv_sum(x, weights, window, groups, zx)
    return case, ref.rescale(acc, bias, scale, zy, lo, hi, 1)


def case_f32(shape: tuple, pattern: str, seed: int) -> tuple[Case, np.ndarray, np.ndarray]:
    n, cin, h, w, cout, groups, window = shape
    rng = np.random.default_rng(seed)
    x = f32(rng, (n, cin, h, w))
    weights = f32(rng, (cout, *window.kernel, cin // groups))
    if pattern != "dense":
        weights = sparsify(weights, pattern, rng, 0.4)
    bias = f32(rng, (cout,))
    lo, hi = (-np.inf, np.inf) if seed % 2 else (0.0, 6.0)
    out = Out((n, cout, *window.output(h, w)), np.float32, CB)
    case = Case(
        OpKind.CONV,
        [In(x, CB), None, None, const(bias), None],
        out,
        window_params(window, groups),
        {F.LO: lo, F.HI: hi},
        Weights(weights, pattern),
    )
    y = ref.conv_sum(x, weights, window, groups, 0) + bias.astype(np.float64)[None, :, None, None]
    bound = ref.conv_sum(np.abs(x), np.abs(weights), window, groups, 0) + np.abs(bias)[None, :, None, None]
    return case, np.clip(y, lo, hi), 1e-5 * bound


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("pattern", ["dense", *PATTERNS])
@pytest.mark.parametrize("name", SHAPES)
def test_conv_s8(name: str, pattern: str, isa: str | None) -> None:
    for seed in (1, 2):
        case, expected = case_s8(SHAPES[name], pattern, seed)
        np.testing.assert_array_equal(case.run(isa), expected)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("pattern", ["dense", *PATTERNS])
@pytest.mark.parametrize("name", SHAPES)
def test_conv_f32(name: str, pattern: str, isa: str | None) -> None:
    for seed in (1, 2):
        case, expected, bound = case_f32(SHAPES[name], pattern, seed)
        assert (np.abs(case.run(isa) - expected) <= bound).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", GROUPED)
def test_grouped_conv(name: str, isa: str | None) -> None:
    case, expected = case_s8(GROUPED[name], "dense", 3)
    np.testing.assert_array_equal(case.run(isa), expected)
    case, wanted, bound = case_f32(GROUPED[name], "dense", 3)
    assert (np.abs(case.run(isa) - wanted) <= bound).all()


@pytest.mark.parametrize("threads", [2, 5])
@pytest.mark.parametrize("name", ["pointwise_wide", "same_3x3", "to_one_pixel"])
def test_threads_change_nothing(name: str, threads: int) -> None:
    case, expected = case_s8(SHAPES[name], "1x4", 7)
    np.testing.assert_array_equal(case.run(threads=threads), expected)
    case, expected = case_s8(GROUPED["groups_of_3"], "dense", 7)
    np.testing.assert_array_equal(case.run(threads=threads), expected)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("pattern", ["dense", "1x4", "4x4", "4x1"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_conv_s8_extremes(sign: int, pattern: str, isa: str | None) -> None:
    """All products at their largest: a 16-bit intermediate that saturates would show."""
    x = np.full((1, 64, 4, 5), -128, np.int8)
    x[0, ::3] = 127
    w = np.full((9, 1, 1, 64), 127 * sign, np.int16)
    w[4] *= -1
    w[2, ..., 8:24] = 0
    w[0:4, ..., 40:44] = 0
    scale = np.full(9, 2.0**-13, np.float32)
    case = Case(
        OpKind.CONV,
        [In(x, CB, 0.1, -128), None, None, None, const(scale)],
        Out((1, 9, 4, 5), np.int8, CB, 0.1, 5),
        window_params(Window()) | FULL,
        weights=Weights(w, pattern),
    )
    expected = ref.rescale(ref.conv_sum(x, w, Window(), 1, -128), None, scale, 5, -128, 127, 1)
    np.testing.assert_array_equal(case.run(isa), expected)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("pattern", ["unstructured", "1x4", "4x4", "4x1"])
def test_weights_beyond_int8_are_repeated_columns(pattern: str, isa: str | None) -> None:
    rng = np.random.default_rng(5)
    weights = rng.integers(-500, 501, (10, 3, 3, 6)).astype(np.int16)
    case, expected = case_s8((1, 6, 6, 7, 10, 1, Window((3, 3), pads=(1, 1, 1, 1))), pattern, 5, weights)
    np.testing.assert_array_equal(case.run(isa), expected)
    case, expected = case_s8((1, 6, 6, 7, 10, 1, Window((3, 3))), "dense", 5, weights)
    np.testing.assert_array_equal(case.run(isa), expected)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_all_zero_weights(pattern: str, isa: str | None) -> None:
    rng = np.random.default_rng(6)
    bias = rng.integers(-9000, 9000, 6).astype(np.int32)
    scale = np.full(6, 0.01, np.float32)
    case = Case(
        OpKind.CONV,
        [In(s8(rng, (1, 8, 3, 3)), CB, 0.1, 0), None, None, const(bias), const(scale)],
        Out((1, 6, 3, 3), np.int8, CB, 0.1, 0),
        window_params(Window()) | FULL,
        weights=Weights(np.zeros((6, 1, 1, 8), np.int16), pattern),
    )
    expected = ref.requantize(bias.astype(np.float32) * scale, 0)
    y, info = case.run_info(isa)
    np.testing.assert_array_equal(y, np.broadcast_to(expected[None, :, None, None], y.shape))
    assert info.weight_nonzero == 0


def test_ties_round_to_even() -> None:
    x = np.arange(-128, 128, dtype=np.int16).astype(np.int8).reshape(1, 1, 16, 16)
    scale = np.array([0.5], np.float32)
    case = Case(
        OpKind.CONV,
        [In(x, CB, 0.1, 0), None, None, None, const(scale)],
        Out(x.shape, np.int8, CB, 0.1, 1),
        window_params(Window()) | FULL,
        weights=Weights(np.ones((1, 1, 1, 1), np.int8)),
    )
    y = case.run()[0, 0].reshape(-1)
    assert list(y[128:136]) == [1, 1, 2, 3, 3, 3, 4, 5]  # 0, .5, 1, 1.5, 2, 2.5, 3, 3.5, zero point 1
    np.testing.assert_array_equal(y, np.rint(x.reshape(-1) / 2).astype(int) + 1)


def test_numbers_for_reports() -> None:
    case, _ = case_s8(SHAPES["pointwise"], "1x4", 1)
    weights = case.weights.dense
    _, info = case.run_info("scalar")
    pixels = 9 * 5
    assert info.kind == "Conv"
    assert info.pattern == "1x4"
    assert info.kernel == "gs_s8_mm_1x4_4x16__scalar"
    assert info.macs == 16 * 24 * pixels
    assert info.weight_count == 16 * 24
    assert info.weight_nonzero == np.count_nonzero(weights)
    blocks = np.count_nonzero(weights.reshape(24, 4, 4).any(axis=2))
    assert info.macs_executed == blocks * 4 * pixels
    _, info = case_s8(SHAPES["pointwise"], "dense", 1)[0].run_info()
    assert info.macs_executed == info.macs
    assert info.kernel.startswith("gs_s8_mm_dense_")


DEPTHWISE = {
    "3x3": (1, 8, 9, 7, 1, Window((3, 3), pads=(1, 1, 1, 1))),
    "3x3_stride": (2, 6, 9, 10, 1, Window((3, 3), (2, 2), pads=(0, 0, 1, 1))),
    "5x5": (1, 5, 8, 8, 1, Window((5, 5), pads=(2, 2, 2, 2))),
    "no_padding": (1, 4, 8, 21, 1, Window((3, 3))),
    "wide_rows": (1, 4, 5, 40, 1, Window((3, 3), pads=(1, 1, 1, 1))),
    "one_channel": (1, 1, 6, 6, 1, Window((3, 3), pads=(1, 1, 1, 1))),
    "to_one_pixel": (1, 7, 3, 3, 1, Window((3, 3))),
    "from_one_pixel": (1, 7, 1, 1, 1, Window((3, 3), pads=(1, 1, 1, 1))),
    "dilated": (1, 4, 9, 9, 1, Window((3, 3), (1, 1), (2, 2), (2, 2, 2, 2))),
    "odd": (1, 9, 11, 6, 1, Window((2, 5), (3, 1), (1, 1), (1, 0, 0, 3))),
    "multiplier_2": (1, 5, 6, 6, 2, Window((3, 3), pads=(1, 1, 1, 1))),
    "multiplier_8": (1, 1, 10, 8, 8, Window((3, 3), (2, 2), pads=(1, 1, 1, 1))),
}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("most", [127, 255])
@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise_s8(name: str, most: int, isa: str | None) -> None:
    n, c, h, w, multiplier, window = DEPTHWISE[name]
    rng = np.random.default_rng(11)
    cout, zx, zy = c * multiplier, -7, 12
    x = s8(rng, (n, c, h, w))
    weights = rng.integers(-most, most + 1, (cout, *window.kernel)).astype(np.int8 if most == 127 else np.int16)
    bias = (rng.integers(-500, 500, cout) - zx * weights.reshape(cout, -1).sum(axis=1, dtype=np.int64)).astype(np.int32)
    scale = rng.uniform(1e-3, 4e-3, cout).astype(np.float32)
    case = Case(
        OpKind.DWCONV,
        [In(x, CB, 0.1, zx), const(weights), const(bias), const(scale)],
        Out((n, cout, *window.output(h, w)), np.int8, CB, 0.1, zy),
        window_params(window, multiplier) | {P.QLO: zy, P.QHI: 120},
    )
    expected = ref.rescale(ref.depthwise_sum(x, weights, window, multiplier, zx), bias, scale, zy, zy, 120, 1)
    np.testing.assert_array_equal(case.run(isa), expected)
    np.testing.assert_array_equal(case.run(isa, threads=3), expected)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise_f32(name: str, isa: str | None) -> None:
    n, c, h, w, multiplier, window = DEPTHWISE[name]
    rng = np.random.default_rng(12)
    x, weights = f32(rng, (n, c, h, w)), f32(rng, (c * multiplier, *window.kernel))
    case = Case(
        OpKind.DWCONV,
        [In(x, CB), const(weights), None, None],
        Out((n, c * multiplier, *window.output(h, w)), np.float32, CB),
        window_params(window, multiplier),
        OPEN,
    )
    expected = ref.depthwise_sum(x, weights, window, multiplier, 0)
    bound = 1e-5 * ref.depthwise_sum(np.abs(x), np.abs(weights), window, multiplier, 0)
    assert (np.abs(case.run(isa) - expected) <= bound).all()


GEMM = [
    ((1, 16), 12),
    ((1, 10), 7),
    ((1, 1), 1),
    ((3, 9), 5),
    ((4, 33), 18),
    ((17, 20), 11),
    ((2, 3, 24), 6),
    ((70, 6), 3),
    ((64,), 10),
]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("pattern", ["dense", *PATTERNS])
@pytest.mark.parametrize(("shape", "rows"), GEMM)
def test_gemm_s8(shape: tuple[int, ...], rows: int, pattern: str, isa: str | None) -> None:
    rng = np.random.default_rng(21)
    x, zx, zy = s8(rng, shape), 9, -3
    weights = rng.integers(-127, 128, (rows, shape[-1])).astype(np.int16)
    if pattern != "dense":
        weights = sparsify(weights, pattern, rng, 0.5)
    bias = (rng.integers(-500, 500, rows) - zx * weights.sum(axis=1, dtype=np.int64)).astype(np.int32)
    scale = rng.uniform(1e-3, 3e-3, rows).astype(np.float32)
    case = Case(
        OpKind.GEMM,
        [In(x, scale=0.1, zp=zx), None, None, const(bias), const(scale)],
        Out((*shape[:-1], rows), np.int8, scale=0.1, zp=zy),
        FULL,
        weights=Weights(weights, pattern),
    )
    acc = x.astype(np.int64) @ weights.astype(np.int64).T
    expected = ref.rescale(acc, bias, scale, zy, -128, 127, acc.ndim - 1)
    np.testing.assert_array_equal(case.run(isa), expected)
    np.testing.assert_array_equal(case.run(isa, threads=4), expected)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("pattern", ["dense", *PATTERNS])
@pytest.mark.parametrize(("shape", "rows"), GEMM)
def test_gemm_f32(shape: tuple[int, ...], rows: int, pattern: str, isa: str | None) -> None:
    rng = np.random.default_rng(22)
    x, weights = f32(rng, shape), f32(rng, (rows, shape[-1]))
    if pattern != "dense":
        weights = sparsify(weights, pattern, rng, 0.5)
    case = Case(
        OpKind.GEMM,
        [In(x), None, None, None, None],
        Out((*shape[:-1], rows), np.float32),
        {},
        OPEN,
        Weights(weights, pattern),
    )
    bound = 1e-5 * (np.abs(x).astype(np.float64) @ np.abs(weights).astype(np.float64).T)
    assert (np.abs(case.run(isa) - x.astype(np.float64) @ weights.astype(np.float64).T) <= bound).all()
