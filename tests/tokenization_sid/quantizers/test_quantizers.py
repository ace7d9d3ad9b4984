"""Every quantizer behind the one interface."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from threadpoolctl import threadpool_limits

from onesearch.tokenization_sid.quantizers.base import CODEBOOKS_NAME
from onesearch.tokenization_sid.quantizers.configs import (
    LearnedConfig,
    PRQConfig,
    RQKMeansConfig,
    RQOPQConfig,
    RQVAEConfig,
    SimVQConfig,
)
from onesearch.tokenization_sid.quantizers.learned import RQVAE, SimVQ
from onesearch.tokenization_sid.quantizers.loading import QUANTIZERS, fit_quantizer, load_quantizer
from onesearch.tokenization_sid.quantizers.rq_opq import RQOPQ
from onesearch.tokenization_sid.quantizers.variants import PRQ, RQKMeans
from onesearch.tokenization_sid.tensor_files import write_tensors

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("vector_quantize_pytorch") is None, reason="vector-quantize-pytorch is not installed"
)
SIZES = {"residual_sizes": (16, 8), "hidden": (24,), "latent": 8, "steps": 100, "batch_size": 128, "learning_rate": 5e-3}
LEARNED, SIM = RQVAEConfig(**SIZES), SimVQConfig(**SIZES)
CASES = {
    "rq-opq": (RQOPQ, RQOPQConfig(residual_sizes=(16, 8), opq=(2, 8))),
    "rq-k-means": (RQKMeans, RQKMeansConfig(residual_sizes=(16, 8))),
    "prq-k-means": (PRQ, PRQConfig(residual_sizes=(16, 8))),
    "prq-opq": (PRQ, PRQConfig(residual_sizes=(16, 8), opq=(2, 8), balanced="parent")),
    "rq-vae": (RQVAE, LEARNED),
    "residual vq": (RQVAE, replace(LEARNED, hidden=(), residual_sizes=(16, 4))),
    "sim-vq": (SimVQ, SIM),
    "sim-vq without layers": (SimVQ, replace(SIM, hidden=())),
}
every = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs_library) if case[0] in (RQVAE, SimVQ) else name for name, case in CASES.items()]
)


@pytest.fixture(scope="module")
def vectors():
    random = np.random.default_rng(0)
    points = random.normal(size=(12, 16))[random.integers(0, 12, 600)] + 0.3 * random.normal(size=(600, 16)) + 0.5
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def fitted(vectors):
    made = {}

    def get(name):
        if name not in made:
            quantizer, config = CASES[name]
            made[name] = quantizer.fit(vectors, config)
        return made[name]

    return get


@every
def test_codes_fit_the_codebooks_and_reconstruct(name, vectors, fitted):
    quantizer = fitted(name)
    codes = quantizer.encode(vectors)
    assert codes.dtype == np.int32 and codes.shape == (600, len(quantizer.config.codebook_sizes))
    assert (codes >= 0).all() and (codes < np.array(quantizer.config.codebook_sizes)).all()
    decoded = quantizer.decode(codes)
    assert decoded.dtype == np.float32 and quantizer.dimension == 16
    share = 0.8 if isinstance(quantizer, RQVAE | SimVQ) else 0.4  # a hundred steps are few
    assert ((vectors - decoded) ** 2).sum(axis=1).mean() < share * vectors.var(axis=0).sum()


@every
def test_a_config_says_which_quantizer_it_is_for(name, vectors, fitted):
    quantizer, config = CASES[name]
    assert config.quantizer == quantizer.kind
    if quantizer in (RQOPQ, RQKMeans):  # the others are the same call
        again = fit_quantizer(vectors, config)
        assert type(again) is quantizer and again.fingerprint == fitted(name).fingerprint


@every
def test_every_level_has_a_table_of_centroids(name, vectors, fitted):
    quantizer = fitted(name)
    size = 8 if getattr(quantizer.config, "hidden", ()) else 16
    assert [table.shape for table in quantizer.level_centroids] == [(codes, size) for codes in quantizer.config.residual_sizes]
    assert all(table.dtype == np.float32 for table in quantizer.level_centroids)


@every
def test_codes_depend_on_the_vector_alone(name, vectors, fitted):
    quantizer = fitted(name)
    codes, shuffled = quantizer.encode(vectors), np.random.default_rng(1).permutation(600)
    assert np.array_equal(quantizer.encode(vectors[shuffled], chunk=7), codes[shuffled])
    for threads in (1, 2):
        with threadpool_limits(threads):
            assert np.array_equal(quantizer.encode(vectors), codes)


@every
def test_the_same_seed_gives_the_same_codebooks(name, vectors, fitted):
    quantizer, config = CASES[name]
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    with threadpool_limits(2):
        assert quantizer.fit(vectors, config).fingerprint == fitted(name).fingerprint
    assert torch.equal(torch.random.get_rng_state(), state) and torch.get_num_threads() == threads
    assert quantizer.fit(vectors, replace(config, seed=5)).fingerprint != fitted(name).fingerprint


@every
def test_a_folder_says_what_it_holds(name, vectors, fitted, tmp_path):
    quantizer = fitted(name)
    quantizer.save_pretrained(tmp_path)
    loaded = load_quantizer(tmp_path)
    assert type(loaded) is type(quantizer) and loaded.config == quantizer.config and loaded.fingerprint == quantizer.fingerprint
    codes = quantizer.encode(vectors)
    assert np.array_equal(loaded.encode(vectors), codes) and np.array_equal(loaded.decode(codes), quantizer.decode(codes))
    other = RQKMeans if type(quantizer) is RQOPQ else RQOPQ
    with pytest.raises(
        ValueError, match=f"{CODEBOOKS_NAME} holds codebooks of kind {quantizer.kind!r}, {other.__name__} reads"
    ):
        other.from_pretrained(tmp_path)


@every
def test_vectors_that_do_not_fit_are_refused(name, vectors, fitted):
    quantizer, config = CASES[name]
    bad = vectors.copy()
    bad[7, 3] = np.inf
    for act in (fitted(name).encode, lambda part: quantizer.fit(part, config)):
        with pytest.raises(ValueError, match="vector 7 holds NaN"):
            act(bad)
        with pytest.raises(ValueError, match="shape"):
            act(vectors[0])
    with pytest.raises(ValueError, match="dimension 5, the codebooks 16"):
        fitted(name).encode(vectors[:, :5])
    with pytest.raises(ValueError, match="15 .*vectors cannot train 16 codes"):
        quantizer.fit(vectors[:15], config)


def test_every_kind_is_loadable():
    assert set(QUANTIZERS) == {quantizer.kind for quantizer, _ in CASES.values()}
    for kind, quantizer in QUANTIZERS.items():
        assert quantizer.kind == kind == quantizer.config_class.quantizer


def test_an_unknown_kind_is_named(fitted, tmp_path):
    path = fitted("rq-opq").save_pretrained(tmp_path)
    with safe_open(path, framework="np") as file:
        metadata = file.metadata() | {"kind": "telepathy"}
    write_tensors(path, load_file(path), metadata)
    with pytest.raises(ValueError, match="'telepathy'; known are rq-opq, rq-k-means"):
        load_quantizer(tmp_path)


def test_plain_residual_k_means_adds_its_centroids(vectors, fitted):
    quantizer = fitted("rq-k-means")
    codes = quantizer.encode(vectors)
    for level in range(2):
        before = quantizer.level_centroids[0][codes[:, 0]] if level else 0
        distances = ((vectors - before)[:, None] - quantizer.level_centroids[level]) ** 2
        assert np.array_equal(distances.sum(axis=2).argmin(axis=1), codes[:, level])


def test_projection_residuals_by_hand(vectors, fitted):
    """arXiv 2608.24207: unit vectors, the mean direction out, cosine codes, each centroid's direction out."""

    def unit(values):
        return values / np.linalg.norm(values, axis=-1, keepdims=True)

    quantizer = fitted("prq-k-means")
    codes, mean = quantizer.encode(vectors), unit(unit(vectors).mean(axis=0))
    np.testing.assert_allclose(quantizer.tensors["mean_direction"], mean, atol=1e-5)
    residual = unit(vectors - (vectors @ mean)[:, None] * mean)
    for level, book in enumerate(quantizer.level_centroids):
        np.testing.assert_allclose(np.linalg.norm(book, axis=1), 1, atol=1e-5)
        cosines = residual @ book.T
        np.testing.assert_allclose(cosines[np.arange(600), codes[:, level]], cosines.max(axis=1), atol=1e-5)
        chosen = book[codes[:, level]]
        residual = unit(residual - (residual * chosen).sum(axis=1, keepdims=True) * chosen)
        np.testing.assert_allclose((residual * chosen).sum(axis=1), 0, atol=1e-4)


