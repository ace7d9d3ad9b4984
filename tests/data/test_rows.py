"""One rule for ids and one for rows: what a value may be does not depend on the door that it comes through."""

from __future__ import annotations

import random
import sys

import numpy as np
import pyarrow as pa
import pytest
from importer_files import write_jsonl

from onesearch.data.arrow_tables import conform, table_from_rows
from onesearch.data.ids import bad_ids, is_id
from onesearch.data.importers.tables import import_tables
from onesearch.data.market import Market
from onesearch.parquet_files import read_given_table, read_table, table_writer, write_table
from onesearch.sequences import as_list, as_texts

ITEM = {"item_id": "a", "title": "red dress"}
SESSION = {"session_id": "s", "user_id": "u", "time": 3, "query": "dress", "clicked": ["a"], "purchased": []}


def test_the_two_forms_of_the_id_rule_agree_on_every_character():
    texts = ["", "a"] + [
        f"a{chr(code)}b"
        for code in range(sys.maxunicode + 1)
        if not 0xD800 <= code < 0xE000 and (code < 0x3100 or code % 97 == 0)
    ]
    assert np.asarray(bad_ids(pa.array(texts))).tolist() == [not is_id(text) for text in texts]
    assert [is_id(text) for text in ("a", "a b", " a", "a\n", "\0", "", "a\u3000")] == [True, *[False] * 6]
    assert bad_ids(pa.array([None], pa.string())).to_pylist() == [True]


@pytest.mark.parametrize(
    ("table", "values", "words"),
    [
        ("items", {"item_id": "a b"}, "item_id must be text or an integer, without white space"),
        ("items", {"item_id": ""}, "item_id must be text"),
        ("items", {"item_id": None}, "item_id must be text"),
        ("items", {"item_id": 4.006381333931e12}, "item_id must be text or an integer"),
        ("items", {"title": " "}, "title must not be blank"),
        ("items", {"price": float("nan")}, "price must be a finite number"),
        ("items", {"price": "3,980円"}, "price must be a finite number"),
        ("items", {"attributes": {"color": {"red"}}}, "attributes.color must be a text or a list"),
        ("items", {"categories": {"Shoes"}}, "categories must be a text or a list"),
        ("items", {"colour": "red", "size": 1}, "unknown column 'size'"),
        ("sessions", {"clicked": "a"}, "clicked must be a list of ids"),
        ("sessions", {"clicked": {"a"}}, "clicked must be a list of ids"),
        ("sessions", {"clicked": {"a": 1}}, "clicked must be a list of ids"),
        ("sessions", {"purchased": iter(["a"])}, "purchased must be a list of ids"),
        ("sessions", {"impressed": "a"}, "impressed must be a list of ids"),
        ("sessions", {"time": 1.5}, "time must be an integer"),
        ("sessions", {"session_id": "s\n"}, "session_id must be text"),
        ("sessions", {"query": None}, "query must be text"),
        ("relevance", {"grade": 1.0}, "grade must be an integer from 0 to 3"),
        ("relevance", {"grade": 4}, "grade must be an integer from 0 to 3"),
        ("users", {"user_id": "u\0"}, "user_id must be text"),
        ("items", {"click_count": -1}, "click_count must be an integer from 0"),
        ("items", {"tags": {"new"}}, "tags must be a text or a list"),
        ("sessions", {"scene": "live"}, "scene must be search, recommendation, unknown or null"),
        ("sessions", {"carted": "a"}, "carted must be a list of ids"),
    ],
)
def test_rows_in_python_are_held_to_the_rules_of_files(table, values, words):
    sound = {
        "items": ITEM,
        "sessions": SESSION,
        "users": {"user_id": "u"},
        "relevance": {"query": "q", "item_id": "a", "grade": 1},
    }
    rows = {"items": [ITEM]} | {table: [sound[table], {**sound[table], **values}]}
    with pytest.raises(ValueError) as error:
        Market.from_rows(**rows)
    assert words in str(error.value) and f"{table}:1" in str(error.value)


def test_every_bad_row_is_named_with_its_value():
    rows = [{**SESSION, "time": 1.5}, SESSION, {**SESSION, "time": "2"}]
    with pytest.raises(
        ValueError,
        match=r"2 × sessions: time must be an integer of 64 bits, such as the seconds since 1970; `onesearch new` reads dates; first: "
        r"sessions:0 \(1.5\), sessions:2 \('2'\)",
    ):
        Market.from_rows(items=[ITEM], sessions=rows)


