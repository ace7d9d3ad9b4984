"""Event logs: the clicks, purchases, lists and queries of all users, from which the past of any session is a range.

Each log holds the events of a user in a row, from old to new. The past of a session is two numbers, the begin and the end of a range,
so a history of a thousand items costs no copy. A session's past ends before its own time: the order of sessions at the same time is
not known, so they are not in each other's past.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
import pyarrow as pa

from .columns import session_entries
from .market import Market

SEQUENCES = ("clicked", "purchased", "shown")
"""Kinds of long sequences. OneSearch (arXiv 2509.03236) has click, order and RSU, an acronym that it does not expand. The third kind
here, `shown` (items listed in earlier sessions), is our choice."""


@dataclass(frozen=True, eq=False)
class EventLog:
    """Events of one kind, user by user and from old to new.

    Args:
        values: row number of each event's item in the items table, or of its query in `UserLogs.queries`, ``(events,)``.
        begin: first event of each session's user, ``(sessions,)``.
        end: end of each session's past, ``(sessions,)``: before session s its user did ``values[begin[s] : end[s]]``.
    """

    values: np.ndarray
    begin: np.ndarray
    end: np.ndarray

    def last(self, sessions: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the range of the latest events before some sessions.

        Args:
            sessions: rows of the sessions table, ``(rows,)``.
            most: largest number of events per session.

        Returns:
            Begin and end of each range in `values`, both ``(rows,)``.
        """
        end = self.end[sessions]
        return np.maximum(self.begin[sessions], end - most), end


@dataclass(frozen=True, eq=False, slots=True)
class Past(Sequence[str]):
    """Past events of one session as a sequence of ids or texts: a view of an `EventLog`, without a copy.

    Args:
        log: log of the events.
        names: id or text of each row number in the log, ``(items,)`` or ``(distinct queries,)``.
        begin: first event of the range.
        end: end of the range.
    """

    log: EventLog
    names: np.ndarray
    begin: int
    end: int

    @property
    def rows(self) -> np.ndarray:
        """Row number of each event, ``(events,)``."""
        return self.log.values[self.begin : self.end]

    def __len__(self) -> int:
        return self.end - self.begin

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        found = self.names[self.rows[place]]
        return found.tolist() if isinstance(place, slice) else found

    def __iter__(self) -> Iterator[str]:
        return iter(self.names[self.rows].tolist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(list(self))


class UserLogs:
    """Event logs of all users of a market. Each log is built when it is first asked for.

    Args:
        market: its sessions must be sorted by time.

    Attributes:
        item_ids: ids by row of the items table, ``(items,)``.
    """

    def __init__(self, market: Market) -> None:
        column = market.sessions.data.column
        self.item_ids = np.array(market.items.data.column("item_id").to_pylist() or [""], dtype=object)
        users = column("user_id").combine_chunks().dictionary_encode().indices
        users, times = np.asarray(users, dtype=np.int64), np.asarray(column("time"), dtype=np.int64)
        # Sessions in user order: those of a user in a row, and in time order.
        self._order = np.argsort(users, kind="stable")
        users, times = users[self._order], times[self._order]
        # First the sessions at which another user starts, then those at which another user or another time starts.
        first = np.ones(len(users), dtype=bool)
        first[1:] = users[1:] != users[:-1]
        self._user_start = _last_true(first)
        first[1:] |= times[1:] != times[:-1]
        self._time_start = _last_true(first)
        self._market = market

    @cached_property
    def touched(self) -> EventLog:
        """Items clicked or bought. Within a session, items that were only clicked come first, then the purchases."""
        return self._log(*self.own("clicked", "purchased"))

    @cached_property
    def clicked(self) -> EventLog:
        """Items clicked."""
        return self._log(*session_entries(self._market, "clicked"))

    @cached_property
    def purchased(self) -> EventLog:
        """Items bought."""
        return self._log(*session_entries(self._market, "purchased"))

    @cached_property
    def shown(self) -> EventLog:
        """Items shown to the user."""
        return self._log(*session_entries(self._market, "impressed"))

    @cached_property
    def queries(self) -> np.ndarray:
        """Distinct query texts, blank ones included, ``(distinct,)``; the values of `asked` are rows of it."""
        return np.array(self._asked.dictionary.to_pylist() or [""], dtype=object)

    @cached_property
    def query_rows(self) -> np.ndarray:
        """Row of each session's query in `queries`, ``(sessions,)``."""
        return np.asarray(self._asked.indices, dtype=np.int64)

    @cached_property
    def blank(self) -> np.ndarray:
        """Whether each of `queries` is blank, ``(distinct,)``; a session with a blank query is not a search."""
        return np.array([not query.strip() for query in self.queries], dtype=bool)

    @cached_property
    def asked(self) -> EventLog:
        """Queries, as rows of `queries`; blank queries are left out."""
        sessions = np.flatnonzero(~self.blank[self.query_rows])
        return self._log(sessions, self.query_rows[sessions])

    def of_kind(self, kind: str) -> EventLog:
        """Return the log of one kind of `SEQUENCES`.

        Raises:
            ValueError: the kind is unknown.
        """
        if kind == "clicked":
            return self.clicked
        if kind == "purchased":
            return self.purchased
        if kind == "shown":
            return self.shown
        raise ValueError(f"sequence {kind!r} is unknown; allowed are {', '.join(SEQUENCES)}")

    def own(self, *columns: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the items of each session itself, sorted by session.

        Args:
            columns: any of ``impressed``, ``clicked`` and ``purchased``. An item in several columns of a session counts for the
                last of them: ``own("clicked", "purchased")`` takes an item that was clicked and bought as bought.

        Returns:
            Row of the session and row of the item of every entry, both ``(entries,)``.
        """
        parts = [session_entries(self._market, column) for column in columns]
        count = max(len(self.item_ids), 1)
        for place, (sessions, items) in enumerate(parts[:-1]):
            later = np.concatenate([other[0] * count + other[1] for other in parts[place + 1 :]])
            alone = ~np.isin(sessions * count + items, later)
            parts[place] = sessions[alone], items[alone]
        sessions, items = (np.concatenate(arrays) for arrays in zip(*parts))
        order = np.argsort(sessions, kind="stable")
        return sessions[order], items[order]

    @cached_property
    def _asked(self) -> pa.DictionaryArray:
        return self._market.sessions.data.column("query").combine_chunks().dictionary_encode()

    def _log(self, sessions: np.ndarray, values: np.ndarray) -> EventLog:
        """Build a log from the session and the value of each event, both ``(events,)`` and sorted by session.

        Steps:
            1. Give every session its place in user order.
            2. Sort the events by the place of their session, and count those before each place.
            3. A session's past begins with the first event of its user and ends with the first event at its own time.
        """
        place = np.empty(len(self._order), dtype=np.int64)
        place[self._order] = np.arange(len(self._order))
        order = np.argsort(place[sessions], kind="stable")
        counts = np.bincount(place[sessions], minlength=len(place))
        starts = np.cumsum(counts) - counts  # first event of each session in user order, (sessions,)
        begin, end = np.empty_like(place), np.empty_like(place)
        begin[self._order], end[self._order] = starts[self._user_start], starts[self._time_start]
        return EventLog(values[order].astype(np.int32), begin, end)


def _last_true(flags: np.ndarray) -> np.ndarray:
    """Place of the last true flag up to each place, ``(flags,)``; the first flag must be true."""
    return np.maximum.accumulate(np.where(flags, np.arange(len(flags)), 0))


__all__ = ["SEQUENCES", "EventLog", "Past", "UserLogs"]
