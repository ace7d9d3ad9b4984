"""The importer of your own tables, in every format."""

from __future__ import annotations

import csv
import gzip
import json
import time
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
        ("items", {"item_id": 4.006381333931e12, "title": "t"}, "item_id must be text or an integer"),
        ("items", {"item_id": "", "title": "t"}, "item_id must be text or an integer"),
        ("items", {"item_id": "a b", "title": "t"}, "item_id must be text or an integer, without white space"),
        ("items", {"item_id": "a\n", "title": "t"}, "item_id must be text or an integer, without white space"),
        ("items", {"item_id": "a\0", "title": "t"}, "item_id must be text or an integer, without white space and NUL"),
        ("items", {"item_id": "1", "title": "t"}, "item_id occurs twice"),
        ("items", {"item_id": 3, "title": ""}, "title must not be blank"),
        ("items", {"item_id": 3, "title": 4}, "title must be text"),
        ("items", '{"item_id": 3, "title": "t", "title": "u"}', "a key occurs twice"),
        ("users", {"user_id": 5}, "user_id occurs twice"),
        ("sessions", {**SESSION, "user_id": 6, "session_id": "x"}, "user_id is not in users"),
        ("sessions", SESSION, "session_id occurs twice"),
        ("sessions", {**SESSION, "session_id": "x", "clicked": ["ghost"]}, "clicked is not in items"),
        ("sessions", {**SESSION, "session_id": "x", "clicked": "b"}, "clicked must be a list of ids"),
        ("sessions", {**SESSION, "session_id": "x", "clicked": {"b": 1}}, "clicked must be a list of ids"),
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
    append(own, table, row)
    name = own_name(table)
    with pytest.raises(ValueError) as error:
        import_tables(own)
    assert f"1 × {name}: {reason}" in str(error.value) and f"first: {name}:" in str(error.value)
    market = sound(import_tables(own, bad_rows="drop"), tmp_path)
    assert (len(market.items), len(market.users), len(market.sessions), len(market.relevance)) == (2, 1, 3, 1)
    assert sum(market.info["dropped"].values()) == 1


@pytest.mark.parametrize(
    ("table", "values", "reason"),
    [
        ("items", {"colour": "red"}, "unknown column 'colour'"),
        ("items", {"price": "3,980円"}, "price must be a finite number"),
        ("items", {"price": float("nan")}, "price must be a finite number"),
        ("items", {"price": 1e39}, "price must be a finite number"),
        ("items", {"brand": 3}, "brand must be text"),
        ("items", {"attributes": {"colour": "red"}}, "unknown attribute type 'colour'"),
        ("items", {"attributes": {"color": 1}}, "attributes.color must be a text or a list"),
        ("items", {"attributes": ["red"]}, "attributes must map attribute types"),
        ("items", {"categories": [1]}, "categories must be text"),
        ("items", {"features": [None]}, "features must be a list of numbers"),
        ("users", {"gender": 1}, "gender must be text"),
        ("sessions", {"impressed": "b"}, "impressed must be a list of ids"),
        ("sessions", {"impressed": [1, "ghost"]}, "impressed is not in items"),
    ],
)
def test_an_optional_value_is_dropped_alone(own, tmp_path, table, values, reason):
    required = {
        "items": {"item_id": 3, "title": "t"},
        "users": {"user_id": 7},
        "sessions": {**SESSION, "session_id": "x"},
    }[table]
    append(own, table, {**required, **values})
    name = own_name(table)
    with pytest.raises(ValueError) as error:
        import_tables(own)
    assert f"1 × {name}: {reason}" in str(error.value)
    market = sound(import_tables(own, bad_rows="drop"), tmp_path)
    counts = {"items": len(market.items), "users": len(market.users), "sessions": len(market.sessions)}
    assert counts == {"items": 2, "users": 1, "sessions": 3} | {table: {"items": 3, "users": 2, "sessions": 4}[table]}
    assert sum(market.info["dropped"].values()) == 1
    (column,) = values
    left = getattr(market, table)[-1].get(column)
    assert left is None or left == [] or not any(left.values())


def test_every_unknown_column_is_named_once_per_file(own):
    for number in range(3):
        append(own, "items", {"item_id": f"n{number}", "title": "t", "colour": "red", "size": 1, "weight": 2})
    with pytest.raises(ValueError) as error:
        import_tables(own)
    message = str(error.value)
    assert all(f"1 × items.jsonl: unknown column '{column}'" in message for column in ("colour", "size", "weight"))
    assert message.startswith("3 bad rows or values; ")
    market = import_tables(own, bad_rows="drop")
    assert len(market.items) == 5 and sum(market.info["dropped"].values()) == 3


def own_name(table: str) -> str:
    """File of a table in `own`."""
    return "users.jsonl.gz" if table == "users" else f"{table}.jsonl"


def append(own: Path, table: str, row: dict | str) -> None:
    """Add a row, or a line of text, to a table."""
    name = own_name(table)
    opened = gzip.open(own / name, "at") if table == "users" else (own / name).open("a")
    with opened as file:
        file.write((row if isinstance(row, str) else json.dumps(row)) + "\n")


