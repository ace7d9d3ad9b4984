"""The static encoder and the embeddings of a run."""

from __future__ import annotations

import numpy as np
import pytest

from onesearch.data.market import Market
from onesearch.data.requests import build_requests
from onesearch.data.text import item_texts
from onesearch.tokenization_sid.embedding.configs import TextEncoderConfig
from onesearch.tokenization_sid.embedding.embeddings import distinct_queries, embed_market, load_embeddings, load_encoder
from onesearch.tokenization_sid.embedding.static_encoder import StaticVectors, alphabet_limit, blank_rows, static_encoder
from onesearch.tokenization_sid.embedding.text_encoder import (
    base_encoder,
    build_text_encoder,
    embed_texts,
    positive_pairs,
    unit_rows,
)

CONFIG = TextEncoderConfig(dimension=8, vocab_size=300, epochs=1, batch_size=64)


def test_rows_of_length_one_and_zero_rows_stay():
    rows = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0]])
    assert rows.dtype == np.float32


def test_the_static_encoder_knows_what_texts_share():
    texts = ["red rain coat", "blue rain coat", "wooden garden chair", "metal garden chair"] * 3
    encoder = static_encoder(texts, CONFIG)
    vectors = embed_texts(encoder, ["rain coat", "red coat", "garden chair", "☃"])
    assert vectors.shape == (4, 8) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors[:3], axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3
    assert embed_texts(encoder, []).shape == (0, 8)


@pytest.mark.parametrize("texts", [["red shoe"], ["red shoe"] * 2, ["red shoe", "shoe red"]])
def test_tokens_that_are_in_every_text_count_alike(texts):
    """Their inverse document frequency is 0: without it, all vectors would be 0, and no codebook could be trained."""
    vectors = embed_texts(static_encoder(texts, CONFIG), texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors, np.repeat(vectors[:1], len(texts), axis=0), atol=1e-5)


