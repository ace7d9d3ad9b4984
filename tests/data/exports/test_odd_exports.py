"""Exports as strangers send them: each broke a reader once."""

from __future__ import annotations

import datetime
import decimal
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from importer_files import sound

from onesearch.data.exports import read_shop

PRODUCTS = {
    "blanks around quotes": (
        '"ID " ; "Name" ; Price \n"1" ; "Shoe; red" ; "12,90"\n"2";"Hat";5\n',
        [("1", "Shoe; red", 12.9), ("2", "Hat", 5.0)],
    ),
    "a quote inside quotes": ('id,name,price\n1,"12" pipe",5\n3,6" nail,1\n', [("1", '12 pipe"', 5.0), ("3", '6" nail', 1.0)]),
    "lines that end in a separator": ("id;name;price\n1;shoe;5;\n2;hat;6;\n", [("1", "shoe", 5.0), ("2", "hat", 6.0)]),
    "a header that ends in a separator": ("id;name;price;\n1;shoe;5;\n", [("1", "shoe", 5.0)]),
    "lines of an old Mac": ("id,name,price\r1,shoe,5\r2,hat,6\r", [("1", "shoe", 5.0), ("2", "hat", 6.0)]),
    "sep=": (
        "sep=;\r\nid;name;price\r\n1;Schuh, rot;1.299,00\r\n2;Hut;12,90\r\n",
        [("1", "Schuh, rot", 1299.0), ("2", "Hut", 12.9)],
    ),
    "no header": ("1,red shoe,12 €\n2,blue coat,13 €\n", [("1", "red shoe", 12.0), ("2", "blue coat", 13.0)]),
    "floats of pandas": (
        ",product_id,name,price\n0,101.0,shoe,1.5\n1,102.0,hat,\n2,,nothing,2\n",
        [("101", "shoe", 1.5), ("102", "hat", None)],
    ),
    "titles alone": ("name\nred shoe\nhat\n", [("1", "red shoe", None), ("2", "hat", None)]),
    "a title in two languages": ("id,title_en,title_de\n1,shoe,Schuh\n2,,Hut\n", [("1", "shoe", None), ("2", "Hut", None)]),
    "prices in two columns": (
        "id,name,price,regular_price\n1,shoe,,12\n2,hat,5,14\n",
        [("1", "shoe", 12.0), ("2", "hat", 5.0)],
    ),
    "a column named twice": ("id,name,name,price\n1,shoe,x,5\n", [("1", "shoe", 5.0)]),
    "objects by id": (
        json.dumps({"A": {"name": "shoe", "price": 5}, "B": {"name": "hat"}}),
        [("A", "shoe", 5.0), ("B", "hat", None)],
    ),
    "null bytes and emoji": ("id,name\n1,red 👟 sh\0oe\n\n,,\n", [("1", "red 👟 shoe", None)]),
    "blanks in ids": ("sku,name\nA 1,shoe\nA 2,hat\n", [("A_1", "shoe", None), ("A_2", "hat", None)]),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name, tmp_path):
    text, expected = PRODUCTS[name]
    (tmp_path / "p.csv").write_bytes(text.encode())
    market = sound(read_shop(tmp_path / "p.csv").market, tmp_path)
    found = [(item["item_id"], item["title"], item["price"] and round(item["price"], 2)) for item in market.items.to_list()]
    assert found == expected


def test_a_category_per_row_and_a_long_description(tmp_path):
    rows = "id,name,category,description\n1,shoe,Men > Shoes,\n1,shoe,Sale > Summer," + "x" * 200_000 + "\n2,hat,Hats,y\n"
    (tmp_path / "p.csv").write_text(rows)
    first = read_shop(tmp_path / "p.csv").market.items[0]
    assert (
        first["categories"] == ["Men", "Shoes"] and first["tags"] == ["Sale", "Summer"] and len(first["description"]) == 200_000
    )


def test_names_that_look_like_translations_and_words_as_attributes(tmp_path):
    row = {"item_id": 1, "item_title": "红色连衣裙", "brand_id": 7, "brand_name": "诺维", "category_level1_id": 1}
    row |= {"category_level1_name": "女装/女士", "category_level2_name": "连衣裙", "category_level3_name": "UNKNOWN"}
    row |= {"attributes": ["red", "color=rot"]}
    (tmp_path / "p.jsonl").write_text(json.dumps(row))
    (item,) = sound(read_shop(tmp_path / "p.jsonl").market, tmp_path).items.to_list()
    assert (item["brand"], item["categories"], item["tags"], item["attributes"]["color"]) == (
        "诺维",
        ["女装/女士", "连衣裙"],
        ["red"],
        ["rot"],
    )


def test_typed_columns_of_parquet(tmp_path):
    table = pa.table(
        {
            "sku": pa.array(["1", "2"]).dictionary_encode(),
            "title": ["shoe", "hat"],
            "price": pa.array([decimal.Decimal("1.50"), None]),
            "category": pa.array([["A", "B"], ["C"]]),
            "created": pa.array([datetime.datetime(2024, 1, 1), None]),
            "attrs": pa.array([[("color", "red")], []], pa.map_(pa.string(), pa.string())),
            "embedding": [[0.5, 1.0], [0.0, 2.0]],
        }
    )
    pq.write_table(table, tmp_path / "p.parquet")
    shoe, hat = sound(read_shop(tmp_path / "p.parquet").market, tmp_path).items.to_list()
    assert shoe["item_id"] == "1" and shoe["price"] == 1.5 and shoe["categories"] == ["A", "B"] and hat["price"] is None
    assert shoe["attributes"]["color"] == ["red"] and shoe["features"] == [0.5, 1.0]


