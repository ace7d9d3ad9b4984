"""Adaptive rewards: hand-worked cases of the paper's formula, and weights of pairs where the printed form has a pole."""

from __future__ import annotations

import numpy as np
import pytest

from onesearch.trainers.reward.adaptive import RewardFormula, adaptive_reward, ctr_and_cvr, pair_weight


def test_the_rates_follow_the_papers_formula():
    # log(110) / (log(1010) + log(110) + log(20)) = 4.70048 / 14.61392, and log(20) / log(110) = 2.99573 / 4.70048
    ctr, cvr = ctr_and_cvr(np.array([1000]), np.array([100]), np.array([10]))
    assert ctr[0] == pytest.approx(0.321645, abs=1e-5) and cvr[0] == pytest.approx(0.637325, abs=1e-5)


@pytest.mark.parametrize(
    ("counts", "factor"), [((0, 0, 0), 0.5), ((1000, 100, 10), 0.4275), ((1000, 0, 0), 0.333), ((100, 50, 30), 0.481)]
)
def test_the_reward_is_the_level_times_the_harmonic_mean_of_the_rates(counts, factor):
    levels = np.arange(1, 7)
    rewards = adaptive_reward(levels, *(np.full(6, count) for count in counts))
    np.testing.assert_allclose(rewards, factor * np.array([2, 1.5, 1, 0.5, 0.2, 0]), atol=6e-4)


def test_items_without_statistics_outrank_measured_ones_unless_they_take_their_mean():
    levels, shown, clicked, ordered = np.full(3, 3), np.array([0, 1000, 200]), np.array([0, 100, 30]), np.array([0, 10, 2])
    paper = adaptive_reward(levels, shown, clicked, ordered)
    mean = adaptive_reward(levels, shown, clicked, ordered, RewardFormula(cold="mean"))
    assert paper[0] > paper[1:].max()
    assert mean[0] == pytest.approx(paper[1:].mean()) and (mean[1:] == paper[1:]).all()


def test_the_weight_of_a_pair_is_bounded_where_the_printed_form_has_a_pole_or_is_negative():
    chosen, rejected = np.array([0.9, 0.5, 0.4, 0.40001]), np.array([0.4, 0.5, 0.6, 0.4])
    np.testing.assert_allclose(pair_weight(chosen, rejected), [2, 5, 5, 5])
    np.testing.assert_allclose(pair_weight(0.9, 0.4, RewardFormula(margin="code", largest=10)), 0.6**-1.5 + 1)
    np.testing.assert_allclose(pair_weight(0.2, 1.5, RewardFormula(margin="code", largest=10)), 10)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": (1, 2)}, "six numbers"),
        ({"cold": "none"}, "cold='none': allowed are paper, mean"),
        ({"margin": "log"}, "margin='log': allowed are printed, code"),
        ({"largest": 0}, "must be above 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        RewardFormula(**changes)


def test_values_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="levels hold 0 to 1; allowed are 1 to 6"):
        adaptive_reward(np.array([0, 1]), *np.zeros((3, 2)))
    with pytest.raises(ValueError, match="clicked holds -1"):
        ctr_and_cvr(np.array([1]), np.array([-1]), np.array([0]))