def test_a_saved_static_encoder_gives_the_same_vectors_without_sentence_transformers(tmp_path):
    texts = ["red shoe", "blue coat", "red coat", "", "unheardof"]
    encoder = static_encoder(texts, CONFIG)
    encoder.save(str(tmp_path), create_model_card=False)
    vectors = StaticVectors.load(tmp_path)
    np.testing.assert_array_equal(vectors(texts), StaticVectors.of(encoder)(texts))
    modules = tmp_path / "modules.json"
    plain = modules.read_text()
    modules.write_text(plain.replace("Normalize", "Dense"))
    assert StaticVectors.load(tmp_path) is None  # more than a mean
    modules.write_text(plain)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer\.json is damaged.*copy the encoder again"):
        StaticVectors.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        StaticVectors.load(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        StaticVectors.load(tmp_path)


def test_the_alphabet_follows_the_texts_up_to_a_share_of_the_vocabulary():
    assert alphabet_limit(300) == 1000 and alphabet_limit(8000) == 6000
    characters = [chr(0x4E00 + number) for number in range(2000)]
    texts = ["".join(characters[start : start + 40]) for start in range(0, 2000, 20)] * 2

    def known(vocab_size):
        tokenizer = static_encoder(texts, TextEncoderConfig(dimension=4, vocab_size=vocab_size, epochs=0)).tokenizer
        return sum(tokenizer.token_to_id(character) is not None for character in characters)

    assert known(300) == 1000 and known(2000) == 1500 and known(4000) == 2000


def test_the_same_seed_gives_the_same_vectors(market):
    texts = item_texts(market)[:20]
    first, second = (embed_texts(build_text_encoder(market, CONFIG), texts) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_training_brings_queries_to_what_was_bought(market):
    requests = build_requests(market, "train")
    anchors, positives = positive_pairs(market, requests, 400, seed=0)

    def mean_rank(epochs):
        encoder = build_text_encoder(market, TextEncoderConfig(dimension=8, vocab_size=300, epochs=epochs, batch_size=64))
        left, items = embed_texts(encoder, anchors), embed_texts(encoder, item_texts(market))
        own = (left * embed_texts(encoder, positives)).sum(axis=1)
        return float((left @ items.T > own[:, None]).sum(axis=1).mean())

    assert mean_rank(3) < 0.9 * mean_rank(0)


def test_positive_pairs_are_aligned_seeded_and_from_the_training_sessions(market):
    requests = build_requests(market, "train")
    text_of = dict(zip(market.items["item_id"], item_texts(market)))
    allowed = set()
    for request in requests:
        for item in request.purchased or request.clicked:
            allowed.add((request.query, text_of[item]))
            if request.history:
                allowed.add((text_of[request.history[-1]], text_of[item]))
    everything = list(zip(*positive_pairs(market, requests, 10**6, seed=0)))
    assert set(everything) <= allowed and len(everything) >= len(requests)
    some = list(zip(*positive_pairs(market, requests, 50, seed=0)))
    assert len(some) == 50 and set(some) <= set(everything)
    assert some == list(zip(*positive_pairs(market, requests, 50, seed=0)))


def test_embeddings_follow_the_items_and_the_distinct_queries(shared_run, market):
    encoder = load_encoder(shared_run)
    items, queries = load_embeddings(shared_run, "items"), load_embeddings(shared_run, "queries")
    np.testing.assert_allclose(items, embed_texts(encoder, item_texts(market)), atol=1e-6)
    np.testing.assert_allclose(queries, embed_texts(encoder, distinct_queries(market)), atol=1e-6)
    assert len(set(distinct_queries(market))) == len(queries) and all(query.strip() for query in distinct_queries(market))


def test_what_others_put_beside_the_embeddings_stays(run):
    (run.embeddings / "notes.md").write_text("mine")
    (run.embeddings / "items-00009.safetensors").write_text("of an older catalogue")
    embed_market(run, CONFIG)
    names = {path.name for path in run.embeddings.iterdir()}
    assert "notes.md" in names and "items-00009.safetensors" not in names


def test_shards_join_to_the_same_rows(run, monkeypatch):
    expected = load_embeddings(run, "items")
    monkeypatch.setattr("onesearch.tokenization_sid.embedding.embeddings.ROWS_PER_SHARD", 150)
    embed_market(run, TextEncoderConfig(dimension=16, vocab_size=500, epochs=1, batch_size=64))
    assert len(list(run.embeddings.glob("items-*.safetensors"))) == 3
    np.testing.assert_allclose(load_embeddings(run, "items"), expected, atol=1e-6)


def test_a_missing_or_damaged_shard_is_named(run):
    path = run.embeddings / "items-00000.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="items-00000.safetensors is damaged"):
        load_embeddings(run, "items")
    path.unlink()
    with pytest.raises(FileNotFoundError, match="items-"):
        load_embeddings(run, "items")
    with pytest.raises(ValueError, match="'users'.*items, queries"):
        load_embeddings(run, "users")


def test_an_encoder_folder_is_used_as_it_is(run, market):
    config = TextEncoderConfig(model=str(run.encoder))
    texts = item_texts(market)[:5]
    np.testing.assert_allclose(
        embed_texts(build_text_encoder(market, config), texts), embed_texts(load_encoder(run), texts), atol=1e-6
    )


def test_a_text_without_a_known_word_does_not_drown_the_others():
    """Normalising the zero vector has a gradient of 10²³ and more; clipped with it, training would leave every weight as it is."""
    import torch

    encoder = static_encoder(["red shoe", "blue coat", "red coat"] * 5, TextEncoderConfig(dimension=2, vocab_size=300))
    weight = encoder[0].embedding.weight
    largest = []
    with blank_rows(encoder):
        tokens = encoder.preprocess(["red shoe", "\u2603 \u2603", "blue coat"])
        vectors = encoder(tokens)["sentence_embedding"]
        (vectors @ torch.ones(2)).sum().backward()
        largest.append(float(weight.grad.abs().max()))
    assert 0 < largest[0] < 1e6
    assert not vectors[1].any()


@pytest.mark.parametrize(
    ("language", "text", "kept"),
    [
        ("ja", "がっこう ＡＢＣ", "がっこう abc"),
        ("ko", "등산화", "등산화"),
        ("th", "รองเท้าเดินป่า", "รองเท้าเดินป่า"),
        ("hi", "जूते", "जूते"),
        ("mul", "Café รองเท้า", "café รองเท้า"),
        ("de", "Bücher", "bucher"),
        ("zh", "红色 Café", "红色 cafe"),
        (None, "Café", "cafe"),
    ],
)
def test_letters_keep_their_marks_where_marks_are_letters(language, text, kept):
    tokenizer = static_encoder(
        [text, "other words"] * 5, TextEncoderConfig(dimension=4, vocab_size=300, epochs=0), (), language
    ).tokenizer
    tokens = [token.removeprefix("##") for token in tokenizer.encode(text, add_special_tokens=False).tokens]
    assert "".join(tokens) == kept.replace(" ", "") and "[UNK]" not in tokens


def test_a_long_sentence_without_blanks_is_known():
    sentence = "รองเท้าเดินป่าผู้ชายกันน้ำ" * 20
    config = TextEncoderConfig(dimension=4, vocab_size=300, epochs=0)
    assert static_encoder([sentence, "x"], config, (), "th").tokenizer.encode(sentence).tokens[0] != "[UNK]"
    market = Market.from_rows(items=[{"item_id": str(row), "title": sentence} for row in range(4)])
    assert base_encoder(market, config).tokenizer.encode(sentence).tokens[0] != "[UNK]"  # the language is that of the titles
