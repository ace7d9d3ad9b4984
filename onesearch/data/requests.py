"""Sessions turned into requests: who asks what, with which history, and what followed. Splits are made here, before any window is cut."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from .market import SPLIT_METHODS, Market

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Request:
    """One search by one user.

    Args:
        session_id, user_id: as in the market.
        query: the text asked for.
        history: item ids the user clicked or purchased in earlier sessions, oldest first.
        clicked, purchased: what followed; never part of `history`.
    """

    session_id: str
    user_id: str
    query: str
    history: tuple[str, ...] = ()
    clicked: tuple[str, ...] = ()
    purchased: tuple[str, ...] = ()


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


def build_requests(market: Market, split: str, max_history: int = 20) -> list[Request]:
    """Requests of one split, in time order, each with the history that precedes it.

    A session without a query or without any click or purchase is part of later histories but no request of its own. Sessions of
    one user at the same time are in each other's history no more than in their own: which came first is not known.

    Args:
        market: sessions must be sorted by time (``onesearch data check`` verifies it).
        split: one of `SPLITS`.
        max_history: at most so many of the most recent items are kept.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; allowed are {', '.join(SPLITS)}")
    wanted = SPLITS.index(split)
    assigned = split_sessions(market)
    history: dict[str, list[str]] = defaultdict(list)
    current: dict[str, tuple[int, list[str]]] = {}
    requests: list[Request] = []
    for row, session in enumerate(_plain_rows(market)):
        session_id, user_id, time, query, clicked, purchased = session
        past = history[user_id]
        since, now = current.get(user_id, (time, []))
        if since < time:
            past.extend(now)
            now = []
        current[user_id] = (time, now)
        if assigned[row] == wanted and query.strip() and (clicked or purchased):
            requests.append(Request(session_id, user_id, query, tuple(past[-max_history:]), tuple(clicked), tuple(purchased)))
        bought = set(purchased)
        now.extend([item for item in clicked if item not in bought] + list(purchased))
    return requests


def targets_of(request: Request, kind: str) -> tuple[str, ...]:
    """Ground truth of one request: its ``purchase`` or ``click`` items."""
    if kind not in ("purchase", "click"):
        raise ValueError(f"target kind {kind!r} is unknown; allowed are purchase, click")
    return request.purchased if kind == "purchase" else request.clicked


def _plain_rows(market: Market) -> Iterator[tuple]:
    """Rows of the sessions as plain Python values; far faster than asking the dataset for each."""
    column = market.sessions.data.column
    plain = [column(name).to_pylist() for name in ("session_id", "user_id", "time", "query")]
    return zip(*plain, _lists(column("clicked")), _lists(column("purchased")))


def _lists(column: pa.ChunkedArray) -> Iterator[list[str]]:
    lists = column.combine_chunks()
    lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    values, ends = lists.flatten().to_pylist(), np.cumsum(lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False))
    return (values[start:end] for start, end in zip([0, *ends[:-1].tolist()], ends.tolist()))
