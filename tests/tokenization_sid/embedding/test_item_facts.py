"""Facts of items in the encoder's text: bands, what counts, what is frozen, and that new items get the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onesearch.data.arrow_tables import as_dataset, table_from_rows
from onesearch.data.market import Market
from onesearch.data.requests import split_sessions
from onesearch.data.text import item_texts
from onesearch.files import read_json, write_json
from onesearch.tokenization_sid.embedding.alignment import align_run
from onesearch.tokenization_sid.embedding.bands import MIN_ITEMS, CategoryBands, FeatureBands
from onesearch.tokenization_sid.embedding.configs import AlignmentConfig, TextEncoderConfig
from onesearch.tokenization_sid.embedding.embeddings import embed_market, load_embeddings, load_encoder, load_facts
from onesearch.tokenization_sid.embedding.text_encoder import base_encoder, embed_texts
from onesearch.tokenization_sid.item_facts import ItemFacts
from onesearch.tokenization_sid.quantizers.configs import RQOPQConfig
from onesearch.tokenization_sid.sids.appending import append_items, encode_items
from onesearch.tokenization_sid.sids.building import build_sids
from onesearch.tokenization_sid.sids.code_files import load_codes

ALL = ("price", "clicks", "carts", "purchases", "features", "keywords", "ocr", "description")
SMALL = TextEncoderConfig(dimension=8, vocab_size=300, epochs=0)


def config(*facts: str, **values) -> TextEncoderConfig:
    return replace(SMALL, facts=facts, **values)


def shop(items, sessions=(), **info) -> Market:
    return Market.from_rows(items=items, sessions=sessions, info={"split": {"method": "none"}, **info})


def words(market: Market, fact: str, **values) -> list[str]:
    return ItemFacts.fit(market, config(fact, **values)).facts[fact].words(market)


# Bands


def test_a_price_is_low_or_high_within_its_category():
    """50 is dear for a pencil and cheap for a desk; categories with few items go by the one above."""
    paths = [["office", "pencils"]] * MIN_ITEMS + [["office", "desks"]] * MIN_ITEMS + [["office", "maps"]] * (MIN_ITEMS - 1)
    prices = np.concatenate([np.linspace(1, 50, MIN_ITEMS), np.linspace(50, 500, MIN_ITEMS), np.full(MIN_ITEMS - 1, 9.0)])
    bands = CategoryBands.fit(prices, paths, 5)
    assert set(bands.edges) == {(), ("office",), ("office", "pencils"), ("office", "desks")}
    asked = [["office", "pencils"], ["office", "desks"], ["office", "maps"], ["garden"], []]
    assert bands.of(np.full(5, 50.0), asked)[:2] == [4, 0]
    in_office = int(np.searchsorted(np.quantile(prices, [0.2, 0.4, 0.6, 0.8]), 60.0))
    assert bands.of(np.full(3, 60.0), asked[2:]) == [in_office] * 3 == [3, 3, 3]
    assert bands.of(np.array([np.nan]), [["office"]]) == [None]
    assert np.bincount(bands.of(prices[:MIN_ITEMS], paths[:MIN_ITEMS])).tolist() == [4] * 5
    again = CategoryBands.from_list(bands.to_list())
    assert again.of(prices, paths) == bands.of(prices, paths)


def test_numbers_that_are_all_equal_are_neither_low_nor_high():
    bands = CategoryBands.fit(np.full(30, 7.0), [()] * 30, 5)
    assert bands.of(np.array([7.0, 6.9, 7.1]), [()] * 3) == [2, 0, 4]
    nothing = CategoryBands.fit(np.full(3, np.nan), [()] * 3, 5)
    assert nothing.of(np.array([7.0]), [()]) == [None]


def test_bands_of_features_follow_the_largest_directions():
    random = np.random.default_rng(0)
    hidden = random.normal(size=(500, 2))
    vectors = hidden @ np.array([[3.0, 3, 3, 3, 0, 0], [0, 0, 0, 0, 2, 2]]) + 0.01 * random.normal(size=(500, 6))
    vectors = np.column_stack([vectors, np.full(500, 4.0)])
    fitted = FeatureBands.fit(vectors, 2, 5)
    found = np.array(fitted.of(vectors)).T
    assert found.shape == (500, 2) and set(found.ravel()) == set(range(5))
    for column, truth in zip(found.T, hidden.T):
        assert abs(np.corrcoef(column, truth)[0, 1]) > 0.9
    again = FeatureBands.from_dict(fitted.to_dict())
    assert again.of(vectors) == fitted.of(vectors)


# What counts


def test_statistics_come_from_the_column_or_from_the_training_sessions():
    items = [{"item_id": name, "title": name} for name in "abcd"]
    sessions = [
        {
            "session_id": str(row),
            "user_id": "u",
            "time": row,
            "query": "q",
            "clicked": clicked,
            "carted": carted,
            "purchased": [],
        }
        for row, (clicked, carted) in enumerate([("ab", "a"), ("ab", ""), ("a", "b"), ("a", "")])
    ]
    for session in sessions:
        session |= {"clicked": list(session["clicked"]), "carted": list(session["carted"])}
    market = shop(items, sessions)
    assert words(market, "clicks", bands=2) == ["<|clicks_1|>", "<|clicks_0|>", "", ""]
    assert words(market, "carts", bands=2)[:2] == ["<|carts_0|>"] * 2 and not any(words(market, "purchases"))
    counted = [{**item, "click_count": count} for item, count in zip(items, (0, None, 5, 9))]
    assert words(shop(counted, sessions), "clicks", bands=3) == ["<|clicks_0|>", "", "<|clicks_1|>", "<|clicks_2|>"]


def test_nothing_of_the_held_out_sessions_is_counted(market):
    """Held-out sessions that click and buy other things leave every text as it is."""
    ids = market.items["item_id"]
    rows = []
    for session, split in zip(market.sessions, split_sessions(market)):
        rows.append({**session, "impressed": [], "clicked": ids[:40], "purchased": ids[:40]} if split else session)
    other = Market.from_rows(items=market.items, users=market.users, sessions=rows, info=market.info)
    facts = config("clicks", "carts", "purchases", "price", "keywords")
    here, there = (ItemFacts.fit(part, facts) for part in (market, other))
    texts = here.texts(market)
    assert texts == there.texts(other) and any("<|clicks_4|>" in text for text in texts)
    everything = {**market.info, "split": {"method": "none"}}
    assert texts != here.texts(replace(other, info=everything)), "the sessions would have made a difference"


def test_every_fact_enters_in_one_order_bands_first():
    rows = [
        {
            "item_id": str(number),
            "title": f"Red Shoe {number}",
            "price": float(number),
            "click_count": number,
            "cart_count": number,
            "purchase_count": number,
            "features": [float(number), 1.0],
            "attributes": {"color": ["red"]},
            "ocr_text": "sale" if number else None,
            "description": "x" * 400 if number else None,
        }
        for number in range(25)
    ]
    market = shop(rows)
    facts = ItemFacts.fit(market, config(*reversed(ALL)))
    first, last = facts.texts(market)[0], facts.texts(market)[24]
    assert tuple(facts.facts) == ALL
    markers = "<|price_{0}|> <|clicks_{0}|> <|carts_{0}|> <|purchases_{0}|>"
    turned = first.split("<|features0_")[1][0]
    assert turned in "04" and first == f"{markers.format(0)} <|features0_{turned}|> Red Shoe 0 red red"
    assert last == f"{markers.format(4)} <|features0_{4 - int(turned)}|> Red Shoe 24 red red sale {'x' * 300}"
    assert set(facts.markers) >= set(first.split()[:5]) and len(facts.markers) == 25


def test_core_keywords_are_those_that_queries_ask_for():
    """Every click on a red rain coat followed a query that names the coat; none named the colour."""
    attributes = {"entity": ["coat"], "color": ["red"]}
    items = [{"item_id": str(number), "title": f"red coat {number}", "attributes": attributes} for number in range(5)]
    sessions = [
        {"session_id": str(time), "user_id": "u", "time": time, "query": "warm coat", "clicked": [str(time)], "purchased": []}
        for time in range(5)
    ]
    market = shop(items, sessions)
    assert set(words(market, "keywords")) == {"red coat"} and set(words(market, "keywords", core_keywords=1)) == {"coat"}


def test_no_title_can_claim_a_band():
    rows = [
        {"item_id": str(number), "title": "shoe <|price_4|>", "price": float(number), "ocr_text": "<|price_4|>"}
        for number in range(9)
    ]
    texts = ItemFacts.fit(shop(rows), config("price", "ocr")).texts(shop(rows))
    assert texts[0] == "<|price_0|> shoe < |price_4|> < |price_4|>"
    assert item_texts(shop(rows))[0] == "shoe <|price_4|>"


def test_without_facts_the_text_is_the_text(market, tmp_path, caplog):
    facts = ItemFacts.fit(market, SMALL)
    assert facts.texts(market) == item_texts(market) and not facts.markers
    facts.save(tmp_path)
    assert not list(tmp_path.iterdir()) and ItemFacts.load(tmp_path).facts == {}
    assert not caplog.text
    ItemFacts.fit(shop([{"item_id": "a", "title": "a"}]), config("price"))
    assert "encoder.facts names price, which no item of the market has" in caplog.text


def test_features_are_as_many_in_every_item():
    rows = [{"item_id": "a", "title": "a", "features": [1.0]}, {"item_id": "b", "title": "b", "features": [1.0, 2.0]}]
    with pytest.raises(ValueError, match=r"the items have \[1, 2\] of them"):
        ItemFacts.fit(shop(rows), config("features"))
    facts = ItemFacts.fit(shop(rows[:1]), config("features"))
    with pytest.raises(ValueError, match="an item has 2 features, the catalogue 1"):
        facts.texts(shop(rows[1:]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"facts": ["colour"]}, r"names \['colour'\]; allowed are price, clicks"),
        ({"facts": ["price", "price"]}, "names a fact twice"),
        ({"core_keywords": 0}, "encoder.core_keywords=0 is invalid; give at least 1, or null"),
        ({"bands": 1}, "encoder.bands=1 is invalid; give at least 2"),
    ],
)
def test_wrong_facts_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        TextEncoderConfig(**values)


# In the encoder


def test_a_band_is_one_token_with_a_vector_of_its_own(market):
    facts = ItemFacts.fit(market, config("price", "clicks"))
    plain, encoder = base_encoder(market, SMALL), base_encoder(market, config("price", "clicks"), facts)
    assert encoder.tokenizer.encode("shoe <|price_3|>", add_special_tokens=False).tokens[-1] == "<|price_3|>"
    words_only = {token for token in encoder.tokenizer.get_vocab() if not token.startswith("<|")}
    assert words_only == set(plain.tokenizer.get_vocab()), "the words are those of the texts without facts"
    vectors = embed_texts(encoder, facts.markers)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert len(np.unique(vectors.round(5), axis=0)) == len(facts.markers) == 10


@pytest.fixture
def small(run, market):
    """A run whose encoder reads the price and the clicks, and its SIDs."""
    embed_market(run, config("price", "clicks", "keywords", epochs=1))
    build_sids(run, RQOPQConfig(residual_sizes=(16, 8, 8), opq=(2, 4), iterations=5, balanced="none"), page=False)
    return run


def test_new_items_get_the_facts_of_the_run(small, market):
    stored, facts = load_codes(small, "items"), load_facts(small)
    clicked = np.array([bool(word) for word in facts.facts["clicks"].words(market)])
    assert 0.1 < clicked.mean() < 0.9
    rows = [{**market.items[row], "item_id": f"new-{row}"} for row in np.flatnonzero(~clicked)[:20].tolist()]
    coded = encode_items(small, table_from_rows("items", rows))
    np.testing.assert_array_equal(coded.codes, stored.codes[~clicked][:20])
    again = ItemFacts.load(small.embeddings)
    table = as_dataset(table_from_rows("items", rows))
    assert again.texts(replace(market, items=table)) == np.array(facts.texts(market))[~clicked][:20].tolist()
    encoder = load_encoder(small)
    np.testing.assert_allclose(load_embeddings(small, "items"), embed_texts(encoder, facts.texts(market)), atol=1e-6)
    path = small.embeddings / "item_facts.json"
    write_json(path, {**read_json(path), "format": "other"})
    with pytest.raises(ValueError, match="have changed since the SIDs were built"):
        append_items(small, table_from_rows("items", rows))
    with pytest.raises(ValueError, match="does not have the format"):
        load_facts(small)


def test_an_aligned_encoder_keeps_its_facts(run, market):
    alignment = AlignmentConfig(epochs=1, batch_size=64, q2q=0, i2i=0, rank=0, relevance=0)
    align_run(run, config("price", "clicks"), alignment)
    before = load_facts(run)
    start = base_encoder(market, config("price", "clicks"), before)[0].embedding.weight
    trained = load_encoder_of(run)[0].embedding.weight
    markers = [load_encoder_of(run).tokenizer.token_to_id(marker) for marker in before.markers]
    assert (trained[markers] - start[markers]).abs().max(dim=1).values.min() > 1e-3
    with pytest.raises(
        ValueError, match=r"aligned with \{'facts': \['clicks', 'price'\], 'bands': 5, .* not with \{'facts': \['price'\]"
    ):
        embed_market(run, config("price"))
    embed_market(run, config("clicks", "price"))
    assert load_facts(run).texts(market) == before.texts(market)
    assert read_json(run.embeddings / "embeddings.json")["encoder"]["facts"] == ["clicks", "price"]


def load_encoder_of(run):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(run.encoder), device="cpu")
