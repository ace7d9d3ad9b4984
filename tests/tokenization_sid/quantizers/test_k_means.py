"""K-means and balance: exact, the same on any number of threads, and within the bound."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from threadpoolctl import threadpool_limits

from onesearch.tokenization_sid.quantizers.balance import balanced_k_means, capacity, enforce_capacity
from onesearch.tokenization_sid.quantizers.decoder import AdditiveDecoder
from onesearch.tokenization_sid.quantizers.k_means import k_means, lloyd, move_to_means, weighted_sums
from onesearch.tokenization_sid.quantizers.nearest import nearest
from onesearch.tokenization_sid.quantizers.subspaces import product_subspaces


def clustered(rows=600, dimension=12, centres=10, seed=0):
    random = np.random.default_rng(seed)
    points = random.normal(size=(centres, dimension))[random.integers(0, centres, rows)]
    vectors = points + 0.3 * random.normal(size=(rows, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def error(vectors, centroids, prices=None):
    return float(((vectors - centroids[nearest(vectors, centroids, prices)]) ** 2).sum())


small = st.floats(-2, 2, width=16)
shapes = st.tuples(st.integers(1, 30), st.integers(1, 9), st.integers(1, 5))


@given(st.data(), shapes)
def test_nearest_is_the_float64_answer_ties_included(data, shape):
    rows, size, dimension = shape
    vectors = data.draw(arrays(np.float32, (rows, dimension), elements=small))
    centroids = data.draw(arrays(np.float32, (size, dimension), elements=small))
    prices = data.draw(st.none() | arrays(np.float32, (size,), elements=small))
    values = ((centroids.astype(np.float64) ** 2).sum(axis=1) + (0 if prices is None else prices)) / -2
    exact = (vectors.astype(np.float64)[:, None] * centroids).sum(axis=2) + values
    assert np.array_equal(nearest(vectors, centroids, prices), exact.argmax(axis=1))


def test_equally_near_centroids_go_to_the_first_in_every_batch():
    """Copies of centroids and vectors exactly between two: rounding alone would decide."""
    random = np.random.default_rng(0)
    book = random.normal(size=(50, 64)).astype(np.float32)
    centroids = np.concatenate([book, book[::-1], book])
    vectors = np.repeat((book[:25] + book[25:]) / 2, 8, axis=0)
    together = nearest(vectors, centroids)
    assert together.max() < 50
    assert np.array_equal(together, np.concatenate([nearest(vectors[row : row + 1], centroids) for row in range(len(vectors))]))
    shuffled = random.permutation(len(vectors))
    assert np.array_equal(nearest(vectors[shuffled], centroids), together[shuffled])


def test_training_is_the_same_on_one_and_two_threads():
    vectors, results = clustered(1200, 80), []
    for threads in (1, 2):
        with threadpool_limits(threads):
            random = np.random.default_rng(1)
            book = k_means(vectors, 40, 5, random)
            balanced, prices = balanced_k_means(vectors, 20, 3, random)
            results.append((book, balanced, *enforce_capacity(lambda: iter([vectors]), balanced, prices, 63)))
    assert all(np.array_equal(one, two) for one, two in zip(*results))


def test_moving_useless_centroids_lowers_the_error():
    vectors = clustered(4000, 16, centres=60)
    plain = [error(vectors, k_means(vectors, 64, 25, np.random.default_rng(seed), rounds=0)) for seed in range(3)]
    moved = [error(vectors, k_means(vectors, 64, 6, np.random.default_rng(seed))) for seed in range(3)]
    assert max(moved) < min(plain)


def test_lloyd_never_raises_the_error():
    vectors, random = clustered(), np.random.default_rng(0)
    centroids = vectors[:20].copy()
    errors = [error(vectors, lloyd(vectors, centroids, 1, random)) for _ in range(8)]
    assert errors == sorted(errors, reverse=True)


def test_empty_codes_are_filled_in_proportion_to_load():
    vectors = np.concatenate([np.zeros((900, 3)), np.ones((100, 3))]).astype(np.float32)
    vectors += 1e-3 * np.random.default_rng(0).normal(size=vectors.shape).astype(np.float32)
    centroids = np.concatenate([np.zeros((1, 3)), np.ones((1, 3)), np.full((200, 3), 50)]).astype(np.float32)
    assert move_to_means(vectors, nearest(vectors, centroids), centroids, np.random.default_rng(0)) == 200
    assert 160 < int((centroids.mean(axis=1) < 0.5).sum()) < 195


def test_as_many_or_fewer_distinct_vectors_than_codes_are_kept_as_they_are():
    vectors = clustered(7)
    book = k_means(np.repeat(vectors, 3, axis=0), 9, 5, np.random.default_rng(0))
    assert book.shape == (9, 12) and error(vectors, book) == 0


def test_sums_follow_the_weights():
    vectors, codes = np.arange(12, dtype=np.float32).reshape(6, 2), np.array([0, 2, 0, 2, 2, 0])
    sums, loads = weighted_sums(vectors, codes, 3, np.array([1, 2, 0, 1, 1, 3], dtype=np.float32))
    assert sums.tolist() == [[30, 34], [0, 0], [18, 22]] and loads.tolist() == [4, 0, 4]


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 7])
def test_sub_spaces_are_orthogonal_and_cover_everything(parts):
    directions = product_subspaces(clustered(200, 7), parts)
    sizes = [matrix.shape[1] for matrix in directions]
    assert sum(sizes) == 7 and max(sizes) - min(sizes) <= 1
    whole = np.concatenate(directions, axis=1)
    np.testing.assert_allclose(whole.T @ whole, np.eye(7), atol=1e-5)


def test_sub_spaces_share_the_variance():
    vectors = np.random.default_rng(0).normal(size=(5000, 4)).astype(np.float32) * np.array([8, 4, 2, 1], dtype=np.float32)
    logs = [float(np.log((vectors @ matrix).var(axis=0)).sum()) for matrix in product_subspaces(vectors, 2)]
    assert abs(logs[0] - logs[1]) < 0.2  # 8 · 1 and 4 · 2


@pytest.mark.parametrize(
    ("count", "size", "slack", "most"), [(100, 10, 0, 10), (101, 10, 0, 11), (20_000, 256, 0.05, 82), (3, 8, 0.5, 1)]
)
def test_capacity(count, size, slack, most):
    assert capacity(count, size, slack) == most


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(2, 24), st.sampled_from([0.05, 0.2, 1.0]), st.booleans())
def test_the_bound_is_kept(seed, size, slack, skewed):
    vectors = clustered(500, 8, seed=seed)
    if skewed:
        vectors[:350] = 0.05 * vectors[:350] + vectors[0]
    limit = capacity(500, size, slack)
    centroids, prices = balanced_k_means(vectors, size, 3, np.random.default_rng(seed))
    prices, loads = enforce_capacity(lambda: iter(np.array_split(vectors, 3)), centroids, prices, limit)
    assert np.array_equal(loads, np.bincount(nearest(vectors, centroids, prices), minlength=size))
    assert loads.sum() == 500 and loads.max() <= limit


def test_prices_cost_little():
    vectors = clustered(4000, 32, centres=40)
    free = k_means(vectors, 40, 6, np.random.default_rng(0), rounds=0)
    assert np.bincount(nearest(vectors, free)).max() > 150
    centroids, prices = balanced_k_means(vectors, 40, 3, np.random.default_rng(0))
    prices, loads = enforce_capacity(lambda: iter([vectors]), centroids, prices, 105)
    assert loads.max() <= 105 and error(vectors, centroids, prices) < 1.1 * error(vectors, free)


def test_identical_vectors_share_a_code_and_are_reported(caplog):
    vectors = np.concatenate([np.repeat(clustered(1), 300, axis=0), clustered(100, seed=3)])
    centroids, prices = balanced_k_means(vectors, 10, 3, np.random.default_rng(0))
    with caplog.at_level(logging.DEBUG, logger="onesearch"):
        prices, loads = enforce_capacity(lambda: iter([vectors]), centroids, prices, capacity(400, 10, 0.05))
    assert len(np.unique(nearest(vectors[:300], centroids, prices))) == 1
    assert 300 <= loads.max() < 400 and "the bound is 42" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]  # nobody can change it


def test_the_decoder_improves_on_adding_centroids():
    vectors, random = clustered(2000, 16), np.random.default_rng(0)
    residual, books, codes, lengths = vectors, [], [], []
    for _ in range(3):
        lengths.append(np.linalg.norm(residual, axis=1))
        residual = residual / lengths[-1][:, None]
        books.append(k_means(residual, 16, 5, random))
        codes.append(nearest(residual, books[-1]))
        residual = residual - books[-1][codes[-1]]
    codes = np.stack(codes, axis=1)
    decoder = AdditiveDecoder.fit(vectors, codes, books, lengths)
    means = [np.array([lengths[0].mean()])]
    means += [
        np.array([lengths[level][codes[:, level - 1] == code].mean() for code in range(16)], dtype=np.float32)
        for level in (1, 2)
    ]
    before = ((vectors - AdditiveDecoder(books, means)(codes)) ** 2).sum()
    assert ((vectors - decoder(codes)) ** 2).sum() < 0.995 * before
