"""Ragged arrays against lists of lists."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onesearch.tokenization_sid.ragged import Part, Ragged, join, spans

ROWS = st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=6)


@given(ROWS, st.integers(0, 6))
def test_rows_and_tails(rows, most):
    ragged = Ragged.of(rows)
    assert ragged.tolist() == rows and [ragged[row].tolist() for row in range(len(ragged))] == rows
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    assert ragged.tail(most).tolist() == [row[len(row) - most :] if most < len(row) else row for row in rows]


@given(ROWS, st.data())
def test_taking_rows(rows, data):
    wanted = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8)) if rows else []
    assert Ragged.of(rows).take(np.array(wanted, dtype=int)).tolist() == [rows[row] for row in wanted]


@given(st.lists(st.tuples(st.lists(st.integers(0, 9), max_size=3), st.lists(st.integers(0, 9), max_size=3), st.booleans())))
def test_joining_puts_parts_side_by_side(rows):
    first, second = (Ragged.of([row[place] for row in rows]) for place in (0, 1))
    shown = np.array([row[2] for row in rows], dtype=np.int64)
    parts = [Part(one.values, one.offsets[:-1], one.lengths) for one in (first, second)]
    parts.append(Part(np.array([7, 8]), 0, 2 * shown))  # the same entries in some rows
    assert join(parts).tolist() == [[*one, *other, *([7, 8] if there else [])] for one, other, there in rows]


def test_parts_may_overlap_and_repeat():
    part = Part(np.array([1, 2, 3]), np.array([1, 0, 1]), np.array([2, 2, 0]))
    assert join([part, part]).tolist() == [[2, 3, 2, 3], [1, 2, 1, 2], []]


def test_entries_of_several_numbers():
    ragged = Ragged.of([[[1, 2]], [], [[3, 4], [5, 6]]], (2,))
    assert ragged.values.shape == (3, 2) and ragged.tail(1).tolist() == [[[1, 2]], [], [[5, 6]]]
    assert ragged.padded(-1).tolist() == [[[1, 2], [-1, -1]], [[-1, -1], [-1, -1]], [[3, 4], [5, 6]]]
    assert ragged.padded(-1, "left").tolist() == [[[-1, -1], [1, 2]], [[-1, -1], [-1, -1]], [[3, 4], [5, 6]]]
    assert ragged.places().tolist() == [[True, False], [False, False], [True, True]]
    assert ragged.places("left").tolist() == [[False, True], [False, False], [True, True]]
    assert Ragged.of([], (2,)).values.shape == (0, 2) and Ragged.of([[]], (2,)).padded(-1).shape == (1, 1, 2)


def test_spans():
    assert spans(np.array([3, 0, 9]), np.array([2, 0, 1])).tolist() == [3, 4, 9]
