"""Counts as of a time: equal to counting the earlier events one by one."""

from __future__ import annotations

import numpy as np

from onesearch.views.reward.counts import TimedCounts, occurrences


def test_counts_before_a_time_equal_a_loop_over_the_events():
    rng = np.random.default_rng(0)
    keys, times, weights = rng.integers(0, 20, 300), rng.integers(0, 30, 300), rng.random(300)
    counts = TimedCounts.of(keys, times, weights)
    asked, moments = rng.integers(-2, 25, 200), rng.integers(-1, 33, 200)
    expected = [weights[(keys == key) & (times < moment)].sum() for key, moment in zip(asked, moments)]
    np.testing.assert_allclose(counts.before(asked, moments), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(counts.before(np.arange(20)), [weights[keys == key].sum() for key in range(20)], rtol=1e-5)


def test_an_event_does_not_count_at_its_own_time():
    counts = TimedCounts.of(np.array([7, 7]), np.array([5, 5]))
    assert counts.before(np.array([7, 7, 7]), np.array([4, 5, 6])).tolist() == [0, 0, 2]


def test_without_events_every_count_is_zero():
    counts = TimedCounts.of(np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert counts.before(np.array([[1, 2]])).tolist() == [[0, 0]]


def test_occurrences_of_any_shape():
    keys = np.array([3, 5, 3, 3, 9])
    for distinct_keys in (11, 10**12):  # a counter each, and sorting
        found = occurrences(keys, np.array([[3, 4], [9, 5], [0, 10]]), distinct_keys)
        assert found.tolist() == [[3, 0], [1, 1], [0, 0]]
        assert occurrences(keys[:0], np.array([3]), distinct_keys).tolist() == [0]