def test_own_csv_bad_cells(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title,price\n1,a,dear\n2,b,3,4\n3,c,\n4,d\n")
    with pytest.raises(ValueError) as error:
        import_tables(tmp_path)
    assert "items.csv:2 ('dear')" in str(error.value) and "more cells than the header" in str(error.value)
    assert "fewer cells than the header has columns; first: items.csv:5" in str(error.value)
    market = import_tables(tmp_path, bad_rows="drop")
    assert market.items[:]["item_id"] == ["1", "3"] and market.items[:]["price"] == [None, None]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('1,shoe\n3,"7 inch disc\n4,coat\n5,hat\n', {"1": "shoe", "4": "coat", "5": "hat"}),
        ('1,shoe\n3,"7 inch disc\n4,"red, dress"\n5,hat\n', {"1": "shoe", "4": "red, dress", "5": "hat"}),
        ('1,shoe\n3,"7 inch disc\n4,TV 55"\n5,hat\n', {"1": "shoe", "4": 'TV 55"', "5": "hat"}),
        ('1,shoe\n3,"Best" disc\n4,coat\n', {"1": "shoe", "4": "coat"}),
        ('1,7" disc\n2,"two\nlines and ""more"""\n3,hat', {"1": '7" disc', "2": 'two\nlines and "more"', "3": "hat"}),
    ],
)
def test_a_quote_that_is_not_closed_costs_its_own_row(tmp_path, text, kept):
    (tmp_path / "items.csv").write_text("item_id,title\n" + text)
    lost = text.count("\n3,") and "3" not in kept
    if lost:
        with pytest.raises(ValueError, match="first: items.csv:3 "):
            import_tables(tmp_path)
    market = import_tables(tmp_path, bad_rows="drop" if lost else "raise")
    assert dict(zip(market.items[:]["item_id"], market.items[:]["title"])) == kept
    assert sum(market.info["dropped"].values()) == int(bool(lost))


def test_reading_past_open_quotes_stays_fast(tmp_path):
    """Each looks at most `MOST_LINES` lines ahead."""
    (tmp_path / "items.csv").write_text("item_id,title\n" + "".join(f'{row},"disc\n' for row in range(3000)) + "a,hat\n")
    started = time.process_time()
    assert import_tables(tmp_path, bad_rows="drop").items[:]["item_id"] == ["a"]
    assert time.process_time() - started < 10


@pytest.mark.parametrize("mode", ["raise", "drop"])
def test_a_file_is_judged_by_its_header(tmp_path, mode):
    """No choice of rows could mend these."""
    path = tmp_path / "items.csv"
    path.write_text("item_id,title,price,title\n1,a,2,b\n")
    with pytest.raises(ValueError, match=r"the header names \['title'\] twice"):
        import_tables(tmp_path, bad_rows=mode)
    path.write_text("item_id,name\n1,a\n")
    with pytest.raises(ValueError, match=r"missing columns \['title'\]"):
        import_tables(tmp_path, bad_rows=mode)
    path.write_text("item_id,title\n1,\n2, \n")
    with pytest.raises(
        ValueError, match="2 × items.csv: title must be text|no item is left; .*items.csv: title must be text.*: 2"
    ):
        import_tables(tmp_path, bad_rows=mode)
    path.unlink()
    names = ["item_id", "title", "title"]
    pq.write_table(pa.Table.from_arrays([pa.array(["1"]), pa.array(["a"]), pa.array(["b"])], names), tmp_path / "items.parquet")
    with pytest.raises(ValueError, match=r"columns \['title'\] twice"):
        import_tables(tmp_path, bad_rows=mode)


@pytest.mark.parametrize("name", ["Sessions.jsonl", "session.jsonl", "users.tsv", "relevance.CSV", "users.json", "items"])
def test_a_file_with_a_wrong_name_is_not_passed_over(own, name):
    (own / name).mkdir() if name == "items" else (own / name).write_text("x")
    with pytest.raises(ValueError, match=f"{name}: not the file of a table; rename it"):
        import_tables(own)
    market = import_tables(own, bad_rows="drop")
    assert len(market.items) == 2 and list(market.info["dropped"].values()) == [1]


def test_the_language_is_that_of_the_titles(tmp_path):
    write_jsonl(tmp_path / "items.jsonl", [{"item_id": 1, "title": "红色连衣裙"}])
    assert import_tables(tmp_path).info["language"] == "zh"
    assert import_tables(tmp_path, language="EN-us").info["language"] == "en"
    write_jsonl(tmp_path / "items.jsonl", [{"item_id": 1, "title": "rotes Kleid für Damen"}])
    assert import_tables(tmp_path).info["language"] == "de"
    with pytest.raises(ValueError, match="language is 'German'; the first part of a language is its code"):
        import_tables(tmp_path, language="German")


def test_own_files_that_are_not_what_they_seem(own):
    (own / "items.csv").write_text("item_id,title\n1,a\n")
    with pytest.raises(ValueError, match="items.jsonl and items.csv"):
        import_tables(own)
    assert len(import_tables(own, format="jsonl").items) == 2
    with pytest.raises(ValueError, match="'xml'.*jsonl, parquet, csv"):
        import_tables(own, format="xml")
    with pytest.raises(ValueError, match="'chance'.*leave_last_out"):
        import_tables(own, format="jsonl", split="chance")
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
