"""The memory: counts of items, of items under queries and of transitions, as of the time of each request."""

from __future__ import annotations

import numpy as np
import pytest
from markets import market_of

from onesearch.data.requests import build_requests, training_market
from onesearch.data.session_pairs import category_ids
from onesearch.data.user_logs import UserLogs
from onesearch.tokenization_sid.ragged import Ragged
from onesearch.views.reward.counts import TimedCounts
from onesearch.views.reward.memory import DECAY, MEMORY_FEATURES, STATISTICS, BehaviourMemory

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


SUMS = ("query_clicked", "query_purchased", "query_leaves", "query_events", "transitions", "departures")


def whole(memory):
    """All counts of a memory, with queries by their text."""
    names = list(memory.queries)
    found = {name: dict(zip(part.keys.tolist(), part.sums.tolist())) for name, part in zip(STATISTICS, memory.statistics)}
    for name in SUMS:
        part = getattr(memory, name)
        width = {"query_leaves": memory.leaves, "query_events": 1}.get(name, memory.items)
        keys = [(names[key // width], key % width) if name.startswith("query") else key for key in part.keys.tolist()]
        found[name] = dict(zip(keys, part.sums.tolist()))
    return found


def test_an_update_counts_as_if_all_sessions_had_been_there():
    first = [("u", 1, "dress", ["a"], ["a"], ["a", "b"]), ("u", 3, "shoe", ["c"], [], ["c"])]
    later = [("v", 4, "hat", ["e"], ["f"], ["e"]), ("v", 9, "Dress", ["b"], ["b"], ["b"]), ("w", 9, " ", ["a"], [], [])]

    updated, every = memory_of(first).updated(market_of(later)), memory_of(first + later)
    assert whole(updated) == whole(every)
    assert whole(memory_of([]).updated(market_of(first + later))) == whole(every)


def test_further_items_change_no_count():
    memory = memory_of([("u", 1, "dress", ["a"], ["a"], ["a", "b"]), ("u", 3, "shoe", ["c"], ["d"], ["c"])])
    wider = memory.with_items(np.array([memory.leaf[0], -1]))
    candidates, history = np.arange(6)[None], Ragged.of([[0, 2]])
    for number in (0, 1):
        before = memory.features(np.array([number]), history, candidates, None)
        after = wider.features(np.array([number]), history, np.arange(8)[None], None)
        np.testing.assert_array_equal(after[:, :6], before)
        assert not after[0, 6:, [0, 1, 2, 5, 6, 10, 11]].any()  # nothing of the item itself was counted
        assert after[0, 6, 8] == before[0, 0, 8] and after[0, 7, 8] == 0  # its category was


def test_own_behaviour_is_bounded_by_time_and_that_of_others_is_not():
    counts = TimedCounts.of(np.array([7, 7, 7, 8]), np.array([1, 5, 9, 2]), None, np.array([0, 0, 1, 1]))
    keys, times = np.array([7, 7, 7, 8]), np.array([5, 6, 5, 2])
    assert counts.before(keys, times, np.array([0, 0, 1, 1])).tolist() == [2, 3, 2, 0]
    with pytest.raises(ValueError, match="made without users"):
        TimedCounts.of(keys, times).before(keys, times, keys)
