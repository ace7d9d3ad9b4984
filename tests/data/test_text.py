"""The text of an item: which fields it holds, and how much of each."""

from __future__ import annotations

from onesearch.data.market import Market
from onesearch.data.text import item_texts

ITEMS = [
    {
        "item_id": "1",
        "title": "red shoe",
        "description": "light and warm for the winter",
        "tags": ["sale", "winter"],
        "url": "https://a.b/1",
    },
    {"item_id": "2", "title": "登山靴", "description": "防水の登山靴です"},
]


def test_a_limit_cuts_a_field_at_a_word():
    market = Market.from_rows(
        items=ITEMS, info={"text_fields": ["title", "tags", "description"], "text_limits": {"description": 12}}
    )
    assert item_texts(market) == ["red shoe sale winter light and", "登山靴 防水の登山靴です"]
    market.info["text_limits"] = {"description": 3, "title": 100}
    assert item_texts(market) == ["red shoe sale winter lig", "登山靴 防水の"]  # no blank to cut at
    market.info["text_limits"] = {"description": 5}
    assert item_texts(market)[0] == "red shoe sale winter light"


def test_without_limits_and_fields_texts_are_as_before():
    assert item_texts(Market.from_rows(items=ITEMS)) == ["red shoe", "登山靴"]
    assert item_texts(Market.from_rows(items=ITEMS), ["description"])[0] == "light and warm for the winter"
