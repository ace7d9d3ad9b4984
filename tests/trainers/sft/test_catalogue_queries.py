"""Queries made of a catalogue, and the items that are their targets."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from onesearch.data.market import Market
from onesearch.trainers.sft.data.catalogue_queries import CatalogueQueries, title_phrases
from onesearch.trainers.sft.data.text_targets import TextTargets


def test_phrases_are_words_in_a_row_that_titles_share():
    titles = ["Red Laptop Bag, 15 inch", "Blue laptop bag", "Bag", "Camera bag (tripod)", *["Laptop"] * 6]
    first, second, _, camera, laptop, *_ = title_phrases(titles)
    # "laptop" begins or ends eight of ten titles; "red laptop" and "15 inch" are in one alone, and a comma parts "bag 15"
    assert first == ["red", "bag", "inch"] and second == ["blue", "bag"] and laptop == []
    assert camera == ["camera", "bag", "tripod"]
    assert title_phrases(titles[:4])[0] == ["red", "laptop", "laptop bag", "bag", "inch"]


def test_scripts_without_blanks_have_pieces():
    phrases = title_phrases(["红色运动鞋", "蓝色运动鞋", *["书"] * 8])
    assert set(phrases[0]) == {"色运", "运动", "动鞋", "色运动", "运动鞋", "色运动鞋"} == set(phrases[1])
    assert phrases[2] == []  # a letter alone is no phrase


def catalogue():
    """100 black items, of which one is a rug, and 20 white ones."""
    rows = [{"item_id": f"b{number}", "title": "Thing", "attributes": {"color": ["Black"]}} for number in range(100)]
    rows[0] |= {"categories": ["Home", "Rug"], "brand": "Mo", "attributes": {"color": ["Black"], "material": ["wool"]}}
    return Market.from_rows(items=rows)


def test_rare_values_are_drawn_more_often_than_frequent_ones():
    queries = CatalogueQueries(catalogue())
    random = np.random.default_rng(0)
    drawn = Counter(queries._values["attribute"].draw(0, random) for _ in range(2000))
    assert drawn["wool"] / 2000 == pytest.approx(1 / 1.1, abs=0.03)  # weights 1 and 100^-½


def test_templates_use_the_parts_that_an_item_has():
    queries = CatalogueQueries(catalogue())
    random = np.random.default_rng(0)
    found = {queries.sample(0, random) for _ in range(300)}
    assert {"rug", "home", "mo rug", "wool rug", "black rug"} <= found
    assert {queries.sample(1, random) for _ in range(20)} == {
        "Thing",
        "Black",
        "Thing Black",
    }  # words of its text: it fits no template


def test_the_same_seed_gives_the_same_queries(market):
    queries = CatalogueQueries(market)
    one, other = (
        [queries.sample(item, random) for item in range(len(queries))]
        for random in (np.random.default_rng(1), np.random.default_rng(1))
    )
    assert one == other and all(one) and len(set(one)) > 50


def test_targets_are_the_items_that_match_best():
    pytest.importorskip("bm25s")
    titles = ["laptop", "laptop bag", "laptop bag of leather", *(f"chair {number}" for number in range(20))]
    market = Market.from_rows(items=[{"item_id": str(row), "title": title} for row, title in enumerate(titles)])
    targets, random = TextTargets(market), np.random.default_rng(0)
    drawn = Counter(targets.draw("laptop bag", 9, random) for _ in range(3000))
    # BM25's order is 1, 2, 0, drawn by the discounts 1, 0.631 and 0.5 of DCG
    assert drawn[1] / 3000 == pytest.approx(1 / 2.131, abs=0.03) and drawn[0] / 3000 == pytest.approx(0.5 / 2.131, abs=0.03)
    assert set(drawn) == {0, 1, 2}
    assert targets.draw("sofa", 9, random) == 9
