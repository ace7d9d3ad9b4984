"""The memory: counts of items, of items under queries and of transitions, as of the time of each request."""

from __future__ import annotations

import numpy as np
import pytest
from markets import market_of

from onesearch.data.requests import build_requests, training_market
from onesearch.data.session_pairs import category_ids
from onesearch.data.user_logs import UserLogs
from onesearch.tokenization_sid.ragged import Ragged
from onesearch.views.reward.memory import DECAY, MEMORY_FEATURES, BehaviourMemory

SESSIONS = [
    ("u", 1, "Dress", ["a"], ["a"], ["a", "b"]),
    ("u", 2, "dress ", ["b"], [], ["a", "b"]),
    ("v", 3, "shoe", ["c", "b"], ["b"], ["b", "c", "d"]),
    ("u", 4, "", ["d"], [], ["d"]),
]


def memory_of(sessions=SESSIONS):
    market = market_of(sessions)
    leaf, _ = category_ids(market.items.data.column("categories"))
    return BehaviourMemory.of(market, UserLogs(market), leaf)


def features(memory, query, history, candidates, time):
    found = memory.features(
        memory.query_numbers([query]),
        Ragged.of([history]),
        np.array([candidates]),
        None if time is None else np.array([time], dtype=np.int64),
    )
    return {name: found[0, :, place] for place, name in enumerate(MEMORY_FEATURES)}


def test_statistics_count_what_happened_before():
    memory = memory_of()
    now = features(memory, "dress", [], [0, 1, 2], None)
    np.testing.assert_allclose(np.expm1(now["shown"]), [2, 3, 1], rtol=1e-5)
    np.testing.assert_allclose(np.expm1(now["clicked"]), [1, 2, 1], rtol=1e-5)
    np.testing.assert_allclose(np.expm1(now["purchased"]), [1, 1, 0], rtol=1e-5)
    before = features(memory, "dress", [], [0, 1, 2], 2)
    np.testing.assert_allclose(np.expm1(before["shown"]), [1, 1, 0], rtol=1e-5)


def test_queries_are_counted_whatever_their_case_and_spaces():
    memory = memory_of()
    found = features(memory, " DRESS", [], [0, 1, 2], None)
    np.testing.assert_allclose(np.expm1(found["query_clicked"]), [1, 1, 0], rtol=1e-5)
    np.testing.assert_allclose(np.expm1(found["query_purchased"]), [1, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(found["query_leaf"], [1, 1, 0], rtol=1e-5)
    unknown = features(memory, "hat", [], [0, 1], None)
    assert not any(unknown[name].any() for name in MEMORY_FEATURES if name.startswith("query_"))


def test_transitions_are_votes_of_the_latest_items():
    memory = memory_of()
    # Histories: u touched a, b, d; v touched c and b in one session, which is no transition.
    found = features(memory, "", [0, 1], [3], None)
    from_b, from_a = 1.0 / np.sqrt(1.0 + 1.0), DECAY / np.sqrt(1.0 + DECAY)
    assert np.expm1(found["last_transition"])[0] == pytest.approx(from_b, rel=1e-5)
    assert np.expm1(found["transitions"])[0] == pytest.approx(from_b + DECAY * from_a, rel=1e-5)
    assert not features(memory, "", [0, 1], [3], 4)["transitions"].any()


def test_counts_as_of_a_time_are_those_of_the_sessions_before_it():
    before = memory_of(SESSIONS[:2])
    assert np.expm1(features(before, "dress", [], [1], None)["clicked"])[0] == pytest.approx(1)
    for name, values in features(memory_of(), "dress", [0], [0, 1, 2, 3], 3).items():
        np.testing.assert_allclose(values, features(before, "dress", [0], [0, 1, 2, 3], None)[name], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    "split", [{"method": "leave_last_out"}, {"method": "random", "validation": 0.3, "test": 0.3, "seed": 1}]
)
def test_the_memory_of_the_training_split_knows_no_held_out_session(split):
    sessions = [(user, time, f"{user}{time}", ["abcdef"[time]], ["abcdef"[time]]) for time in range(6) for user in "uvw"]
    market = market_of(sessions, split)
    past = training_market(market)
    memory = BehaviourMemory.of(past, UserLogs(past), category_ids(market.items.data.column("categories"))[0])
    held_out = {request.query for name in ("validation", "test") for request in build_requests(market, name)}
    assert held_out and (memory.query_numbers(sorted(held_out)) == -1).all()
    training = [request.query for request in build_requests(market, "train")]
    assert memory.statistics[2].before(np.arange(6)).sum() == len(training) == len(sessions) - len(held_out)
