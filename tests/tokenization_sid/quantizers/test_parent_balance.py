"""Balance inside parents: the bound, the least total distance, the same codes again, and room for new items."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from threadpoolctl import threadpool_limits

from onesearch import RQOPQ, RQOPQConfig
from onesearch.tokenization_sid.quantizers import parent_balance
from onesearch.tokenization_sid.quantizers.configs import PRQConfig
from onesearch.tokenization_sid.quantizers.nearest import nearest
from onesearch.tokenization_sid.quantizers.new_items import Published, free_codes
from onesearch.tokenization_sid.quantizers.parent_balance import balance_parents, prices_in_parent
from onesearch.tokenization_sid.quantizers.parents import ParentPrices, RowPrices, parent_ids
from onesearch.tokenization_sid.quantizers.variants import PRQ

CONFIG = RQOPQConfig(residual_sizes=(8, 4, 8), opq=(1, 4), iterations=3)


def clustered(rows=600, dimension=12, seed=0):
    """Unit vectors around a few centres, so that some parents are crowded."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(10, dimension))
    vectors = centres[random.integers(0, 10, rows)] + 0.3 * random.normal(size=(rows, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def excess(parents, codes, size):
    """Number of vectors above ⌈n / codes⌉ in their parent and code."""
    members, loads = Counter(parents), Counter(zip(parents, codes))
    return sum(max(0, load + (-members[parent] // size)) for (parent, _), load in loads.items())


def excess_of(quantizer, codes):
    sizes = quantizer.config.residual_sizes
    parents = [tuple(row) for row in codes[:, : len(sizes) - 1].tolist()]
    return excess(parents, codes[:, len(sizes) - 1].tolist(), sizes[-1])


@pytest.fixture(scope="module")
def vectors():
    return clustered()


@pytest.fixture(scope="module")
def quantizer(vectors):
    return RQOPQ.fit(vectors, CONFIG)


def test_no_code_of_a_parent_gets_more_than_its_share(vectors, quantizer):
    free, level = (RQOPQ.fit(vectors, replace(CONFIG, balanced=balanced)) for balanced in ("none", "level"))
    assert excess_of(free, free.encode(vectors)) > 100 and excess_of(level, level.encode(vectors)) > 100
    codes = quantizer.encode(vectors)
    assert excess_of(quantizer, codes) == 0
    assert np.array_equal(codes[:, :2], free.encode(vectors)[:, :2])  # the levels before are as they were
    assert quantizer.prices is None and quantizer.loads is None and level.parent_prices is None


def test_parents_with_room_give_every_item_its_own_sid():
    vectors = clustered(300, 16)
    config = RQOPQConfig(residual_sizes=(8, 2, 64), opq=(0, 0), iterations=3)
    free = RQOPQ.fit(vectors, replace(config, balanced="none")).encode(vectors)
    assert len(np.unique(free, axis=0)) < 250
    codes = RQOPQ.fit(vectors, config).encode(vectors)
    assert max(Counter(map(tuple, codes[:, :2].tolist())).values()) <= 64 and len(np.unique(codes, axis=0)) == 300


def test_the_product_codes_describe_what_the_balanced_code_leaves(vectors, quantizer):
    codes, residual = quantizer.encode(vectors), vectors
    for level, book in enumerate(quantizer.level_centroids):
        residual = residual / np.linalg.norm(residual, axis=1, keepdims=True)
        moved = codes[:, level] != nearest(residual, book)
        residual = residual - book[codes[:, level]]
    residual = residual / np.linalg.norm(residual, axis=1, keepdims=True)
    assert moved.sum() > 100 and np.array_equal(codes[:, 3], nearest(residual, quantizer.product_codebooks[0]))


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(2, 40), st.integers(2, 12))
def test_the_assignment_of_a_parent_has_the_least_total_distance(seed, rows, size):
    random = np.random.default_rng(seed)
    vectors, centroids = (random.normal(size=(count, 3)).astype(np.float32) for count in (rows, size))
    limit = -(-rows // size)
    costs = ((vectors[:, None].astype(float) - centroids) ** 2).sum(axis=2)
    row, place = linear_sum_assignment(np.repeat(costs, limit, axis=1))
    found = prices_in_parent(vectors, centroids, 0.05)
    prices = ParentPrices(np.array([7]), np.array([0, len(found.codes)]), found.codes, found.prices)
    codes = nearest(vectors, centroids, row_prices=RowPrices(prices, np.full(rows, 7)))
    assert np.bincount(codes).max() <= limit
    assert costs[np.arange(rows), codes].sum() == pytest.approx(np.repeat(costs, limit, axis=1)[row, place].sum())
    assert set(found.codes.tolist()) <= set(codes.tolist())  # codes that no vector has keep a price of 0


def test_three_vectors_at_one_centroid_by_hand():
    """All are nearest to the centroid 0; the least total distance moves 0.4 to the centroid 1, and −0.3 to −2."""
    centroids = np.array([[0], [1], [-2]], dtype=np.float32)
    vectors = np.array([[0.1], [0.4], [-0.3]], dtype=np.float32)
    assert nearest(vectors, centroids).tolist() == [0, 0, 0]
    best = min(
        permutations(range(3)),
        key=lambda codes: sum((vectors[row, 0] - centroids[code, 0]) ** 2 for row, code in enumerate(codes)),
    )
    found = prices_in_parent(vectors, centroids, 0.05)
    prices = ParentPrices(np.array([0]), np.array([0, len(found.codes)]), found.codes, found.prices)
    assert tuple(nearest(vectors, centroids, row_prices=RowPrices(prices, np.zeros(3, dtype=np.int64)))) == best == (0, 1, 2)


def test_prices_of_one_parent_do_not_reach_another():
    centroids = np.array([[0], [1]], dtype=np.float32)
    prices = ParentPrices(
        np.array([3, 9]), np.array([0, 1, 3]), np.array([0, 0, 1], dtype=np.int32), np.array([5.0, -1.0, 7.0])
    )
    vectors = np.zeros((5, 1), dtype=np.float32)
    assert nearest(vectors, centroids, row_prices=RowPrices(prices, np.array([3, 9, 1, 10, 3]))).tolist() == [1, 0, 0, 0, 1]
    entries = prices.entries(np.array([9, 4, 3]))
    assert entries.of(np.array([0, 0, 1, 2, 2]), np.array([0, 1, 0, 0, 1])).tolist() == [-1.0, 7.0, 0.0, 5.0, 0.0]


@given(st.integers(0, 1000))
def test_prices_inside_parents_are_compared_in_float64(seed):
    random = np.random.default_rng(seed)
    vectors, centroids = (random.integers(-2, 3, size=(count, 2)).astype(np.float32) for count in (30, 6))
    parents, table = random.integers(0, 3, 30), random.integers(-3, 4, size=(3, 6)).astype(np.float64)
    prices = ParentPrices(np.arange(3), np.arange(0, 19, 6), np.tile(np.arange(6, dtype=np.int32), 3), table.ravel())
    exact = ((vectors[:, None].astype(float) - centroids) ** 2).sum(axis=2) + table[parents]
    assert np.array_equal(nearest(vectors, centroids, row_prices=RowPrices(prices, parents)), exact.argmin(axis=1))


def test_the_same_vectors_get_the_same_codes_again(vectors, quantizer, tmp_path):
    codes = quantizer.encode(vectors)
    shuffled = np.random.default_rng(1).permutation(len(vectors))
    assert np.array_equal(quantizer.encode(vectors[shuffled], chunk=7), codes[shuffled])
    quantizer.save_pretrained(tmp_path)
    loaded = RQOPQ.from_pretrained(tmp_path)
    assert loaded.fingerprint == quantizer.fingerprint and np.array_equal(loaded.encode(vectors), codes)
    for threads in (1, 2):
        with threadpool_limits(threads):
            assert RQOPQ.fit(vectors, CONFIG).fingerprint == quantizer.fingerprint


def test_the_bound_holds_for_all_vectors_when_some_are_drawn(monkeypatch):
    vectors, config = clustered(3000), replace(CONFIG, points_per_centroid=40)
    drawn = RQOPQ.fit(vectors, config)
    codes = drawn.encode(vectors)
    assert excess_of(drawn, codes) == 0
    monkeypatch.setattr(parent_balance, "ROWS_HELD", 50)  # many passes
    assert RQOPQ.fit(vectors, config).fingerprint == drawn.fingerprint


def test_a_large_parent_is_balanced_by_auction_within_the_slack():
    vectors = clustered(4000, 8)
    centroids = clustered(16, 8, seed=5)
    assert len(vectors) * 16 * 250 > parent_balance.CELLS and np.bincount(nearest(vectors, centroids)).max() > 400
    prices = balance_parents(lambda: iter(np.array_split(vectors, 3)), np.full(4000, 2), centroids, slack=0.05)
    codes = nearest(vectors, centroids, row_prices=RowPrices(prices, np.full(4000, 2)))
    assert prices.parents.tolist() == [2] and np.bincount(codes).max() <= 262  # ⌈4000 / 16⌉ · 1.05


def test_identical_vectors_count_once_and_share_a_code(caplog):
    vectors, centroids = clustered(20, 6), clustered(8, 6, seed=1)
    mixed = np.concatenate([vectors, np.repeat(vectors[:1], 50, axis=0)])
    with caplog.at_level(logging.WARNING):
        prices = balance_parents(lambda: iter([mixed]), np.zeros(70, dtype=np.int64), centroids, slack=0.05)
    codes = nearest(mixed, centroids, row_prices=RowPrices(prices, np.zeros(70, dtype=np.int64)))
    assert len(np.unique(codes[20:])) == 1 and codes[0] == codes[20]
    assert np.bincount(codes[:20]).max() <= 3 and not caplog.text


def test_vectors_that_differ_by_rounding_alone_are_reported(caplog):
    """The distances of these vectors to the centroids are equal in float64, so that no prices part them."""
    vectors = np.tile(np.float32([1e-30, 1.0]), (6, 1))
    vectors[:, 0] *= np.arange(1, 7, dtype=np.float32)
    with caplog.at_level(logging.WARNING):
        prices_in_parent(vectors, np.float32([[0, 1], [1, 0], [0, -1]]), 0.05)
    assert "4 of 6 vectors of a parent are above the bound of 2 per code" in caplog.text


@pytest.mark.parametrize("levels", [(8,), (8, 4), (4, 3, 2, 4)])
def test_any_number_of_levels(vectors, levels):
    config = RQOPQConfig(residual_sizes=levels, opq=(0, 0), iterations=2)
    quantizer = RQOPQ.fit(vectors[:500], config)
    assert excess_of(quantizer, quantizer.encode(vectors[:500])) == 0


def test_projection_residuals_are_balanced_too(vectors):
    quantizer = PRQ.fit(vectors, PRQConfig(residual_sizes=(8, 4, 8), balanced="parent"))
    assert excess_of(quantizer, quantizer.encode(vectors)) == 0


def test_parents_are_numbered_by_the_codes_before_the_last_level():
    assert parent_ids(np.array([[0, 0, 5], [2, 3, 1], [1, 0, 7]]), (3, 4, 8)).tolist() == [0, 11, 4]
    assert parent_ids(np.array([[3], [1]]), (8,)).tolist() == [0, 0]


def test_new_items_take_the_nearest_code_with_room():
    centroids = np.array([[0], [1], [3]], dtype=np.float32)
    published = Published(np.array([5, 5, 6]), np.array([0, 1, 0]))
    vectors = np.array([[0.1], [0.1], [0.1], [0.1]], dtype=np.float32)
    # The third item of parent 5 finds code 2 alone; the fourth starts a new round. Parent 4 is empty.
    assert free_codes(vectors, np.array([5, 5, 4, 5]), published, centroids).tolist() == [2, 0, 0, 1]


def test_new_items_keep_the_bound_of_the_grown_parents(vectors, quantizer):
    published, new = quantizer.encode(vectors), clustered(200, seed=8)
    together = quantizer.encode_new(new, published)
    assert excess_of(quantizer, np.concatenate([published, together])) == 0
    assert np.array_equal(together[:, :2], quantizer.encode(new)[:, :2])
    first = quantizer.encode_new(new[:70], published)
    rest = quantizer.encode_new(new[70:], np.concatenate([published, first]))
    assert np.array_equal(np.concatenate([first, rest]), together)


def test_new_items_are_encoded_as_ever_without_balance_inside_parents(vectors):
    level = RQOPQ.fit(vectors, replace(CONFIG, balanced="level"))
    assert np.array_equal(level.encode_new(vectors[:50], level.encode(vectors)), level.encode(vectors[:50]))


def test_queries_take_the_nearest_code(vectors, quantizer):
    free = RQOPQ.fit(vectors, replace(CONFIG, balanced="none", opq=(0, 0)))
    queries = clustered(100, seed=4)
    found = quantizer.for_queries.encode(queries)
    assert np.array_equal(found[:, :2], free.encode(queries)[:, :2])
    residual = queries
    for level in range(2):
        residual = (
            residual / np.linalg.norm(residual, axis=1, keepdims=True) - quantizer.level_centroids[level][found[:, level]]
        )
    residual = residual / np.linalg.norm(residual, axis=1, keepdims=True)
    assert np.array_equal(found[:, 2], nearest(residual, quantizer.level_centroids[2]))
    assert (found[:, 2] != quantizer.encode(queries)[:, 2]).any() and free.for_queries is free
