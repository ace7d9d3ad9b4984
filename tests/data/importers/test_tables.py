"""The importer of your own tables, in every format."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from importer_files import sound, write_jsonl

from onesearch.data.importers.tables import import_tables

ITEM = {
    "item_id": 1,
    "title": "red dress",
    "price": 10,
    "attributes": {"color": "red", "entity": ["dress", ""]},
    "features": [1, 0.5],
}
SESSION = {"session_id": "s", "user_id": 5, "time": 2, "query": "dress", "impressed": None, "clicked": [1], "purchased": []}


@pytest.fixture
def own(tmp_path) -> Path:
    folder = tmp_path / "own"
    write_jsonl(folder / "items.jsonl", [ITEM, {"item_id": "b", "title": "blue shoe", "categories": "Shoes", "brand": " "}])
    write_jsonl(folder / "users.jsonl.gz", [{"user_id": 5, "gender": "F"}])
    later = {**SESSION, "session_id": "t", "time": 1, "query": "", "impressed": [1, "b"], "purchased": ["b"]}
    write_jsonl(folder / "sessions.jsonl", [SESSION, later, {**SESSION, "session_id": "r"}])
    write_jsonl(folder / "relevance.jsonl", [{"query": "dress", "item_id": 1, "grade": 3}])
    return folder


def test_own_tables(own, tmp_path):
    market = sound(import_tables(own, language="en"), tmp_path)
    assert market.items[:]["item_id"] == ["1", "b"] and market.items[:]["price"] == [10.0, None]
    assert market.items[0]["attributes"]["color"] == ["red"] and market.items[0]["attributes"]["entity"] == ["dress"]
    assert market.items[1]["categories"] == ["Shoes"] and market.items[1]["brand"] is None
    assert market.sessions[:]["session_id"] == ["t", "s", "r"] and market.sessions[1]["clicked"] == ["1"]
    assert market.info["sessions_moved"] == 2 and market.info["name"] == "own" and market.info["language"] == "en"
    assert market.info["split"] == {"method": "time", "validation": 0.05, "test": 0.1}


def test_items_are_enough(tmp_path):
    write_jsonl(tmp_path / "own" / "items.jsonl", [ITEM])
    market = sound(import_tables(tmp_path / "own"), tmp_path)
    assert len(market.items) == 1 and len(market.users) == 0 and market.info["split"] == {"method": "none"}


def test_own_parquet_tables_give_the_same_market(own, tmp_path):
    market = import_tables(own, split="leave_last_out")
    again = import_tables(market.save(tmp_path / "saved"), split="leave_last_out")
    for name in ("items", "users", "sessions", "relevance"):
        assert getattr(again, name)[:] == getattr(market, name)[:]
    assert again.info["sessions_moved"] == 0 and again.info["split"] == {"method": "leave_last_out"}


def test_an_empty_users_table_names_no_user_and_refuses_none(own, tmp_path):
    """A saved market always has the table; it is the same market when it is read again."""
    (own / "users.jsonl.gz").unlink()
    market = import_tables(own)
    again = import_tables(market.save(tmp_path / "saved"))
    assert again.sessions[:] == market.sessions[:] and len(again.sessions) == 3


def test_own_parquet_attributes_may_be_an_arrow_map(tmp_path):
    attributes = pa.array([[("color", ["red"])]], type=pa.map_(pa.string(), pa.list_(pa.string())))
    pq.write_table(pa.table({"item_id": [1], "title": ["t"], "attributes": attributes}), tmp_path / "items.parquet")
    assert import_tables(tmp_path).items[0]["attributes"]["color"] == ["red"]


def test_own_csv_tables(tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    rows = [
        ["item_id", "title", "price", "categories", "attributes.color"],
        ["1", "Dress, red", "9.5", "Clothes|Dresses", "red"],
    ]
    with (folder / "items.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([*rows, ["2", "Shoe", "", "", ""]])
    (folder / "relevance.csv").write_text("query,item_id,grade\ndress,1,3\n")
    market = sound(import_tables(folder), tmp_path)
    assert market.items[0]["title"] == "Dress, red" and market.items[0]["categories"] == ["Clothes", "Dresses"]
    assert market.items[0]["attributes"]["color"] == ["red"] and market.items[:]["price"] == [9.5, None]
    assert market.relevance[:]["grade"] == [3]


@pytest.mark.parametrize(
    ("table", "row", "reason"),
    [
        ("items", {"title": "t"}, "item_id must be text or an integer"),
        ("items", {"item_id": True, "title": "t"}, "item_id must be text or an integer"),
        ("items", {"item_id": "1", "title": "t"}, "item_id occurs twice"),
        ("items", {"item_id": 3, "title": ""}, "title must not be blank"),
        ("items", {"item_id": 3, "title": 4}, "title must be text"),
        ("items", {"item_id": 3, "title": "t", "colour": "red"}, "unknown column 'colour'"),
        ("items", {"item_id": 3, "title": "t", "price": "dear"}, "price must be a finite number"),
        ("items", {"item_id": 3, "title": "t", "price": float("nan")}, "price must be a finite number"),
        ("items", {"item_id": 3, "title": "t", "attributes": {"colour": "red"}}, "unknown attribute type 'colour'"),
        ("items", {"item_id": 3, "title": "t", "attributes": {"color": 1}}, "attributes.color must be a text or a list"),
        ("items", {"item_id": 3, "title": "t", "attributes": ["red"]}, "attributes must map attribute types"),
        ("items", {"item_id": 3, "title": "t", "categories": [1]}, "categories must be text"),
        ("items", {"item_id": 3, "title": "t", "features": [None]}, "features must be a list of numbers"),
        ("users", {"user_id": 5}, "user_id occurs twice"),
        ("sessions", {**SESSION, "user_id": 6, "session_id": "x"}, "user_id is not in users"),
        ("sessions", SESSION, "session_id occurs twice"),
        ("sessions", {**SESSION, "session_id": "x", "clicked": ["ghost"]}, "clicked is not in items"),
        (
            "sessions",
            {**SESSION, "session_id": "x", "impressed": ["b"]},
            "clicked holds an item that is not among the impressed",
        ),
        ("sessions", {**SESSION, "session_id": "x", "purchased": None}, "purchased must be a list of ids"),
        ("sessions", {**SESSION, "session_id": "x", "time": 1.5}, "time must be an integer"),
        ("sessions", {**SESSION, "session_id": "x", "query": None}, "query must be text"),
        ("relevance", {"query": "q", "item_id": "ghost", "grade": 1}, "item_id is not in items"),
        ("relevance", {"query": "q", "item_id": 1, "grade": 4}, "grade must be an integer from 0 to 3"),
    ],
)
def test_own_bad_rows_raise_or_are_counted(own, tmp_path, table, row, reason):
    name = "users.jsonl.gz" if table == "users" else f"{table}.jsonl"
    opened = gzip.open(own / name, "at") if table == "users" else (own / name).open("a")
    with opened as file:
        file.write(json.dumps(row) + "\n")
    with pytest.raises(ValueError) as error:
        import_tables(own)
    assert f"1 × {name}: {reason}" in str(error.value) and f"first: {name}:" in str(error.value)
    market = sound(import_tables(own, bad_rows="drop"), tmp_path)
    assert (len(market.items), len(market.users), len(market.sessions), len(market.relevance)) == (2, 1, 3, 1)
    assert sum(market.info["dropped"].values()) == 1


def test_own_csv_bad_cells(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title,price\n1,a,dear\n2,b,3,4\n3,c,\n")
    with pytest.raises(ValueError) as error:
        import_tables(tmp_path)
    assert "items.csv:2 ('dear')" in str(error.value) and "more cells than the header" in str(error.value)
    assert import_tables(tmp_path, bad_rows="drop").items[:]["item_id"] == ["3"]


def test_own_files_that_are_not_what_they_seem(own):
    (own / "items.csv").write_text("item_id,title\n1,a\n")
    with pytest.raises(ValueError, match="items.jsonl and items.csv"):
        import_tables(own)
    assert len(import_tables(own, format="jsonl").items) == 2
    with pytest.raises(ValueError, match="'xml'.*jsonl, parquet, csv"):
        import_tables(own, format="xml")
    with pytest.raises(ValueError, match="'random'.*leave_last_out"):
        import_tables(own, format="jsonl", split="random")
    (own / "sessions.csv").write_text("session_id\n1\n")
    with pytest.raises(ValueError, match="sessions.csv: sessions hold lists"):
        import_tables(own, format="csv")
    (own / "items.csv").write_bytes(b"item_id,title\n1,\xff\n")
    (own / "sessions.csv").unlink()
    with pytest.raises(ValueError, match="items.csv:.*UTF-8"):
        import_tables(own, format="csv")
    (own / "items.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="items.parquet is not a parquet file"):
        import_tables(own, format="parquet")
