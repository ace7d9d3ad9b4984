"""Answers of interfaces and logs of analytics programs as files, and rows of products that a shop does not show."""

from __future__ import annotations

import json

import pytest
from importer_files import sound

from onesearch.data.exports import read_shop

ELASTICSEARCH = [
    {
        "_index": "p",
        "_id": "1",
        "_source": {"name": "shoe", "brand": {"name": "Alta"}, "price": {"amount": 12.5, "currency": "EUR"}},
    },
    {"_index": "p", "_id": "2", "_source": {"name": "hat", "brand": {"name": "Bora"}, "categories": ["Clothing", "Hats"]}},
]
GRAPHQL = {
    "data": {
        "products": {
            "edges": [
                {
                    "cursor": "x",
                    "node": {
                        "id": "1",
                        "title": "shoe",
                        "vendor": "Alta",
                        "priceRange": {"minVariantPrice": {"amount": "12.5"}},
                    },
                },
                {"node": {"id": "2", "title": "hat", "vendor": "Bora"}},
            ],
            "pageInfo": {"hasNextPage": False},
        }
    }
}
BY_ID = {
    "1": {"title": "shoe", "brand": "Alta", "price": 12.5, "images": [{"src": "https://x/1.png"}, {"src": "https://x/2.png"}]},
    "2": {"title": "hat", "brand": "Bora", "images": [{"src": "https://x/3.png"}]},
}
MAGENTO = {
    "items": [
        {"id": 1, "name": "shoe", "price": 12.5, "custom_attributes": [{"attribute_code": "brand", "value": "Alta"}]},
        {"id": 2, "name": "hat", "custom_attributes": [{"attribute_code": "brand", "value": "Bora"}]},
    ],
    "total_count": 2,
}


@pytest.mark.parametrize(
    "given", [ELASTICSEARCH, GRAPHQL, BY_ID, MAGENTO], ids=["elasticsearch", "graphql", "by id", "magento"]
)
def test_products_in_wrappers(given, tmp_path):
    (tmp_path / "p.json").write_text(json.dumps(given))
    items = sound(read_shop(tmp_path / "p.json").market, tmp_path).items.to_list()
    found = [(item["item_id"], item["title"], item["brand"], item["price"]) for item in items]
    assert found == [("1", "shoe", "Alta", 12.5), ("2", "hat", "Bora", None)]


def test_departments_are_no_ids(tmp_path):
    departments = {"men": {"products": [{"id": 1, "title": "shoe"}, {"id": 2, "title": "hat"}]}, "women": {"products": []}}
    (tmp_path / "p.json").write_text(json.dumps(departments))
    assert [item["title"] for item in sound(read_shop(tmp_path / "p.json").market, tmp_path).items.to_list()] == ["shoe", "hat"]


def test_names_with_one_value_each_are_attributes(tmp_path):
    row = {
        "id": 1,
        "name": "shoe",
        "additionalProperty": [{"name": "Color", "value": "red"}, {"name": "Material", "value": "felt"}],
    }
    (tmp_path / "p.jsonl").write_text(json.dumps(row))
    (item,) = sound(read_shop(tmp_path / "p.jsonl").market, tmp_path).items.to_list()
    assert (item["attributes"]["color"], item["attributes"]["material"]) == (["red"], ["felt"])


ANALYTICS = {
    "google analytics in bigquery": [
        {
            "event_timestamp": "1704067200000000",
            "event_name": "view_search_results",
            "user_pseudo_id": "u",
            "event_params": [
                {"key": "search_term", "value": {"string_value": "red shoe", "int_value": None}},
                {"key": "ga_session_id", "value": {"string_value": None, "int_value": "7"}},
            ],
            "items": [],
        },
        {
            "event_timestamp": "1704067260000000",
            "event_name": "purchase",
            "user_pseudo_id": "u",
            "event_params": [{"key": "ga_session_id", "value": {"string_value": None, "int_value": "7"}}],
            "items": [{"item_id": "1", "item_name": "shoe"}, {"item_id": "2", "item_name": "hat"}],
        },
    ],
    "elasticsearch": [
        {
            "_id": "x",
            "_source": {
                "@timestamp": "2024-01-01T00:00:00Z",
                "user": {"id": "u"},
                "query": "red shoe",
                "purchased": ["1", "2"],
            },
        }
    ],
    "algolia": [
        {
            "eventType": "conversion",
            "userToken": "u",
            "timestamp": 1704067200000,
            "objectIDs": ["1", "2"],
            "queryID": "q",
            "query": "red shoe",
        }
    ],
}


@pytest.mark.parametrize("name", ANALYTICS)
def test_logs_of_analytics(name, tmp_path):
    (tmp_path / "p.csv").write_text("id,title\n1,shoe\n2,hat\n")
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, ANALYTICS[name])))
    (session,) = sound(read_shop(tmp_path / "p.csv", tmp_path / "log.jsonl").market, tmp_path).sessions.to_list()
    assert (session["user_id"], session["query"], session["purchased"]) == ("u", "red shoe", ["1", "2"])


