"""Bad operands and parameters of every operator: the loader refuses each with a message that names it.

Every row takes a plan that loads, changes one thing, and states the words of the refusal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from gossamer.bundle import container
from gossamer.compile.emit import emit
from gossamer.compile.encode import encode_weights
from gossamer.compile.plan import DType, F, Op, OpKind, P, PadMode, Tensor, Weights
from gossamer_runtime import Session
from gossamer_runtime._errors import BundleError
from tests.native.oneop import CB, FULL, OPEN, ROW, Case, In, Out, const, window_params
from tests.native.plans import MANIFEST
from tests.native.reference import Window

Edit = Callable[[Op], None]
INT, FLT = np.int8, np.float32
INF = math.inf


def zeros(*shape: int, dtype: type = FLT) -> np.ndarray:
    return np.zeros(shape, dtype)


def bundle(case: Case, edit: Edit | None = None) -> bytes:
    plan = case.plan()
    encode_weights(plan)
    if edit is not None:
        edit(next(op for op in plan.ops if op.name == "subject"))
    emitted = emit(plan)
    return container.build(emitted.plan, emitted.weights, MANIFEST)


def p(slot: int, value: int) -> Edit:
    return lambda op: op.p.__setitem__(int(slot), value)


def f(slot: int, value: float) -> Edit:
    return lambda op: op.f.__setitem__(int(slot), value)


def drop(i: int) -> Edit:
    return lambda op: op.inputs.__setitem__(i, None)


def shorten(op: Op) -> None:
    op.inputs.pop()


def operand(i: int, data: np.ndarray) -> Edit:
    def edit(op: Op) -> None:
        old = op.inputs[i]
        scale = 0.0 if old is None or data.dtype not in (np.int8, np.uint8) else old.scale
        op.inputs[i] = Tensor(f"changed{i}", DType.of(data.dtype), data.shape, ROW, scale, 0, data)

    return edit


def value(i: int, at: int, new: float) -> Edit:
    def edit(op: Op) -> None:
        old = op.inputs[i]
        assert old is not None and old.data is not None
        data = old.data.copy()
        data.reshape(-1)[at] = new
        operand(i, data)(op)

    return edit


def out(**changes: object) -> Edit:
    def edit(op: Op) -> None:
        for name, new in changes.items():
            setattr(op.outputs[0], name, new)

    return edit


BIAS, SCALE = const(zeros(8, dtype=np.int32)), const(np.full(8, 0.01, FLT))
CONV = Case(
    OpKind.CONV,
    [In(zeros(1, 8, 5, 5, dtype=INT), CB, 0.1, 0), None, None, BIAS, SCALE],
    Out((1, 8, 5, 5), INT, CB, 0.1, 0),
    window_params(Window((3, 3), pads=(1, 1, 1, 1))) | FULL,
    weights=Weights(np.ones((8, 3, 3, 8), INT)),
)
HALF = np.ones((8, 3, 3, 8), INT)
HALF[:, :, 1] = 0
SPARSE = replace(CONV, weights=Weights(HALF, "1x4"))
CONV_F = Case(
    OpKind.CONV,
    [In(zeros(1, 6, 5, 5), CB), None, None, None, None],
    Out((1, 8, 5, 5), FLT, CB),
    window_params(Window((3, 3), pads=(1, 1, 1, 1))),
    OPEN,
    Weights(np.ones((8, 3, 3, 6), FLT)),
)
GEMM = Case(
    OpKind.GEMM,
    [In(zeros(2, 6, dtype=INT), scale=0.1), None, None, BIAS, SCALE],
    Out((2, 8), INT, scale=0.1),
    FULL,
    weights=Weights(np.ones((8, 6), INT)),
)
DW = Case(
    OpKind.DWCONV,
    [In(zeros(1, 4, 5, 5, dtype=INT), CB, 0.1), const(np.ones((8, 3, 3), np.int16)), BIAS, SCALE],
    Out((1, 8, 3, 3), INT, CB, 0.1),
    window_params(Window((3, 3)), 2) | FULL,
)
MATMUL = Case(
    OpKind.MATMUL,
    [In(zeros(2, 3, 4, dtype=INT), scale=1), In(zeros(4, 5, dtype=INT), scale=1)],
    Out((2, 3, 5), INT, scale=1),
    {},
    {F.RA: 1},
)
BINARY = Case(
    OpKind.BINARY,
    [In(zeros(2, 3, dtype=INT), scale=1), In(zeros(3, dtype=INT), scale=1)],
    Out((2, 3), INT, scale=1),
    FULL,
    {F.RA: 1, F.RB: 1},
)
BINARY_F = Case(OpKind.BINARY, [In(zeros(2, 3)), In(zeros(3))], Out((2, 3), FLT), {}, OPEN)
UNARY = Case(OpKind.UNARY, [In(zeros(2, 3))], Out((2, 3), FLT))
LUT = Case(
    OpKind.LUT, [In(zeros(2, 3, dtype=INT), scale=1), const(zeros(256, dtype=INT))], Out((2, 3), INT, scale=1), {0: 1}
)
PRELU = Case(OpKind.PRELU, [In(zeros(2, 3)), const(zeros(3))], Out((2, 3), FLT))
POOL = Case(
    OpKind.MAXPOOL,
    [In(zeros(1, 4, 6, 6, dtype=INT), CB, 0.1)],
    Out((1, 4, 3, 3), INT, CB, 0.1),
    window_params(Window((2, 2), (2, 2)), 0),
)
AVERAGE = replace(POOL, kind=OpKind.AVGPOOL, f={F.RA: 1.0})
REDUCE = Case(
    OpKind.REDUCE, [In(zeros(2, 3, 4, dtype=INT), scale=1)], Out((2, 4), INT, scale=1), {0: 0, 1: 2}, {F.RA: 0.3}
)
PAD = Case(OpKind.PAD, [In(zeros(2, 3, dtype=INT), scale=1)], Out((3, 5), INT, scale=1), {0: 0, 1: 1, 2: 0, 7: 0, 8: 2})
CONCAT = Case(
    OpKind.CONCAT,
    [In(zeros(2, 3, dtype=INT), scale=1), In(zeros(2, 1, dtype=INT), scale=1)],
    Out((2, 4), INT, scale=1),
    {0: 1},
)
SLICE = Case(OpKind.SLICE, [In(zeros(4, 5))], Out((2, 3), FLT), {0: 1, 1: 4, 6: 2, 7: -2})
RESHAPE = Case(OpKind.RESHAPE, [In(zeros(4, 5))], Out((20,), FLT))
TRANSPOSE = Case(OpKind.TRANSPOSE, [In(zeros(4, 5))], Out((5, 4), FLT), {0: 1, 1: 0})
SOFTMAX = Case(
    OpKind.SOFTMAX,
    [In(zeros(2, 5, dtype=INT), scale=1), const(np.ones(256, np.uint32))],
    Out((2, 5), INT, scale=1),
    {0: 1},
    {F.RA: 1},
)
SOFTMAX_F = Case(OpKind.SOFTMAX, [In(zeros(2, 5)), None], Out((2, 5), FLT), {0: 1})
PAIRS = const(np.array([0, 1, 1, 2], np.int32))
HALVES = const(np.full(4, 512, np.int16))
RESIZE = Case(
    OpKind.RESIZE,
    [In(zeros(1, 4, 3, 3, dtype=INT), CB, 0.1), PAIRS, HALVES, PAIRS, HALVES],
    Out((1, 4, 2, 2), INT, CB, 0.1),
    {0: 1},
    {F.RA: 1e-6},
)
QUANTIZE = Case(OpKind.QUANTIZE, [In(zeros(3, 4))], Out((3, 4), INT, scale=0.1))
DEQUANTIZE = Case(OpKind.DEQUANTIZE, [In(zeros(3, 4, dtype=INT), scale=0.1)], Out((3, 4), FLT))
LAYOUT = Case(OpKind.LAYOUT, [In(zeros(1, 3, 4, 5))], Out((1, 3, 4, 5), FLT, CB))
LAYERNORM = Case(OpKind.LAYERNORM, [In(zeros(3, 4)), const(zeros(4)), None], Out((3, 4), FLT), {0: 1}, {0: 1e-5})

REFUSED: list[tuple[Case, Edit, str]] = [
    # windows (Conv, depthwise, pools)
    *[
        (case, p(slot, bad), words)
        for case in (CONV, DW, POOL)
        for slot, bad, words in [
            (P.KH, 0, "window height is 0"),
            (P.KW, -3, "window width is -3"),
            (P.SH, 0, "vertical stride is 0"),
            (P.SW, 1 << 20, "horizontal stride"),
            (P.DH, 0, "row dilation is 0"),
            (P.DW, -(2**31), "column dilation"),
            (P.PT, -1, "top padding is -1"),
            (P.PL, 2**31 - 1, "left padding"),
            (P.PB, 70000, "bottom padding"),
            (P.PR, 9, "output width"),
            (P.KH, 60000, "window is larger than the padded height"),
        ]
    ],
    *[(case, drop(0), "input 0 is absent") for case in (CONV, DW, POOL, GEMM, MATMUL, BINARY, UNARY, LUT, SLICE)],
    *[
        (case, shorten, r"has \d inputs, must have \d")
        for case in (
            CONV,
            GEMM,
            DW,
            MATMUL,
            BINARY,
            UNARY,
            LUT,
            PRELU,
            POOL,
            REDUCE,
            PAD,
            SLICE,
            RESHAPE,
            TRANSPOSE,
            SOFTMAX,
            RESIZE,
            QUANTIZE,
            DEQUANTIZE,
            LAYOUT,
            LAYERNORM,
        )
    ],
    # Conv and its weights
    (CONV, p(P.GROUPS, 0), "groups is 0"),
    (CONV, p(P.GROUPS, 3), "3 groups do not divide"),
    (CONV, p(P.GROUPS, 2), "weights has 576 elements"),
    (CONV, p(P.QLO, -129), "lower clamp is -129"),
    (CONV, p(P.QHI, 128), "upper clamp"),
    (CONV, p(P.QHI, -129), "upper clamp"),
    (CONV, drop(1), "weights are absent"),
    (CONV, drop(4), "lacks the scale"),
    (CONV, operand(4, np.ones(7, FLT)), "the scale has 7 elements"),
    (CONV, value(4, 3, -0.5), "scale of output channel 3"),
    (CONV, value(4, 3, INF), "scale of output channel 3"),
    (CONV, value(4, 3, 1e-40), "scale of output channel 3"),
    (CONV, value(4, 3, math.nan), "scale of output channel 3"),
    (CONV, operand(3, zeros(8)), "the bias has element type"),
    (CONV, operand(1, zeros(8, 3, 3, 8)), "the weights has element type"),
    (CONV, value(1, 77, -128), "weight 77 is -128"),
    (CONV, value(3, 2, 2**31 - 1), "output channel 2 may overflow"),
    (CONV, value(3, 2, -(2**31)), "output channel 2 may overflow"),
    (CONV_F, operand(4, np.ones(8, FLT)), "which only int8 takes"),
    (CONV_F, value(1, 5, math.nan), "weight 5 is not finite"),
    (CONV, out(scale=0.1, shape=(1, 8, 5, 4)), "output width is 4"),
    (CONV, out(shape=(2, 8, 5, 5)), "batch changes"),
    (SPARSE, p(P.WBR, 2), "block of 2x4"),
    (SPARSE, p(P.WBC, -1), "block of 1x-1"),
    (SPARSE, p(P.WENC, 3), "index encoding"),
    (SPARSE, p(P.WBLOCKS, -1), "number of blocks"),
    (SPARSE, p(P.WBLOCKS, 5), "must have 20"),
    (SPARSE, p(P.WLABEL, 6), "pattern is 6"),
    (SPARSE, drop(2), "lack their index"),
    (SPARSE, drop(1), "weights are absent"),
    (SPARSE, p(P.WBR, 0), "dense weights have an index"),
    (SPARSE, operand(2, zeros(3, dtype=np.uint8)), "index has 3 bytes"),
    (SPARSE, value(2, 0, 255), "malformed|more blocks|fewer blocks"),
    (SPARSE, p(P.GROUPS, 2), "sparse weights need one group"),
    (SPARSE, value(1, 3, -128), "weight of row 0 is -128"),
    # Gemm
    (GEMM, out(shape=(2, 7)), "elements, must have"),
    (GEMM, out(shape=(3, 8)), "dimension 0 changes"),
    (GEMM, out(shape=(16,)), "ranks of input"),
    # depthwise
    (DW, p(P.GROUPS, 3), "4 channels times 3"),
    (DW, p(P.GROUPS, -1), "multiplier is -1"),
    (DW, value(1, 9, 256), "weight 9 is 256"),
    (DW, value(2, 1, 2**31 - 1), "may overflow"),
    (DW, operand(1, np.ones((8, 3, 2), np.int16)), "weights has 48 elements"),
    (DW, drop(3), "lacks the scale"),
    # MatMul
    (MATMUL, p(0, 2), "transposition of the first"),
    (MATMUL, p(1, 1), "4 columns times 5 rows"),
    (MATMUL, f(F.RA, 0.0), "multiplier 2"),
    (MATMUL, f(F.RA, INF), "multiplier 2"),
    (MATMUL, out(shape=(2, 3, 4)), "must be 3x5"),
    (MATMUL, out(shape=(3, 3, 5)), "output has 3 in dimension 0"),
    (MATMUL, operand(1, zeros(4, dtype=INT)), "ranks 3 and 1"),
    (MATMUL, operand(1, zeros(3, 4, 5, dtype=INT)), "do not broadcast"),
    # Binary
    (BINARY, p(0, 3), "function is 3"),
    (BINARY_F, p(0, 7), "function is 7"),
    (BINARY, p(0, -1), "function is -1"),
    (BINARY, f(F.RA, -1.0), "multiplier 2"),
    (BINARY, f(F.RB, 1e31), "multiplier 3"),
    (BINARY, p(P.QLO, 200), "lower clamp"),
    (BINARY, out(shape=(2, 4)), "input 0 has 3 in dimension 1"),
    (BINARY, out(shape=(1, 2, 3)), "output has rank 3"),
    (BINARY, operand(1, zeros(3)), "second input has element type"),
    (BINARY, operand(1, zeros(1, 2, 3, dtype=INT)), "input 1 has rank 3"),
    # Unary, Lut, PRelu
    (UNARY, p(0, 20), "function is 20"),
    (UNARY, p(0, -1), "function"),
    (UNARY, out(shape=(3, 2)), "dimension 0"),
    (UNARY, out(dtype=DType.S32), "output has element type"),
    (LUT, p(0, 2), "2 tables"),
    (LUT, p(0, 3), "table has 256 elements, must have 768"),
    (LUT, p(0, -1), "-1 tables"),
    (LUT, operand(1, zeros(255, dtype=INT)), "table has 255"),
    (LUT, operand(1, zeros(256, dtype=np.uint8)), "table has element type"),
    (LUT, out(shape=(6,)), "output has rank 1"),
    (PRELU, operand(1, zeros(2)), "2 slopes"),
    (PRELU, out(shape=(2, 4)), "dimension 1"),
    # pools
    (POOL, out(zero_point=1), "different scale or zero point"),
    (POOL, out(shape=(1, 5, 3, 3)), "4 channels become 5"),
    (AVERAGE, p(P.GROUPS, 2), "flag of counted padding"),
    (AVERAGE, f(F.RA, 0.0), "multiplier 2"),
    # reductions and movement
    (REDUCE, p(0, 4), "function is 4"),
    (REDUCE, p(1, 8), "set of axes is 8"),
    (REDUCE, p(1, 1), "does not follow"),
    (REDUCE, f(F.RA, 0.0), "multiplier"),
    (PAD, p(0, 3), "mode is 3"),
    (PAD, p(1, -1), "padding before is -1"),
    (PAD, p(8, 1), "output has 5 in dimension 1"),
    (PAD, p(13, 200), "constant is 200"),
    (PAD, out(shape=(3, 5, 1)), "rank changes"),
    (CONCAT, p(0, 2), "axis is 2"),
    (CONCAT, p(0, -1), "axis is -1"),
    (CONCAT, p(0, 0), "input 0 has 3 in dimension 1"),
    (CONCAT, drop(1), "input 1 is absent"),
    (CONCAT, out(shape=(2, 5)), "inputs make 4"),
    (CONCAT, out(scale=2.0), "different scale"),
    (CONCAT, shorten, "inputs make 3"),
    (SLICE, p(0, -1), "start is -1"),
    (SLICE, p(0, 4), "start is 4"),
    (SLICE, p(6, 0), "step of dimension 0 is 0"),
    (SLICE, p(6, 3), "dimension 0 ends at 4"),
    (SLICE, p(7, -3), "dimension 1 ends at -2"),
    (SLICE, p(7, -(2**31)), "dimension 1 ends at"),
    (SLICE, out(shape=(2, 3, 1)), "rank changes"),
    (RESHAPE, out(shape=(21,)), "20 elements become 21"),
    (RESHAPE, out(dtype=DType.S32), "element type"),
    (TRANSPOSE, p(0, 2), "permutation is 2"),
    (TRANSPOSE, p(0, 0), "names dimension 0 twice"),
    (TRANSPOSE, out(shape=(4, 5)), "output has 4"),
    (SOFTMAX, p(0, 2), "axis is 2"),
    (SOFTMAX, p(1, 1), "LogSoftmax"),
    (SOFTMAX, drop(1), "lacks the table"),
    (SOFTMAX, f(F.RA, 0.0), "multiplier"),
    (SOFTMAX, operand(1, zeros(255, dtype=np.uint32)), "table has 255"),
    (SOFTMAX_F, operand(1, zeros(256, dtype=np.uint32)), "only int8 takes"),
    (RESIZE, p(0, 2), "mode is 2"),
    (RESIZE, value(1, 0, -1), "row index -1"),
    (RESIZE, value(3, 3, 3), "column index 3"),
    (RESIZE, value(2, 0, 513), "weights of row 0"),
    (RESIZE, value(4, 3, -512), "weights of column 1"),
    (RESIZE, drop(2), "lacks the weights of its rows"),
    (RESIZE, operand(1, zeros(6, dtype=np.int32)), "index table has 6"),
    (RESIZE, f(F.RA, 0.0), "multiplier"),
    (RESIZE, out(shape=(1, 5, 2, 2)), "batch or channels"),
    (QUANTIZE, out(scale=0.0), "output has no scale"),
    (QUANTIZE, out(shape=(12,)), "rank 1"),
    (QUANTIZE, out(dtype=DType.S16, scale=0.0), "must be S8 or U8"),
    (DEQUANTIZE, out(shape=(4, 3)), "output has 4"),
    (DEQUANTIZE, operand(0, zeros(3, 4)), "S8, U8 or S32"),
    (LAYOUT, p(0, 2), "order of the row-major side"),
    (LAYOUT, p(0, 1), "row-major side has 3 in dimension 1"),
    (LAYERNORM, p(0, 2), "first axis is 2"),
    (LAYERNORM, f(0, -1.0), "epsilon"),
    (LAYERNORM, operand(1, zeros(3)), "gamma has 3"),
    (LAYERNORM, operand(2, zeros(4, dtype=np.int32)), "beta has element type"),
]


def named(row: tuple[Case, Edit, str]) -> str:
    return f"{row[0].kind.name}-{row[2]}"


@pytest.mark.parametrize(("case", "edit", "words"), REFUSED, ids=[named(r) for r in REFUSED])
def test_refused(case: Case, edit: Edit, words: str) -> None:
    with pytest.raises(BundleError, match=words) as caught:
        Session(bundle(case, edit), verify=False)
    assert "subject" in str(caught.value), "the message names the operator"


@pytest.mark.parametrize("case", {id(r[0]): r[0] for r in REFUSED}.values(), ids=lambda c: c.kind.name)
def test_unchanged_cases_load(case: Case) -> None:
    Session(bundle(case), verify=False).close()


@pytest.mark.parametrize("case", [CONV_F, BINARY_F], ids=["Conv", "Binary"])
def test_f32_clamp_in_wrong_order(case: Case) -> None:
    def edit(op: Op) -> None:
        op.f[int(F.LO)], op.f[int(F.HI)] = 2.0, 1.0

    with pytest.raises(BundleError, match="lower clamp is above the upper"):
        Session(bundle(case, edit), verify=False)


def test_mirror_wider_than_the_image() -> None:
    case = replace(PAD, p={0: PadMode.REFLECT, 1: 2, 2: 0, 7: 0, 8: 0}, out=Out((4, 3), INT, scale=1))
    with pytest.raises(BundleError, match="padding before is 2"):
        Session(bundle(case), verify=False)


def test_pool_window_in_the_padding_alone() -> None:
    case = replace(
        POOL, out=Out((1, 4, 4, 3), INT, CB, 0.1), p=window_params(Window((2, 2), (2, 2), pads=(2, 0, 0, 0)), 0)
    )
    with pytest.raises(BundleError, match="window at output row 0 lies in the padding"):
        Session(bundle(case), verify=False)


def test_sums_too_long_for_32_bits() -> None:
    x = zeros(1, 140_000, dtype=INT)
    case = Case(
        OpKind.GEMM,
        [In(x, scale=0.1), None, None, None, const(np.ones(1, FLT))],
        Out((1, 1), INT, scale=0.1),
        FULL,
        weights=Weights(np.zeros((1, 140_000), INT)),
    )
    with pytest.raises(BundleError, match="too many products"):
        Session(bundle(case), verify=False)
    case = Case(
        OpKind.MATMUL,
        [In(x, scale=1), In(zeros(140_000, 1, dtype=INT), scale=1)],
        Out((1, 1), INT, scale=1),
        {},
        {F.RA: 1},
    )
    with pytest.raises(BundleError, match="140000 products"):
        Session(bundle(case), verify=False)


def test_padding_lanes_of_stored_blocks_must_be_zero() -> None:
    w = np.ones((6, 1, 1, 10), INT)
    w[:4, ..., :8] = 0
    case = Case(
        OpKind.CONV,
        [In(zeros(1, 10, 2, 2, dtype=INT), CB, 0.1), None, None, None, const(np.ones(6, FLT))],
        Out((1, 6, 2, 2), INT, CB, 0.1),
        window_params(Window()) | FULL,
        weights=Weights(w, "4x4"),
    )
    Session(bundle(case), verify=False).close()
    for at in (2, 3, -1):  # columns 10 and 11, and row 7
        with pytest.raises(BundleError, match="pads a block and must be 0"):
            Session(bundle(case, value(1, at, 1)), verify=False)