def test_projection_residuals_do_not_see_what_all_vectors_share(vectors, fitted):
    quantizer = fitted("prq-k-means")
    shared = 2 * quantizer.tensors["mean_direction"]
    assert (quantizer.encode(vectors + shared) == quantizer.encode(vectors)).mean() > 0.99
    plain = fitted("rq-k-means")
    assert (plain.encode(vectors + shared) == plain.encode(vectors)).mean() < 0.9


@needs_library
@pytest.mark.parametrize("quantizer", [RQVAE, SimVQ])
def test_training_improves_and_codes_stay_in_use(quantizer, vectors):
    errors = []
    for steps in (1, 100):
        fitted = quantizer.fit(vectors, replace(LEARNED, steps=steps))
        codes = fitted.encode(vectors)
        errors.append(((vectors - fitted.decode(codes)) ** 2).sum(axis=1).mean())
    assert errors[1] < 0.5 * errors[0]
    assert len(np.unique(codes[:, 0])) >= 8


def test_without_the_library_the_extra_is_named(vectors, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "vector_quantize_pytorch", None)
    with pytest.raises(ModuleNotFoundError, match=r"onesearch\[variants\]"):
        RQVAE.fit(vectors, LEARNED)


@pytest.mark.parametrize(
    "changes", [{"residual_sizes": ()}, {"residual_sizes": (0,)}, {"hidden": (0,)}, {"steps": 0}, {"commitment": -1}]
)
def test_impossible_sizes_are_refused(changes):
    with pytest.raises(ValueError, match=f"{next(iter(changes))}=.* is invalid; give at least"):
        LearnedConfig(**changes)


@pytest.mark.parametrize("changes", [{"normalise_residuals": False}, {"top_k": 0}, {"beta": 0}])
def test_prq_needs_its_geometry(changes):
    with pytest.raises(ValueError, match=f"{next(iter(changes))}=.* is invalid"):
        PRQConfig(**changes)
