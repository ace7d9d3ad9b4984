"""Sessions as requests: a query with the user's history before it and the clicks and purchases after it.

Splits are made here, before any history is cut to a length.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow.compute as pc

from .arrow_tables import as_dataset
from .choices import RECOMMENDATION, SPLIT_METHODS
from .market import Market
from .splits import SHARES, split_values_problem
from .user_logs import EventLog, Past, UserLogs

SPLITS = ("train", "validation", "test")

PROFILE = ("gender", "age_bucket", "region")
"""Columns of the users table that make up a profile."""

MAX_EVENTS = 1000
"""Largest number of events kept of a history or a long sequence (OneSearch, arXiv 2509.03236: about 10³)."""

REQUESTS_AT_ONCE = 16_384
"""Sessions whose columns are turned into Python objects at a time."""


@dataclass(frozen=True, slots=True)
class UserContext:
    """Everything that a search may know of its user besides the history. All sequences run from old to new.

    Args:
        queries: texts of earlier queries.
        clicked: ids of items clicked before.
        purchased: ids of items bought before.
        shown: ids of items listed before.
        profile: known values of gender, age bucket and region, for example ``("f", "25-34")``.
        ages: time from each event of the request's history to the request, in the unit of the market's session times, aligned with the
            history; empty where times are not known. The reward model and histories as vectors read them.
        kinds: kind of each event of the history, ``clicked``, ``carted`` or ``purchased``, aligned with it; empty where they are not known:
            an item among `purchased` counts as bought then, any other as clicked. The reward model and histories as vectors read them.
    """

    queries: Sequence[str] = ()
    clicked: Sequence[str] = ()
    purchased: Sequence[str] = ()
    shown: Sequence[str] = ()
    profile: tuple[str, ...] = ()
    ages: Sequence[int] = ()
    kinds: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One search by one user.

    Args:
        session_id: id of the session in the market.
        user_id: id of the user in the market.
        query: text that the user typed.
        history: ids of items that the user clicked or bought in earlier sessions, from old to new.
        clicked: ids of items clicked in this session; never part of `history` or `context`.
        purchased: ids of items bought in this session; never part of `history` or `context`.
        context: everything else that is known of the user before the session.
    """

    session_id: str
    user_id: str
    query: str
    history: Sequence[str] = ()
    clicked: tuple[str, ...] = ()
    purchased: tuple[str, ...] = ()
    context: UserContext = field(default_factory=UserContext)


def split_sessions(market: Market) -> np.ndarray:
    """Assign each session to a split, by the method in ``market.info["split"]``.

    * ``time``: the last ``test`` share of the searches by time is the test split, the ``validation`` share before it the
      validation split. This is how a search engine is used: it knows the past and serves the future.
    * ``leave_last_out``: the last session of each user is the test split, the one before it the validation split. All sessions
      of a user with fewer than three are in the training split.
    * ``random``: a ``test`` and a ``validation`` share of the searches, drawn with ``seed``. Histories still end before their request,
      but training knows sessions later than those of the test, also of the same users, and reads clicks of earlier test sessions in
      histories. The published table of KuaiSearch is made so (random 9:1); figures of a split by time are lower and not comparable.
    * ``none``: all sessions are in the training split.

    Returns:
        0 (train), 1 (validation) or 2 (test) per row of the sessions table, int8 ``(sessions,)``.

    Raises:
        ValueError: the method is unknown, or its shares or its seed are out of range.
    """
    split = market.info.get("split", {"method": "none"})
    method = split.get("method")
    if not len(market.sessions) or method == "none":
        return np.zeros(len(market.sessions), dtype=np.int8)
    if method == "time":
        return _split_by_time(market, split)
    if method == "leave_last_out":
        return _leave_last_out(market)
    if method == "random":
        return _split_at_random(market, split)
    raise ValueError(f"market.json: split method {method!r} is unknown; allowed are {', '.join(SPLIT_METHODS)}")


def has_query(market: Market) -> np.ndarray:
    """Whether each session has a query, ``(sessions,)``."""
    texts = pc.fill_null(market.sessions.data.column("query"), "")
    return pc.not_equal(pc.utf8_trim_whitespace(texts), "").to_numpy().astype(bool)


def is_search(market: Market) -> np.ndarray:
    """Whether each session is a search: it has a query, and its scene is not ``recommendation``, ``(sessions,)``.

    A query of a recommendation session was made of its item (`with_made_queries`): it is learned from, and nothing is measured on it.
    """
    return has_query(market) & ~is_recommendation(market)


def is_recommendation(market: Market) -> np.ndarray:
    """Whether each session took place in a list that the shop recommended, ``(sessions,)``."""
    found = pc.fill_null(pc.equal(market.sessions.data.column("scene"), RECOMMENDATION), False)
    return found.to_numpy().astype(bool)


def _split_by_time(market: Market, split: Mapping[str, Any]) -> np.ndarray:
    """Split number of each session, ``(sessions,)``. The shares count searches: a session without a query is no request."""
    test, validation = _shares(split)
    searched = np.cumsum(is_search(market))
    assigned = np.zeros(len(searched), dtype=np.int8)
    assigned[searched > int(searched[-1] * (1 - test - validation))] = 1
    assigned[searched > int(searched[-1] * (1 - test))] = 2
    return assigned


def _split_at_random(market: Market, split: Mapping[str, Any]) -> np.ndarray:
    """Split number of each session, ``(sessions,)``. Searches alone are drawn; a session without a query stays in training."""
    test, validation = _shares(split)
    found = np.flatnonzero(is_search(market))
    drawn = np.random.default_rng(split.get("seed", 0)).permutation(found)
    tested, held_out = round(len(found) * test), round(len(found) * (test + validation))
    assigned = np.zeros(len(market.sessions), dtype=np.int8)
    assigned[drawn[tested:held_out]] = 1
    assigned[drawn[:tested]] = 2
    return assigned


