"""Sessions of KuaiSearch from its tables recall (requests) and rank (prices, recent history, statistics and entrances)."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from .. import fields
from ..bad_rows import VALUE, BadRows
from ..fields import BadRow, Note, Row
from .importing import TableBuilder, convert_jsonl, read_jsonl
from .kuaisearch_statistics import Statistics, read_statistics

UNKNOWN = frozenset({"UNKNOWN", "\\N"})
"""Placeholders that become null."""


class RequestKey(NamedTuple):
    """What the tables recall and rank both say of a request, as published."""

    user_id: str
    session_id: str
    time: int
    query: str


class Price(NamedTuple):
    """A price, and the time at which it was shown."""

    time: int
    value: float


@dataclass(frozen=True)
class Recent:
    """Recent history of a user, from one line of rank.

    Args:
        time: time of the request to which the line belongs.
        clicked: ids of recently clicked items.
        purchased: ids of recently purchased items.
        path: file of the line.
        line: number of the line, counted from 1.
    """

    time: int
    clicked: list[str]
    purchased: list[str]
    path: Path
    line: int

    def check(self, items: Container[str], bad: BadRows) -> bool:
        """Return whether the catalogue has all items; if it lacks one, the line goes to `bad`."""
        try:
            fields.known(self.clicked, items, "recently_clicked_item_ids", "items")
            fields.known(self.purchased, items, "recently_purchased_item_ids", "items")
        except BadRow as error:
            bad.add_error(self.path.name, self.line, error)
            return False
        return True

    def without(self, present: Container[str]) -> dict[str, list[str]]:
        """Return the distinct items of both lists that are not in `present`, as columns of a session."""
        lists = {"clicked": self.clicked, "purchased": self.purchased}
        return {key: [item for item in dict.fromkeys(values) if item not in present] for key, values in lists.items()}


class RankRows:
    """Latest prices and first statistics of items, first recent histories of users, and entrances of requests, from rank row by row.

    Args:
        items: ids of the catalogue.

    Attributes:
        prices: latest price of each item.
        recent: recent history of each user at the earliest request.
        statistics: statistics of each item before the earliest request that shows it.
        entrances: entrance of each request.
    """

    def __init__(self, items: Container[str]) -> None:
        self.prices: dict[str, Price] = {}
        self.recent: dict[str, Recent] = {}
        self.statistics: dict[str, Statistics] = {}
        self.entrances: dict[RequestKey, str] = {}
        self._items = items

    def read(self, path: Path, bad: BadRows) -> None:
        """Read one file."""
        for line, row in read_jsonl(path, bad):

            def note(error: BadRow, line: int = line) -> None:
                bad.add_error(path.name, line, error, VALUE)

            try:
                self._take(path, line, row, note)
            except BadRow as error:
                bad.add_error(path.name, line, error)

    def statistics_before(self, time: int | None) -> dict[str, Statistics]:
        """Statistics that were counted before a time; all of them if it is None."""
        return {item: found for item, found in self.statistics.items() if time is None or found.time < time}

    def _take(self, path: Path, line: int, row: Row, note: Note) -> None:
        """Keep the recent history of a row if it is the user's earliest, statistics if the item's earliest, the price if its latest."""
        user_id, time = fields.identifier(row, "user_id"), fields.integer(row, "time_index")
        if user_id not in self.recent or time < self.recent[user_id].time:
            clicked = fields.identifiers(row, "recently_clicked_item_ids")
            purchased = fields.identifiers(row, "recently_purchased_item_ids")
            self.recent[user_id] = Recent(time, clicked, purchased, path, line)
        item_id, price = fields.identifier(row, "target_item_id"), fields.optional_number(row, "target_item_price")
        fields.known([item_id], self._items, "target_item_id", "items")
        if price is not None and (item_id not in self.prices or time >= self.prices[item_id].time):
            self.prices[item_id] = Price(time, price)
        if item_id not in self.statistics or time < self.statistics[item_id].time:
            statistics = read_statistics(row, time, note)
            if statistics is not None:
                self.statistics[item_id] = statistics
        entrance = fields.or_none(fields.optional_text, row, "search_entrance", note, UNKNOWN)
        if entrance is not None:
            key = RequestKey(user_id, str(row.get("session_id")), time, str(row.get("query")))
            self.entrances.setdefault(key, sys.intern(entrance))


class SessionRows:
    """The sessions table while it is built: the requests of recall, and a session with recent history before each user's first.

    Args:
        items: ids of the catalogue.
        users: ids of the users table.
        entrances: entrance of each request that has a known one.

    Attributes:
        published_split: number of sessions by value of the published ``split`` column.
    """

    def __init__(self, items: Container[str], users: Container[str], entrances: Mapping[RequestKey, str]) -> None:
        self.published_split: Counter[str] = Counter()
        self._items = items
        self._users = users
        self._entrances = entrances
        self._sessions = TableBuilder("sessions")
        self._occurrences: Counter[str] = Counter()
        self._first: dict[str, dict[str, Any]] = {}

    def read(self, path: Path, bad: BadRows) -> None:
        """Add the requests of one file of recall."""
        for session in convert_jsonl(path, self._session, bad):
            self._sessions.add(session)
            first = self._first.get(session["user_id"])
            if first is None or session["time"] < first["time"]:
                self._first[session["user_id"]] = session

    def add_recent(self, recent: Mapping[str, Recent], bad: BadRows) -> dict[str, int]:
        """Add a session without a query before each user's first request.

        Args:
            recent: recent history by user id.
            bad: receives the lines that name unknown items.

        Returns:
            Counts for ``market.info``: users and items added, items left out because the first request has them, and users
            without lists from before or at their first request.
        """
        counts = Counter(users=0, items=0, also_in_first_request=0, without_earlier_lists=0)
        for user_id, first in self._first.items():
            lists = recent.get(user_id)
            if lists is None or lists.time > first["time"]:
                counts["without_earlier_lists"] += 1
                continue
            if not lists.check(self._items, bad):
                continue
            kept = lists.without({*first["clicked"], *first["purchased"]})
            items = sum(map(len, kept.values()))
            counts["also_in_first_request"] += sum(map(len, lists.without(()).values())) - items
            if items:
                session = {"session_id": f"before-{user_id}", "user_id": user_id, "time": first["time"] - 1, "query": ""}
                self._sessions.add({**session, "scene": "unknown", **kept})
                counts["users"] += 1
                counts["items"] += items
        return dict(counts)

    def table(self) -> pa.Table:
        """Return the sessions table."""
        return self._sessions.table()

    def _session(self, row: Row, note: Note) -> dict[str, Any]:
        """A row of the sessions table from a row of recall."""
        published_id, user_id = fields.identifier(row, "session_id"), fields.identifier(row, "user_id")
        fields.known([user_id], self._users, "user_id", "users")
        lists = {key: fields.identifiers(row, f"{key}_item_ids") for key in ("impressed", "clicked", "purchased")}
        for key, values in lists.items():
            fields.known(values, self._items, f"{key}_item_ids", "items")
        fields.within_impressed(lists)
        time, query = fields.integer(row, "time_index"), fields.filled_text(row, "query")
        self._occurrences[published_id] += 1
        self.published_split[str(row.get("split"))] += 1
        occurrence = self._occurrences[published_id]
        session_id = published_id if occurrence == 1 else f"{published_id}-{occurrence}"
        place = {"scene": "search", "entrance": self._entrances.get(RequestKey(user_id, published_id, time, query))}
        return {"session_id": session_id, "user_id": user_id, "time": time, "query": query, **place, **lists}
