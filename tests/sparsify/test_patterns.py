"""Patterns: exact masks, counts and ties; distributions against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.sparsify import distribute
from gossamer.sparsify.matrix import Columns, from_onnx, from_plan, to_onnx
from gossamer.sparsify.patterns import BLOCK_PATTERNS, detect, get
from gossamer.sparsify.scores import magnitude

W = np.array([[1, -2, 3, -4, 5, -6, 7, -8], [8, 7, 6, 5, 4, 3, 2, 1]], dtype=np.float32)


def test_unstructured_drops_the_smallest_magnitudes_and_ties_in_order():
    mask = get("unstructured").project(W, 0.5)
    expect = np.array([[0, 0, 0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0, 0]], dtype=bool)
    # |w| of 1..4 occur twice each: the eight smallest are exactly those, 4 and 5 split nothing
    assert np.array_equal(mask, expect)
    tied = get("unstructured").project(np.ones((1, 8), np.float32), 0.25)
    assert tied.tolist() == [[False, False, True, True, True, True, True, True]]


def test_1x4_keeps_the_heavier_block_of_each():
    mask = get("1x4").project(W, 0.5)
    assert mask.tolist() == [[False] * 4 + [True] * 4, [True] * 4 + [False] * 4]


def test_4x1_and_4x4_share_rows():
    w = np.arange(1, 33, dtype=np.float32).reshape(4, 8)
    assert get("4x1").project(w, 0.5).tolist() == [[False] * 4 + [True] * 4] * 4
    assert get("4x4").project(w, 0.5).tolist() == [[False] * 4 + [True] * 4] * 4
    assert get("4x4").project(w[:3], 0.5).shape == (3, 8)


@pytest.mark.parametrize(("name", "n", "m"), [("2:4", 2, 4), ("1:4", 1, 4), ("4:8", 4, 8), ("1:2", 1, 2)])
def test_n_of_m_keeps_n_in_every_group(name, n, m):
    rng = np.random.default_rng(0)
    w = rng.standard_normal((5, 16)).astype(np.float32)
    mask = get(name).project(w)
    assert (mask.reshape(5, -1, m).sum(axis=-1) == n).all()
    groups, kept = np.abs(w).reshape(5, -1, m), mask.reshape(5, -1, m)
    assert np.where(kept, groups, np.inf).min(axis=-1).min() >= 0
    assert (np.where(kept, groups, np.inf).min(axis=-1) >= np.where(kept, -1, groups).max(axis=-1)).all()


def test_n_of_m_groups_do_not_cross_taps():
    w = np.ones((1, 1, 2, 6), dtype=np.float32)  # two taps of six channels
    matrix, columns = from_plan(w)
    mask = get("2:4").project(matrix, columns=columns)
    # per tap: group 0..3 keeps its first two, the short group 4..5 keeps both; padding is never kept
    assert mask.astype(int).tolist() == [[1, 1, 0, 0, 1, 1, 0, 0] * 2]


def test_padding_is_not_counted():
    rng = np.random.default_rng(1)
    matrix, columns = from_plan(rng.standard_normal((8, 3, 3, 5)).astype(np.float32))
    for name, pattern in BLOCK_PATTERNS.items():
        mask = pattern.project(matrix, 0.5, columns=columns)
        assert not mask[:, ~columns.valid].any()
        found = pattern.measure(matrix * mask, columns=columns)
        assert found.weights == 8 * 45
        assert found.zeros == 8 * 45 - mask.sum()
        assert abs(found.sparsity - 0.5) <= 16 / 360, name


def test_measure():
    found = get("1x4").measure(W * get("1x4").project(W, 0.5), reference=W)
    assert (found.weights, found.zeros, found.sparsity, found.stored, found.fits) == (16, 8, 0.5, 8, True)
    assert found.retained == pytest.approx(52 / 72)
    assert not get("1x4").measure(W * get("unstructured").project(W, 0.25)).fits
    assert get("2:4").measure(W * get("2:4").project(W)).fits
    assert not get("2:4").measure(W).fits


def test_thresholds():
    assert np.array_equal(get("unstructured").project(W, threshold=5), np.abs(W) >= 5)
    assert get("1x4").project(W, threshold=6.5).tolist() == [[False] * 4 + [True] * 4, [True] * 4 + [False] * 4]


@pytest.mark.parametrize("sparsity", [1.0, -0.1, float("nan"), None])
def test_impossible_sparsities_are_refused(sparsity):
    with pytest.raises(ValueError, match=r"sparsity"):
        get("1x4").project(W, sparsity)
    with pytest.raises(ValueError, match=r"0\.5, not 0\.75"):
        get("2:4").project(W, 0.75)


def test_unknown_names_name_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'unstructured'"):
        get("unstructed")
    with pytest.raises(ValueError, match="keeps n of m"):
        get("4:4")


@pytest.mark.parametrize("name", ["4x4", "1x4", "4x1", "2:4", "unstructured"])
def test_patterns_of_pruned_weights_are_recognised(name):
    matrix, columns = from_plan(np.random.default_rng(0).standard_normal((64, 3, 3, 32)).astype(np.float32))
    mask = get(name).project(matrix, None if ":" in name else 0.7, columns=columns)
    assert detect(matrix * mask, columns=columns) == name
    assert detect(matrix, columns=columns) == "dense"


def test_many_single_zeros_are_not_taken_for_n_of_m():
    w = np.random.default_rng(0).standard_normal((128, 128)).astype(np.float32)
    assert detect(w * get("unstructured").project(w, 0.9)) == "unstructured"


@pytest.mark.parametrize(
    ("shape", "transposed"), [((5, 7, 3, 3), False), ((4, 3, 1, 1), False), ((6, 9), False), ((6, 9), True)]
)
def test_onnx_weights_to_matrix_and_back(shape, transposed):
    w = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    matrix, columns = from_onnx(w, transposed=transposed)
    assert matrix.shape[1] == columns.count and matrix.shape[1] % 4 == 0
    assert np.array_equal(to_onnx(matrix, shape, transposed=transposed), w)


def test_channels_are_innermost():
    w = np.arange(2 * 3 * 1 * 2, dtype=np.float32).reshape(2, 3, 1, 2)
    matrix, columns = from_onnx(w)
    assert columns == Columns(taps=2, channels=3)
    assert matrix[0].tolist() == [0, 2, 4, 0, 1, 3, 5, 0]


def test_magnitude_of_quantised_weights():
    q = np.array([[130, 126], [128, 255]], dtype=np.uint8)
    scores = magnitude(q, scale=np.array([[0.5], [2.0]]), zero_point=128)
    assert scores.tolist() == [[1.0, 1.0], [0.0, 254.0]]


def test_erk_by_hand():
    # Raw densities: (4+4)/16 = .5 and (16+4)/64 = .3125. Budget at 50%: 40 of 80. factor = 40 / (.5*16 + .3125*64)
    # = 40/28; densities .714286 and .446429: 11.43 + 28.57 = 40.
    found = distribute.erk([(4, 4), (16, 4)], 0.5)
    assert found == pytest.approx([1 - 0.5 * 40 / 28, 1 - 0.3125 * 40 / 28])
    # At 20% the small layer's share would be .5*64/28 = 1.14: it stays dense and the other keeps 64 - 16 = 48 of 64.
    assert distribute.erk([(4, 4), (16, 4)], 0.2) == pytest.approx([0.0, 0.25])
    # Kernel sizes count: (2+2+3+3)/36 for the 3x3 one.
    one, two = distribute.erk([(2, 2, 3, 3), (8, 8)], 0.5)
    assert (1 - one) / (1 - two) == pytest.approx((10 / 36) / (16 / 64))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 64), st.integers(1, 64)), min_size=1, max_size=6),
    st.floats(0.0, 0.999),
)
def test_erk_meets_its_budget_and_stays_in_range(shapes, sparsity):
    found = distribute.erk(shapes, sparsity)
    sizes = [a * b for a, b in shapes]
    assert all(0.0 <= s < 1.0 for s in found)
    assert sum(s * n for s, n in zip(found, sizes, strict=True)) == pytest.approx(sparsity * sum(sizes), abs=1e-6)


def test_global_threshold_by_hand():
    # 20 weights, 50%: ten go. Without a minimum those are the ten smallest of all: 1..8 of the first layer, 9, 10.
    a, b = np.arange(1.0, 11.0), np.arange(9.5, 19.5)
    ones = np.ones(10, int)
    keep_a, keep_b = distribute.global_threshold([a, b], [ones, ones], 0.5, 0.0)
    assert a[keep_a].tolist() == [10.0] and b[keep_b].tolist() == b[1:].tolist()
    # With a minimum of .2 * 20 = 4 a layer the first keeps its best four (7..10) and drops six; the second makes up
    # for the difference and drops four.
    keep_a, keep_b = distribute.global_threshold([a, b], [ones, ones], 0.5, 0.2)
    assert a[keep_a].tolist() == [7.0, 8.0, 9.0, 10.0]
    assert b[keep_b].tolist() == b[4:].tolist()


def test_global_threshold_leaves_layers_below_the_minimum_whole():
    tiny, big = np.array([0.1, 0.2]), np.arange(1.0, 99.0)
    keeps = distribute.global_threshold([tiny, big], [np.ones(2, int), np.ones(98, int)], 0.5, 0.03)
    assert keeps[0].all()  # 2 weights, the minimum is 3
    assert int((~keeps[1]).sum()) == 50


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), sparsity=st.floats(0.0, 0.99), layers=st.integers(1, 5))
def test_global_threshold_meets_total_and_minimum(seed, sparsity, layers):
    rng = np.random.default_rng(seed)
    scores = [rng.random(rng.integers(1, 200)) for _ in range(layers)]
    counts = [np.ones(s.size, int) for s in scores]
    total = sum(s.size for s in scores)
    keeps = distribute.global_threshold(scores, counts, sparsity, 0.01)
    minimum = int(np.ceil(0.01 * total))
    for keep in keeps:
        assert keep.sum() >= min(minimum, keep.size)
    dropped = sum(int((~k).sum()) for k in keeps)
    possible = sum(max(0, s.size - minimum) for s in scores)
    assert dropped == min(distribute.round_half_up(sparsity * total), possible)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 999), size=st.integers(1, 300), target=st.integers(0, 320), levels=st.integers(1, 50))
def test_drop_smallest_counts_exactly(seed, size, target, levels):
    scores = np.random.default_rng(seed).integers(0, levels, size).astype(np.float32)
    keep = distribute.drop_smallest(scores, np.ones(size, int), target)
    assert int((~keep).sum()) == min(target, size)
    if keep.any() and not keep.all():
        assert scores[keep].min() >= scores[~keep].max()


def test_drop_smallest_with_blocks_of_different_size_comes_nearest():
    keep = distribute.drop_smallest(np.array([1.0, 2.0, 3.0]), np.array([4, 2, 4]), 5)
    assert keep.tolist() == [False, True, True]  # 4 and 6 are equally near: the smaller


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    rows=st.integers(1, 12),
    channels=st.integers(1, 12),
    taps=st.sampled_from([1, 9]),
    sparsity=st.floats(0, 0.99),
    name=st.sampled_from(["unstructured", "1x4", "4x1", "4x4"]),
)
def test_masks_are_whole_blocks_within_one_block_of_the_target(seed, rows, channels, taps, sparsity, name):
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((rows, taps, 1, channels)).astype(np.float32)
    matrix, columns = from_plan(w)
    pattern = get(name)
    mask = pattern.project(matrix, sparsity, columns=columns)
    br, bc = pattern.block
    full = np.pad(mask | ~columns.valid, ((0, -rows % br), (0, 0)), mode="edge")
    blocks = full.reshape(-1, br, full.shape[1] // bc, bc).transpose(0, 2, 1, 3).reshape(-1, br * bc)
    real = np.broadcast_to(columns.valid, full.shape).reshape(-1, br, full.shape[1] // bc, bc)
    real = real.transpose(0, 2, 1, 3).reshape(-1, br * bc)
    assert all(b[r].all() or not b[r].any() for b, r in zip(blocks, real, strict=True))
    zeros = w.size - int(mask.sum())
    assert abs(zeros - sparsity * w.size) <= br * bc
