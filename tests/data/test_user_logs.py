"""Event logs against a loop over the sessions in plain Python."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from markets import SESSIONS, before, market_of, touched

from onesearch.data.requests import UserContext, build_requests, each_request, user_profiles
from onesearch.data.user_logs import SEQUENCES, UserLogs

COLUMN = {"clicked": 3, "purchased": 4, "shown": 5}


@settings(max_examples=100)
@given(sessions=SESSIONS)
def test_every_log_holds_what_came_strictly_before(sessions):
    logs = UserLogs(market_of(sessions))
    for row in range(len(sessions)):
        earlier = before(sessions, row)
        for kind in SEQUENCES:
            log = logs.of_kind(kind)
            found = logs.item_ids[log.values[log.begin[row] : log.end[row]]].tolist()
            assert found == [item for session in earlier for item in session[COLUMN[kind]]]
        assert logs.item_ids[logs.touched.values[logs.touched.begin[row] : logs.touched.end[row]]].tolist() == touched(earlier)
        asked = logs.queries[logs.asked.values[logs.asked.begin[row] : logs.asked.end[row]]].tolist()
        assert asked == [session[2] for session in earlier if session[2].strip()]


@settings(max_examples=50)
@given(sessions=SESSIONS)
def test_the_context_of_a_request_holds_the_events_before_it_and_no_others(sessions):
    market = market_of(sessions)
    for request in build_requests(market, "train", max_history=4):
        row = int(request.session_id[1:])
        earlier = before(sessions, row)
        for kind in SEQUENCES:
            expected = [item for session in earlier for item in session[COLUMN[kind]]][-4:]
            past = getattr(request.context, kind)
            assert past == expected and list(past) == expected and len(past) == len(expected)
            assert past[-2:] == expected[-2:]
        assert list(request.context.queries) == [session[2] for session in earlier if session[2].strip()][-4:]
        assert request.context.profile == (("f", "25-34") if request.user_id == "u" else ())


def test_the_last_events_of_a_log_are_the_most_recent():
    logs = UserLogs(market_of([("u", time, "dress", [item], []) for time, item in enumerate("abcd")]))
    begin, end = logs.clicked.last(np.array([0, 3]), 2)
    assert (begin.tolist(), end.tolist()) == ([0, 1], [0, 3])


def test_an_unknown_sequence_lists_the_known_ones():
    with pytest.raises(ValueError, match="'carted'.*clicked, purchased, shown"):
        UserLogs(market_of([])).of_kind("carted")


def test_profiles_leave_out_what_is_not_given():
    assert user_profiles(market_of([])) == {"u": ("f", "25-34"), "v": ()}


@settings(max_examples=20)
@given(sessions=SESSIONS)
def test_requests_without_context_have_the_same_past_and_targets(sessions):
    market = market_of(sessions)
    for split in ("train", "test"):
        some = list(each_request(market, split, with_context=False))
        assert some == [replace(request, context=UserContext()) for request in build_requests(market, split)]