SHOPIFY = """Handle,Title,Option1 Name,Option1 Value,Published,Status
shoe,Shoe,Size,40,true,active
shoe,,,41,,
hat,Hat,Size,S,true,draft
hat,,,M,,
coat,Coat,Size,L,false,active
"""
STATES = {
    "shopify": (SHOPIFY, ["shoe"], 3),
    "magento": ("sku,name,product_online\n1,shoe,1\n2,hat,2\n", ["1"], 1),
    "woocommerce": (
        "ID,Name,Published,Visibility in catalog\n1,shoe,1,visible\n2,hat,-1,visible\n3,coat,1,hidden\n4,cap,1,catalog\n",
        ["1", "4"],
        2,
    ),
    "german": ("Artikelnummer;Bezeichnung;Status\n1;Schuh;aktiv\n2;Hut;Entwurf\n", ["1"], 1),
    "empty cells": ("id,name,active\n1,shoe,yes\n2,hat,\n3,coat,no\n", ["1", "2"], 1),
    "a status of the stock": ("id,name,status\n1,shoe,in stock\n2,hat,sold out\n", ["1", "2"], 0),
    "all hidden": ("id,name,published\n1,shoe,false\n2,hat,false\n", ["1", "2"], 0),
    "numbers of something else": ("id,name,status\n1,shoe,1\n2,hat,2\n3,coat,3\n", ["1", "2", "3"], 0),
}


@pytest.mark.parametrize("name", STATES)
def test_rows_that_the_shop_does_not_show_are_lost_and_counted(name, tmp_path):
    text, kept, lost = STATES[name]
    (tmp_path / "p.csv").write_text(text)
    shop = read_shop(tmp_path / "p.csv")
    assert [item["item_id"] for item in sound(shop.market, tmp_path).items.to_list()] == kept
    file = shop.report.products
    assert file.lost == lost and file.rows == file.kept + file.merged + file.lost
    assert all("does not show the product" in loss.reason for loss in file.lost_rows)


def test_a_user_keeps_them_or_leaves_a_field_out(tmp_path):
    (tmp_path / "p.csv").write_text(SHOPIFY)
    kept = read_shop(tmp_path / "p.csv", columns={"published": "-"})
    assert [item["item_id"] for item in kept.market.items.to_list()] == ["shoe", "hat", "coat"]
    whys = {column.column: column.why for column in kept.report.products.columns}
    assert whys["Status"] == whys["Published"] == "published is read from no column, as you say"
    (tmp_path / "q.csv").write_text("id,name,brand\n1,shoe,Alta\n")
    (item,) = read_shop(tmp_path / "q.csv", columns={"brand": "-"}).market.items.to_list()
    assert item["brand"] is None


ICECAT = [
    {
        "id": "1",
        "title": "Alta ProBook 4",
        "supplier": "Alta",
        "attr_t_product_type": "Laptop",
        "attr_t_product_colour": "Silver",
        "attr_n_x": "7",
    },
    {
        "id": "2",
        "title": "Bora Ink 12",
        "supplier": "Bora",
        "attr_t_product_type": "Ink",
        "attr_t_product_colour": "Black",
        "attr_n_x": "8",
    },
    {"id": "3", "title": "Cable", "supplier": "Bora", "attr_t_product_type": "Cable"},
]


def test_attributes_by_the_end_of_their_names_and_brands_that_titles_name(tmp_path):
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, ICECAT)))
    items = sound(read_shop(tmp_path / "p.jsonl").market, tmp_path).items.to_list()
    found = [(item["brand"], item["categories"], item["attributes"]["color"]) for item in items]
    assert found == [("Alta", ["Laptop"], ["Silver"]), ("Bora", ["Ink"], ["Black"]), ("Bora", ["Cable"], [])]


def test_sellers_whom_titles_do_not_name_are_no_brands(tmp_path):
    (tmp_path / "p.csv").write_text("id,title,seller,seo_colour\n1,red shoe,Shop A,red\n2,hat,Shop B,blue\n")
    items = sound(read_shop(tmp_path / "p.csv").market, tmp_path).items.to_list()
    assert [(item["brand"], item["seller"], item["attributes"]["color"]) for item in items] == [
        (None, "Shop A", []),
        (None, "Shop B", []),
    ]


def test_many_columns_without_a_meaning_take_one_line(tmp_path):
    (tmp_path / "p.csv").write_text(
        "id,title," + ",".join(f"x{n}" for n in range(300)) + "\n1,shoe," + ",".join(["7"] * 300) + "\n"
    )
    report = read_shop(tmp_path / "p.csv").report
    assert len(report.products.columns) == 302 and "and 292 more" in report.to_table()
    assert len(report.to_table().splitlines()) < 25
