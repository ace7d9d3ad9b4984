"""Values that a catalogue has: attributes first, then brand, leaf category, price band and tags."""

from __future__ import annotations

import numpy as np
import pytest

from onesearch.data.importers.tables import import_tables
from onesearch.data.market import Market
from onesearch.tokenization_sid.embedding import bands as bands_module
from onesearch.tokenization_sid.embedding.bands import CategoryBands
from onesearch.tokenization_sid.keywords.catalogue_values import CatalogueValues, column_texts
from onesearch.tokenization_sid.keywords.keyword_mining import mine_keywords, read_values
from onesearch.tokenization_sid.keywords.price_bands import PriceBands


def table(*items):
    rows = [{"item_id": str(row), "title": "t", **item} for row, item in enumerate(items)]
    return Market.from_rows(items=rows).items.with_format("arrow")[:]


def of(values, kind):
    part = values.by_kind[kind]
    return [(item, part.texts[row]) for item, row in zip(part.items.tolist(), part.rows.tolist())]


def test_a_csv_with_brand_price_and_categories_has_keywords(tmp_path):
    rows = ["item_id,title,brand,price,categories"]
    rows += [f"{row},Kettle {row},{('Acme', 'Bolt')[row % 2]},{10 + row},Kitchen|Kettles" for row in range(9)]
    (tmp_path / "items.csv").write_text("\n".join(rows))
    found = {(keyword.kind, keyword.text) for keyword in mine_keywords(import_tables(tmp_path))}
    bands = {("price", "budget"), ("price", "mid-range"), ("price", "premium")}
    assert found == {("brand", "acme"), ("brand", "bolt"), ("entity", "kettles")} | bands


def test_attributes_come_before_columns():
    items = table(
        {"brand": "Column", "categories": ["A", "Leaf"], "attributes": {"brand": ["Own"]}},
        {"brand": "Column", "categories": ["A", "Leaf"], "attributes": {"entity": ["thing"]}},
        {},
    )
    values = CatalogueValues.read(items)
    assert of(values, "brand") == [(0, "own"), (1, "column")]
    assert of(values, "entity") == [(1, "thing"), (0, "leaf")]
    assert values.of_items() == [[("entity", "leaf"), ("brand", "own")], [("entity", "thing"), ("brand", "column")], []]
    assert values.matrix().toarray().sum(axis=1).tolist() == [2, 2, 0]


def test_a_tag_has_the_type_that_its_text_has_elsewhere():
    items = table({"attributes": {"color": ["Red"]}, "tags": ["handmade"]}, {"tags": ["red", "Acme"]}, {"brand": "acme"})
    values = CatalogueValues.read(items)
    assert of(values, "color") == [(0, "red"), (1, "red")]
    assert of(values, "brand") == [(2, "acme"), (1, "acme")]
    assert of(values, "modifier") == [(0, "handmade")]


def test_prices_are_low_or_high_within_their_category(monkeypatch):
    monkeypatch.setattr(bands_module, "MIN_ITEMS", 3)
    priced = [*((["Pens"], price) for price in (1, 2, 3)), *((["Pianos"], price) for price in (900, 1000, 1100)), (["Rare"], 2)]
    items = table(*({"categories": path, "price": price} for path, price in priced), {"categories": ["Pens"]}, {"price": 1100})
    bands = PriceBands.fit(items)
    names = bands.of_items(items)
    assert names == [*["budget", "mid-range", "premium"] * 2, "budget", None, "premium"]
    assert PriceBands.from_dict(bands.to_dict()).of_items(items) == names
    assert PriceBands.fit(items, "zh").of_items(items)[:3] == ["平价", "中端", "高端"]


@pytest.mark.parametrize("prices", [[], [5.0] * 4])
def test_prices_that_say_nothing_have_no_bands(prices):
    items = table(*({"price": price} for price in prices), {})
    assert PriceBands.fit(items).of_items(items) == [None] * len(items)


def test_a_new_item_has_the_frozen_band_unless_it_names_its_price():
    bands = PriceBands(bands=CategoryBands({(): np.array([10.0, 20.0])}))
    items = table({"price": 15, "brand": "Acme", "tags": ["New"]}, {"price": 25, "attributes": {"price": ["cheap"]}})
    assert column_texts(items, bands) == [["acme", "mid-range", "new"], []]


def test_the_simulated_market_gains_no_keyword_from_its_columns(market):
    """Its attributes hold the brand, the leaf category and a word for the price of every item."""
    values = read_values(market)
    assert len(values.by_kind["brand"].rows) == len(values.by_kind["entity"].rows) == len(market.items)
    assert set(values.by_kind["price"].texts) == {"budget", "mid-range", "premium"}
