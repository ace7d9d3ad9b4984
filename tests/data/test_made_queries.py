"""Queries made of an item's words and facets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onesearch.data.arrow_tables import as_dataset
from onesearch.data.made_queries import FEW_SEARCHES, facet_query, facets_of, sampled_words, split_words, with_made_queries
from onesearch.data.market import Market
from onesearch.data.requests import request_rows


def random():
    return np.random.default_rng(0)


def test_words_of_a_text_with_blanks_stay_whole_and_in_order():
    text = "red running shoe for kids"
    for seed in range(20):
        words = sampled_words(text, 3, np.random.default_rng(seed)).split()
        places = [text.split().index(word) for word in words]
        assert 1 <= len(words) <= 3 and places == sorted(set(places))
    assert sampled_words("", 3, random()) == ""


@pytest.mark.parametrize("text", ["安宝红色防水真皮运动鞋", "赤い革のノート", "เสื้อกันฝนสีแดง"])
def test_a_text_without_blanks_is_cut_into_short_pieces(text):
    pieces = split_words(text, random())
    assert "".join(pieces) == text and all(len(piece) <= 4 for piece in pieces)
    queries = {sampled_words(text, 2, np.random.default_rng(seed)) for seed in range(30)}
    assert len(queries) > 5 and all(" " not in query and len(query) <= 8 for query in queries)


def test_scripts_are_parted_where_they_meet():
    assert (
        split_words("Nike运动鞋 XL", random()) == ["Nike", "运动鞋", "XL"]
        or split_words("Nike运动鞋 XL", random())[0] == "Nike"
    )


def test_facets_are_what_shoppers_ask_for():
    market = Market.from_rows(
        items=[
            {
                "item_id": "a",
                "title": "x",
                "brand": "Mo",
                "categories": ["Clothes", "Shoe"],
                "attributes": {"color": ["red"], "brand": ["Mo"]},
                "tags": ["new", " "],
            },
            {"item_id": "b", "title": "y"},
        ]
    )
    assert facets_of(market) == [["Shoe", "Mo", "red", "new"], []]
    queries = {facet_query(["Shoe", "Mo", "red", "new"], np.random.default_rng(seed)) for seed in range(100)}
    assert {"Shoe", "red Shoe"} <= queries and max(len(query.split()) for query in queries) == 3
    assert facet_query([], random()) == ""


def orders(real: int, made: int = 3) -> Market:
    """`made` purchases without a query before `real` searches."""
    items = [
        {"item_id": "a", "title": "x", "brand": "Mo", "categories": ["Clothes", "Shoe"]},
        {"item_id": "b", "title": "blue rain coat"},
    ]
    sessions = [
        {
            "session_id": f"o{n}",
            "user_id": f"u{n}",
            "time": n,
            "query": " ",
            "purchased": ["ab"[n % 2]],
            "scene": "recommendation",
        }
        for n in range(made)
    ]
    sessions += [
        {"session_id": f"s{n}", "user_id": f"u{n}", "time": made + n, "query": "shoe", "clicked": ["a"]} for n in range(real)
    ]
    sessions.append({"session_id": "seen", "user_id": "u0", "time": made + real, "query": "", "impressed": ["a"]})
    split = {"method": "time", "validation": 0.1, "test": 0.2}
    return Market.from_rows(items=items, sessions=sessions, info={"name": "orders", "split": split})


def test_orders_alone_become_searches_that_are_measured():
    market, sentence = with_made_queries(orders(real=0, made=50))
    queries, scenes = (market.sessions.data.column(name).to_pylist() for name in ("query", "scene"))
    assert set(queries[0:50:2]) <= {"Shoe", "Mo", "Shoe Mo", "Mo Shoe"}  # facets of the first item
    assert all(
        set(query.split()) <= {"blue", "rain", "coat"} and query for query in queries[1:50:2]
    )  # words of the second's title
    assert scenes[:50] == ["unknown"] * 50 and queries[50] == ""  # a session without a click or purchase asks for nothing
    assert market.info["queries"].startswith("artificial") and sentence.startswith("50 sessions without a query")
    assert [len(request_rows(market, split)) for split in ("train", "validation", "test")] == [35, 5, 10]
    assert with_made_queries(orders(real=0, made=50))[0].sessions.data.column("query").to_pylist() == queries


def test_beside_real_searches_they_are_learned_from_alone():
    plain = orders(real=FEW_SEARCHES)
    market, sentence = with_made_queries(plain)
    assert f"of the {FEW_SEARCHES} answered searches" in sentence and "queries" not in market.info
    assert market.sessions.data.column("scene").to_pylist()[:3] == ["recommendation"] * 3
    for split, more in (("train", 3), ("validation", 0), ("test", 0)):
        assert len(request_rows(market, split)) == len(request_rows(plain, split)) + more, split
    late = plain.sessions.data.table.take(np.r_[np.arange(3, FEW_SEARCHES + 3), 0, 1, 2])
    late = with_made_queries(replace(plain, sessions=as_dataset(late)))[0]
    assert set(request_rows(late, "test").tolist()) < set(
        range(FEW_SEARCHES)
    )  # made queries of the latest time are not measured


def test_a_market_whose_sessions_all_ask_is_left_alone():
    market = orders(real=5, made=0)
    assert with_made_queries(market) == (market, "")
