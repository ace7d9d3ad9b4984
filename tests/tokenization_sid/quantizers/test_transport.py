"""Auction and transport: the bound is kept at the least cost, and the prices support the assignment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from onesearch.tokenization_sid.quantizers.auction import auction
from onesearch.tokenization_sid.quantizers.transport import Candidates, Transport


def crowded(seed, count=40, size=6):
    """Vectors that all like the first codes best; every code is a candidate of every vector."""
    costs = np.random.default_rng(seed).random((count, size)) + np.arange(size)
    return Candidates(np.tile(np.arange(size, dtype=np.int32), (count, 1)), costs)


def loads_of(candidates, prices):
    rows = candidates.values(prices).argmin(axis=1)
    return np.bincount(candidates.codes[np.arange(len(rows)), rows], minlength=len(prices))


@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(7, 12))
def test_moves_along_shortest_paths_cost_the_least(seed, limit):
    candidates = crowded(seed)
    transport = Transport(candidates, np.zeros(6))
    while transport.excess(limit):
        assert transport.relieve(limit)
        values = candidates.values(transport.prices)
        chosen = candidates.costs[np.arange(40), transport.code] + transport.prices[transport.code]
        np.testing.assert_allclose(chosen, values.min(axis=1), atol=1e-9)  # the invariant
    places = np.repeat(candidates.costs, limit, axis=1)
    rows, columns = linear_sum_assignment(places)
    assert transport.own.sum() == pytest.approx(places[rows, columns].sum())
    assert np.array_equal(transport.loads, np.bincount(transport.code, minlength=6)) and transport.loads.max() <= limit
    assert np.array_equal(loads_of(candidates, transport.strict_prices()), transport.loads)


def test_vectors_without_another_candidate_stay():
    candidates = Candidates(np.zeros((5, 1), dtype=np.int32), np.zeros((5, 1)))
    transport = Transport(candidates, np.zeros(3))
    assert transport.excess(2) == 3 and not transport.relieve(2)
    assert transport.loads.tolist() == [5, 0, 0] and not transport.prices.any()


@pytest.mark.parametrize("limit", [7, 8, 20])
def test_an_auction_keeps_the_limit_and_leaves_its_start_alone(limit):
    candidates, prices = crowded(0), np.zeros(6)
    found = auction(candidates, prices, limit, risk=0.03)
    assert loads_of(candidates, prices).max() > 20 >= limit >= loads_of(candidates, found).max()
    assert not prices.any()
