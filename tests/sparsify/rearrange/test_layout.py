"""Unification of axes: what is bound, split, or fixed, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.sparsify.rearrange.layout import Variables, fixed, joined, positions, repeated, scaled, width


def shape(variables, layout):
    """``(variable, size, inner)`` of the resolved segments, variables numbered as they come, 0: fixed."""
    names: dict[int, int] = {}
    return [
        (0 if s.fixed else names.setdefault(s.variable, len(names) + 1), s.size, s.inner)
        for s in variables.resolve(layout)
    ]


def test_two_axes_become_one():
    v = Variables()
    a, b = v.fresh(8), v.fresh(8)
    v.unify(a, b, "")
    assert v.resolve(a) == v.resolve(b)
    assert shape(v, a) == [(1, 8, 1)]


def test_a_concatenation_splits_what_it_is_tied_to():
    v = Variables()
    a, b, c = v.fresh(3), v.fresh(5), v.fresh(8)
    v.unify(c, joined([a, b]), "")
    assert v.resolve(c) == v.resolve(joined([a, b]))
    assert shape(v, c) == [(1, 3, 1), (2, 5, 1)]


def test_two_concatenations_cut_at_different_places():
    v = Variables()
    a, b, c, d = v.fresh(4), v.fresh(8), v.fresh(8), v.fresh(4)
    v.unify(joined([a, b]), joined([c, d]), "")
    assert shape(v, joined([a, b])) == [(1, 4, 1), (2, 4, 1), (3, 4, 1)]
    assert v.resolve(joined([a, b])) == v.resolve(joined([c, d]))


def test_the_same_channels_shifted_move_alike():
    v = Variables()
    a, b = v.fresh(4), v.fresh(8)
    v.unify(joined([a, b]), joined([b, a]), "")
    assert shape(v, joined([a, b])) == [(1, 4, 1), (1, 4, 1), (1, 4, 1)]


def test_flattened_channels_move_in_runs():
    v = Variables()
    c, flat = v.fresh(6), v.fresh(54)
    v.unify(flat, scaled(c, 9), "")
    assert shape(v, flat) == [(1, 6, 9)]
    order = np.array([2, 0, 1, 3, 5, 4])
    (segment,) = v.resolve(c)
    moved = positions(v.resolve(flat), {segment.variable: order})
    np.testing.assert_array_equal(moved.reshape(6, 9) // 9, np.repeat(order, 9).reshape(6, 9))
    np.testing.assert_array_equal(moved.reshape(6, 9) % 9, np.tile(np.arange(9), (6, 1)))


def test_runs_of_runs():
    v = Variables()
    a, b, c = v.fresh(12), v.fresh(4), v.fresh(2)
    v.unify(a, scaled(b, 3), "")
    v.unify(b, scaled(c, 2), "")
    assert shape(v, a) == [(1, 2, 6)]


def test_cuts_that_do_not_meet_are_fixed_with_the_reason():
    v = Variables()
    a, b = v.fresh(4), v.fresh(6)
    v.unify(scaled(a, 3), scaled(b, 2), "node 'reshape' cuts otherwise")
    assert shape(v, a) == [(0, 4, 1)] and shape(v, b) == [(0, 6, 1)]
    assert v.resolve(a)[0].reason == "node 'reshape' cuts otherwise"


def test_a_cut_inside_a_run_fixes_it():
    v = Variables()
    a, b, c = v.fresh(4), v.fresh(5), v.fresh(7)
    v.unify(scaled(a, 3), joined([b, c]), "cut")
    assert [s[0] for s in shape(v, scaled(a, 3))] == [0]


def test_fixed_positions_reach_only_what_they_cover():
    v = Variables()
    a = v.fresh(10)
    v.unify(a, joined([fixed(2, "padding"), v.fresh(6), fixed(2, "padding")]), "")
    assert shape(v, a) == [(0, 2, 1), (1, 6, 1), (0, 2, 1)]
    assert v.resolve(a)[0].reason == "padding"


def test_pinning_reaches_everything_tied_before_and_after():
    v = Variables()
    a, b, c = v.fresh(4), v.fresh(4), v.fresh(4)
    v.unify(a, b, "")
    v.pin(b, "an input")
    v.unify(c, a, "")
    assert [v.resolve(x)[0].reason for x in (a, b, c)] == ["an input"] * 3


def test_copies_move_alike_and_take_no_time():
    v = Variables()
    c, flat = v.fresh(8), v.fresh(8 * 3000)
    v.unify(flat, repeated(c, 3000), "")
    v.unify(v.fresh(8 * 3000), flat, "")
    assert set(v.resolve(flat)) == set(v.resolve(c)) and len(v.resolve(flat)) == 3000
    (segment,) = v.resolve(c)
    moved = positions(v.resolve(flat), {segment.variable: np.arange(8)[::-1]})
    np.testing.assert_array_equal(moved[:16], [7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8])


def test_a_single_channel_has_nowhere_to_go():
    v = Variables()
    assert v.fresh(1)[0].fixed and v.fresh(0) == () and width(v.fresh(5)) == 5


def test_axes_of_different_width():
    v = Variables()
    with pytest.raises(ValueError, match="axes of 4 and 5 positions cannot be tied"):
        v.unify(v.fresh(4), v.fresh(5), "")
