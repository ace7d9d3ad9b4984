"""The Amazon importer, on two users and on the published Beauty set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from importer_files import real, sound, write_jsonl

from onesearch.data.importers.amazon import category_query, import_amazon
from onesearch.data.requests import build_requests


@pytest.fixture
def amazon(tmp_path) -> Path:
    folder = tmp_path / "amazon"
    item = {
        "asin": "B001",
        "title": "Lip Balm",
        "categories": [["Beauty", "Skin Care", "Lips & Balms"]],
        "attributes": [],
        "brand": "Mo",
    }
    blank = {"item_id": 3, "title": " ", "asin": "B003", "brand": ""}
    write_jsonl(folder / "items.jsonl", [{**item, "item_id": 1}, {**item, "item_id": 2, "brand": "Unknown"}, {**item, **blank}])
    sequences = [{"user_id": 1, "reviewer_id": "A", "items": [1, 2, 3]}, {"user_id": 2, "reviewer_id": "B", "items": [3, 1]}]
    write_jsonl(folder / "sequences.jsonl", sequences)
    return folder


def test_amazon_gives_one_session_per_purchase(amazon, tmp_path):
    market = sound(import_amazon(amazon), tmp_path)
    assert market.sessions[:]["session_id"] == ["u1-1", "u2-1", "u1-2", "u2-2", "u1-3"]
    assert market.sessions[:]["time"] == [1, 1, 2, 2, 3]
    assert market.sessions[2]["purchased"] == ["2"] and market.sessions[2]["clicked"] == []
    assert set(market.sessions[:]["scene"]) == {"unknown"}
    assert set(market.sessions[:]["query"]) == {"beauty skin care lips balms"}
    assert [item["title"] for item in market.items] == ["Lip Balm", "Lip Balm", "Lips & Balms B003"]
    assert [item["brand"] for item in market.items] == ["Mo", None, None]
    assert market.items[0]["attributes"]["brand"] == ["Mo"] and market.items[0]["attributes"]["entity"] == []
    assert market.info["titles_filled"] == 1 and market.info["queries"].startswith("artificial")
    (request,) = build_requests(market, "test")
    assert (request.history, request.purchased) == (("1", "2"), ("3",))


def test_amazon_without_queries_is_the_next_item_protocol(amazon, tmp_path):
    """All queries are the same; everything else equals the market with category queries."""
    market, searched = sound(import_amazon(amazon, queries="none"), tmp_path), import_amazon(amazon)
    assert set(market.sessions[:]["query"]) == {"next purchase"} and market.info["queries"].startswith("none")
    assert market.sessions.data.drop(["query"]).equals(searched.sessions.data.drop(["query"]))
    assert market.items.data.equals(searched.items.data)
    with pytest.raises(ValueError, match="queries='title'.*category, none"):
        import_amazon(amazon, queries="title")


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (["Beauty", "Hair Care", "Shampoo & Hair Care"], "beauty hair care shampoo"),
        (["Beauty", "Women's", "Hot-Air Brushes"], "beauty womens hot air brushes"),
        (["Beauty", "Crème_Café, 2 in 1"], "beauty crème café 2 in 1"),
        ([], ""),
    ],
)
def test_category_queries(path, query):
    assert category_query(path) == query


@pytest.mark.parametrize(
    ("file", "row", "reason"),
    [
        ("items.jsonl", {"item_id": 1, "title": "t", "categories": []}, "item_id occurs twice"),
        ("items.jsonl", {"item_id": 4, "title": "t", "categories": ["Beauty"]}, "categories must be a list of category paths"),
        ("items.jsonl", {"item_id": 4, "title": "", "categories": []}, "asin must be text"),
        ("sequences.jsonl", {"user_id": 1, "items": [1]}, "user_id occurs twice"),
        ("sequences.jsonl", {"user_id": 3, "items": [99]}, "items is not in items.jsonl"),
        ("sequences.jsonl", {"user_id": 3, "items": []}, "items must not be empty"),
        ("sequences.jsonl", {"user_id": 3, "items": [1.0]}, "items must be text or an integer"),
    ],
)
def test_amazon_bad_rows_raise_or_are_counted(amazon, tmp_path, file, row, reason):
    with (amazon / file).open("a") as out:
        out.write(json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=f"{file}: {reason}"):
        import_amazon(amazon)
    market = sound(import_amazon(amazon, bad_rows="drop"), tmp_path)
    assert (len(market.items), len(market.users), len(market.sessions)) == (3, 2, 5) and sum(
        market.info["dropped"].values()
    ) == 1


@pytest.mark.slow  # the whole published data set
def test_amazon_beauty(tmp_path):
    market = sound(import_amazon(real("amazon_beauty")), tmp_path)
    assert (len(market.items), len(market.users), len(market.sessions)) == (12101, 22363, 198502)
    assert market.info["titles_filled"] == 7 and market.items.data["brand"].null_count == 4647
    queries = market.sessions.data["query"].to_pylist()
    requests = build_requests(market, "test")
    assert len(set(queries)) == 236 and len({request.query for request in requests}) == 228
    assert len(requests) == 22363 and all(len(request.purchased) == 1 and request.history for request in requests)
