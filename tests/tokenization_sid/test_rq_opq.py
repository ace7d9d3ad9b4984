"""The quantizer: what its codes stand for, that they never depend on how they are computed, and what it refuses."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from safetensors.numpy import save_file

from onesearch import RQOPQ, RQOPQConfig
from onesearch.tokenization_sid.quantizers.rq_opq import CODEBOOKS_NAME, suggest_widths

CONFIG = RQOPQConfig(levels=(16, 8, 8), opq=(2, 8), iterations=8)


def clustered(rows=400, dimension=12, seed=0):
    """Unit vectors around a few centres, as embeddings are."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(10, dimension))
    vectors = centres[random.integers(0, 10, rows)] + 0.3 * random.normal(size=(rows, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors():
    return clustered()


@pytest.fixture(scope="module")
def quantizer(vectors):
    return RQOPQ.fit(vectors, CONFIG)


def test_codes_are_in_range_and_every_level_brings_them_closer(vectors, quantizer):
    codes = quantizer.encode(vectors)
    assert codes.shape == (len(vectors), 5) and codes.dtype == np.int32
    assert (codes >= 0).all() and (codes < np.array(CONFIG.widths)).all()
    errors, decoded = [float((vectors**2).sum(axis=1).mean())], np.zeros_like(vectors)
    for level, book in enumerate(quantizer.codebooks):
        decoded = decoded + book[codes[:, level]]
        errors.append(float(((vectors - decoded) ** 2).sum(axis=1).mean()))
    errors.append(float(((vectors - quantizer.decode(codes)) ** 2).sum(axis=1).mean()))
    assert errors == sorted(errors, reverse=True) and len(set(errors)) == len(errors)
    assert errors[-1] < 0.5 * errors[1] < 0.1


def test_each_code_is_the_nearest_one(vectors, quantizer):
    codes = quantizer.encode(vectors)
    residual = vectors.copy()
    for level, book in enumerate(quantizer.codebooks):
        distances = ((residual[:, None] - book) ** 2).sum(axis=2)
        rows = np.arange(len(vectors))
        np.testing.assert_allclose(distances[rows, codes[:, level]], distances.min(axis=1), atol=1e-5)
        residual = residual - book[codes[:, level]]
    np.testing.assert_allclose(quantizer.rotation @ quantizer.rotation.T, np.eye(12), atol=1e-5)
    halves = (residual @ quantizer.rotation).reshape(len(vectors), 2, -1)
    for part, book in enumerate(quantizer.product_codebooks):
        distances = ((halves[:, part][:, None] - book) ** 2).sum(axis=2)
        np.testing.assert_allclose(distances[rows, codes[:, 3 + part]], distances.min(axis=1), atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 7, 399, 400, 1000])
def test_codes_do_not_depend_on_the_chunk_size(vectors, quantizer, chunk):
    assert np.array_equal(quantizer.encode(vectors, chunk=chunk), quantizer.encode(vectors))


def test_the_number_of_threads_does_not_matter(vectors, quantizer):
    before = faiss.omp_get_max_threads()
    try:
        for threads in (1, 2):
            faiss.omp_set_num_threads(threads)
            again = RQOPQ.fit(vectors, CONFIG)
            assert faiss.omp_get_max_threads() == threads
            assert again.digest == quantizer.digest
            assert np.array_equal(again.encode(vectors), quantizer.encode(vectors))
    finally:
        faiss.omp_set_num_threads(before)


def test_the_input_is_left_as_it_was(vectors):
    copy = vectors.copy()
    RQOPQ.fit(vectors, CONFIG).encode(vectors)
    assert np.array_equal(vectors, copy)


def test_the_digest_is_that_of_the_codebooks(vectors, quantizer):
    other_seed = RQOPQ.fit(vectors, RQOPQConfig(levels=(16, 8, 8), opq=(2, 8), iterations=8, seed=1))
    fewer = RQOPQ.fit(vectors, RQOPQConfig(levels=(16, 8), opq=(2, 8), iterations=8))
    assert len({quantizer.digest, other_seed.digest, fewer.digest}) == 3
    touched = RQOPQ(CONFIG, [book.copy() for book in quantizer.codebooks], quantizer.rotation, quantizer.product_codebooks)
    assert touched.digest == quantizer.digest
    touched.codebooks[1][0, 0] += 1e-6
    assert touched.digest != quantizer.digest


def test_without_product_codes(vectors, tmp_path):
    quantizer = RQOPQ.fit(vectors, RQOPQConfig(levels=(16, 8), opq=(0, 0), iterations=5))
    codes = quantizer.encode(vectors)
    assert codes.shape == (len(vectors), 2) and quantizer.config.widths == (16, 8)
    quantizer.save_pretrained(tmp_path)
    assert np.array_equal(RQOPQ.from_pretrained(tmp_path).decode(codes), quantizer.decode(codes))


def test_normalised_residuals_encode_and_refuse_to_decode(vectors):
    quantizer = RQOPQ.fit(vectors, RQOPQConfig(levels=(16, 8), opq=(2, 8), iterations=5, normalise_residuals=True))
    codes = quantizer.encode(vectors)
    assert (codes < np.array(quantizer.config.widths)).all()
    with pytest.raises(ValueError, match="normalised"):
        quantizer.decode(codes)


def test_save_then_load_gives_the_same_codes(vectors, quantizer, tmp_path):
    quantizer.save_pretrained(tmp_path)
    loaded = RQOPQ.from_pretrained(tmp_path)
    assert loaded.config == quantizer.config and loaded.digest == quantizer.digest
    fresh = clustered(50, seed=9)  # new items
    assert np.array_equal(loaded.encode(fresh), quantizer.encode(fresh))
    assert np.array_equal(loaded.decode(loaded.encode(fresh)), quantizer.decode(quantizer.encode(fresh)))
    assert [path.name for path in tmp_path.iterdir()] == [CODEBOOKS_NAME]


def test_a_missing_damaged_or_foreign_file_is_named(quantizer, tmp_path):
    with pytest.raises(FileNotFoundError, match="onesearch sids build"):
        RQOPQ.from_pretrained(tmp_path)
    path = quantizer.save_pretrained(tmp_path)
    whole = path.read_bytes()
    for size in (0, 6, 50, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=f"{CODEBOOKS_NAME}.*damaged"):
            RQOPQ.from_pretrained(tmp_path)
    save_file({"level_0": np.zeros((2, 2), dtype=np.float32)}, path)
    with pytest.raises(ValueError, match=f"{CODEBOOKS_NAME}.*format None"):
        RQOPQ.from_pretrained(tmp_path)


def test_vectors_that_do_not_fit_are_refused(vectors, quantizer):
    bad = vectors.copy()
    bad[7, 3] = np.nan
    for act in (quantizer.encode, lambda part: RQOPQ.fit(part, CONFIG)):
        with pytest.raises(ValueError, match="vector 7 holds NaN"):
            act(bad)
    with pytest.raises(ValueError, match="dimension 11, the codebooks 12"):
        quantizer.encode(vectors[:, :11])
    with pytest.raises(ValueError, match="dimension 11 is not divisible by 2"):
        RQOPQ.fit(vectors[:, :11], CONFIG)
    for shape in ((0, 12), (12,)):
        with pytest.raises(ValueError, match="shape"):
            quantizer.encode(np.zeros(shape, dtype=np.float32))


def test_fewer_vectors_than_codes_come_with_a_suggestion(vectors):
    with pytest.raises(ValueError, match=r"15 distinct vectors cannot train 16 codes.*levels="):
        RQOPQ.fit(vectors[:15], CONFIG)
    with pytest.raises(ValueError, match="1 distinct vectors"):
        RQOPQ.fit(np.repeat(vectors[:1], 40, axis=0), CONFIG)


def test_the_suggestion_can_be_trained():
    for items in (1, 3, 20, 63, 100):
        vectors = clustered(items, dimension=8)
        RQOPQ.fit(vectors, suggest_widths(items))


def test_as_many_vectors_as_codes_suffice(vectors):
    quantizer = RQOPQ.fit(vectors[:16], CONFIG)
    assert len(np.unique(quantizer.encode(vectors[:16])[:, 0])) == 16


@pytest.mark.parametrize(("items", "paper"), [(10, False), (5_000, False), (200_000, False), (1_000_000, True)])
def test_suggested_widths_grow_to_the_paper_s(items, paper):
    suggested = suggest_widths(items)
    assert (suggested.widths == (4096, 1024, 512, 256, 256)) == paper
    assert max(suggested.widths) <= items


@pytest.mark.parametrize("changes", [{"levels": ()}, {"levels": (4, 0)}, {"opq": (2,)}, {"opq": (-1, 4)}])
def test_impossible_sizes_are_refused(changes):
    with pytest.raises(ValueError, match="levels="):
        RQOPQConfig(**changes)
