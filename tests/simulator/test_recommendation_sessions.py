"""Sessions without a query: what each reader of a market takes from them, by hand."""

import numpy as np
import pytest
from markets import market_of

from onesearch.data.requests import build_requests
from onesearch.data.session_pairs import query_rows, session_items
from onesearch.data.user_logs import UserLogs
from onesearch.evaluation.baselines.training import read_training_log
from onesearch.tokenization_sid.embedding.configs import MiningConfig
from onesearch.tokenization_sid.embedding.embeddings import distinct_queries
from onesearch.tokenization_sid.embedding.pairs import mine_pairs, mine_triples
from onesearch.tokenization_sid.keywords.keyword_sources import ClickLog
from onesearch.views.default_histories import ClickCounts
from onesearch.views.reward.memory import BehaviourMemory

SESSIONS = [
    ("u", 1, "dress", ["a"], [], ["a", "b"]),
    ("u", 2, "", ["c", "d"], ["d"], ["c", "d", "e"]),
    ("u", 3, "hat", ["e"], ["e"], ["e", "f"]),
    ("v", 4, "", ["c"], [], ["c", "e"]),
    ("v", 5, "dress", ["b"], ["b"], ["a", "b"]),
]
"""Two users; the second and the fourth session are recommendations."""
QUERIES = ["dress", "hat"]


@pytest.fixture(scope="module")
def market():
    return market_of(SESSIONS)


def test_requests_have_their_items_in_the_history_and_no_empty_query(market):
    requests = build_requests(market, "train")
    assert [request.query for request in requests] == ["dress", "hat", "dress"]
    hat, dress = requests[1:]
    assert list(hat.history) == ["a", "c", "d"] and list(hat.context.queries) == ["dress"]
    assert list(hat.context.purchased) == ["d"] and list(hat.context.shown) == ["a", "b", "c", "d", "e"]
    assert list(dress.history) == ["c"] and list(dress.context.queries) == []


def test_pairs_of_queries_and_items_leave_them_out(market):
    assert distinct_queries(market) == QUERIES
    assert query_rows(market, QUERIES).tolist() == [0, -1, 1, -1, 0]
    mined = mine_pairs(market, QUERIES, MiningConfig())
    assert mined["q2i"].tolist() == [[0, 0], [0, 1], [1, 4]]
    assert {tuple(triple) for triple in mine_triples(market, QUERIES, MiningConfig()).tolist()} == {
        (0, 0, 1),
        (0, 1, 0),
        (1, 4, 5),
    }


def test_pairs_of_items_read_them(market):
    """Item c was touched in recommendations only, and is paired with the other items of both users."""
    pairs = {tuple(pair) for pair in mine_pairs(market, QUERIES, MiningConfig())["i2i"].tolist()}
    assert {(0, 2), (2, 4), (1, 2)} <= pairs


def test_popularity_counts_them_and_no_query_of_a_request_reads_them(market):
    log = read_training_log(market)
    assert log.purchases.tolist() == [0, 1, 0, 1, 1, 0] and log.clicks.tolist() == [1, 1, 2, 1, 1, 0]
    assert log.by_query["dress"].clicked == [0, 1] and log.by_query["hat"].purchased == [4]
    assert log.rows.tolist() == [0, 2, 3, 4, 2, 1]


def test_keywords_of_queries_are_not_read_from_them(market):
    log = ClickLog.read(market)
    assert {phrase for phrase in log.phrases(1) if not phrase.strip()} == set()
    views = 1 + np.bincount(session_items(market, "train", ("impressed",))[1], minlength=6)
    assert log.item_views.tolist() == views.tolist()


def test_default_histories_count_them_for_all_queries_only():
    counts = ClickCounts(np.array([[0, 0], [1, 0]]), np.zeros(6, dtype=np.int64), np.zeros((6, 2), dtype=np.int64))
    counts.add(-1, [2, 3], [2, 3, 4])
    assert set(counts.clicks) == {("all",), ("category", 0)}


def test_the_reward_memory_counts_them_for_items_and_transitions_only(market):
    memory = BehaviourMemory.of(market, UserLogs(market), np.array([0, 0, 1, 1, 2, 2]))
    end = np.array([10])
    shown, clicked, purchased = (counts.before(np.array([3]), end) for counts in memory.statistics)
    assert (shown, clicked, purchased) == (1, 1, 1)
    assert memory.query_events.before(memory.query_numbers([""]), end) == [0]
    assert memory.query_events.before(memory.query_numbers(["hat"]), end) > [0]
    assert memory.transitions.before(np.array([3 * 6 + 4]), end) > [0]