def test_a_dump_of_amazon(tmp_path):
    rows = [
        {"main_category": "Beauty", "title": "Soap", "features": ["soft", "mild"], "description": ["Good", "soap"], "price": "None",
         "images": [{"thumb": "https://i.x/t.jpg", "large": "https://i.x/l.jpg"}], "store": "SoapCo", "categories": [],
         "details": {"Brand": "Yes", "Color": "Green"}, "parent_asin": "B01"},
        {"main_category": "Beauty", "title": "Comb", "features": [], "description": [], "price": 19.5, "images": [], "store": "C",
         "categories": ["Hair", "Combs"], "details": {}, "parent_asin": "B02"},
    ]  # fmt: skip
    (tmp_path / "meta.jsonl").write_text("\n".join(map(json.dumps, rows)))
    soap, comb = read_shop(tmp_path / "meta.jsonl").market.items.to_list()
    assert (soap["item_id"], soap["categories"], soap["description"], soap["price"]) == ("B01", ["Beauty"], "Good soap", None)
    assert (soap["brand"], soap["seller"], soap["image"], soap["url"]) == ("Yes", "SoapCo", "https://i.x/l.jpg", None)
    assert (comb["item_id"], comb["categories"], comb["price"]) == ("B02", ["Hair", "Combs"], 19.5)


BOUGHT = [{"product_id": "A1"}, {"product_id": "A2"}]
TIME = "2024-01-01T10:0{}:06Z"
SEGMENT = [
    {"event": "Products Searched", "userId": "u1", "timestamp": TIME.format(0), "properties": {"query": "shoe"}},
    {"event": "Product Clicked", "userId": "u1", "timestamp": TIME.format(1), "properties": {"product_id": "A1", "price": 12}},
    {"event": "Order Completed", "userId": "u1", "timestamp": TIME.format(5), "properties": {"products": BOUGHT}},
    {"event": "Cart Viewed", "userId": "u1", "timestamp": TIME.format(6), "properties": {}},
]
GOOGLE = [
    {"event_date": "20240101", "event_timestamp": 1704103200000000 + 5000000 * number, "user_pseudo_id": "1.2", **event}
    for number, event in enumerate(
        [
            {"event_name": "view_search_results", "search_term": "shoe"},
            {"event_name": "select_item", "items": [{"item_id": "A1"}]},
            {"event_name": "purchase", "items": [{"item_id": "A1"}, {"item_id": "A2"}]},
            {"event_name": "page_view", "items": []},
        ]
    )
]


@pytest.mark.parametrize("events", [SEGMENT, GOOGLE], ids=["segment", "google analytics"])
def test_logs_of_trackers(events, tmp_path):
    (tmp_path / "p.csv").write_text("id,name\nA1,red shoe\nA2,blue coat\n")
    (tmp_path / "l.jsonl").write_text("\n".join(map(json.dumps, events)))
    shop = read_shop(tmp_path / "p.csv", tmp_path / "l.jsonl")
    (session,) = sound(shop.market, tmp_path).sessions.to_list()
    assert (session["query"], session["clicked"], session["purchased"]) == ("shoe", ["A1"], ["A1", "A2"])
    assert [loss.reason for loss in shop.report.logs[0].lost_rows] == ["the kind of the event says no interest in an item"]


def test_items_named_by_addresses_and_counts(tmp_path):
    (tmp_path / "p.csv").write_text("id,name\nA1,red shoe\nA2,blue coat\n")
    (tmp_path / "l.csv").write_text("ts,user,query,page_url,event\n2024-01-01T10:00,u,shoe,https://s.x/p/a1?ref=1,click\n")
    assert read_shop(tmp_path / "p.csv", tmp_path / "l.csv").market.sessions[0]["clicked"] == ["A1"]
    (tmp_path / "l.csv").write_text("query,item,impressions,clicks,orders\nshoe,A1,120,12,0\ncoat,A2,3,1,1\n")
    first, second = read_shop(tmp_path / "p.csv", tmp_path / "l.csv").market.sessions.to_list()
    assert (first["query"], first["impressed"], first["clicked"], first["purchased"]) == ("shoe", ["A1"], ["A1"], [])
    assert (second["query"], second["clicked"], second["purchased"]) == ("coat", ["A2"], ["A2"])


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12)
TABLES = st.lists(st.lists(CELLS, min_size=1, max_size=5), min_size=1, max_size=8)


@given(TABLES, st.sampled_from(",;\t|"), st.sampled_from(["utf-8", "utf-16", "cp1252"]))
@settings(max_examples=60)
def test_any_table_is_read_or_refused_with_every_row_counted(tmp_path_factory, rows, separator, encoding):
    folder = tmp_path_factory.mktemp("any")
    lines = ["id;name".replace(";", separator), *(separator.join([str(number), *row]) for number, row in enumerate(rows))]
    (folder / "p.csv").write_bytes("\n".join(lines).encode(encoding, errors="replace"))
    try:
        shop = read_shop(folder / "p.csv", language="en")
    except ValueError as error:
        assert str(folder) in str(error) or "p.csv" in str(error)
        return
    report = shop.report.products
    assert report.rows == report.kept + report.merged + report.lost and report.kept == len(shop.market.items)
    sound(shop.market, folder)


@given(st.binary(max_size=200))
@settings(max_examples=40)
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("bytes") / "p.csv"
    path.write_bytes(data)
    try:
        read_shop(path, language="en")
    except ValueError as error:
        assert "p.csv" in str(error)
