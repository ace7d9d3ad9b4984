"""The frozen parts of a run, used anew."""

from __future__ import annotations

import numpy as np

from onesearch.data.text import item_texts
from onesearch.tokenization_sid.code_files import load_codes
from onesearch.tokenization_sid.embeddings import distinct_queries
from onesearch.tokenization_sid.sid_encoder import SidEncoder, centroid_distances, code_centroids, known_rows


def test_texts_get_the_codes_that_the_stage_gave_them(shared_run, market):
    encoder = SidEncoder.load(shared_run)
    for kind, texts in (("items", item_texts(market)), ("queries", distinct_queries(market))):
        codes, known = encoder.encode(texts[:40])
        np.testing.assert_array_equal(codes, load_codes(shared_run, kind).codes[:40])
        assert known.all()
    codes, known = encoder.encode([texts[1], "☃", texts[0]])
    assert known.tolist() == [True, False, True] and codes.shape == (3, 5)
    codes, known = encoder.encode([])
    assert codes.shape == (0, 5) and known.shape == (0,)


def test_vectors_have_unit_length_but_where_nothing_is_known(shared_run):
    vectors, known = SidEncoder.load(shared_run).embed(["red jacket", "☃", "jacket"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 0, 1], atol=1e-5)
    assert known.tolist() == known_rows(vectors).tolist() == [True, False, True]


def test_centroids_are_means_and_distances_to_them_exact():
    random = np.random.default_rng(0)
    vectors, first = random.normal(size=(50, 3)).astype(np.float32), random.integers(0, 4, 50)
    centroids = code_centroids(vectors, first, 6)
    assert np.isnan(centroids[4:]).all()
    for code in range(4):
        np.testing.assert_allclose(centroids[code], vectors[first == code].mean(axis=0), atol=1e-6)
    expected = [np.linalg.norm(vector - centroids[code]) for vector, code in zip(vectors, first)]
    np.testing.assert_allclose(centroid_distances(vectors, first, centroids, chunk=7), expected, rtol=1e-5)
    assert centroid_distances(vectors[:1], np.array([5]), centroids).tolist() == [np.inf]
