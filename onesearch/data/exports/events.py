"""Events as sessions: which events belong together, and what a row without a query, an item or a user means.

The rules are in `SessionRules`; `docs/market.md` has them as a table.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..text import query_key
from .event_columns import KINDS

SECOND = 1000
"""Milliseconds of a second."""

MINUTE = 60 * SECOND

ANONYMOUS = "anonymous"
"""Begins the id of a user who did not log in."""


class Event(NamedTuple):
    """One event of a log.

    Attributes:
        moment: milliseconds, or the number of an order.
        user_id: id of the user; "" for an anonymous event with a query, whose session is a user of its own.
        visit: id that the log gives to a visit; "" without one.
        query: text of the query; "" without one.
        item_id: id of an item of the catalogue; None without one.
        kind: one of `KINDS`, or "" for a query without an item.
    """

    moment: int
    user_id: str
    visit: str
    query: str
    item_id: str | None
    kind: str


@dataclass
class OpenSession:
    """A session that may still grow.

    Args:
        begin: moment of its first event.
        last: moment of its last event.
        visit: id of the visit.
        query: text of the query; "" without one.
        items: items by kind, in the order of the events.
    """

    begin: int
    last: int
    user_id: str
    visit: str
    query: str
    items: dict[str, dict[str, None]] = field(default_factory=lambda: {kind: {} for kind in KINDS})

    def holds(self, item_id: str | None) -> bool:
        """Whether an event of the session concerned the item."""
        return item_id is not None and any(item_id in items for items in self.items.values())


@dataclass(frozen=True)
class SessionRules:
    """Which events make a session.

    * A user's events with the same query (capitals and blanks do not matter) belong together as long as no two of them are more than `gap`
      apart, and as long as the log does not say that the visit is another one.
    * Anonymous events with the same query belong together in the same way.
    * An event without a query belongs to the latest session of the user within the gap that holds its item already, else to
      the latest session with a query within the gap. Without one, it belongs to a session without a query, whose scene is
      ``recommendation``.

    Args:
        gap: largest distance in milliseconds; raising it makes fewer and longer sessions. None: times are an order, so
            that no distance is known; then a session ends where the user's next one begins.
    """

    gap: int | None = 30 * MINUTE

    def sessions(self, events: Iterable[Event]) -> tuple[list[OpenSession], Counter[str]]:
        """Group events, which must be sorted by moment, into sessions.

        Returns:
            The sessions in the order of their first events, and the number of repeated events, of events that a query was found for,
            and of events outside of a search, by name.
        """
        made: list[OpenSession] = []
        recent: dict[tuple[str, str], list[OpenSession]] = defaultdict(list)
        counts: Counter[str] = Counter()
        for event in events:
            open_ones = recent[(event.user_id, "" if event.user_id else query_key(event.query))]
            if self.gap is not None:
                open_ones[:] = [session for session in open_ones if event.moment - session.last <= self.gap]
            else:
                del open_ones[:-1]
            session = self._session_of(event, open_ones, counts)
            if session is None:
                session = OpenSession(event.moment, event.moment, event.user_id, event.visit, event.query)
                made.append(session)
            else:
                open_ones.remove(session)
            open_ones.append(session)
            session.last = event.moment
            if event.item_id is not None:
                counts["repeated"] += event.item_id in session.items[event.kind]
                session.items[event.kind].setdefault(event.item_id)
        return made, counts

    def _session_of(self, event: Event, open_ones: list[OpenSession], counts: Counter[str]) -> OpenSession | None:
        """The open session that an event belongs to."""
        latest_first = [
            session for session in reversed(open_ones) if session.visit == event.visit or not session.visit or not event.visit
        ]
        if event.query:
            key = query_key(event.query)
            return next((session for session in latest_first if query_key(session.query) == key), None)
        found = next((session for session in latest_first if session.query and session.holds(event.item_id)), None)
        found = found or next((session for session in latest_first if session.query), None)
        counts["attributed" if found else "outside"] += 1
        return found or next(iter(latest_first), None)


def session_rows(sessions: Iterable[OpenSession], is_clock: bool) -> list[dict[str, Any]]:
    """Rows of the sessions table, sorted by time; see `with_shown`.

    Args:
        sessions: sessions of `SessionRules`.
        is_clock: moments are milliseconds, and become seconds.
    """
    rows = []
    for number, session in enumerate(sorted(sessions, key=lambda session: session.begin), start=1):
        items = {kind: list(session.items[kind]) for kind in KINDS}
        rows.append(
            {
                "session_id": f"s{number}",
                "user_id": session.user_id or f"{ANONYMOUS}-s{number}",
                "time": session.begin // SECOND if is_clock else session.begin,
                "query": session.query,
                "scene": "search" if session.query else "recommendation",
                **with_shown(items),
            }
        )
    return rows


def with_shown(items: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Items by kind. What was clicked, put into the cart or bought in a session with impressions was shown in it."""
    found = {kind: list(dict.fromkeys(items.get(kind, ()))) for kind in KINDS}
    if found["impressed"]:
        found["impressed"] = list(dict.fromkeys(item for kind in KINDS for item in found[kind]))
    return found


__all__ = ["ANONYMOUS", "MINUTE", "SECOND", "Event", "OpenSession", "SessionRules", "session_rows", "with_shown"]
