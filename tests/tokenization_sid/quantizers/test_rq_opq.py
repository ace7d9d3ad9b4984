"""The quantizer: what its codes stand for, that they never depend on how they are computed, and what it refuses."""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from threadpoolctl import threadpool_limits

from onesearch import RQOPQ, RQOPQConfig
from onesearch.tokenization_sid.parallel.rows import ShardedRows
from onesearch.tokenization_sid.quantizers.base import CODEBOOKS_NAME
from onesearch.tokenization_sid.quantizers.configs import suggest_codebook_sizes
from onesearch.tokenization_sid.tensor_files import write_tensors

CONFIG = RQOPQConfig(residual_sizes=(16, 8, 8), opq=(2, 8), iterations=8)


def clustered(rows=400, dimension=12, seed=0):
    """Unit vectors around a few centres, as embeddings are."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(10, dimension))
    vectors = centres[random.integers(0, 10, rows)] + 0.3 * random.normal(size=(rows, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def error(vectors, quantizer):
    return float(((vectors - quantizer.decode(quantizer.encode(vectors))) ** 2).sum(axis=1).mean())


@pytest.fixture(scope="module")
def vectors():
    return clustered()


@pytest.fixture(scope="module")
def quantizer(vectors):
    return RQOPQ.fit(vectors, CONFIG)


def test_codes_are_in_range_and_every_level_brings_them_closer(vectors, quantizer):
    codes = quantizer.encode(vectors)
    assert codes.shape == (len(vectors), 5) and codes.dtype == np.int32
    assert (codes >= 0).all() and (codes < np.array(CONFIG.codebook_sizes)).all()
    errors = [float((vectors**2).sum(axis=1).mean())]
    for levels in (1, 2, 3):
        shorter = RQOPQ.fit(vectors, replace(CONFIG, residual_sizes=CONFIG.residual_sizes[:levels], opq=(0, 0)))
        errors.append(error(vectors, shorter))
    errors.append(error(vectors, quantizer))
    assert errors == sorted(errors, reverse=True) and len(set(errors)) == len(errors)
    assert errors[-1] < 0.5 * errors[1] < 0.1


@pytest.mark.parametrize("normalise", [True, False])
def test_each_code_is_the_nearest_one(vectors, normalise):
    quantizer = RQOPQ.fit(vectors, replace(CONFIG, normalise_residuals=normalise, balanced="level"))
    codes, residual, rows = quantizer.encode(vectors), vectors, np.arange(len(vectors))

    def scaled(residual):
        return residual / np.linalg.norm(residual, axis=1, keepdims=True) if normalise else residual

    for level, book in enumerate(quantizer.level_centroids):
        residual = scaled(residual)
        costs = ((residual[:, None] - book) ** 2).sum(axis=2) + (quantizer.prices if level == 2 else 0)
        np.testing.assert_allclose(costs[rows, codes[:, level]], costs.min(axis=1), atol=1e-5)
        residual = residual - book[codes[:, level]]
    residual = scaled(residual)
    for part, book in enumerate(quantizer.product_codebooks):
        costs = ((residual[:, None] - book) ** 2).sum(axis=2)
        np.testing.assert_allclose(costs[rows, codes[:, 3 + part]], costs.min(axis=1), atol=1e-5)
    one, other = quantizer.product_codebooks
    np.testing.assert_allclose(one @ other.T, 0, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 7, 399, 400, 1000])
def test_codes_do_not_depend_on_the_chunk_size(vectors, quantizer, chunk):
    assert np.array_equal(quantizer.encode(vectors, chunk=chunk), quantizer.encode(vectors))


def test_codes_do_not_depend_on_the_rows_beside(vectors, quantizer):
    shuffled = np.random.default_rng(0).permutation(len(vectors))
    assert np.array_equal(quantizer.encode(vectors[shuffled]), quantizer.encode(vectors)[shuffled])


def test_the_number_of_threads_does_not_matter(vectors, quantizer):
    for threads in (1, 2):
        with threadpool_limits(threads):
            again = RQOPQ.fit(vectors, CONFIG)
            assert again.fingerprint == quantizer.fingerprint
            assert np.array_equal(again.encode(vectors), quantizer.encode(vectors))


def test_the_input_is_left_as_it_was(vectors):
    copy = vectors.copy()
    RQOPQ.fit(vectors, CONFIG).encode(vectors)
    assert np.array_equal(vectors, copy)


def test_the_fingerprint_is_that_of_the_codebooks(vectors, quantizer):
    other_seed = RQOPQ.fit(vectors, replace(CONFIG, seed=1))
    fewer = RQOPQ.fit(vectors, replace(CONFIG, residual_sizes=(16, 8)))
    assert len({quantizer.fingerprint, other_seed.fingerprint, fewer.fingerprint}) == 3
    touched = RQOPQ(CONFIG, {name: tensor.copy() for name, tensor in quantizer.tensors.items()})
    assert touched.fingerprint == quantizer.fingerprint
    touched.level_centroids[1][0, 0] += 1e-6
    assert touched.fingerprint != quantizer.fingerprint


@pytest.mark.parametrize("normalise", [True, False])
def test_the_last_level_keeps_its_bound_and_no_other_level_is_touched(normalise):
    vectors = clustered(3000, 16)
    free = RQOPQ.fit(vectors, replace(CONFIG, normalise_residuals=normalise, balanced="none"))
    assert free.prices is None and free.loads is None
    unbounded = np.bincount(free.encode(vectors)[:, 2], minlength=8)
    assert unbounded.max() > 394
    quantizer = RQOPQ.fit(vectors, replace(CONFIG, normalise_residuals=normalise, balanced="level"))
    loads = np.bincount(quantizer.encode(vectors)[:, 2], minlength=8)
    assert loads.max() <= 393 and np.array_equal(loads, quantizer.loads)  # ⌈3000 / 8⌉ · 1.05
    assert all(np.array_equal(one, two) for one, two in zip(free.level_centroids[:2], quantizer.level_centroids[:2]))
    assert error(vectors, quantizer) < 1.03 * error(vectors, free)


def test_the_bound_of_the_level_holds_for_all_vectors_when_some_are_drawn():
    vectors = clustered(3000, 16)
    quantizer = RQOPQ.fit(vectors, replace(CONFIG, points_per_centroid=40, balanced="level"))
    assert quantizer.loads.sum() == 3000
    assert np.bincount(quantizer.encode(vectors)[:, 2], minlength=8).max() == quantizer.loads.max() <= 393


@settings(max_examples=25)
@given(
    st.sampled_from([(2, 4), (1, 7), (3, 5), (5, 2), (12, 2)]),
    st.lists(st.integers(1, 12), min_size=1, max_size=4),
    st.booleans(),
)
def test_any_sizes(opq, levels, normalise):
    vectors = clustered(120, 12)
    quantizer = RQOPQ.fit(
        vectors, RQOPQConfig(residual_sizes=tuple(levels), opq=opq, iterations=2, normalise_residuals=normalise)
    )
    codes = quantizer.encode(vectors)
    assert codes.shape == (120, len(levels) + opq[0])
    assert (codes >= 0).all() and (codes < np.array(quantizer.config.codebook_sizes)).all()
    assert len(np.unique(codes[:, 0])) == levels[0]
    whole, rows = np.concatenate(quantizer.product_codebooks), quantizer.product_codebooks
    assert sum(np.linalg.matrix_rank(book, tol=1e-4) for book in rows) >= np.linalg.matrix_rank(whole, tol=1e-4)
    assert quantizer.decode(codes).shape == vectors.shape


def test_vectors_on_disk_give_the_same_codebooks_and_codes(vectors, quantizer, tmp_path):
    file = np.memmap(tmp_path / "vectors.bin", dtype=np.float32, mode="w+", shape=vectors.shape)
    file[:] = vectors
    paths = [tmp_path / f"items-{shard}.safetensors" for shard in range(3)]
    for path, part in zip(paths, np.split(vectors, [150, 151])):
        save_file({"embeddings": part}, path)
    shards = ShardedRows(paths)
    assert shards.shape == vectors.shape and np.array_equal(shards[149:152], vectors[149:152])
    for rows in (file, shards):
        assert RQOPQ.fit(rows, CONFIG).fingerprint == quantizer.fingerprint
        assert np.array_equal(quantizer.encode(rows, chunk=64), quantizer.encode(vectors))


def test_shards_that_do_not_fit_are_named(vectors, tmp_path):
    path = tmp_path / "one.safetensors"
    save_file({"other": vectors}, path)
    with pytest.raises(ValueError, match="one.safetensors holds other, expected 'embeddings'"):
        ShardedRows([path])
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match="one.safetensors is damaged"):
        ShardedRows([path])
    with pytest.raises(FileNotFoundError, match="two.safetensors"):
        ShardedRows([tmp_path / "two.safetensors"])
    save_file({"embeddings": vectors}, path)
    save_file({"embeddings": vectors[:, :5]}, tmp_path / "two.safetensors")
    with pytest.raises(ValueError, match="do not stack"):
        ShardedRows([path, tmp_path / "two.safetensors"])
    with pytest.raises(ValueError, match="step 2"):
        ShardedRows([path])[::2]


def test_without_product_codes(vectors, tmp_path):
    quantizer = RQOPQ.fit(vectors, RQOPQConfig(residual_sizes=(16, 8), opq=(0, 0), iterations=5))
    codes = quantizer.encode(vectors)
    assert codes.shape == (len(vectors), 2) and quantizer.config.codebook_sizes == (16, 8)
    quantizer.save_pretrained(tmp_path)
    assert np.array_equal(RQOPQ.from_pretrained(tmp_path).decode(codes), quantizer.decode(codes))


def test_normalised_residuals_decode_with_their_mean_lengths(vectors):
    quantizer = RQOPQ.fit(4 * vectors, CONFIG)
    assert error(4 * vectors, quantizer) < 16 * 0.15 * (vectors.var(axis=0).sum())
    assert np.array_equal(quantizer.encode(vectors), quantizer.encode(4 * vectors))  # lengths are not in the codes


def test_lengths_are_in_the_codes_without_normalisation(vectors):
    mixed = np.concatenate([vectors, 3 * vectors])
    quantizer = RQOPQ.fit(mixed, replace(CONFIG, normalise_residuals=False))
    decoded = np.linalg.norm(quantizer.decode(quantizer.encode(mixed)), axis=1)
    assert decoded[: len(vectors)].max() < 2 < decoded[len(vectors) :].min()


def test_codes_that_are_none_are_refused_by_decode(quantizer):
    with pytest.raises(ValueError, match=r"expected integers \(n, 5\)"):
        quantizer.decode(np.zeros((2, 4), dtype=int))
    with pytest.raises(ValueError, match="expected integers"):
        quantizer.decode(np.zeros((2, 5)))
    with pytest.raises(ValueError, match="of row 1 are outside the codebook sizes"):
        quantizer.decode(np.array([[0, 0, 0, 0, 0], [0, 8, 0, 0, 0]]))


def test_save_then_load_gives_the_same_codes(vectors, quantizer, tmp_path):
    quantizer.save_pretrained(tmp_path)
    loaded = RQOPQ.from_pretrained(tmp_path)
    assert loaded.config == quantizer.config and loaded.fingerprint == quantizer.fingerprint
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


def test_changed_tensors_and_newer_settings_are_noticed(quantizer, tmp_path, caplog):
    path = quantizer.save_pretrained(tmp_path)
    tensors = load_file(path)
    with rq_opq_file(path) as metadata:
        metadata["config"] = metadata["config"].replace("{", '{"invented": 1, ', 1)
        write_tensors(path, tensors, metadata)
    with caplog.at_level(logging.WARNING):
        assert RQOPQ.from_pretrained(tmp_path).fingerprint == quantizer.fingerprint
    assert "invented" in caplog.text
    tensors["level_1"][3, 3] += 1
    with rq_opq_file(path) as metadata:
        save_file(tensors, path, metadata=metadata)
    with pytest.raises(ValueError, match="does not have the fingerprint that it carries"):
        RQOPQ.from_pretrained(tmp_path)
    write_tensors(path, tensors, metadata)
    with pytest.raises(ValueError, match="not those that were saved"):
        RQOPQ.from_pretrained(tmp_path)


@contextmanager
def rq_opq_file(path):
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    yield metadata


def test_vectors_that_do_not_fit_are_refused(vectors, quantizer):
    bad = vectors.copy()
    bad[7, 3] = np.nan
    for act in (quantizer.encode, lambda part: RQOPQ.fit(part, CONFIG)):
        with pytest.raises(ValueError, match="vector 7 holds NaN"):
            act(bad)
    with pytest.raises(ValueError, match="dimension 11, the codebooks 12"):
        quantizer.encode(vectors[:, :11])
    with pytest.raises(ValueError, match="13 product codes need at least as many dimensions, the vectors have 12"):
        RQOPQ.fit(vectors, replace(CONFIG, opq=(13, 2)))
    with pytest.raises(ValueError, match="chunk=0"):
        quantizer.encode(vectors, chunk=0)
    for shape in ((0, 12), (12,)):
        with pytest.raises(ValueError, match="shape"):
            quantizer.encode(np.zeros(shape, dtype=np.float32))


def test_fewer_vectors_than_codes_come_with_a_suggestion(vectors):
    with pytest.raises(ValueError, match=r"15 distinct vectors cannot train 16 codes.*residual_sizes="):
        RQOPQ.fit(vectors[:15], CONFIG)
    with pytest.raises(ValueError, match="1 distinct vectors"):
        RQOPQ.fit(np.repeat(vectors[:1], 40, axis=0), CONFIG)


def test_the_suggestion_can_be_trained():
    for items in (1, 3, 20, 63, 100):
        vectors = clustered(items, dimension=8)
        RQOPQ.fit(vectors, suggest_codebook_sizes(items))


def test_duplicates_and_zero_vectors_have_a_defined_result(vectors, caplog):
    mixed = np.concatenate([vectors, np.zeros((60, 12), dtype=np.float32), np.repeat(vectors[:1], 200, axis=0)])
    with caplog.at_level(logging.DEBUG, logger="onesearch"):
        quantizer = RQOPQ.fit(mixed, replace(CONFIG, balanced="level"))
    codes = quantizer.encode(mixed)
    assert len(np.unique(codes[400:460], axis=0)) == len(np.unique(codes[460:], axis=0)) == 1
    assert np.isfinite(quantizer.decode(codes)).all()
    assert quantizer.loads.max() >= 200 and "the bound is 87" in caplog.text


def test_as_many_vectors_as_codes_suffice(vectors):
    quantizer = RQOPQ.fit(vectors[:16], CONFIG)
    assert len(np.unique(quantizer.encode(vectors[:16])[:, 0])) == 16


@pytest.mark.parametrize(
    ("items", "sizes"),
    [
        (10, (8, 4, 2, 8, 8)),
        (5_000, (256, 128, 64, 64, 64)),
        (1_000_000, (1024, 512, 128, 64, 64)),
        (8_000_000, (1024, 512, 128, 64, 64)),
        (300_000_000, (4096, 1024, 512, 256, 256)),
    ],
)
def test_suggested_sizes_are_the_papers_at_their_catalogues(items, sizes):
    assert suggest_codebook_sizes(items).codebook_sizes == sizes


def test_suggested_sizes_grow_with_the_catalogue_and_leave_few_prefixes_to_an_item():
    for items in (1, 3, 10, 100, 5_000, 200_000):
        assert max(suggest_codebook_sizes(items).codebook_sizes) <= items
    prefixes = [math.prod(suggest_codebook_sizes(10**power).residual_sizes) for power in range(1, 10)]
    assert prefixes == sorted(prefixes)
    for items in (10**6, 10**7, 10**8, 10**9):
        assert math.prod(suggest_codebook_sizes(items).residual_sizes) < 70 * items


@pytest.mark.parametrize(
    "changes", [{"residual_sizes": ()}, {"residual_sizes": (4, 0)}, {"opq": (2,)}, {"opq": (-1, 4)}, {"opq": (2, 0)}]
)
def test_impossible_sizes_are_refused(changes):
    with pytest.raises(ValueError, match=f"{next(iter(changes))}=.* is invalid; give"):
        RQOPQConfig(**changes)


@pytest.mark.parametrize("value", [True, None, "parents"])
def test_an_unknown_balance_is_refused(value):
    with pytest.raises(ValueError, match=f"balanced={value!r} is unknown; allowed are parent, level, none"):
        RQOPQConfig(balanced=value)


def test_more_parents_than_can_be_numbered_are_refused():
    with pytest.raises(ValueError, match="too many parents for balanced='parent'"):
        RQOPQConfig(residual_sizes=(256,) * 9, opq=(0, 0))
    assert RQOPQConfig(residual_sizes=(256,) * 9, opq=(0, 0), balanced="level").balanced == "level"


@pytest.mark.parametrize("changes", [{"iterations": 0}, {"points_per_centroid": 0}, {"slack": -0.1}, {"slack": float("nan")}])
def test_impossible_training_is_refused(changes):
    with pytest.raises(ValueError, match=f"{next(iter(changes))}=.* is invalid; give at least"):
        RQOPQConfig(**changes)
