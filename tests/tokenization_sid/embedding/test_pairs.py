"""Mining positive pairs and ordered triples, against the formulas in plain Python."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import combinations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from onesearch.data.market import Market
from onesearch.data.requests import split_sessions
from onesearch.data.session_pairs import sessions_per_item
from onesearch.tokenization_sid.embedding.configs import MiningConfig
from onesearch.tokenization_sid.embedding.embeddings import distinct_queries
from onesearch.tokenization_sid.embedding.pairs import (
    alike,
    cosines,
    distinct_rows,
    incidence,
    item_cf,
    mine_pairs,
    mine_triples,
    nearest,
    swing,
)

RANDOM = np.random.default_rng(0)
BASKETS = (RANDOM.random((30, 12)) < 0.3).astype(float)
EVERYTHING = MiningConfig(neighbours=10**6, max_groups=10**6, max_members=10**6)


def plain_item_cf(baskets):
    """{(i, j): score}, straight from the formula."""
    groups = [set(np.flatnonzero(row)) for row in baskets]
    count = {item: sum(item in group for group in groups) for item in range(baskets.shape[1])}
    scores = defaultdict(float)
    for group in groups:
        for i, j in combinations(sorted(group), 2):
            scores[i, j] += 1 / math.log(1 + len(group)) / math.sqrt(count[i] * count[j])
    return scores


def plain_swing(baskets, alpha):
    groups = [set(np.flatnonzero(row)) for row in baskets]
    scores = defaultdict(float)
    for left, right in combinations(groups, 2):
        shared = sorted(left & right)
        for i, j in combinations(shared, 2):
            scores[i, j] += 1 / math.sqrt(len(left) * len(right)) / (alpha + len(shared))
    return scores


def upper(matrix):
    dense = matrix.toarray()
    np.testing.assert_allclose(dense, dense.T, atol=1e-12)
    assert not dense.diagonal().any()
    return {(i, j): dense[i, j] for i, j in zip(*np.nonzero(np.triu(dense)))}


@pytest.mark.parametrize(
    ("fast", "plain"),
    [
        (item_cf, plain_item_cf),
        (lambda matrix: swing(matrix, 1.0), lambda baskets: plain_swing(baskets, 1.0)),
        (lambda matrix: swing(matrix, 0.5), lambda baskets: plain_swing(baskets, 0.5)),
    ],
    ids=["ItemCF", "Swing", "Swing, alpha 0.5"],
)
def test_scores_are_those_of_the_formula(fast, plain, monkeypatch):
    expected = plain(BASKETS)
    assert upper(fast(csr_matrix(BASKETS))) == pytest.approx(expected)
    monkeypatch.setattr("onesearch.tokenization_sid.embedding.pairs.GROUPS_AT_ONCE", 7)
    monkeypatch.setattr("onesearch.tokenization_sid.embedding.pairs.SWINGS_AT_ONCE", 5)
    assert upper(fast(csr_matrix(BASKETS))) == pytest.approx(expected)


def test_nearest_takes_the_highest_and_breaks_ties_by_row():
    scores = np.zeros((4, 4))
    scores[0] = [0, 0.5, 0.5, 0.9]
    scores[2, 3] = 0.1
    np.testing.assert_array_equal(nearest(csr_matrix(scores), 1), [[0, 3], [2, 3]])
    np.testing.assert_array_equal(nearest(csr_matrix(scores), 2), [[0, 1], [0, 3], [2, 3]])


def test_alike_joins_both_methods():
    matrix = csr_matrix(BASKETS)
    config = MiningConfig(neighbours=2)
    both = {tuple(pair) for part in (item_cf(matrix), swing(matrix, 1.0)) for pair in nearest(part, 2)}
    assert {tuple(pair) for pair in alike(matrix, config)} == both


def test_what_is_hot_is_bounded_by_a_seeded_sample():
    groups, members = np.nonzero(np.ones((50, 8)))
    config = MiningConfig(max_groups=20, max_members=3)
    first, again, other = (incidence(groups, members, (50, 8), config, seed).toarray() for seed in (0, 0, 1))
    assert first.sum(axis=0).max() <= 20 and first.sum(axis=1).max() <= 3 and set(first.ravel()) == {0, 1}
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_cosines_of_rows():
    left, right = np.eye(3, dtype=np.float32), np.ones((3, 3), dtype=np.float32) / 2
    np.testing.assert_allclose(cosines(np.array([[0, 1], [2, 2], [1, 0]]), left, right, rows_at_once=2), [0.5] * 3)
    assert cosines(np.zeros((0, 2), dtype=np.int64), left, right).shape == (0,)


# A market by hand


def by_hand(sessions):
    rows = [
        {"session_id": f"s{place}", "user_id": user, "time": place, "query": query, "impressed": shown}
        | {"clicked": clicked, "purchased": purchased}
        for place, (user, query, shown, clicked, purchased) in enumerate(sessions)
    ]
    items = [{"item_id": name, "title": name} for name in "abcdef"]
    users = [{"user_id": name} for name in sorted({row["user_id"] for row in rows})]
    return Market.from_rows(items=items, users=users, sessions=rows, info={"split": {"method": "none"}})


SMALL = by_hand(
    [
        ("u", "red", ["a", "b", "c"], ["a"], []),
        ("u", "rot", ["a", "d"], ["a"], ["d"]),
        ("u", " ", [], ["b"], []),
        ("v", "red", ["e"], [], ["a"]),
        ("v", "blue", ["b"], ["b"], []),
        ("w", "far", ["f", "gone"], ["gone"], []),
    ]
)


def test_pairs_of_a_market_by_hand():
    queries = distinct_queries(SMALL)
    pairs = mine_pairs(SMALL, queries, EVERYTHING)
    names = [queries, list("abcdef")]
    named = {
        kind: {(names[left][a], names[right][b]) for a, b in pairs[kind]}
        for kind, left, right in (("q2q", 0, 0), ("i2i", 1, 1), ("q2i", 0, 1))
    }
    assert named["q2i"] == {("red", "a"), ("rot", "a"), ("rot", "d"), ("blue", "b")}
    assert named["q2q"] == {("red", "rot")}
    assert named["i2i"] == {("a", "b"), ("a", "d"), ("b", "d")}  # what users did without a query counts


def test_triples_keep_the_order_of_interaction():
    queries = distinct_queries(SMALL)
    triples = mine_triples(SMALL, queries, MiningConfig(triples_per_item=20))
    named = {(queries[q], "abcdef"[u], "abcdef"[v]) for q, u, v in triples}
    assert named == {("red", "a", "b"), ("red", "a", "c"), ("rot", "d", "a"), ("red", "a", "e")}


def test_triples_of_a_simulated_market_are_within_one_session(market):
    queries = distinct_queries(market)
    row = {item: place for place, item in enumerate(market.items["item_id"])}
    allowed = set()
    for session in market.sessions:
        if session["query"].strip():
            strength = dict.fromkeys(session["impressed"], 0)
            strength |= dict.fromkeys(session["clicked"], 1) | dict.fromkeys(session["purchased"], 2)
            query = queries.index(session["query"])
            allowed |= {(query, row[u], row[v]) for u in strength for v in strength if strength[u] > strength[v]}
    triples = mine_triples(market, queries, MiningConfig())
    assert len(triples) > 500 and {tuple(triple) for triple in triples.tolist()} <= allowed


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"neighbours": 0}, "mining.neighbours=0 is invalid; give at least 1"),
        ({"swing_alpha": -1}, "mining.swing_alpha=-1"),
        ({"min_cosine": 1.5}, "mining.min_cosine=1.5.*-1 to 1"),
    ],
)
def test_a_wrong_value_is_named(values, words):
    with pytest.raises(ValueError, match=words):
        MiningConfig(**values)


def test_parts_of_members_and_sessions_change_nothing(market, monkeypatch):
    queries, config = distinct_queries(market), MiningConfig(neighbours=3)
    whole = {**mine_pairs(market, queries, config), "triples": mine_triples(market, queries, config)}
    monkeypatch.setattr("onesearch.tokenization_sid.embedding.pairs.MEMBERS_AT_ONCE", 7)
    monkeypatch.setattr("onesearch.data.session_pairs.SESSIONS_AT_ONCE", 23)
    parts = {**mine_pairs(market, queries, config), "triples": mine_triples(market, queries, config)}
    assert all(len(found) and np.array_equal(parts[kind], found) for kind, found in whole.items())


def test_sessions_per_item_counts_each_session_once(market, monkeypatch):
    monkeypatch.setattr("onesearch.data.session_pairs.SESSIONS_AT_ONCE", 10)
    expected = np.zeros(len(market.items))
    row_of = {item["item_id"]: row for row, item in enumerate(market.items)}
    for session, split in zip(market.sessions, split_sessions(market)):
        for item in {*session["impressed"], *session["clicked"]} if split == 0 else ():
            expected[row_of[item]] += 1
    assert sessions_per_item(market, "train", ("impressed", "clicked")).tolist() == expected.tolist()


@pytest.mark.parametrize("largest", [5, 2**20, 2**22])
@pytest.mark.parametrize("count", [0, 1, 500])
def test_distinct_rows_are_those_of_numpy(count, largest):
    rows = np.random.default_rng(0).integers(0, largest, (count, 3))
    rows = np.concatenate([rows, rows[: count // 2]])
    found = distinct_rows(rows)
    assert found.dtype == np.int64 and np.array_equal(found, np.unique(rows, axis=0))