def test_the_same_rows_give_the_same_market_at_every_door(tmp_path):
    items = [{"item_id": 7, "title": "hat", "categories": "Hats", "attributes": {"color": "red"}, "price": 3, "brand": " "}]
    sessions = [{**SESSION, "clicked": [7], "impressed": [7]}]
    write_jsonl(tmp_path / "mine" / "items.jsonl", items)
    write_jsonl(tmp_path / "mine" / "sessions.jsonl", sessions)
    read, made = import_tables(tmp_path / "mine"), Market.from_rows(items=items, sessions=sessions)
    for name in ("items", "sessions"):
        assert getattr(read, name)[:] == getattr(made, name)[:]
    assert made.items[0]["item_id"] == "7" and made.items[0]["categories"] == ["Hats"]
    assert made.items[0]["attributes"]["color"] == ["red"] and made.sessions[0]["clicked"] == ["7"]
    folder = made.save(tmp_path / "market")
    table = read_table(folder / "items.parquet")
    numbered = table.set_column(0, "item_id", pa.array([7]))
    assert conform("items", numbered, "mine").equals(table)


def test_tuples_and_arrays_are_lists():
    rows = [{**SESSION, "clicked": ("a",), "purchased": np.array(["a"])}]
    market = Market.from_rows(items=[{**ITEM, "price": np.float32(2), "features": np.arange(2.0)}], sessions=rows)
    assert market.sessions[0]["clicked"] == market.sessions[0]["purchased"] == ["a"]
    assert market.items[0]["features"] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("sessions", {"clicked": "ab"}),
        ("sessions", {"clicked": {"a", "b"}}),
        ("sessions", {"time": 1.5}),
        ("items", {"attributes": {"color": "red"}}),
        ("items", {"categories": "Shoes"}),
    ],
)
def test_arrow_does_not_change_a_value_to_fit(table, row):
    """It takes text for a list of letters and a set for a list, and cuts fractions."""
    with pytest.raises(ValueError, match=next(iter(row))):
        table_from_rows(table, [row])


def test_conform_refuses_what_it_would_lose():
    table = pa.table({"item_id": ["a"], "title": ["t"], "colour": ["red"], "size": [1]})
    with pytest.raises(ValueError, match=r"unknown columns \['colour', 'size'\]"):
        conform("items", table, "mine")
    doubled = pa.Table.from_arrays([pa.array(["a"]), pa.array(["t"]), pa.array(["u"])], ["item_id", "title", "title"])
    with pytest.raises(ValueError, match=r"columns \['title'\] occur twice"):
        conform("items", doubled, "mine")
    floats = pa.table({"item_id": [4006381333931.0], "title": ["t"]})
    with pytest.raises(ValueError, match="item_id.*double.*row 0: 4006381333931.0"):
        conform("items", floats, "mine")


def test_conform_fills_lists_and_attributes_that_are_null():
    attributes = pa.array(
        [{"color": ["red"], "brand": None}, None],
        pa.struct([("color", pa.list_(pa.string())), ("brand", pa.list_(pa.string()))]),
    )
    table = pa.table(
        {"item_id": ["a", "b"], "title": ["t", "u"], "attributes": attributes, "categories": pa.array([None, ["x"]])}
    )
    rows = conform("items", table, "mine").to_pylist()
    assert rows[0]["attributes"]["color"] == ["red"] and rows[0]["attributes"]["brand"] == []
    assert set(map(tuple, rows[1]["attributes"].values())) == {()} and [row["categories"] for row in rows] == [[], ["x"]]


@pytest.mark.parametrize(
    "value", ["ab", b"ab", {"a"}, frozenset("ab"), {"a": 1}, iter("ab"), (letter for letter in "ab"), 5, None]
)
def test_only_sequences_of_text_are_lists(value):
    with pytest.raises(TypeError, match="^exclude is .*, not a list of texts; "):
        as_texts(value, "exclude")


def test_sequences_keep_their_entries():
    assert as_texts(["a", "b"], "x") == as_texts(("a", "b"), "x") == as_texts(np.array(["a", "b"]), "x") == ["a", "b"]
    assert as_list(range(3), "x") == [0, 1, 2] and as_texts([], "x") == []
    with pytest.raises(TypeError, match=r"x\[1\] is int '5'"):
        as_texts(["a", 5], "x")


def test_a_changed_bit_of_a_table_is_never_read_as_data(tmp_path):
    """In the data of a page, every one is found; elsewhere the file is refused or the table is the same."""
    path = tmp_path / "items.parquet"
    item = {"brand": "b", "categories": ["a", "b"], "price": 0.5, "features": [1.0]}
    table = table_from_rows("items", [{"item_id": f"item-{row}", "title": f"title {row}", **item} for row in range(50)])
    write_table(table, path)
    with table_writer(tmp_path / "chunks.parquet", table.schema) as writer:
        writer.write_table(table)
    whole = path.read_bytes()
    assert (tmp_path / "chunks.parquet").read_bytes() == whole and read_table(path).equals(table)
    draw = random.Random(0)
    begin = whole.index(b"item-")
    for place in [*range(begin, begin + 200), *(draw.randrange(len(whole)) for _ in range(800))]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :])
        try:
            found = conform("items", read_given_table(path), "items")
        except ValueError as error:
            assert "items" in str(error)
            continue
        assert found.equals(table) and not begin <= place < begin + 200, place
