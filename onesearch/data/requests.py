"""Sessions turned into requests: who asks what, with which history, and what followed. Splits are made here, before any window is cut."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow.compute as pc

from .market import SPLIT_METHODS, Market
from .user_logs import SEQUENCES, Past, UserLogs

SPLITS = ("train", "validation", "test")

PROFILE = ("gender", "age_bucket", "region")
"""Columns of the users table that make up a profile."""

MAX_BEHAVIOUR = 1000
"""Most recent events of a long sequence (OneSearch, arXiv 2509.03236: about 10³)."""


@dataclass(frozen=True, slots=True)
class UserContext:
    """What a search may know of its user besides the recent items; all sequences oldest first.

    Args:
        queries: texts asked for before.
        clicked, purchased, shown: item ids of the long sequences.
        profile: for instance ``("f", "25-34")``.
    """

    queries: Sequence[str] = ()
    clicked: Sequence[str] = ()
    purchased: Sequence[str] = ()
    shown: Sequence[str] = ()
    profile: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One search by one user.

    Args:
        session_id, user_id: as in the market.
        query: the text asked for.
        history: item ids the user clicked or purchased in earlier sessions, oldest first.
        clicked, purchased: what followed; never part of `history` or `context`.
        context: what else is known of the user at that time.
    """

    session_id: str
    user_id: str
    query: str
    history: Sequence[str] = ()
    clicked: tuple[str, ...] = ()
    purchased: tuple[str, ...] = ()
    context: UserContext = field(default_factory=UserContext)


def split_sessions(market: Market) -> np.ndarray:
    """Assign each session to a split, as ``market.info["split"]`` says.

    * ``time``: the last ``test`` share of the searches by time is the test, the ``validation`` share before it the validation.
    * ``leave_last_out``: a user's last session is the test, the one before it the validation; a user with fewer than three sessions
      only trains.
    * ``none``: everything trains.

    Returns:
        Array of 0 (train), 1 (validation), 2 (test), one entry per session row.
    """
    split = market.info.get("split", {"method": "none"})
    method = split.get("method")
    assigned = np.zeros(len(market.sessions), dtype=np.int8)
    if not len(assigned):
        return assigned
    if method == "time":
        test, validation = float(split.get("test", 0.1)), float(split.get("validation", 0.05))
        if test <= 0 or validation < 0 or test + validation >= 1:
            raise ValueError(
                f"market.json: split shares test={test}, validation={validation}; both must be positive and below 1 in sum"
            )
        searched = np.array([bool(query.strip()) for query in market.sessions.data.column("query").to_pylist()], dtype=bool)
        place = np.cumsum(searched)  # shares are of searches: behaviour without a query is no request
        assigned[place > int(place[-1] * (1 - test - validation))] = 1
        assigned[place > int(place[-1] * (1 - test))] = 2
    elif method == "leave_last_out":
        rows_of_user: dict[str, list[int]] = defaultdict(list)
        for row, user_id in enumerate(market.sessions.data.column("user_id").to_pylist()):
            rows_of_user[user_id].append(row)
        for rows in rows_of_user.values():
            if len(rows) >= 3:
                assigned[rows[-2]], assigned[rows[-1]] = 1, 2
    elif method != "none":
        raise ValueError(f"market.json: split method {method!r} is unknown; allowed are {', '.join(SPLIT_METHODS)}")
    return assigned


def build_requests(market: Market, split: str, max_history: int = MAX_BEHAVIOUR) -> list[Request]:
    """Requests of one split, in time order, each with what its user did before.

    A session without a query or without any click or purchase is part of later histories but no request of its own. Sessions of
    one user at the same time are in each other's history no more than in their own: which came first is not known.

    Args:
        market: sessions must be sorted by time (``onesearch data check`` verifies it).
        split: one of `SPLITS`.
        max_history: at most so many of the most recent events of the history and of each sequence of `UserContext` are kept.
    """
    rows = request_rows(market, split)
    logs = UserLogs(market)
    pasts = []
    for log in (logs.touched, logs.asked, *(logs.of_kind(kind) for kind in SEQUENCES)):
        names = logs.queries if log is logs.asked else logs.item_ids
        pasts.append([Past(log, names, *span) for span in zip(*(ends.tolist() for ends in log.last(rows, max_history)))])
    profile_of = user_profiles(market)
    sessions = market.sessions.data.column
    plain = [sessions(name).take(rows).to_pylist() for name in ("session_id", "user_id", "query", "clicked", "purchased")]
    return [
        Request(session_id, user, query, history, tuple(clicked), tuple(bought), UserContext(*past, profile_of.get(user, ())))
        for session_id, user, query, clicked, bought, history, *past in zip(*plain, *pasts)
    ]


def request_rows(market: Market, split: str) -> np.ndarray:
    """Rows of the sessions that are requests of one split: those with a query and with a click or purchase."""
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; allowed are {', '.join(SPLITS)}")
    column = market.sessions.data.column
    lengths = [pc.fill_null(pc.list_value_length(column(name)), 0).to_numpy() for name in ("clicked", "purchased")]
    asked = pc.not_equal(pc.utf8_trim_whitespace(pc.fill_null(column("query"), "")), "").to_numpy()
    return np.flatnonzero((split_sessions(market) == SPLITS.index(split)) & asked & (sum(lengths) > 0))


def user_profiles(market: Market) -> dict[str, tuple[str, ...]]:
    """What the users table says of each user: gender, age bucket and region, where given."""
    columns = [market.users.data.column(name).to_pylist() for name in ("user_id", *PROFILE)]
    return {user: tuple(value for value in values if value) for user, *values in zip(*columns)}


def targets_of(request: Request, kind: str) -> tuple[str, ...]:
    """Ground truth of one request: its ``purchase`` or ``click`` items."""
    if kind not in ("purchase", "click"):
        raise ValueError(f"target kind {kind!r} is unknown; allowed are purchase, click")
    return request.purchased if kind == "purchase" else request.clicked
