"""Ragged arrays against lists of lists."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onesearch.tokenization_sid.ragged import Ragged, join, repeat, spans

ROWS = st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=6)


def lists(ragged):
    return [ragged[row].tolist() for row in range(len(ragged))]


@given(ROWS, st.integers(0, 6))
def test_rows_heads_and_tails(rows, most):
    ragged = Ragged.of(rows)
    assert lists(ragged) == rows and ragged.lengths.tolist() == [len(row) for row in rows]
    assert lists(ragged.head(most)) == [row[:most] for row in rows]
    assert lists(ragged.tail(most)) == [row[len(row) - most :] if most < len(row) else row for row in rows]
    own = np.arange(len(rows))
    assert lists(ragged.head(own)) == [row[:place] for place, row in enumerate(rows)]


@given(ROWS, st.data())
def test_taking_rows(rows, data):
    wanted = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8)) if rows else []
    assert lists(Ragged.of(rows).take(np.array(wanted, dtype=int))) == [rows[row] for row in wanted]


@given(st.lists(st.tuples(*[st.lists(st.integers(0, 9), max_size=3)] * 3), max_size=5), st.data())
def test_joining_puts_parts_side_by_side(rows, data):
    there = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), dtype=bool)
    parts = [Ragged.of([row[place] for row in rows]) for place in range(3)] + [repeat(np.array([7, 8]), there)]
    assert lists(join(parts)) == [sum(row, []) + ([7, 8] if shown else []) for row, shown in zip(rows, there)]


def test_entries_of_several_numbers():
    ragged = Ragged.of([[[1, 2]], [], [[3, 4], [5, 6]]], (2,))
    assert ragged.values.shape == (3, 2)
    assert lists(ragged.flatten()) == [[1, 2], [], [3, 4, 5, 6]]
    assert Ragged.of([], (2,)).values.shape == (0, 2)


def test_spans():
    assert spans(np.array([3, 0, 9]), np.array([2, 0, 1])).tolist() == [3, 4, 9]
