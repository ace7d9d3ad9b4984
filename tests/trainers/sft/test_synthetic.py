"""Queries made of an item's words and facets."""

from __future__ import annotations

import numpy as np
import pytest

from onesearch.data.market import Market
from onesearch.trainers.sft.data.synthetic import facet_query, facets_of, sampled_words, split_words


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
