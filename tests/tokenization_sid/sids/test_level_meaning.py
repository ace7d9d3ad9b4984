"""What prefixes tell of the items' values, by hand and by the definition."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import onesearch.cli as cli
from onesearch.data.market import Market
from onesearch.files import read_json
from onesearch.tokenization_sid.sids.code_files import load_codes
from onesearch.tokenization_sid.sids.level_meaning import item_values, level_meaning, table

SIZES = (3, 3, 3)


def by_definition(prefixes: list[tuple], values: list[int]) -> float:
    """Share of values that are guessed right, item by item, from the longest prefix with other items."""
    catalogue = Counter(values)
    order = {value: (catalogue[value], value) for value in catalogue}

    def guess(others: list[int]) -> int:
        counts = Counter(others)
        return max(counts, key=lambda value: (counts[value], order[value]))

    right = 0
    for row, value in enumerate(values):
        for length in range(len(prefixes[row]), -1, -1):
            same = [
                place for place in range(len(values)) if prefixes[place][:length] == prefixes[row][:length] and place != row
            ]
            if same:
                break
        right += guess([values[place] for place in same]) == value
    return right / len(values)


def test_by_hand():
    codes = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1], [1, 0, 0], [1, 0, 1], [2, 0, 0]])
    color = np.array([0, 0, 1, 1, 1, 1, -1])
    (found,) = level_meaning(codes, SIZES, {"color": color}).values()
    assert (found["items"], found["values"]) == (6, 2)
    # The others have more of colour 1 for every item: the four of colour 1 are guessed right.
    assert found["without_codes"] == pytest.approx(4 / 6)
    # Level 1: under 0 each item sees one of its own colour and two of the other; under 1 both are right.
    assert found["accuracy"][0] == pytest.approx(2 / 6) and found["told"][0] == pytest.approx(-1)
    assert found["accuracy"][1] == 1 and found["told"][1] == 1
    # Level 3: every item is alone and keeps the guess of level 2; the SID of a single item tells nothing by itself.
    assert found["accuracy"][2] == 1 and found["told"][2] == 1
    alone = level_meaning(np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0]]), SIZES, {"color": np.array([0, 1, 1])})["color"]
    # Without codes an item of colour 1 sees one of each, and the colour that is more frequent in the catalogue is its own.
    assert alone["told"] == [0, 0, 0] and alone["without_codes"] == pytest.approx(2 / 3)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2), st.integers(0, 3)), min_size=2, max_size=30))
def test_it_is_the_definition(rows):
    values = [value for *_, value in rows]
    if len(set(values)) < 2:
        return
    values = np.unique(values, return_inverse=True)[1].tolist()
    codes = np.array([row[:3] for row in rows])
    found = level_meaning(codes, SIZES, {"x": np.array(values)})["x"]
    assert found["without_codes"] == pytest.approx(by_definition([()] * len(rows), values))
    for level, share in enumerate(found["accuracy"], start=1):
        assert share == pytest.approx(by_definition([tuple(row[:level]) for row in codes.tolist()], values))


def test_random_codes_tell_nothing_and_many_items_are_counted_at_once():
    rng = np.random.default_rng(0)
    codes, value = rng.integers(0, 16, (200_000, 3)), rng.integers(0, 8, 200_000)
    codes[:, 1] = np.where(rng.random(200_000) < 0.5, value, codes[:, 1])
    start = time.process_time()
    (found,) = level_meaning(codes, (16, 16, 16), {"x": value}).values()
    assert time.process_time() - start < 5
    assert abs(found["told"][0]) < 0.02 and 0.4 < found["told"][1] < 0.7


def test_facets_are_category_brand_and_the_attributes_with_values():
    items = [
        {"item_id": "a", "title": "a", "categories": ["home", "lamp"], "brand": "x", "attributes": {"color": ["red", "blue"]}},
        {"item_id": "b", "title": "b", "categories": ["home", "rug"], "attributes": {"color": ["red"], "style": ["plain"]}},
        {"item_id": "c", "title": "c", "brand": "y", "attributes": {"color": ["blue"]}},
    ]
    found = item_values(Market.from_rows(items=items))
    assert {name: values.tolist() for name, values in found.items()} == {
        "category": [0, 1, -1],  # the coarse category and the style have one value only
        "brand": [0, -1, 1],
        "color": [0, 0, 1],
    }
    tagged = [{"item_id": brand, "title": brand, "attributes": {"brand": [brand]}} for brand in "xyx"[:2]]
    assert item_values(Market.from_rows(items=tagged))["brand"].tolist() == [0, 1]


def test_the_diagnostics_and_the_command_hold_the_table(shared_run, market, capsys):
    codes = load_codes(shared_run, "items")
    expected = level_meaning(codes.codes, codes.codebook_sizes, item_values(market))
    assert read_json(shared_run.sids / "diagnostics.json")["told"] == expected
    assert {"coarse category", "category", "brand", "color", "style"} <= set(expected)
    assert expected["coarse category"]["told"][0] > 0.5
    assert cli.main(["sids", "levels", str(shared_run.root)]) == 0
    out = capsys.readouterr().out
    assert table(expected) in out and "| told by level | items | values | guessed without codes | 1 | 1–2 | 1–3 |" in out
