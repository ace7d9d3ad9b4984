"""Pairs of sessions and items against a loop in plain Python."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from onesearch.data.columns import flat_lists
from onesearch.data.market import Market
from onesearch.data.requests import split_sessions
from onesearch.data.session_pairs import category_ids, query_rows, session_items


def test_pairs_are_those_of_the_split(market):
    row_of = {item: row for row, item in enumerate(market.items["item_id"])}
    assigned = split_sessions(market)
    for number, split in enumerate(("train", "validation", "test")):
        expected = sorted(
            {
                (row, row_of[item])
                for row, session in enumerate(market.sessions)
                if assigned[row] == number
                for column in ("clicked", "impressed")
                for item in session[column]
            }
        )
        sessions, items = session_items(market, split, ("clicked", "impressed"))
        assert list(zip(sessions.tolist(), items.tolist())) == expected and expected


def test_items_that_the_catalogue_lacks_are_left_out():
    session = {"session_id": "s", "user_id": "u", "time": 1, "query": " ", "clicked": ["b", "gone", "b"], "purchased": ["b"]}
    market = Market.from_rows(items=[{"item_id": "a", "title": "t"}, {"item_id": "b", "title": "t"}], sessions=[session])
    assert [part.tolist() for part in session_items(market, "train", ("clicked", "purchased"))] == [[0], [1]]
    assert query_rows(market, ["x"]).tolist() == [-1]
    empty = Market.from_rows(items=[])
    assert [part.tolist() for part in session_items(empty, "train", ("clicked",))] == [[], []]


def test_rows_of_queries(market):
    queries = list(dict.fromkeys(market.sessions["query"]))[::-1]
    assert [queries[row] for row in query_rows(market, queries)] == list(market.sessions["query"])


def test_lists_and_categories():
    column = pa.chunked_array([[["a", "b"], None], [[], ["a", None], ["a", "b", "c"]]], type=pa.list_(pa.string()))
    rows, values = flat_lists(column)
    assert rows.tolist() == [0, 0, 3, 4, 4, 4] and values.to_pylist() == ["a", "b", "a", "a", "b", "c"]
    plain = pa.array([["a", "b"], None, [], ["a"], ["a", "b"]], type=pa.list_(pa.string()))
    ids, names = category_ids(plain)
    assert [names[number] if number >= 0 else None for number in ids] == ["a > b", None, None, "a", "a > b"]
    ids, names = category_ids(plain, depth=1)
    assert ids.tolist() == [0, -1, -1, 0, 0] and names == ["a"]
    assert np.issubdtype(ids.dtype, np.integer)
