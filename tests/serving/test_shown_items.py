"""Titles, brands and prices of the hits."""

from __future__ import annotations

import pytest

from onesearch import Hit, Searcher
from onesearch.data.market import Market
from onesearch.serving.shown_items import SHOWN_ITEMS_NAME, ShownItems

ROWS = [
    {"item_id": "b", "title": "red dress", "brand": "Mo", "price": 17.78},
    {"item_id": "10", "title": "blue hat"},
    {"item_id": "é", "title": "green shoe", "brand": "Ka"},
    {"item_id": "9", "title": "a scarf", "price": 3.0},
]


def test_hits_get_the_facts_of_their_items(tmp_path):
    ShownItems.save(Market.from_rows(items=ROWS), tmp_path / SHOWN_ITEMS_NAME)
    shown = ShownItems(tmp_path / SHOWN_ITEMS_NAME)
    filled = shown.filled([Hit(item, (0,), -1.0) for item in ("9", "new", "b", "é", "10", "zz", "")])
    assert [hit.title for hit in filled] == ["a scarf", None, "red dress", "green shoe", "blue hat", None, None]
    assert [hit.price for hit in filled] == [3.0, None, 17.78, None, None, None, None]
    assert filled[2].brand == "Mo" and filled[2].item_id == "b" and filled[2].score == -1.0


def test_an_empty_catalogue_has_no_facts(tmp_path):
    ShownItems.save(Market.from_rows(items=[]), tmp_path / SHOWN_ITEMS_NAME)
    assert ShownItems(tmp_path / SHOWN_ITEMS_NAME).filled([Hit("a", (0,), 0.0)]) == [Hit("a", (0,), 0.0)]


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / SHOWN_ITEMS_NAME
    ShownItems.save(Market.from_rows(items=ROWS), path)
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"items\.parquet.*copy the checkpoint again"):
        ShownItems(path).filled([Hit("a", (0,), 0.0)])


def test_the_hits_of_a_searcher_carry_the_market_s_titles(shared_searcher, market):
    titles = dict(zip(market.items["item_id"], market.items["title"]))
    hits = shared_searcher.search("red shoe", top_k=5)
    assert [hit.title for hit in hits] == [titles[hit.item_id] for hit in hits]


def test_a_checkpoint_without_the_file_searches_without_titles(checkpoint):
    (checkpoint / SHOWN_ITEMS_NAME).unlink()
    hits = Searcher.from_pretrained(checkpoint).search("red shoe", top_k=3)
    assert len(hits) == 3 and {hit.title for hit in hits} == {None}
