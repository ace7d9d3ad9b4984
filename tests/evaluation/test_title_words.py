"""Judged queries by how often their words stand in the titles of relevant items."""

from __future__ import annotations

import numpy as np
import pytest

from onesearch.data.market import Market
from onesearch.data.requests import Request
from onesearch.evaluation.relevance import evaluate_relevance
from onesearch.evaluation.reports import Report
from onesearch.evaluation.retrievers import Ranking
from onesearch.evaluation.title_words import title_word_groups, title_word_shares

pytest.importorskip("bm25s")

TITLES = {"a": "Red laptop bags", "b": "Laptop", "c": "Notebook", "d": "Bag for a laptop"}


class Always:
    """Finds item a first, whatever is asked."""

    name = "always"

    def retrieve(self, requests: list[Request], top_k: int) -> list[Ranking]:
        return [Ranking(("a", "b"), (1.0, 0.5)) for _ in requests]


@pytest.fixture
def market():
    judged = [("laptop bag", "a", 3), ("laptop bag", "d", 2), ("laptop", "b", 3), ("laptop", "c", 3), ("cover", "c", 3)]
    rows = [{"query": query, "item_id": item, "grade": grade} for query, item, grade in judged]
    return Market.from_rows(items=[{"item_id": item, "title": title} for item, title in TITLES.items()], relevance=rows)


def test_a_title_counts_if_it_has_every_term_of_the_query(market):
    shares = title_word_shares(
        market, ["laptop bag", "laptop", "cover", "x"], [{"a": 1, "d": 1}, {"b": 1, "c": 1}, {"c": 1}, {}]
    )
    np.testing.assert_array_equal(shares, [1.0, 0.5, 0.0, np.nan])


def test_groups_hold_their_upper_ends():
    groups = title_word_groups(np.array([0.0, 1 / 3, 0.5, 2 / 3, 0.7, 1.0, np.nan]))
    assert {name: rows.tolist() for name, rows in groups.items()} == {
        "up to a third": [0, 1],
        "a third to two thirds": [2, 3],
        "above two thirds": [4, 5],
    }
    assert list(title_word_groups(np.array([0.9, np.nan]))) == ["above two thirds"]


def test_a_report_has_the_quality_of_each_group(market):
    relevance = evaluate_relevance([Always()], market, progress=False).report
    found = relevance["title_words"]
    assert found["queries"] == {"up to a third": 1, "a third to two thirds": 1, "above two thirds": 1}
    values = {name: estimate["value"] for name, estimate in found["retrievers"]["always"].items()}
    second = 1 / np.log2(3)
    expected = {"up to a third": 0.0, "a third to two thirds": second / (1 + second), "above two thirds": 3 / (3 + 2 * second)}
    assert values == pytest.approx(expected)
    table = Report(relevance=relevance).to_table()
    assert "NDCG@10 by the share of relevant items whose title has every word of the query (up to a third: 1 queries" in table
