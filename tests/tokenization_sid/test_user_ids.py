"""User signatures against the formula written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onesearch.tokenization_sid.ragged import Ragged
from onesearch.tokenization_sid.user_ids import recency_weights
from onesearch.tokenization_sid.user_ids import user_signatures as signatures_of

CODEBOOK_SIZES = (9, 5, 2)
HISTORY = st.lists(st.tuples(*(st.integers(0, size - 1) for size in CODEBOOK_SIZES)), max_size=12)


def user_signatures(histories, codebook_sizes):
    return signatures_of(Ragged.of(histories, (3,) if not histories else np.shape(histories[0])[1:]), codebook_sizes)


def written_out(history, level):
    total = sum(math.exp(math.sqrt(i)) for i in range(1, len(history) + 1))
    mean = sum(math.exp(math.sqrt(i)) / total * sid[level] for i, sid in enumerate(history, start=1))
    return min(math.ceil(round(mean, 9)), CODEBOOK_SIZES[level] - 1)


@given(st.lists(HISTORY, max_size=6))
def test_signatures_are_rounded_up_weighted_means(histories):
    found = user_signatures([np.array(history, dtype=int).reshape(-1, 3) for history in histories], CODEBOOK_SIZES)
    assert found.shape == (len(histories), 3)
    for row, history in zip(found.tolist(), histories):
        assert row == ([written_out(history, level) for level in range(3)] if history else [-1] * 3)


def test_the_most_recent_item_weighs_most():
    weights = recency_weights(5)
    assert weights.round(3).tolist() == pytest.approx([0.093, 0.141, 0.194, 0.253, 0.320], abs=2e-3)  # the paper's .093 … .320
    assert weights.sum() == pytest.approx(1) and (np.diff(weights) > 0).all()
    old, new = [[8, 0, 0]] + [[0, 0, 0]] * 4, [[0, 0, 0]] * 4 + [[8, 0, 0]]
    signatures = user_signatures([np.array(old), np.array(new)], CODEBOOK_SIZES)
    assert signatures[0, 0] < signatures[1, 0]


def test_equal_items_give_their_own_codes():
    for count in range(1, 40):
        assert user_signatures([np.array([[7, 3, 1]] * count)], CODEBOOK_SIZES).tolist() == [[7, 3, 1]]


@pytest.mark.parametrize(
    ("history", "message"), [([[9, 0, 0]], "code 9 at level 0 is outside 0..8"), ([[0, 0]], "expected 3 levels")]
)
def test_histories_that_do_not_fit_are_refused(history, message):
    with pytest.raises(ValueError, match=message):
        user_signatures([np.array(history)], CODEBOOK_SIZES)