def _shares(split: Mapping[str, Any]) -> tuple[float, float]:
    """Shares of the test and of the validation split; ValueError for values that are out of range."""
    problem = split_values_problem(split)
    if problem:
        raise ValueError(f"market.json: {problem}")
    return float(split.get("test", SHARES["test"])), float(split.get("validation", SHARES["validation"]))


def _leave_last_out(market: Market) -> np.ndarray:
    """Split number of each session, ``(sessions,)``."""
    assigned = np.zeros(len(market.sessions), dtype=np.int8)
    rows_of_user: dict[str, list[int]] = defaultdict(list)
    for row, user_id in enumerate(market.sessions.data.column("user_id").to_pylist()):
        rows_of_user[user_id].append(row)
    for rows in rows_of_user.values():
        if len(rows) >= 3:
            assigned[rows[-2]], assigned[rows[-1]] = 1, 2
    return assigned


def training_market(market: Market) -> Market:
    """The same catalogue with the sessions of the training split alone: everything that may be counted before a model is measured."""
    training = np.flatnonzero(split_sessions(market) == SPLITS.index("train"))
    return replace(market, sessions=as_dataset(market.sessions.data.table.take(training)))


def build_requests(market: Market, split: str, max_history: int = MAX_EVENTS) -> list[Request]:
    """Build the requests of one split, in time order.

    A session without a query, or without any click or purchase, is part of later histories and no request itself. Sessions of
    one user at the same time are not in each other's history, because their order is not known.

    Args:
        market: its sessions must be sorted by time (``onesearch data check`` verifies it).
        split: one of `SPLITS`.
        max_history: number of latest events kept in the history and in each sequence of `UserContext`. Raising it costs no
            memory: sequences are views of the event logs.

    Raises:
        ValueError: the split is unknown.
    """
    return list(each_request(market, split, max_history))


def each_request(market: Market, split: str, max_history: int = MAX_EVENTS, with_context: bool = True) -> Iterator[Request]:
    """The requests of `build_requests` one after the other, for whoever needs each of them once: a million of them take gigabytes.

    Args:
        market: as for `build_requests`.
        split: as for `build_requests`.
        max_history: as for `build_requests`.
        with_context: False leaves everything that is known of the user but the history out, which takes less memory.
    """
    rows = request_rows(market, split)
    logs, profile_of = UserLogs(market), user_profiles(market)
    sessions = market.sessions.data.column
    for start in range(0, len(rows), REQUESTS_AT_ONCE):
        some = rows[start : start + REQUESTS_AT_ONCE]
        histories = _pasts(logs.touched, logs.item_ids, some, max_history)
        columns = [sessions(name).take(some).to_pylist() for name in ("session_id", "user_id", "query", "clicked", "purchased")]
        contexts: Iterable[UserContext] = repeat(UserContext())
        if with_context:
            sequences = zip(
                _pasts(logs.asked, logs.queries, some, max_history),
                _pasts(logs.clicked, logs.item_ids, some, max_history),
                _pasts(logs.purchased, logs.item_ids, some, max_history),
                _pasts(logs.shown, logs.item_ids, some, max_history),
            )
            contexts = (UserContext(*past, profile_of.get(user, ())) for user, past in zip(columns[1], sequences))
        for session_id, user, query, clicked, purchased, history, context in zip(*columns, histories, contexts):
            yield Request(session_id, user, query, history, tuple(clicked), tuple(purchased), context)


def _pasts(log: EventLog, names: np.ndarray, rows: np.ndarray, most: int) -> list[Past]:
    """The `most` latest events before each session in `rows`."""
    begins, ends = log.last(rows, most)
    return [Past(log, names, begin, end) for begin, end in zip(begins.tolist(), ends.tolist())]


def request_rows(market: Market, split: str) -> np.ndarray:
    """Return the rows of the sessions that are requests of one split: those with a query and with a click or purchase.

    In the training split these may be recommendation sessions whose query was made; the other splits hold searches alone.

    Args:
        market: sessions.
        split: one of `SPLITS`.

    Returns:
        Rows of the sessions table, ascending, int64 ``(requests,)``.

    Raises:
        ValueError: the split is unknown.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; allowed are {', '.join(SPLITS)}")
    column = market.sessions.data.column
    lengths = [pc.fill_null(pc.list_value_length(column(name)), 0).to_numpy() for name in ("clicked", "purchased")]
    wanted = has_query(market) if split == "train" else is_search(market)
    return np.flatnonzero((split_sessions(market) == SPLITS.index(split)) & wanted & (sum(lengths) > 0))


def user_profiles(market: Market) -> dict[str, tuple[str, ...]]:
    """Return the known values of gender, age bucket and region by user id."""
    columns = [market.users.data.column(name).to_pylist() for name in ("user_id", *PROFILE)]
    return {user: tuple(value for value in values if value) for user, *values in zip(*columns)}


def targets_of(request: Request, kind: str) -> tuple[str, ...]:
    """Return the ground truth of a request.

    Args:
        request: the request.
        kind: ``purchase`` for the items bought in it, ``click`` for the items clicked in it.

    Raises:
        ValueError: the kind is unknown.
    """
    if kind not in ("purchase", "click"):
        raise ValueError(f"target kind {kind!r} is unknown; allowed are purchase, click")
    return request.purchased if kind == "purchase" else request.clicked
