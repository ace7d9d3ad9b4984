"""Interaction levels: every pair once, at its highest level, and levels that a market cannot have are named."""

from __future__ import annotations

import numpy as np
import pytest
from markets import market_of

from onesearch.data.arrow_tables import as_dataset, table_from_rows
from onesearch.data.columns import session_entries
from onesearch.data.session_pairs import category_ids
from onesearch.trainers.reward.levels import LEVELS, Interactions, label_sessions, tower_labels
from onesearch.trainers.reward.negatives import NegativeSampling

MANY = NegativeSampling(shown=9, beam=9, category=30, random=30)


def labels_of(market, sampling=MANY, **more):
    leaf, _ = category_ids(market.items.data.column("categories"))
    return label_sessions(market, leaf, np.arange(len(market.sessions)), sampling, **more)


def by_session(found):
    names = "abcdef"
    return {
        session: {names[item]: int(level) for item, level in zip(found.items[of], found.levels[of])}
        for session, of in ((session, found.sessions == session) for session in np.unique(found.sessions).tolist())
    }


def test_every_pair_has_its_highest_level():
    # Items: a and b are dresses, c and d shoes, e and f hats.
    market = market_of([("u", 1, "dress", ["a", "c"], ["a"], ["a", "c", "e"]), ("v", 2, "hat", [], [], ["e"])])
    assert by_session(labels_of(market)) == {0: {"a": 1, "b": 5, "c": 3, "d": 5, "e": 4, "f": 6}}


def test_a_purchase_in_a_recommendation_before_the_next_search_is_level_two():
    rows = [
        {"time": 1, "query": "dress", "clicked": ["a"], "scene": "search"},
        {"time": 2, "query": "", "purchased": ["b", "e"], "scene": "recommendation"},
        {"time": 3, "query": "shoe", "clicked": ["c"], "scene": "search"},
        {"time": 4, "query": "", "purchased": ["d"], "scene": "recommendation"},
        {"time": 5, "query": "", "purchased": ["a"], "scene": "unknown"},
        {"time": 6, "query": "", "purchased": ["c"], "scene": "recommendation", "user_id": "v"},
    ]
    rows = [{"session_id": f"s{n}", "user_id": "u", "clicked": [], "purchased": [], **row} for n, row in enumerate(rows)]
    market = market_of([])
    market = type(market)(
        market.items, market.users, as_dataset(table_from_rows("sessions", rows)), market.relevance, market.info
    )
    found = by_session(labels_of(market, NegativeSampling(shown=0, beam=0, category=0, random=1)))
    assert found[0]["b"] == 2 and found[2]["d"] == 2 and 2 not in [found[0].get("e"), found[2].get("e")]


def test_a_beam_gives_items_of_the_category_and_others_at_their_levels():
    market = market_of([("u", 1, "dress", ["a"], [], ["a", "e"])])
    beams = np.zeros(3, dtype=np.int64), np.array([1, 2, 4])
    found = by_session(labels_of(market, NegativeSampling(shown=1, beam=3, category=0, random=0), beams=beams))
    assert found == {0: {"a": 3, "b": 5, "c": 6, "e": 4}}


def test_what_was_shown_is_no_negative_of_a_lower_level():
    market = market_of([("u", 1, "dress", ["a"], [], ["a", "b"])])
    found = by_session(labels_of(market, NegativeSampling(shown=0, beam=0, category=30, random=30)))
    assert "b" not in found[0] and found[0]["a"] == 3


def test_the_numbers_of_negatives_are_upper_bounds_and_the_seed_decides():
    sessions = [("u", time, "dress", ["a"], [], list("abcdef")) for time in range(50)]
    market = market_of(sessions)
    few = NegativeSampling(shown=2, beam=0, category=0, random=0)
    found = labels_of(market, few)
    assert found.counts() == {1: 0, 2: 0, 3: 50, 4: 100, 5: 0, 6: 0}
    assert all(np.array_equal(one, other) for one, other in zip(found, labels_of(market, few)))
    assert not np.array_equal(found.items, labels_of(market, few, seed=1).items)
    shown = set(zip(*(part.tolist() for part in session_entries(market, "impressed"))))
    assert shown >= set(zip(found.sessions.tolist(), found.items.tolist()))


def test_levels_without_pairs_are_named():
    market = market_of([("u", 1, "dress", ["a"], [])])
    missing = labels_of(market).missing()
    assert missing == [f"level {level} ({LEVELS[level]})" for level in (1, 2, 4)]


def test_the_towers_learn_the_papers_labels():
    found = tower_labels(np.arange(1, 7, dtype=np.int8))
    assert found.tolist() == [[1, 1, 1], [1, 1, 1], [1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_a_market_without_answers_gives_no_pair():
    found = labels_of(market_of([("u", 1, "dress", [], [], ["a"]), ("u", 2, " ", ["a"], [])]))
    assert isinstance(found, Interactions) and len(found.sessions) == 0


@pytest.mark.parametrize("counts", [(-1, 0, 0, 1), (0, 0, 0, 0)])
def test_negatives_are_counted_from_zero(counts):
    with pytest.raises(ValueError, match="must be at least 0"):
        NegativeSampling(*counts)
