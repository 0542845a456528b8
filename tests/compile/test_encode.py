"""Encoded weights read back by a decoder written from plan_format.h alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer._errors import CompileError
from gossamer.compile.encode import encode_weights
from gossamer.compile.plan import DType, Encoding, Op, OpKind, P, PatternLabel, Plan, Tensor, Weights
from gossamer.sparsify.blocks import encode_blocks
from gossamer.sparsify.matrix import Columns, from_plan, to_plan
from gossamer.sparsify.patterns import get


def decode(values, index, rows, cols, br, bc, blocks, encoding):
    """Sums the stored blocks into a [rows, cols] matrix, byte by byte as the format page says."""
    block_rows, block_cols = -(-rows // br), cols // bc
    counts = index[: 2 * block_rows].view("<u2")
    assert int(counts.sum()) == blocks
    stream = index[2 * block_rows :]
    out = np.zeros((block_rows * br, cols), dtype=np.float64 if values.dtype == np.float32 else np.int64)
    flat, at, pos = values.reshape(-1), 0, 0
    for r in range(block_rows):
        columns = []
        if encoding == Encoding.BITMAP:
            size = -(-block_cols // 8)
            bits = stream[pos : pos + size]
            pos += size
            columns = [c for c in range(size * 8) if bits[c // 8] >> (c % 8) & 1]
            assert len(columns) == counts[r]
        else:
            previous = 0
            for _ in range(counts[r]):
                while stream[pos] == 255:
                    previous += 255
                    pos += 1
                previous += int(stream[pos])
                pos += 1
                columns.append(previous)
        assert columns == sorted(columns)
        for c in columns:
            block = flat[at : at + br * bc].reshape(br, bc)
            out[r * br : (r + 1) * br, c * bc : (c + 1) * bc] += block
            at += br * bc
    assert pos == stream.size and at == flat.size
    assert not out[rows:].any()
    return out[:rows]


def conv(dense, pattern="dense", groups=1, kind=OpKind.CONV):
    x = Tensor("x", DType.S8, (1, dense.shape[-1] * groups, 8, 8))
    y = Tensor("y", DType.S8, (1, dense.shape[0], 8, 8))
    return Op(kind, [x, None, None, None, None], [y], {P.GROUPS: groups}, {}, "op", "", Weights(dense, pattern))


def stored(op):
    values, index = op.inputs[1].data, op.inputs[2].data
    return values, index, op.p[P.WBR], op.p[P.WBC], op.p[P.WBLOCKS], op.p[P.WENC]


def masked(rng, shape, pattern, sparsity, dtype):
    low = -127 if dtype == np.int8 else -255
    w = rng.standard_normal(shape).astype(np.float32)
    if dtype != np.float32:
        w = rng.integers(low, -low + 1, shape).astype(dtype)
        w[w == 0] = 1
    matrix, columns = from_plan(w)
    wanted = None if ":" in pattern else sparsity
    return to_plan(matrix * get(pattern).project(matrix, wanted, columns=columns), shape)


SHAPES = [(8, 1, 1, 8), (7, 3, 3, 5), (5, 12), (1, 1), (33, 2, 1, 300), (16, 1, 1, 3)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pattern", ["unstructured", "1x4", "4x1", "4x4", "2:4"])
@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.float32])
def test_round_trip(shape, pattern, dtype):
    w = masked(np.random.default_rng(3), shape, pattern, 0.7, dtype)
    op = conv(w, pattern, kind=OpKind.CONV if len(shape) == 4 else OpKind.GEMM)
    (record,) = encode_weights(Plan([op], [], []))
    assert op.weights is None
    assert record.zeros == w.size - np.count_nonzero(w)
    if op.p[P.WBR] == 0:
        assert np.array_equal(op.inputs[1].data, w) and op.inputs[2] is None
        return
    values, index, br, bc, blocks, encoding = stored(op)
    assert values.dtype in (np.int8, np.float32)
    assert values.shape == (blocks, br, bc) and blocks == record.blocks
    if values.dtype == np.int8:
        assert values.min() >= -127
    matrix = decode(values, index, shape[0], from_plan(w)[0].shape[1], br, bc, blocks, encoding)
    assert np.array_equal(to_plan(matrix, shape), w)
    assert record.stored_bytes == values.nbytes + index.nbytes


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 9),
    groups=st.integers(1, 200),
    density=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    block=st.sampled_from([(1, 1), (1, 4), (4, 1), (4, 4)]),
    top=st.sampled_from([127, 128, 255, 400]),
)
def test_round_trip_of_any_matrix(seed, rows, groups, density, block, top):
    rng = np.random.default_rng(seed)
    shape = (rows, groups * 4)
    m = (rng.integers(-top, top + 1, shape) * (rng.random(shape) < density)).astype(np.int16)
    e = encode_blocks(m, *block)
    assert np.array_equal(decode(e.values, e.index, *shape, *block, e.blocks, e.encoding), m)


def test_long_gaps_are_told_in_steps_of_255():
    m = np.zeros((1, 2048), dtype=np.int8)
    m[0, [0, 255, 765, 2047]] = [1, 2, 3, 4]
    e = encode_blocks(m, 1, 1)
    assert e.encoding == Encoding.DELTA8
    assert e.index.tolist() == [4, 0, 0, 255, 0, 255, 255, 0, 255, 255, 255, 255, 255, 7]
    assert e.values.reshape(-1).tolist() == [1, 2, 3, 4]


def test_the_smaller_index_wins():
    m = np.zeros((1, 64), dtype=np.int8)
    m[0, :9] = 1
    assert encode_blocks(m, 1, 1).encoding == Encoding.BITMAP  # 8 bytes of bits against 9 of deltas
    m[0, 8] = 0
    assert encode_blocks(m, 1, 1).encoding == Encoding.DELTA8  # equal: deltas


def test_wide_integers_become_repeated_columns():
    m = np.array([[-128, 255, 3, 0, 127, 0, 0, 0]], dtype=np.int16)
    e = encode_blocks(m, 1, 4)
    assert e.encoding == Encoding.DELTA8 and e.blocks == 4
    assert e.values.reshape(4, 4).tolist() == [[-127, 127, 3, 0], [-1, 127, 0, 0], [0, 1, 0, 0], [127, 0, 0, 0]]
    assert e.index.tolist() == [4, 0, 0, 0, 0, 1]


def test_dense_int8_stays_an_array_and_minus_128_is_split():
    w = np.arange(-8, 8, dtype=np.int8).reshape(4, 4)
    op = conv(w, kind=OpKind.GEMM)
    encode_weights(Plan([op], [], []))
    assert op.p[P.WBR] == 0 and op.p[P.WLABEL] == PatternLabel.DENSE
    assert op.inputs[1].dtype == DType.S8 and np.array_equal(op.inputs[1].data, w)
    w = w.copy()
    w[2, 1] = -128
    op = conv(w, kind=OpKind.GEMM)
    (record,) = encode_weights(Plan([op], [], []))
    values, index, br, bc, blocks, encoding = stored(op)
    assert np.array_equal(decode(values, index, 4, 4, br, bc, blocks, encoding), w)
    assert "127" in record.reason


def test_grouped_wide_weights_become_one_ungrouped_matrix():
    w = np.full((4, 1, 1, 2), 200, dtype=np.int16)
    op = conv(w, groups=2)
    encode_weights(Plan([op], [], []))
    values, index, br, bc, blocks, encoding = stored(op)
    assert op.p[P.GROUPS] == 1
    expect = [[200, 200, 0, 0]] * 2 + [[0, 0, 200, 200]] * 2
    assert decode(values, index, 4, 4, br, bc, blocks, encoding).tolist() == expect


def test_grouped_convolutions_stay_dense_and_say_so():
    w = np.zeros((4, 1, 1, 4), dtype=np.int8)
    w[0] = 1
    op = conv(w, "1x4", groups=2)
    (record,) = encode_weights(Plan([op], [], []))
    assert op.p[P.WBR] == 0 and record.pattern == "dense" and "grouped" in record.reason


def test_dense_weights_are_stored_in_blocks_where_that_is_smaller():
    w = masked(np.random.default_rng(0), (16, 1, 1, 64), "1x4", 0.75, np.int8)
    op = conv(w)
    op.weights.storage = "1x4"
    (record,) = encode_weights(Plan([op], [], []))
    values, index, br, bc, blocks, encoding = stored(op)
    assert (br, bc, op.p[P.WLABEL]) == (1, 4, PatternLabel.DENSE)
    assert np.array_equal(decode(values, index, 16, 64, br, bc, blocks, encoding).reshape(w.shape), w)
    assert record.pattern == "dense" and record.stored_bytes < record.dense_bytes and "1x4" in record.reason
    op = conv(masked(np.random.default_rng(0), (16, 1, 1, 64), "unstructured", 0.1, np.int8))
    op.weights.storage = "unstructured"
    encode_weights(Plan([op], [], []))
    assert op.p[P.WBR] == 0  # blocks would take more bytes


def test_all_zero_weights_store_one_block():
    w = np.zeros((8, 16), dtype=np.int8)
    op = conv(w, "4x4", kind=OpKind.GEMM)
    (record,) = encode_weights(Plan([op], [], []))
    values, index, br, bc, blocks, encoding = stored(op)
    assert blocks == 1 and record.sparsity == 1.0
    assert not decode(values, index, 8, 16, br, bc, blocks, encoding).any()


def test_labels_and_n_of_m():
    w = masked(np.random.default_rng(0), (4, 16), "2:4", None, np.int8)
    op = conv(w, "2:4", kind=OpKind.GEMM)
    (record,) = encode_weights(Plan([op], [], []))
    assert (op.p[P.WBR], op.p[P.WBC], op.p[P.WN], op.p[P.WM]) == (1, 1, 2, 4)
    assert op.p[P.WLABEL] == PatternLabel.NM
    assert record.blocks == 32 and record.sparsity == 0.5


@pytest.mark.parametrize(("top", "dtype"), [(127, DType.S8), (255, DType.S16)])
def test_depthwise_weights(top, dtype):
    w = np.array([[[top, -top]], [[1, 0]]], dtype=np.int16)
    x, y = Tensor("x", DType.S8, (1, 2, 4, 4)), Tensor("y", DType.S8, (1, 2, 4, 3))
    op = Op(OpKind.DWCONV, [x, None, None, None], [y], {}, {}, "dw", "", Weights(w))
    encode_weights(Plan([op], [], []))
    assert op.inputs[1].dtype == dtype and np.array_equal(op.inputs[1].data, w)
    assert op.inputs[2] is None


def test_bad_weights_are_named():
    w = np.zeros((4, 4), dtype=np.float32)
    w[1, 2] = np.nan
    with pytest.raises(CompileError, match="NaN"):
        encode_weights(Plan([conv(w, kind=OpKind.GEMM)], [], []))
    with pytest.raises(CompileError, match="did you mean '4x4'"):
        encode_weights(Plan([conv(np.zeros((4, 4), np.int8), "4x5", kind=OpKind.GEMM)], [], []))
    dw = conv(np.full((4, 1, 1), 256, dtype=np.int16), kind=OpKind.DWCONV)
    with pytest.raises(CompileError, match="256"):
        encode_weights(Plan([dw], [], []))


def test_columns_follow_plan_order():
    w = np.arange(2 * 1 * 2 * 3).reshape(2, 1, 2, 3)
    matrix, columns = from_plan(w)
    assert columns == Columns(taps=2, channels=3)
    assert matrix.tolist() == [[0, 1, 2, 0, 3, 4, 5, 0], [6, 7, 8, 0, 9, 10, 11, 0]]
    assert np.array_equal(to_plan(matrix, w.shape), w)
