"""Weights of the ranking: the score is their sum, the fitted ones rank validation hits at least as well as the first ones."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest

from onesearch.views.reward.ranking import RankingWeights, first_relevance, fit_weights, ndcg, rewards, stable_order, terms


def test_the_score_is_the_weighted_sum_of_probabilities_relevance_and_log_p():
    logits = np.zeros((1, 2, 3))
    logits[0, 1] = [np.log(3), np.log(1 / 3), 0]
    found = rewards(RankingWeights(1, 2, 4, 8, 16), logits, np.array([[0.25, 0.5]]), np.array([[-1.0, -2.0]]))
    np.testing.assert_allclose(found, [[0.5 + 1 + 2 + 2 - 1.6, 0.75 + 0.5 + 2 + 4 - 3.2]])


def test_ndcg_of_hand_made_lists():
    wanted, known = np.array([[False, True, False], [False, False, False]]), np.ones((2, 3), dtype=bool)
    assert ndcg(np.array([[3.0, 2, 1], [1, 1, 1]]), wanted, known) == pytest.approx(1 / np.log2(3))
    assert ndcg(np.array([[3.0, 9, 1], [1, 1, 1]]), wanted, known) == 1
    known[0, 0] = False
    assert ndcg(np.array([[3.0, 2, 1], [1, 1, 1]]), wanted, known) == 1
    assert ndcg(np.zeros((2, 3)), np.zeros((2, 3), dtype=bool), known) == 0


@pytest.mark.parametrize("useful", range(5))
def test_the_fit_finds_the_term_that_tells_the_wanted_items(useful):
    rng = np.random.default_rng(useful)
    parts = rng.random((60, 20, 5))
    wanted = np.zeros((60, 20), dtype=bool)
    wanted[np.arange(60), parts[:, :, useful].argmax(axis=1)] = True
    known = np.ones_like(wanted)
    weights = fit_weights(parts, wanted, known, keep_relevance=False)
    values = np.array([weights.ctr, weights.cvr, weights.ctcvr, weights.relevance, weights.log_p])
    first = ndcg(parts[:, :, 2], wanted, known)
    assert values.argmax() == useful and ndcg(parts @ values, wanted, known) >= max(first, 0.95)


def test_without_wanted_items_the_weights_stay():
    parts = terms(np.zeros((3, 4, 3)), np.zeros((3, 4)), np.zeros((3, 4)))
    assert fit_weights(parts, np.zeros((3, 4), dtype=bool), np.ones((3, 4), dtype=bool)) == RankingWeights()


def test_equal_scores_keep_their_order():
    assert stable_order(np.array([1.0, 2.0, 1.0, 2.0])).tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize("values", [(-1, 0, 1, 0, 0), (0, 0, 0, 0, 0), (float("nan"), 0, 1, 0, 0)])
def test_weights_that_do_not_fit_are_refused(values):
    with pytest.raises(ValueError, match="weights must be at least 0"):
        RankingWeights(*values)


def test_the_first_ten_do_not_lose_relevance():
    """Twenty candidates: the bought one is least relevant, and CTCVR alone puts it and others like it in front."""
    rng = np.random.default_rng(0)
    parts = np.zeros((50, 20, 5))
    parts[..., 2] = rng.random((50, 20))
    parts[..., 3] = 0.5 - 0.5 * parts[..., 2]  # what sells is not what was asked for
    parts[..., 4] = parts[..., 3]  # the generator's order is that of relevance
    wanted, known = parts[..., 2] == parts[..., 2].max(axis=1, keepdims=True), np.ones((50, 20), dtype=bool)
    own = first_relevance(parts[..., 4], parts[..., 3], known)
    free, kept = (fit_weights(parts, wanted, known, keep_relevance=keep) for keep in (False, True))
    relevance = [first_relevance(parts @ np.array(astuple(weights)), parts[..., 3], known) for weights in (free, kept)]
    assert relevance[0] < own - 0.1 and relevance[1] >= own - 0.0011
    order = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 9.0]])
    there = np.array([[True, True, True], [True, True, False]])
    assert first_relevance(order, np.array([[0.1, 0.2, 0.3], [0.4, 0.6, 9.0]]), there) == pytest.approx((0.2 + 0.5) / 2)
